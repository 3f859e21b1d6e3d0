"""Makes a comparison of the selected `spans`: it runs the tables of sql/, and computes figures from their rows."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import duckdb
import numpy as np

from dyno_analysis.query import row_types
from dyno_analysis.query.fetch import define, fetch, fetch_columns
from dyno_analysis.runs.folder import define_answers
from dyno_analysis.runs.record import RunRecord
from dyno_analysis.spans.folder import execute
from dyno_analysis.spans.offered_load import OfferedLoad
from dyno_analysis.spans.sql_text import quoted, sql_text
from dyno_analysis.stats import regression, squad
from dyno_analysis.stats.crossing import Crossing, crossing
from dyno_analysis.stats.interval import rank_correlation, simultaneous

from .batches import batch_figures
from .columns import one_column_each, rename_answers
from .comparison import Comparison, Correlations, FixedPerToken, Lengths, Origin, Quality
from .pairing import paired_figures
from .prompt_lengths import prompt_lengths

# How much memory a join or a sort of all requests may use before it spills to disk. Exact percentiles are computed
# without this limit, since they can't spill their column.
SPILLS_BEYOND = "1GB"


def compare(
    connection: duckdb.DuckDBPyConnection,
    runs: Sequence[str],
    records: Sequence[RunRecord],
    order: Sequence[str],
    margin: float,
    seed: int,
    paired_by: str = "prompt",
    by_run: bool = False,
    texts: Sequence[RunRecord] = (),
    tables: int = 1,
) -> Comparison:
    """Compare the endpoints of the selected `spans`, which are those of `runs`; `records` are the runs' records.

    The endpoints that `order` names come first; without it, the first by name (with `paired_by` 'mirror': the one to
    which most mirrored requests were sent). With `by_run` runs are columns of their own, otherwise they are pooled.
    `texts` are further records, for texts alone. `tables`: so many are made, whose verdicts hold together.
    """
    define_answers(connection, [*records, *texts])
    if origins := one_column_each(connection, by_run):
        rename_answers(connection)
    figures = {row.endpoint: row for row in fetch(connection, "comparison", row_types.EndpointRow)}
    mirrors = fetch(connection, "mirrors", row_types.MirrorRow)
    endpoints = _columns(order or _mirrored_first(mirrors, paired_by), figures, origins, runs)
    figures |= {name: row_types.no_request(name) for name in endpoints if name not in figures}
    lengths = _lengths(connection, endpoints)
    with _spilling(connection):
        balances = _balances(connection, "mirror_pairs" if paired_by == "mirror" else "pairs", endpoints)
        paired, verdicts = paired_figures(connection, endpoints, margin, paired_by, tables)
        interleaving = fetch(connection, "interleaving", row_types.InterleavingRow)
    answers = fetch(connection, "answers", row_types.AnswerRow)
    return Comparison(
        endpoints=endpoints,
        runs=tuple(runs),
        paired_by=paired_by,
        records=tuple(records),
        margin=margin,
        seed=seed,
        figures=figures,
        percentiles=_percentiles(connection),
        gaps={row.endpoint: row for row in fetch(connection, "inter_chunk", row_types.InterChunkRow)},
        failures=fetch(connection, "failures", row_types.FailureRow),
        distributions={row.endpoint: row for row in fetch(connection, "distribution", row_types.DistributionRow)},
        instrument={row.endpoint: row for row in fetch(connection, "instrument", row_types.InstrumentRow)},
        lengths=lengths,
        paired=paired,
        balances=balances,
        interleaving=interleaving,
        mirrors=mirrors,
        fixed_per_token=[_fixed_per_token(name, lengths[name], margin, seed) for name in endpoints],
        crossings=_crossings(endpoints, lengths),
        correlations={name: _correlations(name, lengths[name]) for name in endpoints},
        answers=answers,
        quality=_quality(answers, endpoints),
        prompt_texts=fetch(connection, "prompt_texts", row_types.PromptTextsRow),
        prompt_lengths=prompt_lengths(fetch_columns(connection, sql_text("prompt_lengths")), endpoints),
        batches=batch_figures(fetch_columns(connection, sql_text("batch_ends")), endpoints),
        origins=origins,
        verdicts=verdicts,
    )


def loads(connection: duckdb.DuckDBPyConnection) -> list[OfferedLoad]:
    """The loads that the selected requests were sent under, from the smallest on; open loops come last."""
    found = execute(
        connection,
        "FROM spans SELECT DISTINCT load_concurrency, load_rate_per_s WHERE NOT warmup AND endpoint IS NOT NULL "
        "AND (load_concurrency IS NOT NULL OR load_rate_per_s IS NOT NULL) "
        "ORDER BY load_rate_per_s NULLS FIRST, load_concurrency",
    ).fetchall()
    return [OfferedLoad(*row) for row in found]


def _percentiles(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], row_types.PercentileRow]:
    rows = fetch(connection, "percentiles", row_types.PercentileRow)
    return {(row.endpoint, row.figure): row for row in rows}


def _mirrored_first(mirrors: Sequence[row_types.MirrorRow], paired_by: str) -> list[str]:
    """The endpoint to which most mirrored requests were sent, if pairs are those of the mirror."""
    return [row.endpoint for row in mirrors if row.endpoint is not None][:1] if paired_by == "mirror" else []


def _columns(
    order: Sequence[str], found: Collection[str], origins: Mapping[str, Origin], runs: Sequence[str]
) -> tuple[str, ...]:
    """The columns' names: those that `order` names first, each once, also where it has no request; run by run."""
    columns: list[str] = []
    for name in order:
        own = [column for column in found if column == name or (column in origins and origins[column].endpoint == name)]
        columns += own or [name]
    columns = list(dict.fromkeys([*columns, *found]))
    places = {name: runs.index(origin.run_id) for name, origin in origins.items() if origin.run_id in runs}
    return tuple(sorted(columns, key=lambda name: places.get(name, len(runs))))


