"""Makes the verdicts of the selected `spans`: each other endpoint against the first, over the same prompts."""

from collections.abc import Sequence
from typing import Final

import duckdb
import numpy as np

from dyno_analysis.query.fetch import fetch_columns, keep
from dyno_analysis.spans.sql_text import quoted
from dyno_analysis.stats import paired
from dyno_analysis.stats.interval import Array, simultaneous
from dyno_analysis.stats.paired import FEWEST_FOR_MEANS, FEWEST_PROMPTS, Prompts

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
    prompts = {
        (second, figure): found
        for second in endpoints[1:]
        for figure in FIGURES
        if len((found := _prompts(connection, table, endpoints[0], second, figure)).first_n)
    }
    verdicts = sum(
        (len(found.first_n) >= FEWEST_PROMPTS) + (figure == OF_MEANS and len(found.first_n) >= FEWEST_FOR_MEANS)
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
