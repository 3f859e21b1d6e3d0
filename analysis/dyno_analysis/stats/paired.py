"""The paired ratio with its interval, verdicts, and how many samples a percentile needs. Pure; draws are seeded."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
# With fewer prompts, even the widest distribution-free interval of a median doesn't reach 95 %. A bootstrap's interval
# holds even less often.
FEWEST_PROMPTS = 6
# A bootstrap may cost at most MOST_DRAWS draws (a second or so), but makes at least FEWEST_RESAMPLES resamples.
MOST_DRAWS = 50_000_000
FEWEST_RESAMPLES = 1_000
# So many draws are held in memory at once (16 MB).
DRAWS_AT_ONCE = 2_000_000
# If there are more prompts than these limits allow, they are put into this many groups, and groups are resampled.
MOST_GROUPS = MOST_DRAWS // FEWEST_RESAMPLES


@dataclass(frozen=True)
class Interval:
    """An interval; both ends belong to it."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the value lies in it."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class PairedRatio:
    """How two endpoints compare over the same prompts: ratio = first / second, above 1 where the first is larger."""

    prompts: int
    first_mean: float
    second_mean: float
    ratio: float
    interval: Interval | None  # of the ratio of means; None below FEWEST_PROMPTS
    resamples: int  # of the interval's bootstrap; 0 without an interval
    median_ratio: float  # of the prompts' own ratios
    median_interval: Interval | None


