"""Quantiles of Student's t distribution, which the intervals of means and lines are made of. Pure."""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

# Above this many degrees of freedom the quantile is the normal one, corrected; it is then exact to 14 digits or more.
_MANY_DEGREES = 100_000


@lru_cache(maxsize=1_000)
def quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t; the probability must be at least one half, and there must be a degree of freedom.

    It inverts the distribution function P(T <= t) = 1 - I_x(v/2, 1/2) / 2 with x = v / (v + t^2), t >= 0 (NIST's
    Digital Library of Mathematical Functions, 8.17). With very many degrees of freedom it is the expansion of
    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    if not (0.5 <= probability < 1 and degrees >= 1):
        raise ValueError(f"no quantile {probability} of Student's t with {degrees} degrees of freedom")
    if degrees > _MANY_DEGREES:
        z = NormalDist().inv_cdf(probability)
        return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return _bisect(lambda t: _cdf(t, degrees), probability, 0.0, 1e9)


def _cdf(t: float, degrees: int) -> float:
    return 1 - incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2


def _bisect(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The place between `low` and `high` where a rising function reaches the target, to a float's last bit."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if function(middle) < target:
            low = middle
        else:
            high = middle


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): the continued fraction DLMF 8.17.22 by Lentz's method."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        # The fraction converges slowly here, but the mirrored one fast.
        return 1 - incomplete_beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    tiny = 1e-300
    d = 1 / _off_zero(1 - (a + b) * x / (a + 1), tiny)
    c, fraction = 1.0, d
    for m in range(1, 1_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d, tiny)
            c = _off_zero(1 + term / c, tiny)
            fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a


def _off_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
