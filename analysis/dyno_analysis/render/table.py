"""A table of cells as text, and how figures become cells. Pure; the renderers only lay it out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

UNKNOWN = "–"


@dataclass(frozen=True)
class Table:
    """`align` has one letter a column: l or r. Notes stand beneath."""

    title: str
    columns: Sequence[str]
    align: str
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())


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


def count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