class Verdict(Enum):
    """What can be said of two endpoints' times."""

    FIRST_SMALLER = "first smaller"
    SECOND_SMALLER = "second smaller"
    SAME = "no difference"
    UNDECIDED = "undecided"
    WITHHELD = "withheld"


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
    miss = (1 - confidence) / 2
    # The sum begins 40 standard deviations below the middle; earlier terms are negligible (Hoeffding: exp(-800)).
    below, k = 0.0, max(n // 2 - 20 * math.isqrt(n) - 20, 0)
    while k < n // 2:
        # The binomial term by its logarithm: 2^-n itself underflows from n = 1075 on.
        below += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        if below > miss:
            break
        k += 1
    return Interval(float(ordered[k - 1]), float(ordered[n - k])) if k else None


def paired_ratio(first: Array, second: Array, counts: Array, seed: int, resamples: int = RESAMPLES) -> PairedRatio:
    """Compare two endpoints over the same prompts.

    Each array has one entry per prompt: `first` and `second` the sums over its repeats, `counts` the number of repeats.
    The sums must be positive, and there must be at least one prompt. The ratio is that of the means over all pairs. Its
    interval resamples prompts, not requests, since the repeats of a prompt depend on each other.
    """
    pairs = float(counts.sum())
    ratios = first / second
    enough = len(first) >= FEWEST_PROMPTS
    return PairedRatio(
        prompts=len(first),
        first_mean=float(first.sum()) / pairs,
        second_mean=float(second.sum()) / pairs,
        ratio=float(first.sum() / second.sum()),
        interval=bca_ratio_interval(first, second, seed, resamples) if enough else None,
        resamples=affordable_resamples(len(first), resamples) if enough else 0,
        median_ratio=float(np.median(ratios)),
        median_interval=median_interval(ratios),
    )


def bca_ratio_interval(
    first: Array, second: Array, seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> Interval:
    """The bias-corrected and accelerated bootstrap interval of sum(first) / sum(second); pairs are resampled together.

    Efron, Better bootstrap confidence intervals, JASA 82 (1987); the acceleration is the jackknife's (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, equations 14.9 to 14.15). More pairs than MOST_GROUPS are put
    into that many random groups, which are resampled: the interval's width changes by one part in a few hundred.
    """
    if len(first) > MOST_GROUPS:
        first, second = in_groups(first, second, seed)
    ratio = float(first.sum() / second.sum())
    drawn = bootstrap_ratios(first, second, seed, resamples)
    if drawn.min() == drawn.max():
        return Interval(ratio, ratio)
    # Half of the ties count as below, so that a distribution on few values doesn't count as biased. `near` makes ties
    # of sums that differ only in their last bits, since they were added up in another order.
    near = 1e-12 * abs(ratio)
    below = float(np.count_nonzero(drawn < ratio - near) + np.count_nonzero(drawn <= ratio + near)) / (2 * len(drawn))
    below = min(max(below, 1 / (2 * len(drawn))), 1 - 1 / (2 * len(drawn)))
    normal = NormalDist()
    bias = normal.inv_cdf(below)
    without_one = (first.sum() - first) / (second.sum() - second)
    off = without_one.mean() - without_one
    spread = float((off**2).sum())
    acceleration = float((off**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0

    def corrected(level: float) -> float:
        z = bias + normal.inv_cdf(level)
        return normal.cdf(bias + z / (1 - acceleration * z))

    miss = (1 - confidence) / 2
    low, high = np.quantile(drawn, [corrected(miss), corrected(1 - miss)])
    return Interval(float(low), float(high))


def bootstrap_ratios(first: Array, second: Array, seed: int, resamples: int = RESAMPLES) -> Array:
    """sum(first) / sum(second) of resampled pairs, one value per resample."""
    n = len(first)
    wanted = affordable_resamples(n, resamples)
    rng = np.random.default_rng(seed)
    at_once = max(DRAWS_AT_ONCE // n, 1)
    parts = []
    for start in range(0, wanted, at_once):
        picks = rng.integers(0, n, size=(min(at_once, wanted - start), n))
        parts.append(first[picks].sum(axis=1) / second[picks].sum(axis=1))
    return np.concatenate(parts)


def in_groups(first: Array, second: Array, seed: int, groups: int = MOST_GROUPS) -> tuple[Array, Array]:
    """The pairs' sums over random groups whose sizes differ by one at most. There must be at least `groups` pairs."""
    order = np.random.default_rng(seed).permutation(len(first))
    starts = np.arange(groups) * len(first) // groups
    return np.add.reduceat(first[order], starts), np.add.reduceat(second[order], starts)


def affordable_resamples(pairs: int, resamples: int = RESAMPLES) -> int:
    """The number of resamples: `resamples`, or fewer if there are very many pairs, for which fewer are enough."""
    return min(resamples, max(MOST_DRAWS // pairs, FEWEST_RESAMPLES))


def verdict(ratio: PairedRatio, margin: float, overhead_s: float | None) -> Verdict:
    """What the ratio's interval says of two endpoints' times; `margin` 0.05 means 'no difference within 5 %'.

    `overhead_s` is the difference of the proxy's own overhead between the endpoints, or its spread if that is larger;
    None: not known. If it is as large as the effect (for 'no difference': as the margin), the verdict is withheld.
    """
    if ratio.interval is None:
        return Verdict.UNDECIDED
    low, high = ratio.interval.low, ratio.interval.high
    if low >= 1 / (1 + margin) and high <= 1 + margin:
        found, effect_s = Verdict.SAME, margin * min(ratio.first_mean, ratio.second_mean)
    elif low <= 1 <= high:
        return Verdict.UNDECIDED
    else:
        found = Verdict.SECOND_SMALLER if low > 1 else Verdict.FIRST_SMALLER
        effect_s = abs(ratio.first_mean - ratio.second_mean)
    return Verdict.WITHHELD if overhead_s is not None and overhead_s >= effect_s else found


def rank_correlation(x: Array, y: Array) -> float | None:
    """Spearman's rank correlation; ties share their mean rank. None if one side doesn't vary."""
    if len(x) < 2:
        return None
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / spread if spread > 0 else None


def bisect(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """The place between `low` and `high` where a rising function reaches the target, to a float's last bit."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if function(middle) < target:
            low = middle
        else:
            high = middle


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
