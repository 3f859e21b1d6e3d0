"""Percentiles' needs, the paired ratio with its interval, and verdicts. Pure: numbers in, numbers out, seeded."""

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
# Below it not even the widest distribution-free interval of a median reaches 95 %, and a bootstrap's promises less.
FEWEST_PROMPTS = 6
# How many draws a bootstrap may cost (a second or so), how many resamples it makes all the same, and how many draws
# are held at once (16 MB). More prompts than the two allow are resampled in that many groups.
MOST_DRAWS = 50_000_000
FEWEST_RESAMPLES = 1_000
DRAWS_AT_ONCE = 2_000_000
MOST_GROUPS = MOST_DRAWS // FEWEST_RESAMPLES


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class PairedRatio:
    """How two endpoints compare over the same prompts: ratio = first / second, above 1 where the first is larger."""

    prompts: int
    first_mean: float
    second_mean: float
    ratio: float
    interval: Interval | None  # of the ratio of means; None below FEWEST_PROMPTS
    resamples: int  # that the interval is from
    median_ratio: float  # of the prompts' own ratios
    median_interval: Interval | None


class Verdict(Enum):
    FIRST_SMALLER = "first smaller"
    SECOND_SMALLER = "second smaller"
    SAME = "no difference"
    UNDECIDED = "undecided"
    WITHHELD = "withheld"


def samples_needed(quantile: float, confidence: float = CONFIDENCE) -> int:
    """The fewest samples from which a two-sided distribution-free interval of the quantile can be had.

    Its ends are order statistics; each side may miss with (1 - confidence) / 2, so the chance q^n that all samples lie
    below the quantile, and (1 - q)^n that all lie above, must not exceed that (David and Nagaraja, Order Statistics,
    3rd ed., section 7.1): 72 for p95 and 368 for p99 at 95 %.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"a quantile lies between 0 and 1, not at {quantile}")
    miss = (1 - confidence) / 2
    n = math.ceil(math.log(miss) / math.log(max(quantile, 1 - quantile)) - 1e-9)
    return max(n, 1)


def median_interval(values: Array, confidence: float = CONFIDENCE) -> Interval | None:
    """The distribution-free interval of the median by order statistics; None where there are too few values.

    The k-th smallest and k-th largest enclose the median unless fewer than k of n fair coins fall on one side.
    """
    ordered = np.sort(values)
    n = len(ordered)
    miss = (1 - confidence) / 2
    # 40 standard deviations below the middle and further off, nothing is left to add up (Hoeffding: exp(-800)).
    below, k = 0.0, max(n // 2 - 20 * math.isqrt(n) - 20, 0)
    while k < n // 2:
        # log of the binomial term: the term itself underflows from n = 1075 on.
        below += math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
        if below > miss:
            break
        k += 1
    return Interval(float(ordered[k - 1]), float(ordered[n - k])) if k else None


def paired_ratio(first: Array, second: Array, counts: Array, seed: int, resamples: int = RESAMPLES) -> PairedRatio:
    """Compare two endpoints over the same prompts; one entry a prompt: sums over its repeats, and their number.

    The ratio is that of the means over all pairs. Its interval resamples prompts, not requests, since the repeats of a
    prompt depend on each other. Sums must be positive and there must be one prompt at least.
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
    """The bias-corrected and accelerated bootstrap interval of sum(first) / sum(second), pairs resampled together.

    Efron, Better bootstrap confidence intervals, JASA 82 (1987); the acceleration is the jackknife's (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, equations 14.9 to 14.15). More pairs than MOST_GROUPS are
    resampled in that many groups made by chance: as wide an interval, but for a part in a few hundred.
    """
    if len(first) > MOST_GROUPS:
        first, second = in_groups(first, second, seed)
    ratio = float(first.sum() / second.sum())
    drawn = bootstrap_ratios(first, second, seed, resamples)
    if drawn.min() == drawn.max():
        return Interval(ratio, ratio)
    # Half of the ties count as below, so that a distribution on few values isn't called biased; sums in another order
    # differ in their last bits and still tie.
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
    """sum(first) / sum(second) of resampled pairs, one value a resample."""
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
    """The pairs' sums over groups made by chance, whose sizes differ by one at most; there must be as many pairs."""
    order = np.random.default_rng(seed).permutation(len(first))
    starts = np.arange(groups) * len(first) // groups
    return np.add.reduceat(first[order], starts), np.add.reduceat(second[order], starts)


def affordable_resamples(pairs: int, resamples: int = RESAMPLES) -> int:
    """As many as asked for, fewer where there are very many pairs, whose interval fewer settle as well."""
    return min(resamples, max(MOST_DRAWS // pairs, FEWEST_RESAMPLES))


def verdict(ratio: PairedRatio, margin: float, overhead_s: float | None) -> Verdict:
    """What the interval of the ratio allows to say of two times; `margin` 0.05 means 'no difference within 5 %'.

    `overhead_s` is the larger of the instrument's difference between the endpoints and its spread. Where it is as
    large as the effect (for 'no difference': as the margin), the verdict is withheld; None: it isn't known.
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
    """Spearman's rank correlation, ties sharing their mean rank; None where one side doesn't vary."""
    if len(x) < 2:
        return None
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / spread if spread > 0 else None


def bisect(function: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where a rising function reaches the target, to the last bit that a float holds."""
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
