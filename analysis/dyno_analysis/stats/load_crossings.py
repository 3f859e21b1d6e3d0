"""At which loads the order of two endpoints changes, if intervals say that it does. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .interval import Interval


@dataclass(frozen=True)
class RatioAt:
    """The ratio of a figure of two endpoints under one load, with its interval; None: too few requests for one."""

    load: float  # above 0
    ratio: float  # first / second, above 0
    interval: Interval | None

    @property
    def side(self) -> int:
        """1 if the first's figure is told to be larger, -1 if the second's is, else 0."""
        if self.interval is None or self.interval.holds(1):
            return 0
        return 1 if self.interval.low > 1 else -1


@dataclass(frozen=True)
class LoadCrossing:
    """Somewhere in the interval the order changes. `first_larger_below`: below it, the first's figure is larger."""

    at: float
    interval: Interval
    first_larger_below: bool


def load_crossings(points: Sequence[RatioAt]) -> list[LoadCrossing]:
    """Every change of order between ascending loads. The ratio needn't be monotone: there may be several, or none.

    A change is asserted between two loads at which the ratio is told from 1, on different sides. These two loads are
    its interval: nothing is assumed of the curves in between, but that they are continuous. Where the intervals of all
    loads hold together with 95 %, so do all crossings. The estimate lies where the ratios, joined by straight lines on
    logarithmic scales, pass 1.
    """
    told = [place for place, point in enumerate(points) if point.side]
    found = []
    for left, right in pairwise(told):
        before, after = points[left], points[right]
        if before.side != after.side:
            at = _passes(points[left : right + 1])
            found.append(LoadCrossing(at, Interval(before.load, after.load), before.side > 0))
    return found


def _passes(points: Sequence[RatioAt]) -> float:
    """Where the joined ratios pass 1 for the first time. The first and the last point lie on different sides."""
    for left, right in pairwise(points):
        if left.ratio == 1:
            return left.load
        if (left.ratio > 1) != (right.ratio > 1):
            y1, y2 = math.log(left.ratio), math.log(right.ratio)
            x1, x2 = math.log(left.load), math.log(right.load)
            return math.exp(x1 + (x2 - x1) * y1 / (y1 - y2))
    return points[-1].load
