"""The tables beneath the comparison: failures, the instrument, quality, spread, throughput across prompts. Pure."""

from dyno_analysis.render.table import UNKNOWN, Table, milliseconds, percent, rate
from dyno_analysis.stats.interval import samples_needed

from .comparison import Comparison
from .discrepancies import NOT_IN_FILE
from .lines import LENGTHS_SAMPLED
from .titles import titled


def failure_table(comparison: Comparison) -> Table | None:
    """How each endpoint's requests ended that weren't ok; None if all were ok."""
    if not comparison.failures:
        return None
    totals = {name: row.requests for name, row in comparison.figures.items()}
    table = [
        [
            row.endpoint or UNKNOWN,
            row.outcome,
            row.error_type or UNKNOWN,
            str(row.status or UNKNOWN),
            str(row.n),
            percent(row.n / total) if (total := totals.get(row.endpoint or "")) else UNKNOWN,
        ]
        for row in comparison.failures
    ]
    columns = ["endpoint", "outcome", "error type", "status", "requests", "share"]
    notes = ["client_cancelled and rejected aren't failures of the endpoint: the success rate leaves them out."]
    return Table(titled("Requests that were not ok", comparison), columns, "lllrrr", table, notes, "outcomes")


def instrument_table(comparison: Comparison) -> Table:
    """What the proxy itself added, and how late its event loop ran."""
    table = []
    open_loop = any(row.max_send_lag_s is not None for row in comparison.instrument.values())
    for name in comparison.endpoints:
        row = comparison.instrument.get(name)
        if row is None or not (row.n or row.with_lag):
            reason = NOT_IN_FILE if comparison.was_imported(name) else "not known"
            table.append([name, "0", reason, *[UNKNOWN] * (8 if open_loop else 6)])
            continue
        p99_needs = samples_needed(0.99)
        cells = [
            name,
            str(row.n),
            _from_us(row.median_overhead_us),
            _from_us(row.p99_overhead_us) if row.n >= p99_needs else f"needs n ≥ {p99_needs}",
            _from_us(row.max_overhead_us),
            _from_us(row.median_overhead_end_us),
            _from_us(row.median_lag_us),
            _from_us(row.max_lag_us),
            percent(row.share_lagging),
        ]
        if open_loop:
            cells += [milliseconds(row.median_send_lag_s), milliseconds(row.max_send_lag_s)]
        table.append(cells)
    columns = [
        "",
        "n",
        "overhead, ms: median",
        "p99",
        "max",
        "to the end: median",
        "loop lag, ms: median",
        "max",
        "share over 1 ms",
    ]
    if open_loop:
        columns += ["send lag, ms: median", "max"]
    return Table(
        titled("The instrument's own error", comparison),
        columns,
        "l" + "r" * (len(columns) - 1),
        table,
        ["Overhead: the time that the proxy added to the first token (if the answer wasn't streamed: to its end)."],
        "the-instruments-own-error",
    )


def mirror_table(comparison: Comparison) -> Table | None:
    """How many requests a mirror sent again, and how many make pairs; None unless pairs are made by mirror."""
    if not comparison.by_mirror:
        return None
    table = []
    alone = []
    for row in comparison.mirrors:
        if row.endpoint is None or row.copied_to is None:
            what = "copies" if row.endpoint is None else "originals"
            alone.append(f"{row.mirrored:,} {what} at {row.endpoint or row.copied_to}")
            continue
        share = row.mirrored / row.requests if row.requests else None
        counts = (row.both_ok, row.original_not_ok, row.copy_not_ok, row.neither_ok)
        name = f"{row.endpoint}, copied to {row.copied_to}"
        table.append([name, str(row.requests), str(row.mirrored), percent(share), *map(str, counts)])
    notes = [
        "A pair is two ok answers. Failures aren't in the ratios: that flatters an endpoint which fails when slow.",
        "Only /metrics counts requests that were chosen but not sent again: dyno_mirror_copies_total.",
    ]
    if alone:
        notes.append(f"Left out, since their other side isn't among these spans: {', '.join(alone)}.")
    columns = ["", "requests", "mirrored", "share", "both ok", "original not ok", "copy not ok", "neither"]
    return Table(titled("Mirrored requests", comparison), columns, "lrrrrrrr", table, notes, "mirrored-requests")


def quality_table(comparison: Comparison) -> Table | None:
    """SQuAD's scores; None if no answer has a reference."""
    if not comparison.quality:
        return None
    table = [[q.endpoint, str(q.n), percent(q.exact_match), percent(q.f1)] for q in comparison.quality]
    return Table(
        titled("Answer quality", comparison),
        ["", "answers", "exact match", "F1"],
        "lrrr",
        table,
        ["SQuAD v1.1's scores against the reference answers. A whole sentence never matches a reference of two words."],
        "answer-quality",
    )


def distribution_table(comparison: Comparison) -> Table:
    """How latencies spread: consistency, outliers, variance."""
    table = []
    for name in comparison.endpoints:
        row = comparison.distributions.get(name)
        if row is None:
            table.append([name, "0", *[UNKNOWN] * 5])
            continue
        table.append(
            [
                name,
                str(row.n),
                UNKNOWN if row.variance_s2 is None else f"{row.variance_s2:.4f}",
                percent(row.coefficient_of_variation),
                f"{row.q1_s:.3f} to {row.q3_s:.3f}",
                str(row.low_outliers),
                str(row.high_outliers),
            ]
        )
    columns = [
        "",
        "n",
        "variance, s²",
        "coefficient of variation",
        "middle half, s",
        "outliers below",
        "outliers above",
    ]
    note = (
        "Outliers lie more than 1.5 interquartile ranges outside the middle half. Variation: standard deviation / mean."
    )
    return Table(titled("Latency distribution", comparison), columns, "lrrrrrr", table, [note], "latency-distribution")


def throughput_table(comparison: Comparison) -> Table:
    """How requests' output throughput varies with the lengths of their answers and prompts."""
    table = []
    for name in comparison.endpoints:
        points, correlations = comparison.lengths[name], comparison.correlations[name]
        throughput = points.output_tokens / points.latency_s
        known = len(throughput) > 0
        table.append(
            [
                name,
                str(correlations.n),
                rate(float(throughput.min()) if known else None),
                rate(comparison.figures[name].output_tokens_per_s),
                rate(float(throughput.max()) if known else None),
                rate(correlations.with_output_tokens),
                rate(correlations.with_input_tokens),
            ]
        )
    columns = ["", "n", "min, tok/s", "of all, tok/s", "max, tok/s", "rank corr. with answer", "rank corr. with prompt"]
    notes = ["Spearman's rank correlation of a request's output throughput with its output and input tokens: -1 to 1."]
    if comparison.lengths_sampled:
        notes.append(LENGTHS_SAMPLED)
    return Table(
        titled("Throughput across prompts", comparison), columns, "lrrrrrr", table, notes, "throughput-across-prompts"
    )


def _from_us(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value / 1e3:.3f}"
