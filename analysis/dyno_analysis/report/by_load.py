"""A run under several loads: each load is a comparison of its own. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dyno_analysis.query.row_types import LoadRow
from dyno_analysis.render.table import UNKNOWN, Table, milliseconds, rate, ratio, seconds
from dyno_analysis.spans.offered_load import OfferedLoad
from dyno_analysis.stats.interval import samples_needed
from dyno_analysis.stats.paired import FEWEST_PROMPTS

from .comparison import Comparison
from .titles import titled
from .verdicts import interval_words, together, verdict_words

_LABELS: Final = {"latency_s": "latency", "ttft_s": "TTFT"}


@dataclass(frozen=True)
class UnderLoad:
    """The comparison of the requests that were sent under one load."""

    load: OfferedLoad
    comparison: Comparison


def load_folder(load: OfferedLoad) -> str:
    """The name of the folder with one load's report."""
    return f"load_{load.in_words().replace('/', '_per_')}"


def load_table(found: Sequence[UnderLoad], rows: Sequence[LoadRow]) -> Table:
    """What each endpoint did under each load."""
    needed = samples_needed(0.95)
    open_loop = any(row.due_latency_p50_s is not None for row in rows)
    cells = [
        [
            OfferedLoad(row.load_concurrency, row.load_rate_per_s).in_words(),
            row.endpoint,
            f"{row.ok} of {row.requests}",
            rate(row.ok_per_s),
            rate(row.output_tokens_per_s),
            seconds(row.latency_p50_s),
            *(_from_due(row, needed) if open_loop else []),
            seconds(row.ttft_p50_s),
            seconds(row.ttft_p95_s) if row.ok >= needed else f"n ≥ {needed}",
            milliseconds(row.tpot_p50_s),
        ]
        for row in rows
    ]
    notes = [
        "Requests and tokens a second: of the whole endpoint, while requests that count were under way.",
        "Median latency, TTFT and TPOT are those of ok requests.",
    ]
    columns = ["load", "endpoint", "ok", "req/s", "tok/s", "latency, s", "TTFT, s", "TTFT p95", "TPOT, ms"]
    if open_loop:
        columns[6:6] = ["from due, s", "from due p95"]
        notes.append("From due: latency from when an open loop's request was due, not from when it came to the proxy.")
    return Table(
        titled("By load", found[0].comparison), columns, "ll" + "r" * (len(columns) - 2), cells, notes, "by-load"
    )


def _from_due(row: LoadRow, needed: int) -> list[str]:
    known = row.due_latency_p95_s is not None
    return [
        seconds(row.due_latency_p50_s),
        f"n ≥ {needed}" if known and row.ok < needed else seconds(row.due_latency_p95_s),
    ]


def load_answer_table(found: Sequence[UnderLoad], rows: Sequence[LoadRow]) -> Table:
    """A row for each load, and for each endpoint beside the first: what both gave, and who answers sooner."""
    given = {
        (row.endpoint, OfferedLoad(row.load_concurrency, row.load_rate_per_s)): row.output_tokens_per_s for row in rows
    }
    cells = []
    for each in found:
        first, *others = each.comparison.endpoints
        load = each.load.in_words()
        for other in others:
            paired = each.comparison.verdict_of(other)
            held = paired and interval_words(paired.ratio.typical_interval, each.comparison.margin)
            cells.append(
                [
                    load,
                    *(f"{rate(given.get((name, each.load)))} {name}" for name in (first, other)),
                    ratio(paired.ratio.typical_ratio) if paired else UNKNOWN,
                    held or UNKNOWN,
                    verdict_words(paired.verdict, paired, each.comparison.margin) if paired else "no prompt in common",
                ]
            )
        if not others:
            cells.append([load, f"{rate(given.get((first, each.load)))} {first}", UNKNOWN, UNKNOWN, UNKNOWN, ""])
    columns = ["load", "tok/s", "tok/s", "latency ratio", "95 %", "verdict"]
    notes = ["Tokens a second: of the whole endpoint. Ratio: the typical request's; verdicts hold together with 95 %."]
    return Table(titled("By load", found[0].comparison), columns, "lrrrrl", cells, notes, "by-load")


def load_verdict_table(found: Sequence[UnderLoad]) -> Table | None:
    """The verdict under each load, over the prompts that two endpoints both answered; None without such a prompt."""
    rows = [
        [
            each.load.in_words(),
            f"{_LABELS[paired.figure]} {paired.first} : {paired.second}",
            str(paired.ratio.prompts),
            ratio(paired.ratio.typical_ratio),
            interval_words(paired.ratio.typical_interval, each.comparison.margin) or f"needs {FEWEST_PROMPTS} prompts",
            verdict_words(paired.verdict, paired, each.comparison.margin),
        ]
        for each in found
        for paired in each.comparison.paired
        if paired.figure in _LABELS
    ]
    if not rows:
        return None
    first = found[0].comparison
    notes = [
        "Typical request: the geometric mean of the prompts' ratios. Above 1, the second takes less time.",
        f"Intervals over all loads: {together(first)}.",
    ]
    columns = ["load", "typical request", "prompts", "ratio", "interval", "verdict"]
    return Table(titled("Verdicts by load", first), columns, "llrrrl", rows, notes, "verdicts")
