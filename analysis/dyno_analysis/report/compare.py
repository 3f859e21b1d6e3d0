"""Makes a comparison of the selected `spans`: it runs the tables of sql/, and computes figures from their rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import duckdb
import numpy as np

from dyno_analysis.query import row_types
from dyno_analysis.query.fetch import define, fetch, fetch_columns, keep
from dyno_analysis.runs.folder import define_answers
from dyno_analysis.runs.record import RunRecord
from dyno_analysis.spans.folder import execute
from dyno_analysis.spans.sql_text import quoted, sql_text
from dyno_analysis.stats import paired, regression, squad

from .comparison import Comparison, Correlations, FixedPerToken, Lengths, PairedFigure, Quality

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
) -> Comparison:
    """Compare the endpoints of the selected `spans`, which are those of `runs`; `records` are the runs' records.

    The endpoints that `order` names come first. Without it the first one is the first by name. With `paired_by`
    'mirror' it is instead the endpoint to which most mirrored requests were originally sent.
    """
    figures = {row.endpoint: row for row in fetch(connection, "comparison", row_types.EndpointRow)}
    mirrors = fetch(connection, "mirrors", row_types.MirrorRow)
    if paired_by == "mirror":
        order = order or [row.endpoint for row in mirrors if row.endpoint is not None][:1]
    endpoints = tuple([name for name in order if name in figures] + [name for name in figures if name not in order])
    lengths = _lengths(connection, endpoints)
    with _spilling(connection):
        _hold_pairs(connection, "mirror_pairs" if paired_by == "mirror" else "pairs", endpoints)
        balances = fetch(connection, "pair_balance", row_types.PairBalanceRow)
        balances.sort(key=lambda row: endpoints.index(row.second_endpoint))
        paired = _paired(connection, endpoints, balances, margin, seed)
        interleaving = fetch(connection, "interleaving", row_types.InterleavingRow)
    define_answers(connection, records)
    answers = fetch(connection, "answers", row_types.AnswerRow)
    return Comparison(
        endpoints=endpoints,
        runs=tuple(runs),
        paired_by=paired_by,
        records=tuple(records),
        margin=margin,
        seed=seed,
        figures=figures,
        percentiles={
            (row.endpoint, row.figure): row for row in fetch(connection, "percentiles", row_types.PercentileRow)
        },
        gaps={row.endpoint: row for row in fetch(connection, "inter_chunk", row_types.InterChunkRow)},
        failures=fetch(connection, "failures", row_types.FailureRow),
        distributions={row.endpoint: row for row in fetch(connection, "distribution", row_types.DistributionRow)},
        instrument={row.endpoint: row for row in fetch(connection, "instrument", row_types.InstrumentRow)},
        lengths=lengths,
        paired=paired,
        balances=balances,
        interleaving=interleaving,
        mirrors=mirrors,
        fixed_per_token=[_fixed_per_token(name, lengths[name], seed) for name in endpoints],
        correlations={name: _correlations(name, lengths[name]) for name in endpoints},
        answers=answers,
        quality=_quality(answers, endpoints),
        prompt_texts=fetch(connection, "prompt_texts", row_types.PromptTextsRow),
    )


@contextmanager
def _spilling(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute(f"SET memory_limit = '{SPILLS_BEYOND}'")
    yield
    connection.execute("RESET memory_limit")


def _hold_pairs(connection: duckdb.DuckDBPyConnection, view: str, endpoints: Sequence[str]) -> None:
    """Store the view's pairs in a table `pairs`, which hides the view, from the first endpoint's side only."""
    define(connection, view)
    first = quoted(endpoints[0]) if endpoints else "NULL"
    execute(connection, f"CREATE OR REPLACE TEMP TABLE pairs AS FROM memory.main.pairs WHERE first_endpoint = {first}")


def _paired(
    connection: duckdb.DuckDBPyConnection,
    endpoints: Sequence[str],
    balances: Sequence[row_types.PairBalanceRow],
    margin: float,
    seed: int,
) -> list[PairedFigure]:
    found = []
    if balances:
        keep(connection, "paired_prompts")
    for balance in balances:
        first, second = endpoints[0], balance.second_endpoint
        for figure in ("latency_s", "ttft_s", "tpot_s"):
            # A prompt whose sum is 0 is left out, since it has no ratio.
            chosen = fetch_columns(
                connection,
                f"FROM paired_prompts SELECT first_sum, second_sum, pairs WHERE second_endpoint = {quoted(second)} "
                f"AND figure = '{figure}' AND first_sum > 0 AND second_sum > 0 ORDER BY prompt",
            )
            first_sums, second_sums, pairs = (
                chosen[name].astype(np.float64) for name in ("first_sum", "second_sum", "pairs")
            )
            if not len(pairs):
                continue
            ratio = paired.paired_ratio(first_sums, second_sums, pairs, seed)
            overhead_s = _overhead_s(balance, figure)
            found.append(
                PairedFigure(
                    figure,
                    first,
                    second,
                    int(pairs.sum()),
                    ratio,
                    paired.verdict(ratio, margin, overhead_s),
                    overhead_s,
                )
            )
    return found


def _overhead_s(balance: row_types.PairBalanceRow, figure: str) -> float | None:
    """The proxy's overhead as `verdict` takes it: its difference between two endpoints, or its spread if larger.

    The overhead that both share cancels out. None: not known.
    """
    parts = {
        "latency_s": (
            balance.more_overhead_end_s,
            balance.first_overhead_end_spread_s,
            balance.second_overhead_end_spread_s,
        ),
        "ttft_s": (balance.more_overhead_s, balance.first_overhead_spread_s, balance.second_overhead_spread_s),
    }.get(figure, ())
    known = [abs(part) for part in parts if part is not None]
    return max(known) if known else None


def _lengths(connection: duckdb.DuckDBPyConnection, endpoints: Sequence[str]) -> dict[str, Lengths]:
    columns = fetch_columns(connection, sql_text("lengths"))
    found = {}
    for name in endpoints:
        own = columns["endpoint"] == name
        found[name] = Lengths(
            *(columns[column][own].astype(np.float64) for column in ("input_tokens", "output_tokens", "latency_s"))
        )
    return found


def _fixed_per_token(endpoint: str, points: Lengths, seed: int) -> FixedPerToken:
    tokens = points.output_tokens
    return FixedPerToken(
        endpoint,
        int(tokens.min()) if len(tokens) else 0,
        int(tokens.max()) if len(tokens) else 0,
        (
            regression.least_squares(tokens, points.latency_s),
            regression.theil_sen(tokens, points.latency_s, seed),
        ),
    )


def _correlations(endpoint: str, points: Lengths) -> Correlations:
    throughput = points.output_tokens / points.latency_s
    known = ~np.isnan(points.input_tokens)
    return Correlations(
        endpoint,
        len(throughput),
        paired.rank_correlation(points.output_tokens, throughput),
        paired.rank_correlation(points.input_tokens[known], throughput[known]),
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
