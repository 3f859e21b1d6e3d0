"""The goals for the proxy's speed, beside what was measured."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from .disturbances import CASES, NOTHING, SENT, UNWRITTEN
from .memory import LEVELS
from .results import (
    BESIDE_P50,
    BESIDE_P99,
    BESIDE_P999,
    BYTES_SPAN,
    CPU_CHUNK,
    CPU_CHUNK_BURST,
    CPU_OWN,
    CPU_REQUEST,
    CPU_REQUEST_AT_RATE,
    ERROR_P50,
    ERROR_P99,
    FIRST,
    GROWTH,
    RSS,
    TRANSIT_P50,
    TRANSIT_P99,
    Results,
    number,
    table,
    times,
)
from .streams import DIRECT
from .timing import LOADS


class Goal(NamedTuple):
    what: str
    limit: float
    unit: str  # x: a ratio
    measured: float | None
    at_least: bool = False

    def met(self) -> bool | None:
        """None where it wasn't measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def goals(results: Results) -> list[Goal]:
    def ratio(figure: str, to: str) -> float | None:
        return results.ratio(figure, "dyno", to)

    def first_ms(percent: float) -> float | None:
        return _ms(results.percentile_added(FIRST, "dyno", DIRECT, percent))

    found = [
        Goal(f"{figure}, to {to}", limit, "x", ratio(figure, to))
        for figure in (CPU_REQUEST, CPU_REQUEST_AT_RATE)
        for to, limit in (("bare", 0.5), ("nginx", 3.5))
    ]
    found += [
        Goal(f"{CPU_OWN}, with OTLP export, to without", 1.05, "x", results.ratio(CPU_OWN, "dyno-otlp", "dyno")),
        Goal(f"a chunk's transit, p99, while {SENT}", 1.1, "x", results.ratio(BESIDE_P99, SENT, NOTHING)),
        Goal(f"{CPU_CHUNK}, to bare", 0.85, "x", ratio(CPU_CHUNK, "bare")),
        Goal(f"{CPU_CHUNK}, to nginx", 2.5, "x", ratio(CPU_CHUNK, "nginx")),
        Goal(f"{CPU_CHUNK_BURST}, to bare", 1.0, "x", ratio(CPU_CHUNK_BURST, "bare")),
        Goal("added to the first token at 50 streams/s, p50", 0.6, "ms", first_ms(50)),
        Goal("the same, p99", 2.0, "ms", first_ms(99)),
        Goal("a chunk's transit, p50, to bare", 1.0, "x", ratio(TRANSIT_P50, "bare")),
        Goal("the same, p99", 1.0, "x", ratio(TRANSIT_P99, "bare")),
        *(
            Goal(
                f"a chunk's transit, {percent}, to that without spans",
                1.2,
                "x",
                results.ratio(figure, NOTHING, UNWRITTEN),
            )
            for percent, figure in (("p50", BESIDE_P50), ("p99", BESIDE_P99), ("p99.9", BESIDE_P999))
        ),
        *(
            Goal(f"a chunk's transit, p99, while {case}", 1.2, "x", results.ratio(BESIDE_P99, case, NOTHING))
            for case in CASES
            if case not in (NOTHING, UNWRITTEN)
        ),
        Goal("LiteLLM's CPU per request, to dyno's", 200, "x", results.ratio(CPU_REQUEST, "litellm", "dyno"), True),
        Goal("memory with 1,000 open streams", 90, "MB", results.median(f"{RSS} {LEVELS[-1]}", "dyno")),
        Goal("growth over the chunks of 'Memory'", 1, "MB", results.median(GROWTH, "dyno")),
    ]
    for name in LOADS:
        for percentile, figure, limit in (("p50", ERROR_P50, 0.3), ("p99", ERROR_P99, 1.0)):
            error = _ms(results.median(f"{figure} first token", name))
            found.append(Goal(f"timing error of the first token, {percentile}, {name}", limit, "ms", error))
    found.append(Goal(BYTES_SPAN, 80, "B", results.median(BYTES_SPAN, "dyno")))
    return found


def goals_table(found: Sequence[Goal]) -> str:
    rows = [
        [
            goal.what,
            f"{'≥' if goal.at_least else '≤'} {_text(goal.limit, goal.unit)}",
            _text(goal.measured, goal.unit),
            _WORDS[goal.met()],
        ]
        for goal in found
    ]
    return table(["figure", "goal", "measured", "met"], rows)


_WORDS: Final = {True: "yes", False: "**no**", None: "not measured"}


def _ms(us: float | None) -> float | None:
    return None if us is None else us / 1e3


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    return times(value) if unit == "x" else f"{number(value, 2)} {unit}"
