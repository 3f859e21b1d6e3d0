"""All that a report says about the selected requests, as data. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dyno_analysis.query import row_types
from dyno_analysis.runs.record import OWN_KIND, RunRecord
from dyno_analysis.stats.crossing import Crossing
from dyno_analysis.stats.interval import Array
from dyno_analysis.stats.paired import PairedRatio, Verdict
from dyno_analysis.stats.regression import Dependence, Line


@dataclass(frozen=True)
class Origin:
    """What a column's requests are: an endpoint's, all of them or those of one run."""

    endpoint: str
    run_id: str | None = None


@dataclass(frozen=True)
class PairedFigure:
    """One figure (latency_s, ttft_s, tpot_s) of two endpoints over the prompts that both answered."""

    figure: str
    first: str
    second: str
    pairs: int  # of requests: of each prompt as many as the side with fewer has
    equal: bool  # whether both sides have equally many requests of each prompt
    ratio: PairedRatio
    verdict: Verdict  # on the typical request
    mean_verdict: Verdict | None  # on the ratio of means; None: not given, as for TTFT and TPOT, or below 30 prompts
    overhead_s: float | None  # the largest part of the difference that may be the proxy's own; None: not known


# If an endpoint has more points than this, a sample of about so many or fewer is used. lengths.sql has the same number.
MOST_LENGTHS = 200_000


@dataclass(frozen=True)
class Lengths:
    """One endpoint's ok requests whose output was counted, or a sample of them. Unknown `input_tokens` are NaN."""

    input_tokens: Array
    output_tokens: Array
    latency_s: Array


@dataclass(frozen=True)
class FixedPerToken:
    """latency = fixed + per token of one endpoint: a line per method, and the shortest and longest answer in tokens."""

    endpoint: str
    shortest_tokens: int
    longest_tokens: int
    lines: tuple[Line, ...]
    dependences: tuple[Dependence, ...]  # whether latency depends on length, by each line

    @property
    def lines_agree(self) -> bool:
        """Whether each method's slope lies in the other's interval. One without an interval says nothing."""
        return all(
            line.slope is None or other.slope_interval is None or other.slope_interval.holds(line.slope)
            for line, other in zip(self.lines, reversed(self.lines), strict=True)
        )

    @property
    def agreed(self) -> Dependence | None:
        """What both methods say; None if they disagree: each says something, and not the same."""
        return self.dependences[0] if len(set(self.dependences)) == 1 else None


@dataclass(frozen=True)
class Correlations:
    """Spearman's rank correlations of requests' output throughput with their lengths; None if one doesn't vary."""

    endpoint: str
    n: int
    with_output_tokens: float | None
    with_input_tokens: float | None


@dataclass(frozen=True)
class PromptBin:
    """One endpoint's ok requests whose prompts are about as long: from `shortest` to `longest`. None: not known."""

    endpoint: str
    shortest: float
    longest: float
    n: int
    median_latency_s: float | None
    median_ttft_s: float | None
    mean_output_tokens: float | None


@dataclass(frozen=True)
class PromptLengths:
    """Bins of prompts' lengths, from the shortest on, each with an entry for every endpoint."""

    unit: str  # "tokens" or "characters"
    bins: Sequence[PromptBin]
    unknown: Mapping[str, int]  # endpoint -> ok requests whose prompt's length isn't known


@dataclass(frozen=True)
class Quality:
    """SQuAD's scores, 0 to 1, of the answers whose prompts have references."""

    endpoint: str
    n: int
    exact_match: float
    f1: float


@dataclass(frozen=True)
class BatchFigures:
    """One batch of one endpoint, in seconds from its first request's begin. Without an ok answer it isn't there."""

    endpoint: str
    requests: int
    ok: int
    makespan_s: float  # until the last request's end, ok or not
    half_s: float
    late_s: float  # when 95 % of the ok answers had ended
    last_s: float  # when the last ok one had
    output_tokens: float | None  # None: not counted of every ok answer


@dataclass(frozen=True)
class Comparison:
    """A comparison of endpoints: the others are compared with the first one. Mappings are by endpoint's name."""

    endpoints: tuple[str, ...]
    runs: tuple[str, ...]  # empty: any traffic
    paired_by: str  # "prompt", or "mirror": then only mirrored requests and their copies are compared
    records: tuple[RunRecord, ...]
    margin: float
    seed: int
    figures: Mapping[str, row_types.EndpointRow]
    percentiles: Mapping[tuple[str, str], row_types.PercentileRow]  # by endpoint and figure
    gaps: Mapping[str, row_types.InterChunkRow]
    failures: Sequence[row_types.FailureRow]
    distributions: Mapping[str, row_types.DistributionRow]
    instrument: Mapping[str, row_types.InstrumentRow]
    lengths: Mapping[str, Lengths]
    paired: Sequence[PairedFigure]
    balances: Sequence[row_types.PairBalanceRow]
    interleaving: Sequence[row_types.InterleavingRow]
    mirrors: Sequence[row_types.MirrorRow]
    fixed_per_token: Sequence[FixedPerToken]
    crossings: Mapping[str, Crossing]  # of the first endpoint's line and each other one's, by the other's name
    correlations: Mapping[str, Correlations]
    answers: Sequence[row_types.AnswerRow]
    quality: Sequence[Quality]
    prompt_texts: Sequence[row_types.PromptTextsRow]
    prompt_lengths: PromptLengths | None  # None: all are of one length, or none is known
    batches: Sequence[BatchFigures]  # of requests that were submitted all at once
    origins: Mapping[str, Origin]  # of the columns whose name isn't their endpoint's own
    verdicts: int  # how many verdicts have simultaneous intervals

    @property
    def record(self) -> RunRecord | None:
        """The run's record if the report is about one run, else None."""
        return self.records[0] if len(self.records) == 1 else None

    @property
    def simulated(self) -> list[str]:
        return [name for name in self.endpoints if self.figures[name].simulated]

    def is_from_own_file(self, name: str) -> bool:
        """Whether the endpoint's requests were imported from results files that Dyno wrote of what it measured."""
        kinds = [r.values.get("imported_kind") for r in self.records if self.origin(name).endpoint in r.endpoints]
        return bool(kinds) and all(kind == OWN_KIND for kind in kinds)

    def was_imported(self, name: str) -> bool:
        """Whether the endpoint's requests were measured by another tool."""
        return self.figures[name].imported and not self.is_from_own_file(name)

    @property
    def lengths_sampled(self) -> bool:
        return any(row.ok > MOST_LENGTHS for row in self.figures.values())

    @property
    def pooled_runs(self) -> list[str]:
        """The runs whose requests stand in one column, if there are several."""
        found = sorted({row.run_id for row in self.interleaving if row.run_id is not None})
        apart = {origin.run_id for origin in self.origins.values()} - {None}
        return found if len(found) > 1 and not apart else []

    def origin(self, name: str) -> Origin:
        """What a column's requests are."""
        return self.origins.get(name, Origin(name))

    def verdict_of(self, second: str, figure: str = "latency_s") -> PairedFigure | None:
        """The figure of `second` against the first endpoint; None if they have no prompt in common."""
        return next((p for p in self.paired if p.second == second and p.figure == figure), None)

    @property
    def by_mirror(self) -> bool:
        return self.paired_by == "mirror"

    @property
    def failed(self) -> int:
        """How many requests failed, without warm-ups and those that the client cancelled or the proxy rejected."""
        return sum(row.failed for row in self.figures.values())

    @property
    def without_answer(self) -> list[str]:
        """The endpoints that gave no ok answer."""
        return [name for name in self.endpoints if not self.figures[name].ok]
