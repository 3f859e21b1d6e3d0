"""Makes the verdicts of the selected `spans`: each other endpoint against the first, over the same prompts."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Final

import duckdb
import numpy as np

from dyno_analysis.query.fetch import fetch_columns, keep
from dyno_analysis.spans.folder import execute
from dyno_analysis.spans.sql_text import quoted
from dyno_analysis.stats import paired
from dyno_analysis.stats.interval import Array, simultaneous
from dyno_analysis.stats.paired import FEWEST_BLOCKS, FEWEST_FOR_MEANS, FEWEST_PROMPTS, Prompts

from .comparison import PairedFigure

FIGURES: Final = ("latency_s", "ttft_s", "tpot_s")
# The only figure whose ratio of means is printed, since the published table has it.
OF_MEANS: Final = "latency_s"


def paired_figures(
    connection: duckdb.DuckDBPyConnection,
    endpoints: Sequence[str],
    margin: float,
    paired_by: str,
    tables: int = 1,
    confidence: float | None = None,
) -> tuple[list[PairedFigure], int]:
    """The figures of each other endpoint against the first one, and how many verdicts are among them.

    The intervals are simultaneous over all verdicts. Of several `tables` made together each counts as many as a
    table can have at most, so all have the same confidence. `confidence` gives that of each interval instead. It needs
    the views that the tables of sql/ need.
    """
    if len(endpoints) < 2:
        return [], 0
    table = "mirrored_prompts" if paired_by == "mirror" else "paired_prompts"
    of_first = f"first_endpoint = {quoted(endpoints[0])}"
    keep(connection, table, of_first)
    crossed = paired_by == "prompt" and _has_blocks(connection)
    if crossed:
        keep(connection, "paired_runs", of_first)
    prompts = {
        (second, figure): found
        for second in endpoints[1:]
        for figure in FIGURES
        if len((found := _prompts(connection, table, second, figure)).first_n)
    }
    if crossed:
        prompts = {
            (second, figure): replace(found, block_effects=_block_effects(connection, second, figure))
            for (second, figure), found in prompts.items()
        }
    verdicts = sum(
        (len(found.first_n) >= FEWEST_PROMPTS) + (figure == OF_MEANS and _carries_means(found))
        for (_, figure), found in prompts.items()
    )
    if tables > 1:
        verdicts = tables * (len(endpoints) - 1) * (len(FIGURES) + 1)
    confidence = simultaneous(verdicts) if confidence is None else confidence
    figures = [
        _figure(figure, endpoints[0], second, found, margin, confidence) for (second, figure), found in prompts.items()
    ]
    return figures, verdicts


def _figure(figure: str, first: str, second: str, prompts: Prompts, margin: float, confidence: float) -> PairedFigure:
    ratio = paired.paired_ratio(prompts, confidence)
    overhead_s = paired.overhead_bound(prompts.more_overhead_s, confidence)
    return PairedFigure(
        figure=figure,
        first=first,
        second=second,
        pairs=int(np.minimum(prompts.first_n, prompts.second_n).sum()),
        equal=bool((prompts.first_n == prompts.second_n).all()),
        ratio=ratio,
        verdict=paired.typical_verdict(ratio, margin, overhead_s),
        mean_verdict=paired.mean_verdict(ratio, margin, overhead_s) if figure == OF_MEANS else None,
        overhead_s=overhead_s,
    )


def _carries_means(found: Prompts) -> bool:
    return len(found.first_n) >= FEWEST_FOR_MEANS and len(found.block_effects) < FEWEST_BLOCKS


def _has_blocks(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether there may be enough blocks of time, which are runs."""
    found = execute(connection, "FROM spans SELECT count(DISTINCT run_id) WHERE NOT warmup").fetchall()
    return int(found[0][0]) >= FEWEST_BLOCKS


def _block_effects(connection: duckdb.DuckDBPyConnection, second: str, figure: str) -> Array:
    """By how much each run's log ratios lie off their prompts' means, over the prompts of more than one run."""
    off = (
        "FROM paired_runs SELECT run_id, log_ratio - avg(log_ratio) OVER same AS off "
        f"WHERE second_endpoint = {quoted(second)} AND figure = {quoted(figure)} "
        "WINDOW same AS (PARTITION BY prompt) QUALIFY count(*) OVER same > 1"
    )
    columns = fetch_columns(connection, f"FROM ({off}) SELECT avg(off) AS effect GROUP BY run_id ORDER BY run_id")
    return columns["effect"].astype(np.float64)


def _prompts(connection: duckdb.DuckDBPyConnection, table: str, second: str, figure: str) -> Prompts:
    names = ", ".join(field.name for field in fields(Prompts) if field.name != "block_effects")
    columns = fetch_columns(
        connection,
        f"FROM {table} SELECT {names} WHERE second_endpoint = {quoted(second)} AND figure = {quoted(figure)}",
    )
    return Prompts(**{name: values.astype(np.float64) for name, values in columns.items()})
