"""latency = fixed + per token: least squares and Theil–Sen, each with 95 % intervals. Pure."""

import math
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np

from .interval import CONFIDENCE, Array, Interval, median_interval
from .student_t import quantile

# A line through fewer points isn't a finding, however well they lie on it.
FEWEST_POINTS = 6
# Theil–Sen looks at every pair of points. If there are more points than this, so many are drawn by seed.
MOST_POINTS = 2_000


class Dependence(Enum):
    """What a line's slope says."""

    GROWS = "grows"
    FALLS = "falls"
    NONE = "none"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Line:
    """y = fixed + slope * x. A value or its interval is None if the points don't determine it."""

    method: str
    points: int
    fixed: float | None = None
    fixed_interval: Interval | None = None
    slope: float | None = None
    slope_interval: Interval | None = None


def dependence(line: Line, reach: float, mean: float, margin: float = 0.05) -> Dependence:
    """Whether y depends on x, by the slope's interval; `reach` is the largest x less the smallest, `mean` that of y.

    y doesn't depend on x if the slope times `reach` lies within `margin` of the mean: 0.05 is 5 %.
    """
    found = line.slope_interval
    if found is None or line.points < FEWEST_POINTS:
        return Dependence.UNDECIDED
    if max(abs(found.low), abs(found.high)) * reach <= margin * mean:
        return Dependence.NONE
    if found.holds(0):
        return Dependence.UNDECIDED
    return Dependence.GROWS if found.low > 0 else Dependence.FALLS


def least_squares(x: Array, y: Array, confidence: float = CONFIDENCE) -> Line:
    """Ordinary least squares, with intervals by Student's t on n - 2 degrees of freedom.

    The intervals assume independent errors of equal variance (Draper and Smith, Applied Regression Analysis, ch. 1).
    """
    n = len(x)
    name = "least squares"
    x_mean = float(x.mean()) if n else 0.0
    sxx = float(((x - x_mean) ** 2).sum())
    if n < 3 or sxx == 0:
        return Line(name, n)
    slope = float(((x - x_mean) * (y - y.mean())).sum()) / sxx
    fixed = float(y.mean()) - slope * x_mean
    residual = math.sqrt(float(((y - fixed - slope * x) ** 2).sum()) / (n - 2))
    t = quantile(1 - (1 - confidence) / 2, n - 2)
    slope_off = t * residual / math.sqrt(sxx)
    fixed_off = t * residual * math.sqrt(1 / n + x_mean**2 / sxx)
    return Line(
        name,
        n,
        fixed,
        Interval(fixed - fixed_off, fixed + fixed_off),
        slope,
        Interval(slope - slope_off, slope + slope_off),
    )


def theil_sen(x: Array, y: Array, seed: int, confidence: float = CONFIDENCE) -> Line:
    """The median of all pairs' slopes, which outliers hardly move; the slope's interval is Sen's (JASA 63, 1968).

    The fixed part is the median of y - slope * x. Its interval is valid for every slope within a 97.5 % interval of
    the slope, so that both together miss with at most 5 %. It reaches from the lower end of the median's 97.5 %
    interval at the steepest slope to the upper end at the flattest. x must not be negative.
    """
    name = "Theil–Sen"
    if len(x) > MOST_POINTS:
        picks = np.random.default_rng(seed).choice(len(x), MOST_POINTS, replace=False)
        x, y = x[picks], y[picks]
    n = len(x)
    left, right = np.triu_indices(n, 1)
    run = x[right] - x[left]
    apart = run != 0
    slopes = np.sort((y[right] - y[left])[apart] / run[apart])
    if n < 3 or len(slopes) == 0:
        return Line(name, n)
    slope = float(np.median(slopes))
    slope_interval = _sen_interval(slopes, x, y, confidence)
    half = 1 - (1 - confidence) / 2
    wide = _sen_interval(slopes, x, y, half)
    fixed_interval = None
    if wide is not None:
        low, high = median_interval(y - wide.high * x, half), median_interval(y - wide.low * x, half)
        if low is not None and high is not None:
            fixed_interval = Interval(low.low, high.high)
    return Line(name, n, float(np.median(y - slope * x)), fixed_interval, slope, slope_interval)


def _sen_interval(slopes: Array, x: Array, y: Array, confidence: float) -> Interval | None:
    """Sen's interval: order statistics of the slopes, as far from the middle as Kendall's tau may deviate.

    Ties reduce the variance by Sen's formula. None if there are too few slopes.
    """
    n = len(x)
    variance = n * (n - 1) * (2 * n + 5)
    for values in (x, y):
        _, counts = np.unique(values, return_counts=True)
        variance -= int((counts * (counts - 1) * (2 * counts + 5)).sum())
    stray = NormalDist().inv_cdf(1 - (1 - confidence) / 2) * math.sqrt(max(variance, 0) / 18)
    low = round((len(slopes) - stray) / 2)
    high = round((len(slopes) + stray) / 2)
    if low < 1 or high >= len(slopes):
        return None
    return Interval(float(slopes[low - 1]), float(slopes[high]))
