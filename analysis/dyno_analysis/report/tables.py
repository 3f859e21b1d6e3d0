"""A comparison as tables of text, for the terminal and for the Markdown report. Pure."""

import math
from collections.abc import Callable, Mapping, Sequence

from dyno_analysis.query.row_types import EndpointRow
from dyno_analysis.render.table import UNKNOWN, Table, difference, milliseconds, rate, ratio, seconds, tokens
from dyno_analysis.stats.interval import samples_needed

from .comparison import Comparison
from .discrepancies import NOT_IN_FILE, published_figure
from .titles import titled
from .verdicts import carried, equal_sets

_LEAST_POINTS = 0.05  # a smaller difference of success rates gets more decimals, since it isn't 0.0

# The published table's rows: label, figure, the function that writes a cell, and the word for the better endpoint. The
# word stands beside a ratio only if a verdict carries it. '' is a ratio without a word; None: the row has no ratio.
_COMPARED: Sequence[tuple[str, str, Callable[[float | None], str], str | None]] = (
    ("mean latency, s", "mean_latency_s", seconds, "faster"),
    ("median latency, s", "median_latency_s", seconds, "faster"),
    ("min latency, s", "min_latency_s", seconds, "faster"),
    ("max latency, s", "max_latency_s", seconds, "faster"),
    ("standard deviation, s", "stddev_latency_s", seconds, None),
    ("throughput, output tok/s", "output_tokens_per_s", rate, "higher"),
    ("avg response length, tokens", "mean_output_tokens", tokens, ""),
)
# Label, figure of percentiles.sql, the function that writes a cell, whether the figure needs a stream.
_FIGURES: Sequence[tuple[str, str, Callable[[float | None], str], bool]] = (
    ("latency, s", "latency_s", seconds, False),
    ("TTFT, s", "ttft_s", seconds, True),
    ("TTFA, s", "ttfa_s", seconds, True),
    ("TPOT, ms", "tpot_s", milliseconds, True),
    ("inter-chunk latency, ms", "inter_chunk", milliseconds, True),
    ("output throughput, tok/s", "output_tokens_per_s", rate, False),
    ("input tokens", "input_tokens", tokens, False),
    ("output tokens", "output_tokens", tokens, False),
)


def comparison_table(comparison: Comparison) -> Table:
    """Every row of the published table. For an imported file, its own statistics are in columns 'as published'."""
    names = comparison.endpoints
    figures = [comparison.figures[name] for name in names]
    published = comparison.record.published if comparison.record else {}
    columns = [""]
    for name in names:
        columns += [f"{name}, as published", f"{name}, recomputed"] if published else [name]
    for name in names[1:]:
        versus = f" {names[0]} : {name}" if len(names) > 2 else ""
        columns += [f"ratio{versus}", f"difference{versus}"]
    table = []
    for label, figure, cell, word in _COMPARED:
        row = [label]
        for endpoint in figures:
            if published:
                value = published_figure(published.get(endpoint.endpoint, {}), figure)
                row.append(NOT_IN_FILE if value is None else cell(value))
            row.append(cell(getattr(endpoint, figure)))
        for other in figures[1:]:
            row += _compared(comparison, other, figure, word)
        table.append(row)
    table.append(_overhead_row(comparison, figures, bool(published)))
    row = ["success rate"]
    for endpoint in figures:
        if published:
            row.append(_published_success(published.get(endpoint.endpoint, {})))
        row.append(_success(endpoint))
    for other in figures[1:]:
        row += _success_compared(figures[0], other)
    table.append(row)
    notes = [
        "Latencies are those of ok requests; the standard deviation is the sample's.",
        "Throughput: the sum of output tokens / the sum of latencies.",
        "Proxy's own: the part of a latency that the proxy itself added, measured with each request.",
    ]
    if len(names) > 1:
        notes.append(f"Ratio: the larger over the smaller. Difference: from {names[0]}, in percent of it.")
        notes.append("'Faster' and 'higher' stand beside a ratio only if the verdict on latency says the same.")
        notes += _unequal(comparison)
    if published:
        notes.append("As published: the file's own statistics; it has no ratio.")
    notes += _left_out(figures)
    return Table(titled("Comparison", comparison), columns, "l" + "r" * (len(columns) - 1), table, notes, "comparison")


def percentile_table(comparison: Comparison) -> Table:
    """Exact percentiles. If n is too small for one, its cell says how many requests it needs."""
    table = []
    for label, figure, cell, streamed_only in _FIGURES:
        for name in comparison.endpoints:
            row = comparison.gaps.get(name) if figure == "inter_chunk" else comparison.percentiles.get((name, figure))
            if row is None:
                endpoint = comparison.figures[name]
                reason = "not streamed" if streamed_only and endpoint.ok and not endpoint.streamed else "not known"
                table.append([label, name, "0", *[reason if endpoint.ok else "no ok request"] * 2, *[UNKNOWN] * 4])
                continue
            table.append(
                [
                    label,
                    name,
                    str(row.n),
                    cell(row.mean),
                    cell(row.p50),
                    *(
                        cell(value) if row.n >= samples_needed(quantile) else f"needs n ≥ {samples_needed(quantile)}"
                        for quantile, value in ((0.9, row.p90), (0.95, row.p95), (0.99, row.p99))
                    ),
                    _own_overhead(comparison, name, figure),
                ]
            )
    notes = [
        "Percentiles are exact, and printed if n is enough for a two-sided 95 % interval.",
        "Proxy's own: the median time that the proxy itself added to latency or TTFT; the figures include it.",
    ]
    if comparison.gaps:
        notes.append(
            "Inter-chunk: all streams' gaps together; a chunk is not a token, and a stream's gaps aren't independent."
        )
    if comparison.failed:
        table += _adjusted(comparison)
        notes.append("Failures as infinite: the latency of all requests; that of a failed one counts as infinite.")
    columns = ["", "endpoint", "n", "mean", "median", "p90", "p95", "p99", "proxy's own, ms"]
    return Table(titled("Figures", comparison), columns, "llrrrrrrr", table, notes, "percentiles")


