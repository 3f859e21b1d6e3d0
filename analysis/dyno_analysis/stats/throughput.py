"""How sure an endpoint's throughput under a closed loop is, and the ratio of two. Pure.

With N requests always open, tokens a second are N x (sum of tokens) / (sum of seconds): Little's law. So the error is
that of a ratio of sums over prompts (Cochran, Sampling Techniques, 3rd edition, section 6.4), to the first order.
"""

import math

import numpy as np

from .interval import CONFIDENCE, Array, Interval
from .paired import FEWEST_PROMPTS, from_log
from .student_t import quantile


def log_error(tokens: Array, busy_s: Array) -> float:
    """The standard error of the logarithm of throughput; an entry is one prompt's sum. Infinite below two prompts."""
    off = _off(tokens, busy_s)
    n = len(off)
    return math.sqrt(n / (n - 1) * float((off**2).sum())) if n > 1 else math.inf


def ratio_interval(
    ratio: float,
    first: tuple[Array, Array],
    second: tuple[Array, Array],
    confidence: float = CONFIDENCE,
) -> Interval | None:
    """The interval of the ratio of two throughputs, measured as `ratio`; None below FEWEST_PROMPTS prompts.

    Each side has tokens and seconds, an entry a prompt in the same order; 0 where a side wasn't asked that prompt.
    """
    off = _off(*first) - _off(*second)
    n = min(int((side[1] > 0).sum()) for side in (first, second))
    if n < FEWEST_PROMPTS or ratio <= 0:
        return None
    error = math.sqrt(n / (n - 1) * float((off**2).sum())) * quantile(1 - (1 - confidence) / 2, n - 1)
    return Interval(from_log(math.log(ratio) - error), from_log(math.log(ratio) + error))


def _off(tokens: Array, busy_s: Array) -> Array:
    """Each prompt's part in the error of the logarithm."""
    made, taken = float(tokens.sum()), float(busy_s.sum())
    if made <= 0 or taken <= 0:
        return np.full(len(tokens), math.inf)
    return tokens / made - busy_s / taken
