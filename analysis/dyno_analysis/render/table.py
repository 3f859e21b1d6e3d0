"""A table of cells as text, and how figures become cells. Pure; the renderers only lay it out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

UNKNOWN = "–"
_MOST_DECIMALS = 6


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
    return UNKNOWN if value is None else f"{value:.3f}"


def milliseconds(value_s: float | None) -> str:
    return UNKNOWN if value_s is None else f"{value_s * 1e3:.2f}"


def rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def tokens(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}"


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


def plain_table(table: Table) -> list[str]:
    """The table's lines: title, columns two blanks apart, notes."""
    column_widths = widths(table)
    lines = [table.title, "-" * len(table.title)]
    lines += [_line(row, table.align, column_widths) for row in (table.columns, *table.rows)]
    return [*lines, *table.lines_beneath]


def widths(table: Table) -> list[int]:
    """Characters of each column's longest cell, its name included."""
    return [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]


def _line(cells: Sequence[str], align: str, column_widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if side == "l" else cell.rjust(width)
        for cell, side, width in zip(cells, align, column_widths, strict=True)
    ]
    return "  ".join(padded).rstrip()