def _compared(comparison: Comparison, second: EndpointRow, figure: str, word: str | None) -> list[str]:
    """The cells of ratio and difference. A word stands beside a ratio only if a verdict carries it."""
    first = comparison.figures[comparison.endpoints[0]]
    a, b = getattr(first, figure), getattr(second, figure)
    if a is None or b is None or a <= 0 or b <= 0:
        return [UNKNOWN, UNKNOWN]
    if word is None:
        return ["", difference(a, b)]
    text = ratio(max(a, b) / min(a, b))
    if text == "1.00":
        return ["equal" if a == b else "1.00x", difference(a, b)]
    better = first.endpoint if (a < b) == (word == "faster") else second.endpoint
    if word and carried(comparison, second.endpoint, figure) == better:
        return [f"{text}x {word} ({better})", difference(a, b)]
    return [f"{text}x", difference(a, b)]


def _success(endpoint: EndpointRow) -> str:
    if endpoint.counted:
        return f"{endpoint.ok}/{endpoint.counted}"
    return f"none of {endpoint.requests} counts" if endpoint.requests else "no request"


def _overhead_row(comparison: Comparison, figures: Sequence[EndpointRow], published: bool) -> list[str]:
    row = ["proxy's own, ms (median)"]
    for endpoint in figures:
        row += [NOT_IN_FILE] * published + [_own_overhead(comparison, endpoint.endpoint, "latency_s")]
    return row + [""] * 2 * (len(figures) - 1)


def _own_overhead(comparison: Comparison, endpoint: str, figure: str) -> str:
    """The proxy's median overhead in latency or TTFT, in ms; for other figures it isn't recorded, or there is none."""
    row = comparison.instrument.get(endpoint)
    if row is None:
        return UNKNOWN
    overhead_us = {"latency_s": row.median_overhead_end_us, "ttft_s": row.median_overhead_streamed_us}.get(figure)
    return UNKNOWN if overhead_us is None else f"{overhead_us / 1e3:.3f}"


def _success_compared(first: EndpointRow, second: EndpointRow) -> list[str]:
    if not first.counted or not second.counted:
        return [UNKNOWN, UNKNOWN]
    a, b = first.ok / first.counted, second.ok / second.counted
    if a == b:
        return ["equal", "+0.0 points"]
    points = (b - a) * 100
    digits = 1 if abs(points) >= _LEAST_POINTS else 1 - math.floor(math.log10(abs(points)))
    return [f"higher ({first.endpoint if a > b else second.endpoint})", f"{points:+.{digits}f} points"]


def _published_success(statistics: Mapping[str, object]) -> str:
    ok, requests = published_figure(statistics, "ok"), published_figure(statistics, "requests")
    return NOT_IN_FILE if ok is None or requests is None else f"{ok:.0f}/{requests:.0f}"


def why_no_request(row: EndpointRow) -> str:
    """Why an endpoint stands in the tables without a request that counts."""
    if row.warmups:
        return f"only {row.warmups} of the warm-up: the run ended before the first request that counts"
    return "none, though the run's record names it: nothing was sent to it, or its file lists none"


def _unequal(comparison: Comparison) -> list[str]:
    """A note for each endpoint whose ratios to the first one are of other requests than the first one's."""
    first = comparison.figures[comparison.endpoints[0]]
    found = []
    for name in comparison.endpoints[1:]:
        other = comparison.figures[name]
        if not (first.ok and other.ok) or equal_sets(comparison, name):
            continue
        known = first.ok != other.ok or comparison.verdict_of(name) is not None
        sets = "unequal sets of requests" if known else "sets of requests that may differ"
        answers = f"{first.ok:,} and {other.ok:,} answers"
        found.append(f"Ratios of {first.endpoint} and {name} are over {sets}: {answers}. Verdicts need equal prompts.")
    return found


def _left_out(figures: Sequence[EndpointRow]) -> list[str]:
    found = []
    for what, counts in (
        ("warm-ups", {row.endpoint: row.warmups for row in figures}),
        ("requests that the client cancelled", {row.endpoint: row.cancelled for row in figures}),
        ("requests that the proxy rejected", {row.endpoint: row.rejected for row in figures}),
    ):
        if any(counts.values()):
            each = ", ".join(f"{n} of {name}" for name, n in counts.items())
            found.append(f"Left out: {what} ({each}).")
    for row in figures:
        if row.lost:
            found.append(f"Failed: {row.lost} of {row.endpoint}, whose end is lost since the proxy was killed.")
        if not row.requests:
            found.append(f"Requests of {row.endpoint}: {why_no_request(row)}.")
    return found


def _adjusted(comparison: Comparison) -> list[list[str]]:
    table = []
    for name in comparison.endpoints:
        row = comparison.percentiles.get((name, "latency_adjusted_s"))
        if row is None:
            continue
        cells = [_or_infinite(row.p50)]
        for quantile, value in ((0.9, row.p90), (0.95, row.p95), (0.99, row.p99)):
            needed = samples_needed(quantile)
            cells.append(_or_infinite(value) if row.n >= needed else f"needs n ≥ {needed}")
        table.append(["latency, failures as infinite, s", name, str(row.n), UNKNOWN, *cells, UNKNOWN])
    return table


def _or_infinite(value: float) -> str:
    return "infinite" if value == float("inf") else seconds(value)
