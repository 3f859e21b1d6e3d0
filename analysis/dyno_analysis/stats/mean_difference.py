"""The mean of paired differences of scores from 0 to 1, with an interval. Pure."""

import math
from typing import Final

import numpy as np

from .interval import CONFIDENCE, Array, Interval
from .student_t import quantile

_FEW: Final = 5


def mean_difference(differences: Array, confidence: float = CONFIDENCE) -> Interval | None:
    """The interval of the mean of differences between -1 and 1, one a prompt; None below two.

    Student's t; where fewer than five of the differences aren't 0, also as far to either side as so many zeros allow:
    with no difference in n prompts, the share that differs may be 1 - miss^(1/n) (Clopper and Pearson, 1934).
    """
    n = len(differences)
    if n < 2:
        return None
    miss = (1 - confidence) / 2
    mean = float(differences.mean())
    off = quantile(1 - miss, n - 1) * math.sqrt(float(differences.var(ddof=1)) / n)
    if int(np.count_nonzero(differences)) < _FEW:
        off = max(off, 1 - miss ** (1 / n))
    return Interval(mean - off, mean + off)


def prompts_needed(differences: Array, margin: float, confidence: float = CONFIDENCE) -> int | None:
    """About how many prompts would tell that the mean lies within the margin; None if it doesn't lie there."""
    left = margin - abs(float(differences.mean()))
    if left <= 0 or len(differences) < 2:
        return None
    t = quantile(1 - (1 - confidence) / 2, max(len(differences) - 1, 1))
    by_spread = (t / left) ** 2 * float(differences.var(ddof=1))
    by_zeros = math.log((1 - confidence) / 2) / math.log1p(-left)
    return math.ceil(max(by_spread, by_zeros))
