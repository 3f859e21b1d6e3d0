"""A table of cells as text, and how figures become cells. Pure; the renderers only lay it out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .wrapping import width

UNKNOWN = "–"
_MOST_DECIMALS = 6
_LARGE = 1e12  # from here on a figure is written with its power of ten
# From how many seconds on a time is written in which unit: the threshold, the unit's number in a second, its name.
_UNITS = ((0.9995, 1.0, "s"), (1e-5, 1e3, "ms"), (0.0, 1e6, "µs"))


@dataclass(frozen=True)
class Table:
    """`align` has one letter a column: l or r. Notes stand beneath, and then where the figures are defined."""

    title: str
    columns: Sequence[str]
    align: str
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())
    defined: str | None = None  # a section of docs/figures.md

    @property
    def lines_beneath(self) -> list[str]:
        """The notes, and where the figures are defined."""
        where = [] if self.defined is None else [f"Defined in docs/figures.md#{self.defined}"]
        return [*self.notes, *where]


def seconds(value: float | None) -> str:
    return _decimal(value, 3)


def milliseconds(value_s: float | None) -> str:
    return _decimal(None if value_s is None else value_s * 1e3, 2)


def rate(value: float | None) -> str:
    return _decimal(value, 2)


def tokens(value: float | None) -> str:
    return _decimal(value, 1)


def duration(value_s: float | None) -> str:
    """A time with its unit and three digits: 4.87 s, 136 ms, 0.260 ms, 1.00 µs."""
    if value_s is None:
        return UNKNOWN
    scale, unit = next((scale, unit) for least, scale, unit in _UNITS if abs(value_s) >= least)
    value = value_s * scale
    if abs(value) >= _LARGE:
        return f"{value:.2e} {unit}"
    digits = 2 if value == 0 else 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(digits, 0), _MOST_DECIMALS)}f} {unit}"


def percent(share: float | None, digits: int = 1) -> str:
    return UNKNOWN if share is None else f"{share * 100:.{digits}f} %"


def difference(first: float | None, second: float | None) -> str:
    """By how much the second differs from the first, in percent of the first."""
    if first is None or second is None or first == 0:
        return UNKNOWN
    # Adding 0.0 makes a rounded -0.0 positive.
    return f"{round((second - first) / first * 100, 1) + 0.0:+.1f} %"


def ratio(value: float | None, landmarks: Sequence[float] = ()) -> str:
    """A ratio with three digits at least, and so many that it stands on its own side of 1 and of the landmarks."""
    if value is None:
        return UNKNOWN
    if value == float("inf"):
        return "∞"
    decimals = 2 if value >= 1 or value == 0 else 2 - math.floor(math.log10(value))
    text = f"{value:.{min(max(decimals, 2), _MOST_DECIMALS)}f}"
    for more in range(decimals + 1, _MOST_DECIMALS + 1):
        if all((float(text) > mark) == (value > mark) and (float(text) < mark) == (value < mark) for mark in landmarks):
            break
        text = f"{value:.{more}f}"
    return text


def decimals(low: float, high: float, least: int) -> int:
    """How many decimals show an interval's width with two digits, `least` or more, but no more than four digits."""
    larger, width = max(abs(low), abs(high)), high - low
    if larger == 0 or not math.isfinite(larger) or width <= 0:
        return least
    enough = max(1 - math.floor(math.log10(larger)), 1 - math.floor(math.log10(width)))
    return max(least, min(enough, 3 - math.floor(math.log10(larger)), _MOST_DECIMALS))


def count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def widths(table: Table) -> list[int]:
    """Columns of the screen that each column's longest cell takes, its name included."""
    return [max(map(width, column)) for column in zip(table.columns, *table.rows, strict=True)]


def _decimal(value: float | None, least: int) -> str:
    """With `least` decimals, and where these would show only zeros, with two digits that aren't."""
    if value is None:
        return UNKNOWN
    size = abs(value)
    if not math.isfinite(value) or size == 0 or 10**-least <= size < _LARGE:
        return f"{value:.{least}f}"
    digits = 1 - math.floor(math.log10(size))
    return f"{value:.{digits}f}" if 0 < digits <= _MOST_DECIMALS + least else f"{value:.2e}"
