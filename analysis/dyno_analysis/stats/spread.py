"""Whose latency is steadier: the ratio of two standard deviations, with an interval for any distribution. Pure.

The interval is Miller's jackknife of the logarithm of the variance (Jackknifing variances, Annals of Mathematical
Statistics 39, 1968). What is left out in turn are blocks of time, whose requests resemble each other; where there are
few blocks, groups of consecutive requests.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .interval import CONFIDENCE, Array, Interval
from .paired import FEWEST_BLOCKS, from_log
from .student_t import quantile

FEWEST_REPEATS: Final = 20
_GROUPS: Final = 20
_LEAST_S: Final = 1e-6  # clocks tell no smaller time apart


@dataclass(frozen=True)
class SpreadRatio:
    """Standard deviations within prompts, in the values' unit, and first / second with its interval."""

    first: float
    second: float
    ratio: float
    interval: Interval


@dataclass(frozen=True)
class Repeats:
    """One endpoint's values in the order of time, and for each the number of its prompt and of its block, from 0 on."""

    values: Array
    prompts: NDArray[np.intp]
    blocks: NDArray[np.intp]


def spread_ratio(first: Repeats, second: Repeats, confidence: float = CONFIDENCE) -> SpreadRatio | None:
    """Compare the spread of values around their prompt's mean; None below FEWEST_REPEATS on a side."""
    a, b = _log_spread(first), _log_spread(second)
    if a is None or b is None:
        return None
    total = a.squared_error + b.squared_error
    weights = a.squared_error**2 / a.degrees + b.squared_error**2 / b.degrees
    degrees = max(int(total**2 / weights), 1) if weights > 0 else min(a.degrees, b.degrees)
    off = quantile(1 - (1 - confidence) / 2, degrees) * math.sqrt(total)
    log = a.log - b.log
    return SpreadRatio(
        math.exp(a.log), math.exp(b.log), from_log(log), Interval(from_log(log - off), from_log(log + off))
    )


@dataclass(frozen=True)
class _Spread:
    log: float  # of the standard deviation
    squared_error: float
    degrees: int


def _log_spread(side: Repeats) -> _Spread | None:
    values, prompts = side.values, side.prompts
    n = len(values)
    if n < FEWEST_REPEATS or n - len(np.unique(prompts)) < FEWEST_REPEATS // 2:
        return None
    names, groups = np.unique(side.blocks, return_inverse=True)
    if len(names) < FEWEST_BLOCKS:
        groups = np.arange(n) * _GROUPS // n
    elif len(names) > _GROUPS:
        groups = groups * _GROUPS // len(names)
    count = int(groups.max()) + 1
    whole = _log_deviation(values, prompts)
    pseudo = np.asarray(
        [
            count * whole - (count - 1) * _log_deviation(values[groups != each], prompts[groups != each])
            for each in range(count)
        ]
    )
    return _Spread(whole, float(pseudo.var(ddof=1)) / count, count - 1)


def _log_deviation(values: Array, prompts: NDArray[np.intp]) -> float:
    counts = np.bincount(prompts)
    means = np.bincount(prompts, weights=values) / np.maximum(counts, 1)
    degrees = len(values) - int((counts > 0).sum())
    squared = float(((values - means[prompts]) ** 2).sum())
    return math.log(max(math.sqrt(squared / max(degrees, 1)), _LEAST_S))
