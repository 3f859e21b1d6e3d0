"""Quantiles that stopping rules and searches are made of: Student's t, the beta distribution. Pure.

The analysis has its own Student's t; a contract test holds both to each other.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import Final

NORMAL: Final = NormalDist()
# Above this many degrees of freedom the quantile is the normal one, corrected (Abramowitz and Stegun, 26.7.5).
_MANY_DEGREES: Final = 100_000


@lru_cache(maxsize=1_000)
def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t, for a probability of at least one half.

    P(T <= t) = 1 - I_x(v/2, 1/2) / 2 with x = v / (v + t^2), t >= 0 (DLMF 8.17) is inverted by bisection.
    """
    if degrees > _MANY_DEGREES:
        z = NORMAL.inv_cdf(probability)
        return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    tail = 1 - probability
    return _where(lambda t: incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2 <= tail, 0.0, 1e9)


def share_bounds(misses: float, requests: float, error: float) -> tuple[float, float]:
    """Clopper and Pearson's bounds of a share of `misses` among `requests`; each side errs with this probability.

    Biometrika 26 (1934). Both numbers may be fractions: of correlated requests, so many independent ones are worth.
    """
    low, high = 0.0, 1.0
    if misses > 0:
        low = _where(lambda p: incomplete_beta(p, misses, requests - misses + 1) >= error, 0.0, 1.0, 1e-6)
    if misses < requests:
        high = _where(lambda p: incomplete_beta(p, misses + 1, requests - misses) >= 1 - error, 0.0, 1.0, 1e-6)
    return low, high


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): the continued fraction DLMF 8.17.22 by Lentz's method."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)  # where the fraction converges fast
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    d = 1 / _off_zero(1 - (a + b) * x / (a + 1))
    c, fraction = 1.0, d
    for m in range(1, 1_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d)
            c = _off_zero(1 + term / c)
            fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a


def _where(reached: Callable[[float], bool], low: float, high: float, within: float = 1e-15) -> float:
    """The place between `low` and `high` from which on `reached` holds, to this part of itself."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high) or high - low <= within * high:
            return middle
        if reached(middle):
            high = middle
        else:
            low = middle


def _off_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
