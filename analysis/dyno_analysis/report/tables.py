"""A comparison as tables of text, for the terminal and for the Markdown report. Pure."""

from collections.abc import Callable, Mapping, Sequence

from dyno_analysis.query.row_types import EndpointRow
from dyno_analysis.render.table import UNKNOWN, Table, difference, milliseconds, rate, seconds, tokens
from dyno_analysis.stats import regression
from dyno_analysis.stats.paired import FEWEST_PROMPTS, MOST_GROUPS, Interval, Verdict, samples_needed

from .comparison import MOST_LENGTHS, Comparison, PairedFigure
from .discrepancies import NOT_IN_FILE, published_figure

# The published table's rows: label, figure, the function that writes a cell, what the larger value is called (None: the
# row has no ratio).
_COMPARED: Sequence[tuple[str, str, Callable[[float | None], str], str | None]] = (
    ("mean latency, s", "mean_latency_s", seconds, "slower"),
    ("median latency, s", "median_latency_s", seconds, "slower"),
    ("min latency, s", "min_latency_s", seconds, "slower"),
    ("max latency, s", "max_latency_s", seconds, "slower"),
    ("standard deviation, s", "stddev_latency_s", seconds, None),
    ("throughput, output tok/s", "output_tokens_per_s", rate, "higher"),
    ("avg response length, tokens", "mean_output_tokens", tokens, "longer"),
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
LENGTHS_SAMPLED = f"If an endpoint has over {MOST_LENGTHS:,} requests, a sample is picked by their ids; n is its size."
PAIRED_LABELS = {"latency_s": "latency", "ttft_s": "TTFT", "tpot_s": "TPOT"}


def titled(title: str, comparison: Comparison) -> str:
    """The title; it names the endpoints that are simulated, and says if figures are imported."""
    simulated = comparison.simulated
    if simulated:
        title += (
            ", simulated" if len(simulated) == len(comparison.endpoints) else f", simulated: {', '.join(simulated)}"
        )
    if any(row.imported for row in comparison.figures.values()):
        title += ", imported"
    return title


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
    for label, figure, cell, larger in _COMPARED:
        row = [label]
        for endpoint in figures:
            if published:
                value = published_figure(published.get(endpoint.endpoint, {}), figure)
                row.append(NOT_IN_FILE if value is None else cell(value))
            row.append(cell(getattr(endpoint, figure)))
        for other in figures[1:]:
            row += _compared(figures[0], other, figure, larger)
        table.append(row)
    table.append(_overhead_row(comparison, figures, bool(published)))
    row = ["success rate"]
    for endpoint in figures:
        if published:
            row.append(_published_success(published.get(endpoint.endpoint, {})))
        row.append(f"{endpoint.ok}/{endpoint.counted}")
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
    if published:
        notes.append("As published: the file's own statistics; it has no ratio.")
    notes += _left_out(figures)
    return Table(titled("Comparison", comparison), columns, "l" + "r" * (len(columns) - 1), table, notes)


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
    return Table(titled("Figures", comparison), columns, "llrrrrrrr", table, notes)


def paired_table(comparison: Comparison) -> Table | None:
    """Ratios over the prompts that two endpoints both answered; None if there is no such prompt."""
    if not comparison.paired:
        return None
    resamples = max(paired.ratio.resamples for paired in comparison.paired)
    table = []
    for paired in comparison.paired:
        ratio = paired.ratio
        table.append(
            [
                f"{PAIRED_LABELS[paired.figure]} {paired.first} : {paired.second}",
                str(paired.pairs),
                str(ratio.prompts),
                f"{ratio.ratio:.2f}",
                interval(ratio.interval, "{:.2f}") or f"needs {FEWEST_PROMPTS} prompts",
                f"{ratio.median_ratio:.2f}",
                interval(ratio.median_interval, "{:.2f}") or f"needs {FEWEST_PROMPTS} prompts",
                milliseconds(abs(ratio.first_mean - ratio.second_mean)),
                milliseconds(paired.overhead_s),
                verdict_text(paired, comparison.margin),
            ]
        )
    notes = [
        f"Ratio of means: BCa bootstrap over prompts, {resamples:,} resamples, seed {comparison.seed}.",
        "Median of the prompts' ratios: its interval by order statistics.",
        f"'No difference': the whole interval lies within {comparison.margin * 100:g} %.",
        "Proxy's own: the difference of its overhead between the two, or the overhead's spread if that is larger.",
        "Overhead that both share cancels out. A verdict is withheld if the proxy's own is as large as the effect.",
    ]
    if any(paired.ratio.prompts > MOST_GROUPS for paired in comparison.paired):
        notes.append(f"More prompts than {MOST_GROUPS:,} are put into that many random groups, which are resampled.")
    return Table(
        titled("Paired ratio", comparison),
        [
            *("", "pairs", "prompts", "ratio of means", "95 % interval", "median ratio", "95 % interval"),
            *("effect, ms", "proxy's own, ms", "verdict"),
        ],
        "lrrrrrrrrl",
        table,
        notes,
    )


def fixed_per_token_table(comparison: Comparison) -> Table:
    """latency = fixed + per token. It tells a slow way to the engine (fixed) from a slow engine (per token)."""
    table = [
        [
            found.endpoint,
            line.method,
            str(line.points),
            f"{found.shortest_tokens} to {found.longest_tokens}" if line.points else UNKNOWN,
            seconds(line.fixed),
            interval(line.fixed_interval, "{:.2f}") or UNKNOWN,
            milliseconds(line.slope),
            interval(line.slope_interval, "{:.1f}", 1e3) or UNKNOWN,
            line_verdict(line),
        ]
        for found in comparison.fixed_per_token
        for line in found.lines
    ]
    notes = ["Over ok requests. The fixed part is the line at 0 tokens, which is mostly outside the lengths measured."]
    if comparison.lengths_sampled:
        notes.append(LENGTHS_SAMPLED)
    columns = [
        "",
        "method",
        "n",
        "output tokens",
        "fixed, s",
        "95 % interval",
        "per token, ms",
        "95 % interval",
        "verdict",
    ]
    return Table(
        titled("Latency = fixed + per token", comparison),
        columns,
        "llrrrrrrl",
        table,
        notes,
    )


def verdict_text(paired: PairedFigure, margin: float) -> str:
    """The verdict in words; `margin` 0.05 is 5 %."""
    ratio = paired.ratio
    if paired.verdict is Verdict.SECOND_SMALLER:
        return f"{paired.second} faster"
    if paired.verdict is Verdict.FIRST_SMALLER:
        return f"{paired.second} slower"
    if paired.verdict is Verdict.SAME:
        return f"no difference within {margin * 100:g} %"
    if paired.verdict is Verdict.WITHHELD:
        overhead = milliseconds(paired.overhead_s)
        effect = milliseconds(abs(ratio.first_mean - ratio.second_mean))
        return f"withheld: the proxy's own {overhead} ms against an effect of {effect} ms"
    return f"undecided: fewer than {FEWEST_PROMPTS} prompts" if ratio.interval is None else "undecided"


def line_verdict(line: regression.Line) -> str:
    """Whether latency depends on the answer's length, in words."""
    if not line.decided:
        return "undecided, more lengths needed"
    return "grows with length" if line.slope is not None and line.slope > 0 else "falls with length"


def interval(found: Interval | None, form: str, scale: float = 1) -> str | None:
    """'LOW to HIGH', each times `scale` and written by the format `form`; None without an interval."""
    return None if found is None else f"{form.format(found.low * scale)} to {form.format(found.high * scale)}"


def _compared(first: EndpointRow, second: EndpointRow, figure: str, larger: str | None) -> list[str]:
    a, b = getattr(first, figure), getattr(second, figure)
    if a is None or b is None or a <= 0 or b <= 0:
        return [UNKNOWN, UNKNOWN]
    if larger is None:
        return ["", difference(a, b)]
    ratio = f"{max(a, b) / min(a, b):.2f}"
    if ratio == "1.00":
        return ["equal", difference(a, b)]
    if larger == "slower":
        return [f"{ratio}x faster ({first.endpoint if a < b else second.endpoint})", difference(a, b)]
    return [f"{ratio}x {larger} ({first.endpoint if a > b else second.endpoint})", difference(a, b)]


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
    return [f"higher ({first.endpoint if a > b else second.endpoint})", f"{(b - a) * 100:+.1f} points"]


def _published_success(statistics: Mapping[str, object]) -> str:
    ok, requests = published_figure(statistics, "ok"), published_figure(statistics, "requests")
    return NOT_IN_FILE if ok is None or requests is None else f"{ok:.0f}/{requests:.0f}"


def _left_out(figures: Sequence[EndpointRow]) -> list[str]:
    found = []
    for what, counts in (
        ("warm-ups", {row.endpoint: row.warmups for row in figures}),
        ("requests that the client cancelled", {row.endpoint: row.cancelled for row in figures}),
        ("requests that the proxy rejected", {row.endpoint: row.rejected for row in figures}),
        ("requests that the proxy lost when it was killed", {row.endpoint: row.lost for row in figures}),
    ):
        if any(counts.values()):
            each = ", ".join(f"{n} of {name}" for name, n in counts.items())
            found.append(f"Left out: {what} ({each}).")
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
