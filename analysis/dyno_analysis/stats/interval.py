"""Intervals, and what is known of a median and of a percentile by ranks alone. Pure."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An interval; both ends belong to it. An unbounded one ends at infinity."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the value lies in it."""
        return self.low <= value <= self.high


def simultaneous(verdicts: int, confidence: float = CONFIDENCE) -> float:
    """The confidence of each of several intervals, so that all of them hold together with `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / max(verdicts, 1)


def samples_needed(quantile: float, confidence: float = CONFIDENCE) -> int:
    """The smallest number of samples that gives a two-sided distribution-free interval of the quantile.

    The interval's ends are order statistics. Each side may miss with probability (1 - confidence) / 2. So neither the
    chance q^n that all samples lie below the quantile, nor the chance (1 - q)^n that all lie above, may exceed that
    (David and Nagaraja, Order Statistics, 3rd ed., section 7.1). At 95 % it is 72 for p95 and 368 for p99.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"a quantile must be between 0 and 1, not {quantile}")
    miss = (1 - confidence) / 2
    n = math.ceil(math.log(miss) / math.log(max(quantile, 1 - quantile)) - 1e-9)
    return max(n, 1)


def median_interval(values: Array, confidence: float = CONFIDENCE) -> Interval | None:
    """The distribution-free interval of the median by order statistics; None if there are too few values.

    The k-th smallest and k-th largest value enclose the median, unless fewer than k of the n values lie on one side
    of it. The chance of that is the one that fewer than k of n fair coins fall on one side.
    """
    ordered = np.sort(values)
    n = len(ordered)
    k = median_rank(n, confidence)
    return Interval(float(ordered[k - 1]), float(ordered[n - k])) if k else None


def median_rank(n: int, confidence: float = CONFIDENCE) -> int:
    """The rank k of the interval's ends, from either side; 0 if n values are too few."""
    miss = (1 - confidence) / 2
    # The sum begins 40 standard deviations below the middle; earlier terms are negligible (Hoeffding: exp(-800)).
    below, k = 0.0, max(n // 2 - 20 * math.isqrt(n) - 20, 0)
    while k < n // 2:
        # The binomial term by its logarithm: 2^-n itself underflows from n = 1075 on.
        below += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        if below > miss * (1 + 1e-9):
            break
        k += 1
    return k


def rank_correlation(x: Array, y: Array) -> float | None:
    """Spearman's rank correlation; ties share their mean rank. None if one side doesn't vary."""
    if len(x) < 2:
        return None
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / spread if spread > 0 else None


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
