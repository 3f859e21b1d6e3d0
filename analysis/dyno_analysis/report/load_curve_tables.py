"""What several loads say together, as tables and as JSON. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from dyno_analysis.query.row_types import LoadRow
from dyno_analysis.render.table import UNKNOWN, Table, milliseconds, percent, rate, seconds
from dyno_analysis.spans.offered_load import OfferedLoad
from dyno_analysis.stats.interval import Interval, samples_needed
from dyno_analysis.stats.knee import FEWEST_LOADS

from .by_load import UnderLoad
from .load_curves import TOKENS, Capacity, Crossings, LoadCurves, Reach, Saturation, load_of
from .titles import titled

_LABELS: Final = {TOKENS: "tokens a second", "latency_s": "latency", "ttft_s": "TTFT"}
_PERCENTILES: Final[Sequence[tuple[str, Callable[[float | None], str], tuple[str, str, str]]]] = (
    ("latency, s", seconds, ("latency_p50_s", "latency_p95_s", "latency_p99_s")),
    ("TTFT, s", seconds, ("ttft_p50_s", "ttft_p95_s", "ttft_p99_s")),
    ("TPOT, ms", milliseconds, ("tpot_p50_s", "tpot_p95_s", "tpot_p99_s")),
)


def curve_tables(found: Sequence[UnderLoad], curves: LoadCurves) -> list[Table]:
    """All tables over several loads, those of the objectives first."""
    made = [
        *slo_tables(found, curves),
        _percentile_table(curves),
        _saturation_table(curves.saturations),
        _crossing_table(curves.crossings),
        _points_table(curves.rows),
    ]
    return [_titled(table, found) for table in made if table is not None and table.rows]


def slo_tables(found: Sequence[UnderLoad], curves: LoadCurves) -> list[Table]:
    """The highest load that keeps all objectives, and goodput; none without objectives."""
    if not curves.objectives:
        return []
    asked = " and ".join(each.text for each in curves.objectives)
    highest = [_capacity_row(each) for each in curves.capacities]
    notes = [
        f"All of: {asked}. A failed request, or one without the figure, keeps nothing.",
        "Interval, 95 %: from the highest load that is told to keep all to the lowest that is told to miss one.",
        f"To tell that a p95 is kept takes {samples_needed(0.95)} requests under a load, a p99 {samples_needed(0.99)}.",
    ]
    columns = ["endpoint", "loads", "highest that keeps it", "interval"]
    good = [
        [
            each.load.in_words(),
            each.endpoint,
            f"{each.kept:,} of {each.requests:,}",
            percent(each.kept / each.requests if each.requests else None),
            rate(each.per_s),
        ]
        for each in curves.goodputs
    ]
    kept = ["Kept: requests that kept every limit by themselves. Goodput: those a second."]
    return [
        _titled(table, found)
        for table in (
            Table("Highest load within the limits", columns, "llrr", highest, notes, "load-curves"),
            Table(
                "Goodput", ["load", "endpoint", "kept", "share", "goodput, req/s"], "llrrr", good, kept, "load-curves"
            ),
        )
    ]


def curves_json(curves: LoadCurves) -> dict[str, Any]:
    """The points and what they say, for other programs. Seconds; a load is its words; null where nothing is told."""
    return {
        "objectives": [{**asdict(each), "at_most_s": _finite(each.at_most_s)} for each in curves.objectives],
        "points": [
            {
                **asdict(row),
                "load": load_of(row).in_words(),
                "tokens_per_s_per_user_p90": _inverse(row.tpot_p90_s),
            }
            for row in curves.rows
        ],
        "saturation": [
            {
                "endpoint": each.endpoint,
                "between": each.reach.ends,
                "at": each.knee and each.knee.at,
                "interval": each.knee and _ends(each.knee.interval),
            }
            for each in curves.saturations
        ],
        "from_due": [{**asdict(each), "load": each.load.in_words()} for each in curves.from_due],
        "crossovers": [_crossing_json(each) for each in curves.crossings],
        "highest_load": [_capacity_json(each) for each in curves.capacities],
        "goodput": [
            {
                "endpoint": each.endpoint,
                "load": each.load.in_words(),
                "kept": each.kept,
                "requests": each.requests,
                "per_s": each.per_s,
            }
            for each in curves.goodputs
        ],
    }


def _crossing_json(each: Crossings) -> dict[str, Any]:
    return {
        "figure": each.figure,
        "first": each.first,
        "second": each.second,
        "between": each.reach.ends,
        "found": [
            {"at": one.at, "interval": _ends(one.interval), "better_below": _better(each, one.first_larger_below)}
            for one in each.found
        ],
    }


def _capacity_json(each: Capacity) -> dict[str, Any]:
    return {
        "endpoint": each.endpoint,
        "between": each.reach.ends,
        "open_loop": each.reach.open_loop,
        "at": _finite(each.highest.at),
        "interval": _ends(each.highest.interval),
    }


def crossing_sentences(curves: LoadCurves) -> list[str]:
    """What the curves say, as sentences for a screen: crossovers of throughput and latency, and knees."""
    found = []
    for each in curves.crossings:
        for one in each.found if each.figure != "ttft_s" else ():
            below, above = (_better(each, larger) for larger in (one.first_larger_below, not one.first_larger_below))
            unit = " requests a second" if each.reach.open_loop else " at once"
            found.append(
                f"By {_LABELS[each.figure]}, {below} is ahead below about {one.at:.3g}{unit} "
                f"(95 %: {_span(one.interval)}), {above} above."
            )
    for own in curves.saturations:
        if own.knee is not None:
            held = _span(own.knee.interval)
            found.append(f"{own.endpoint}'s throughput hardly grows from {own.knee.at:.3g} at once on (95 %: {held}).")
    return found


def _percentile_table(curves: LoadCurves) -> Table:
    cells = []
    due: dict[tuple[str, OfferedLoad], list[list[str]]] = {}
    for each in curves.from_due:
        label = f"{_LABELS[each.figure]} from due, s"
        tail = [_percentile(seconds, each.n, *pair) for pair in ((0.95, each.p95), (0.99, each.p99))]
        due.setdefault((each.endpoint, each.load), []).append([label, str(each.n), seconds(each.p50), *tail])
    for row in curves.rows:
        for label, cell, (p50, p95, p99) in _PERCENTILES:
            if getattr(row, p50) is None:
                continue
            further = [
                _percentile(cell, row.ok, share, getattr(row, name)) for name, share in ((p95, 0.95), (p99, 0.99))
            ]
            cells.append([load_of(row).in_words(), row.endpoint, label, str(row.ok), cell(getattr(row, p50)), *further])
        cells += [[load_of(row).in_words(), row.endpoint, *own] for own in due.get((row.endpoint, load_of(row)), ())]
    notes = ["Over ok requests that count. A percentile is printed if n is enough for a two-sided 95 % interval."]
    if due:
        notes.append("From due: counted from when the request was due, as an open loop has it; so are limits (--slo).")
    columns = ["load", "endpoint", "figure", "n", "median", "p95", "p99"]
    return Table("Percentiles by load", columns, "lllrrrr", cells, notes, "load-curves")


def _percentile(cell: Callable[[float | None], str], n: int, share: float, value: float | None) -> str:
    return cell(value) if n >= (needed := samples_needed(share)) else f"n ≥ {needed}"


def _saturation_table(saturations: Sequence[Saturation]) -> Table:
    cells = []
    for each in saturations:
        row = [each.endpoint, _between(each.reach)]
        if each.knee is not None:
            growth = f"{each.knee.growth_before:.2f} : {max(each.knee.growth_after, 0.0):.2f}"
            cells.append([*row, f"{each.knee.at:.3g}", _span(each.knee.interval), growth])
        else:
            few = len(each.reach.loads) < FEWEST_LOADS
            cells.append([*row, f"needs {FEWEST_LOADS} loads" if few else "none found", UNKNOWN, UNKNOWN])
    notes = [
        "Knee: from this load on, throughput in output tokens hardly grows: two lines on logarithmic scales.",
        "Interval: 95 %, by a bootstrap over the throughputs' errors. Growth: before and after; 1 is in proportion.",
    ]
    columns = ["endpoint", "loads", "knee", "interval", "growth"]
    return Table("Saturation", columns, "llrrr", cells, notes, "load-curves")


def _crossing_table(crossings: Sequence[Crossings]) -> Table:
    cells = []
    for each in crossings:
        row = [_LABELS[each.figure], f"{each.first} : {each.second}"]
        if not each.found:
            cells.append([*row, f"none found between {' and '.join(each.reach.ends)}", UNKNOWN, UNKNOWN])
        for one in each.found:
            below = _better(each, one.first_larger_below)
            cells.append([*row, f"{one.at:.3g}", _span(one.interval), f"{below} below"])
    notes = [
        "Where the order changes. Interval: between the two loads at which the difference is told, with 95 % over all.",
        "There may be several. 'Below': who is better at loads below.",
    ]
    columns = ["figure", "endpoints", "crossover", "interval", "better"]
    return Table("Crossovers", columns, "llrrl", cells, notes, "load-curves")


def _points_table(rows: Sequence[LoadRow]) -> Table:
    needed = samples_needed(0.9)
    cells = [
        [
            load_of(row).in_words(),
            row.endpoint,
            rate(row.output_tokens_per_s),
            *(
                [milliseconds(row.tpot_p90_s), rate(_inverse(row.tpot_p90_s))]
                if row.ok >= needed
                else [f"n ≥ {needed}", UNKNOWN]
            ),
        ]
        for row in rows
        if row.tpot_p90_s is not None
    ]
    notes = ["As MLPerf Endpoints v1.0 draws it: tokens a second of the system against 1000 / TPOT p90 in ms."]
    columns = ["load", "endpoint", "system, tok/s", "TPOT p90, ms", "a user, tok/s"]
    return Table("Throughput against interactivity", columns, "llrrr", cells, notes, "load-curves")


def _capacity_row(each: Capacity) -> list[str]:
    at, held = each.highest.at, each.highest.interval
    unit = "/s" if each.reach.open_loop else ""
    lowest, highest = each.reach.ends
    words = f"{at:.3g}{unit}"
    if at == 0:
        words = f"below {lowest}"
    elif math.isinf(at):
        words = f"{highest} or more"
    low = f"{held.low:g}{unit}" if held.low else "0"
    high = "∞" if math.isinf(held.high) else f"{held.high:g}{unit}"
    return [each.endpoint, _between(each.reach), words, f"{low} to {high}"]


def _better(each: Crossings, first_larger: bool) -> str:
    """Who is better where the first's figure is larger, or isn't: more tokens are better, and less time."""
    return each.first if first_larger == (each.figure == TOKENS) else each.second


def _between(reach: Reach) -> str:
    low, high = reach.ends
    return low if low == high else f"{low} to {high}"


def _span(held: Interval) -> str:
    return f"{held.low:.3g} to {held.high:.3g}"


def _ends(held: Interval) -> list[float | None]:
    return [held.low, _finite(held.high)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def _titled(table: Table, found: Sequence[UnderLoad]) -> Table:
    return replace(table, title=titled(table.title, found[0].comparison))