@contextmanager
def _spilling(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute(f"SET memory_limit = '{SPILLS_BEYOND}'")
    yield
    connection.execute("RESET memory_limit")


def _balances(
    connection: duckdb.DuckDBPyConnection, view: str, endpoints: Sequence[str]
) -> list[row_types.PairBalanceRow]:
    """The balance of the first endpoint's pairs with each other one, in the order of `endpoints`.

    It stores the view's pairs in a table `pairs`, which hides the view, from the first endpoint's side only.
    """
    define(connection, view)
    first = quoted(endpoints[0]) if endpoints else "NULL"
    execute(connection, f"CREATE OR REPLACE TEMP TABLE pairs AS FROM memory.main.pairs WHERE first_endpoint = {first}")
    balances = fetch(connection, "pair_balance", row_types.PairBalanceRow)
    return sorted(balances, key=lambda row: endpoints.index(row.second_endpoint))


def _lengths(connection: duckdb.DuckDBPyConnection, endpoints: Sequence[str]) -> dict[str, Lengths]:
    columns = fetch_columns(connection, sql_text("lengths"))
    found = {}
    for name in endpoints:
        own = columns["endpoint"] == name
        found[name] = Lengths(
            *(columns[column][own].astype(np.float64) for column in ("input_tokens", "output_tokens", "latency_s"))
        )
    return found


def _fixed_per_token(endpoint: str, points: Lengths, margin: float, seed: int) -> FixedPerToken:
    tokens, latency_s = points.output_tokens, points.latency_s
    if not len(tokens):
        tokens = latency_s = np.zeros(1)
        lines = (regression.Line("least squares", 0), regression.Line("Theil–Sen", 0))
    else:
        lines = (regression.least_squares(tokens, latency_s), regression.theil_sen(tokens, latency_s, seed))
    shortest, longest = int(tokens.min()), int(tokens.max())
    mean_s = float(latency_s.mean())
    dependences = tuple(regression.dependence(line, longest - shortest, mean_s, margin) for line in lines)
    return FixedPerToken(endpoint, shortest, longest, lines, dependences)


def _crossings(endpoints: Sequence[str], lengths: Mapping[str, Lengths]) -> dict[str, Crossing]:
    """Each other endpoint's line against the first one's; the intervals hold together with 95 %."""
    confidence = simultaneous(len(endpoints) - 1)
    found = {}
    for name in endpoints[1:]:
        first, other = lengths[endpoints[0]], lengths[name]
        found[name] = crossing(first.output_tokens, first.latency_s, other.output_tokens, other.latency_s, confidence)
    return found


def _correlations(endpoint: str, points: Lengths) -> Correlations:
    throughput = points.output_tokens / points.latency_s
    known = ~np.isnan(points.input_tokens)
    return Correlations(
        endpoint,
        len(throughput),
        rank_correlation(points.output_tokens, throughput),
        rank_correlation(points.input_tokens[known], throughput[known]),
    )


def _quality(answers: Sequence[row_types.AnswerRow], endpoints: Sequence[str]) -> list[Quality]:
    scores = []
    for name in endpoints:
        scored = [
            (squad.exact_match(answer.answer, references), squad.f1(answer.answer, references))
            for answer in answers
            if answer.endpoint == name and (references := answer.reference_answers)
        ]
        if scored:
            n = len(scored)
            scores.append(Quality(name, n, sum(em for em, _ in scored) / n, sum(f for _, f in scored) / n))
    return scores
