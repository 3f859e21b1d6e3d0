"""Times that aren't drawn at one steady rate: a series of times, a series of rates, a ramp. Pure.

A rate that changes keeps its kind of arrivals: times are drawn at one a second, and time is stretched where the rate is
below that and pressed together where it is above (Çınlar, Introduction to Stochastic Processes, 1975, section 4.7).
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

FORM: Final = (
    "a time in seconds after the start on each line, or two columns 'time_s,rate_per_s': from that time on, so many "
    "requests a second"
)


class Times(NamedTuple):
    """Requests are due at these times, in s after the load begins and in order. After its end the series begins again,
    a mean gap later.
    """

    at_s: tuple[float, ...]

    @property
    def period_s(self) -> float:
        """The series' length: its last time and a mean gap. 0 if all times are 0."""
        return self.at_s[-1] * len(self.at_s) / max(1, len(self.at_s) - 1)

    @property
    def rate_per_s(self) -> float:
        """Requests a second, on average. A series that is shorter than a second counts as one of a second."""
        return len(self.at_s) / max(1.0, self.period_s)

    def due_s(self, count: int) -> list[float]:
        """When the first `count` requests are due."""
        length = len(self.at_s)
        return [self.at_s[number % length] + number // length * self.period_s for number in range(count)]


class Rates(NamedTuple):
    """From each of the times in `begin_s` on, the rate beside it in `per_s` holds. The last one holds as long as the
    one before it; after that the series begins again.
    """

    begin_s: tuple[float, ...]
    per_s: tuple[float, ...]

    @property
    def period_s(self) -> float:
        """The series' length."""
        last = self.begin_s[-1] - self.begin_s[-2] if len(self.begin_s) > 1 else 1.0
        return self.begin_s[-1] + last - self.begin_s[0]

    @property
    def rate_per_s(self) -> float:
        """The mean rate."""
        return self._expected()[-1] / self.period_s

    def stretched(self, units: Sequence[float]) -> list[float]:
        """Times at one request a second, as times at these rates."""
        expected = self._expected()  # requests until each rate begins, and in the whole series
        times_s = []
        for unit in units:
            rounds, rest = divmod(unit, expected[-1])
            # The last interval that begins with so few: one without requests is skipped.
            place = min(bisect_right(expected, rest), len(self.per_s)) - 1
            while not self.per_s[place]:
                place -= 1
            within_s = (rest - expected[place]) / self.per_s[place]
            times_s.append(rounds * self.period_s + self.begin_s[place] - self.begin_s[0] + within_s)
        return times_s

    def _expected(self) -> list[float]:
        bounds = (*self.begin_s, self.begin_s[0] + self.period_s)
        counts = (rate * (end - begin) for rate, (begin, end) in zip(self.per_s, pairwise(bounds), strict=True))
        return [0.0, *accumulate(counts)]


Series = Times | Rates


def ramped(units: Sequence[float], from_per_s: float, to_per_s: float, count: int) -> list[float]:
    """Times at one request a second, as times at a rate that goes evenly from one value to the other over `count`
    requests; it then stays.
    """
    lasts_s = 2 * count / (from_per_s + to_per_s)
    times_s = []
    for unit in units:
        # The rate's integral is from · t + (to - from) · t² / (2 · lasts), solved for t.
        root = from_per_s**2 + 2 * (to_per_s - from_per_s) * min(unit, count) / lasts_s
        begun_s = 2 * min(unit, count) / (from_per_s + math.sqrt(max(0.0, root)))
        times_s.append(begun_s + max(0.0, unit - count) / to_per_s)
    return times_s


def read_series(content: str) -> Series:
    """A file's series. Raises ValueError that says what is wrong, and in which line."""
    rows: list[tuple[int, list[str]]] = []
    for number, line in enumerate(content.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").splitlines(), start=1):
        cells = [cell.strip() for cell in line.split(",")]
        if any(cells) and not cells[0].startswith("#"):
            rows.append((number, cells))
    if rows and not any(_is_number(cell) for cell in rows[0][1]):
        del rows[0]  # a header
    if not rows:
        raise ValueError(f"has no times; it needs {FORM}")
    width = len(rows[0][1])
    if width > 2 or any(len(cells) != width for _, cells in rows):
        raise ValueError(f"has lines of other shapes; it needs {FORM}")
    numbers = [[_number(cell, line) for cell in cells] for line, cells in rows]
    if width == 1:
        return Times(tuple(sorted(cells[0] for cells in numbers)))
    numbers.sort(key=lambda cells: cells[0])
    rates = Rates(tuple(cells[0] for cells in numbers), tuple(cells[1] for cells in numbers))
    if any(later == earlier for earlier, later in pairwise(rates.begin_s)):
        raise ValueError("has two rates for one time; a time has one rate")
    if not any(rates.per_s):
        raise ValueError("has no rate above 0; no request would ever be due")
    return rates


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str, line: int) -> float:
    number = float(text) if _is_number(text) else math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"line {line}: '{text}' must be a number, 0 or more")
    return number
