"""Where two endpoints' lines of latency over length cross, if an interval says that they do. Pure."""

import math
from dataclasses import dataclass
from enum import Enum

from .interval import CONFIDENCE, Array, Interval
from .regression import FEWEST_POINTS
from .student_t import quantile


class Order(Enum):
    """Which of two lines is lower over the lengths that both have."""

    FIRST_LOWER = "first lower"  # at every length
    SECOND_LOWER = "second lower"
    FIRST_LOWER_BELOW = "first lower below the crossing"
    SECOND_LOWER_BELOW = "second lower below the crossing"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Crossing:
    """The order of two lines between the lengths `shortest` and `longest`, and where they cross, if they do."""

    order: Order
    shortest: float
    longest: float
    at: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class _Fit:
    n: int
    x: float
    y: float
    slope: float
    sxx: float
    residual: float  # variance


def crossing(x1: Array, y1: Array, x2: Array, y2: Array, confidence: float = CONFIDENCE) -> Crossing:
    """Compare the least-squares lines of two sets of points over the lengths that both sets reach.

    The lines' difference is tested at either end of these lengths by Student's t, with the fewer degrees of freedom of
    the two. In between its distance from 0, in errors, can't be less (the error is convex in x), so the ends decide.
    Where they are of different signs, the interval of the crossing holds each x at which the difference isn't told
    from 0 (Fieller's way; Draper and Smith, Applied Regression Analysis, on inverse regression).
    """
    if min(len(x1), len(x2)) < FEWEST_POINTS:
        return Crossing(Order.UNDECIDED, 0.0, 0.0)
    low, high = float(max(x1.min(), x2.min())), float(min(x1.max(), x2.max()))
    first, second = _fit(x1, y1), _fit(x2, y2)
    if first is None or second is None or low >= high:
        return Crossing(Order.UNDECIDED, low, high)
    t = quantile(1 - (1 - confidence) / 2, min(first.n, second.n) - 2)
    signs = tuple(_sign(first, second, x, t) for x in (low, high))
    if signs in ((1, 1), (-1, -1)):
        return Crossing(Order.SECOND_LOWER if signs[0] > 0 else Order.FIRST_LOWER, low, high)
    if signs not in ((1, -1), (-1, 1)):
        return Crossing(Order.UNDECIDED, low, high)
    order = Order.SECOND_LOWER_BELOW if signs[0] > 0 else Order.FIRST_LOWER_BELOW
    at = low - _difference(first, second, low) / (first.slope - second.slope)
    ends = (_edge(first, second, t, low, at), _edge(first, second, t, high, at))
    return Crossing(order, low, high, at, Interval(*ends))


def _fit(x: Array, y: Array) -> _Fit | None:
    n, x_mean, y_mean = len(x), float(x.mean()), float(y.mean())
    sxx = float(((x - x_mean) ** 2).sum())
    if sxx == 0:
        return None
    slope = float(((x - x_mean) * (y - y_mean)).sum()) / sxx
    residual = float(((y - y_mean - slope * (x - x_mean)) ** 2).sum()) / (n - 2)
    return _Fit(n, x_mean, y_mean, slope, sxx, residual)


def _difference(first: _Fit, second: _Fit, x: float) -> float:
    return first.y + first.slope * (x - first.x) - second.y - second.slope * (x - second.x)


def _sign(first: _Fit, second: _Fit, x: float, t: float) -> int:
    """1 if the first line is higher at x, -1 if the second is, 0 if that isn't told."""
    difference = _difference(first, second, x)
    variance = sum(fit.residual * (1 / fit.n + (x - fit.x) ** 2 / fit.sxx) for fit in (first, second))
    if abs(difference) <= t * math.sqrt(variance):
        return 0
    return 1 if difference > 0 else -1


def _edge(first: _Fit, second: _Fit, t: float, told: float, untold: float) -> float:
    """The length between these two at which the difference begins to be told from 0."""
    for _ in range(60):
        middle = (told + untold) / 2
        if _sign(first, second, middle, t):
            told = middle
        else:
            untold = middle
    return told
