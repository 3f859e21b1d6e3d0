"""Everything that a report says of the selected requests, as data. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dyno_analysis.query import row_types
from dyno_analysis.runs.record import RunRecord
from dyno_analysis.stats import regression
from dyno_analysis.stats.paired import Array, PairedRatio, Verdict


@dataclass(frozen=True)
class PairedFigure:
    """One figure of two endpoints over the prompts that both answered."""

    figure: str
    first: str
    second: str
    pairs: int
    ratio: PairedRatio
    verdict: Verdict
    overhead_s: float | None  # what the verdict was weighed against


# Of an endpoint with more points than this, about as many or fewer are looked at (lengths.sql has the same number).
MOST_LENGTHS = 200_000


@dataclass(frozen=True)
class Lengths:
    """One endpoint's ok requests whose output was counted, or a sample; `input_tokens` is NaN where not known."""

    input_tokens: Array
    output_tokens: Array
    latency_s: Array


@dataclass(frozen=True)
class FixedPerToken:
    """latency = fixed + per token of one endpoint, by each method, and how far its answers' lengths reach."""

    endpoint: str
    shortest_tokens: int
    longest_tokens: int
    lines: tuple[regression.Line, ...]


@dataclass(frozen=True)
class Correlations:
    """Spearman's rank correlations of a request's output throughput; None where a side doesn't vary."""

    endpoint: str
    n: int
    with_output_tokens: float | None
    with_input_tokens: float | None


@dataclass(frozen=True)
class Quality:
    """SQuAD's scores of the answered prompts that have references, 0 to 1."""

    endpoint: str
    n: int
    exact_match: float
    f1: float


@dataclass(frozen=True)
class Comparison:
    """The first endpoint is the one that the others are held against."""

    endpoints: tuple[str, ...]
    runs: tuple[str, ...]  # none: any traffic
    paired_by: str  # "prompt", or "mirror": then all is of mirrored requests and their copies
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
    correlations: Mapping[str, Correlations]
    answers: Sequence[row_types.AnswerRow]
    quality: Sequence[Quality]
    prompt_texts: Sequence[row_types.PromptTextsRow]

    @property
    def record(self) -> RunRecord | None:
        """The run's record, where the report is of one run."""
        return self.records[0] if len(self.records) == 1 else None

    @property
    def simulated(self) -> list[str]:
        return [name for name in self.endpoints if self.figures[name].simulated]

    @property
    def lengths_sampled(self) -> bool:
        return any(row.ok > MOST_LENGTHS for row in self.figures.values())

    @property
    def by_mirror(self) -> bool:
        return self.paired_by == "mirror"

    @property
    def failed(self) -> int:
        """Requests that failed, warm-ups and what clients or the proxy ended left out."""
        return sum(row.failed for row in self.figures.values())
