"""Makes the verdicts of the selected `spans`: each other endpoint against the first, over the same prompts."""

from collections.abc import Sequence
from dataclasses import replace
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
    connection: duckdb.DuckDBPyConnection, endpoints: Sequence[str], margin: float, paired_by: str
) -> tuple[list[PairedFigure], int]:
    """The figures of each other endpoint against the first one, and how many verdicts are among them.

    The intervals are simultaneous over all verdicts. It needs the views that the tables of sql/ need.
    """
    if len(endpoints) < 2:
        return [], 0
    table = "mirrored_prompts" if paired_by == "mirror" else "paired_prompts"
    keep(connection, table)
    crossed = paired_by == "prompt" and _has_runs(connection)
    if crossed:
        keep(connection, "paired_runs")
    prompts = {
        (second, figure): found
        for second in endpoints[1:]
        for figure in FIGURES
        if len((found := _prompts(connection, table, endpoints[0], second, figure)).first_n)
    }
    if crossed:
        prompts = {
            (second, figure): replace(found, block_effects=_block_effects(connection, endpoints[0], second, figure))
            for (second, figure), found in prompts.items()
        }
    verdicts = sum(
        (len(found.first_n) >= FEWEST_PROMPTS) + (figure == OF_MEANS and _carries_means(found))
        for (_, figure), found in prompts.items()
    )
    confidence = simultaneous(verdicts)
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


def _has_runs(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether there may be enough blocks of time, which are runs."""
    found = execute(connection, "FROM spans SELECT count(DISTINCT run_id) WHERE NOT warmup").fetchall()
    return int(found[0][0]) > 1


def _block_effects(connection: duckdb.DuckDBPyConnection, first: str, second: str, figure: str) -> Array:
    """By how much each run's log ratios lie off their prompts' means, over the prompts of more than one run."""
    columns = fetch_columns(
        connection,
        "FROM paired_runs SELECT run_id, prompt, log_ratio "
        f"WHERE first_endpoint = {quoted(first)} AND second_endpoint = {quoted(second)} "
        f"AND figure = {quoted(figure)} QUALIFY count(*) OVER (PARTITION BY prompt) > 1 ORDER BY run_id, prompt",
    )
    logs = columns["log_ratio"].astype(np.float64)
    if not len(logs):
        return np.zeros(0)
    _, prompts = np.unique(columns["prompt"].astype(str), return_inverse=True)
    _, runs = np.unique(columns["run_id"].astype(str), return_inverse=True)
    off = logs - (np.bincount(prompts, logs) / np.bincount(prompts))[prompts]
    return np.asarray(np.bincount(runs, off) / np.bincount(runs), dtype=np.float64)


def _prompts(connection: duckdb.DuckDBPyConnection, table: str, first: str, second: str, figure: str) -> Prompts:
    columns = fetch_columns(
        connection,
        f"FROM {table} WHERE first_endpoint = {quoted(first)} AND second_endpoint = {quoted(second)} "
        f"AND figure = {quoted(figure)} ORDER BY prompt",
    )

    def column(name: str) -> Array:
        return columns[name].astype(np.float64)

    return Prompts(
        column("first_n"),
        column("second_n"),
        column("first_mean"),
        column("second_mean"),
        column("first_log"),
        column("second_log"),
        column("more_overhead_s"),
    )
