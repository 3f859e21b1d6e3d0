"""The intervals of stats/paired.py for many runs at once: a row of an array is a run. Pure.

tests/analysis/test_verdict_coverage.py holds them to what the report computes, run by run.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dyno_analysis.stats.interval import median_rank
from dyno_analysis.stats.student_t import quantile

from .shapes import Array


class Intervals(NamedTuple):
    """Both ends, one value a run."""

    low: Array
    high: Array

    def misses(self, truth: float) -> float:
        """The share of the intervals that don't hold the true value."""
        return float(((self.low > truth) | (self.high < truth)).mean())


def log_t(first: Array, second: Array, confidence: float) -> Intervals:
    """Of the logarithm of the typical ratio, by Student's t."""
    logs = np.log(first / second)
    n = logs.shape[1]
    centre = logs.mean(axis=1)
    off = quantile(1 - (1 - confidence) / 2, n - 1) * logs.std(axis=1, ddof=1) / np.sqrt(n)
    return Intervals(centre - off, centre + off)


def median(first: Array, second: Array, confidence: float) -> Intervals:
    """Of the logarithm of the ratios' median, by order statistics."""
    ordered = np.sort(np.log(first / second), axis=1)
    k = median_rank(ordered.shape[1], confidence)
    return Intervals(ordered[:, k - 1], ordered[:, -k])


def fieller(first: Array, second: Array, confidence: float) -> Intervals:
    """Of the ratio of means, by Fieller."""
    n = first.shape[1]
    x, y = first.mean(axis=1), second.mean(axis=1)
    off_x, off_y = first - x[:, None], second - y[:, None]
    t2 = quantile(1 - (1 - confidence) / 2, n - 1) ** 2 / n / (n - 1)
    a = y * y - t2 * (off_y**2).sum(axis=1)
    b = x * y - t2 * (off_x * off_y).sum(axis=1)
    c = x * x - t2 * (off_x**2).sum(axis=1)
    within = b * b - a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        root = b + np.sqrt(np.maximum(within, 0))
        low, high = np.maximum(c / root, 0), np.where(a > 0, root / a, np.inf)
    unbounded = ((within < 0) & (a <= 0)) | (b <= 0)
    return Intervals(np.where(unbounded, 0, low), np.where(unbounded, np.inf, high))


def faster_or_slower(first: Array, second: Array, margin: float, confidence: float) -> Array:
    """Whether the typical request has such a verdict: 1.0 or 0.0 for each run."""
    held = log_t(first, second, confidence)
    middle = np.median(np.log(first / second), axis=1)
    side = (held.low > 0) & (middle >= 0) | (held.high < 0) & (middle <= 0)
    return np.asarray(side & ~_same(held, margin), dtype=np.float64)


def no_difference(first: Array, second: Array, margin: float, confidence: float) -> Array:
    """Whether the typical request has the verdict 'no difference': 1.0 or 0.0 for each run."""
    return np.asarray(_same(log_t(first, second, confidence), margin), dtype=np.float64)


def means_differ(first: Array, second: Array, margin: float, confidence: float) -> Array:
    """Whether the ratio of means has the verdict 'faster' or 'slower': 1.0 or 0.0 for each run."""
    held = fieller(first, second, confidence)
    same = (held.low >= 1 / (1 + margin)) & (held.high <= 1 + margin)
    return np.asarray(((held.low > 1) | (held.high < 1)) & ~same, dtype=np.float64)


def _same(held: Intervals, margin: float) -> NDArray[np.bool_]:
    limit = np.log1p(margin)
    return np.asarray((held.low >= -limit) & (held.high <= limit))
