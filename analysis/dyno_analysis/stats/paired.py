"""How two endpoints compare over the same prompts: ratios with their intervals, and the verdicts. Pure.

A prompt is what an interval is over. Everything turns exactly when the endpoints are exchanged: sums are exactly
rounded (`math.fsum`), so that no order of the prompts matters, and a ratio below 1 is computed as the inverse of the
one above 1.
"""

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from .interval import CONFIDENCE, Array, Interval, median_interval
from .student_t import quantile

# With fewer prompts, even the widest distribution-free interval of a median doesn't reach 95 %.
FEWEST_PROMPTS = 6
# With fewer prompts, Fieller's interval misses too often where one endpoint is steady and the other one skewed.
FEWEST_FOR_MEANS = 30
# With fewer blocks of time, the variation over time is unknown, and an interval is about these blocks only.
FEWEST_BLOCKS = 6


@dataclass(frozen=True)
class Prompts:
    """The prompts that both endpoints answered: an entry of each array is one prompt.

    A side's mean and mean logarithm are over all of its requests with that prompt; their number is `…_n`, at least 1.
    """

    first_n: Array
    second_n: Array
    first_mean: Array  # above 0
    second_mean: Array
    first_log: Array  # the mean of natural logarithms
    second_log: Array
    more_overhead_s: Array  # the second's overhead of the proxy less the first's; NaN: not known
    # By how much each block of time (a run) lies off the prompts' mean log ratios; empty: there is one block.
    block_effects: Array = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class PairedRatio:
    """How two endpoints compare over the same prompts: a ratio is first / second, above 1 where the first is larger.

    `typical_…` are geometric means over prompts. An interval is None if there are fewer than FEWEST_PROMPTS prompts;
    the median's also if `confidence` needs more.
    """

    prompts: int
    first_requests: int
    second_requests: int
    first_mean: float
    second_mean: float
    ratio: float  # of the means
    interval: Interval | None  # Fieller's
    median_ratio: float  # of the prompts' own ratios
    median_interval: Interval | None
    first_typical: float
    second_typical: float
    typical_ratio: float
    typical_interval: Interval | None  # by Student's t on the prompts' log ratios
    confidence: float  # of each interval
    blocks: int  # of time, in which the same prompts were asked; from FEWEST_BLOCKS on they are in typical_interval


class Verdict(Enum):
    """What can be said of two endpoints' times."""

    FIRST_SMALLER = "first smaller"
    SECOND_SMALLER = "second smaller"
    SAME = "no difference"
    UNDECIDED = "undecided"
    WITHHELD = "withheld"


def paired_ratio(prompts: Prompts, confidence: float = CONFIDENCE) -> PairedRatio:
    """Compare two endpoints over the same prompts, of which there must be at least one.

    In the ratio of means a prompt weighs as many requests as both sides have of it, so that with equal numbers it is
    the ratio of the means over all requests.
    """
    n = len(prompts.first_mean)
    weights = np.minimum(prompts.first_n, prompts.second_n)
    first, second = weights * prompts.first_mean, weights * prompts.second_mean
    weight = _sum(weights)
    logs = np.sort(prompts.first_log - prompts.second_log)
    median, held = float(np.median(logs)), median_interval(logs, confidence)
    blocks = len(prompts.block_effects)
    typical = log_t_interval(logs, confidence, prompts.block_effects if blocks >= FEWEST_BLOCKS else None)
    enough = n >= FEWEST_PROMPTS
    return PairedRatio(
        prompts=n,
        first_requests=int(prompts.first_n.sum()),
        second_requests=int(prompts.second_n.sum()),
        first_mean=_sum(first) / weight,
        second_mean=_sum(second) / weight,
        ratio=_quotient(_sum(first), _sum(second)),
        interval=fieller_interval(first, second, confidence) if enough else None,
        median_ratio=from_log(median),
        median_interval=_ratios(held) if enough and held else None,
        first_typical=from_log(_sum(prompts.first_log) / n),
        second_typical=from_log(_sum(prompts.second_log) / n),
        typical_ratio=from_log(_sum(logs) / n),
        typical_interval=_ratios(typical) if enough and typical else None,
        confidence=confidence,
        blocks=max(blocks, 1),
    )


def log_t_interval(logs: Array, confidence: float = CONFIDENCE, block_effects: Array | None = None) -> Interval | None:
    """Student's t interval of the logarithms' mean; None below two of them.

    If the same prompts were asked in several blocks, prompts and blocks are crossed: the squared errors of both means
    add up, with Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946).
    """
    n = len(logs)
    if n < 2:
        return None
    centre = _sum(logs) / n
    squared = [(_squared_error(logs), n - 1)]
    if block_effects is not None:
        squared.append((_squared_error(block_effects), len(block_effects) - 1))
    total = math.fsum(part for part, _ in squared)
    degrees = n - 1
    if block_effects is not None and total > 0:
        degrees = max(int(total**2 / math.fsum(part**2 / own for part, own in squared)), 1)
    off = quantile(1 - (1 - confidence) / 2, degrees) * math.sqrt(total)
    return Interval(centre - off, centre + off)


def fieller_interval(first: Array, second: Array, confidence: float = CONFIDENCE) -> Interval | None:
    """Fieller's interval of mean(first) / mean(second), of pairs of positive values; None below two pairs.

    Fieller, Some problems in interval estimation, JRSS B 16 (1954): it holds each ratio r for which the mean of
    first - r second doesn't differ from 0 by Student's t. Where the second mean isn't told from 0, it reaches up to
    infinity; where the first isn't, it begins at 0.
    """
    n = len(first)
    if n < 2:
        return None
    x, y = _sum(first) / n, _sum(second) / n
    if x < y:
        turned = fieller_interval(second, first, confidence)
        return None if turned is None else _inverse(turned)
    t2 = quantile(1 - (1 - confidence) / 2, n - 1) ** 2 / n / (n - 1)
    off_x, off_y = first - x, second - y
    a = y * y - t2 * _sum(off_y**2)
    b = x * y - t2 * _sum(off_x * off_y)
    c = x * x - t2 * _sum(off_x**2)
    # The ratios are those where a r^2 - 2 b r + c <= 0. The larger root is found without cancellation.
    within = b * b - a * c
    if within < 0 and a > 0:
        within = 0.0  # by rounding alone, where all pairs have one ratio
    if within < 0 or b <= 0:
        return Interval(0.0, math.inf)
    root = b + math.sqrt(within)
    return Interval(max(c / root, 0.0), root / a if a > 0 else math.inf)


def typical_verdict(ratio: PairedRatio, margin: float, overhead_s: float | None) -> Verdict:
    """What is said of the typical request; `margin` 0.05 means 'no difference within 5 %'.

    It is undecided where the median of the prompts' ratios points to the other side. `overhead_s` is the bound on the
    proxy's own part in the difference (`overhead_bound`); None: not known.
    """
    found = _verdict(ratio.typical_interval, ratio.first_typical, ratio.second_typical, margin, overhead_s)
    if found is Verdict.SECOND_SMALLER and ratio.median_ratio < 1:
        return Verdict.UNDECIDED
    if found is Verdict.FIRST_SMALLER and ratio.median_ratio > 1:
        return Verdict.UNDECIDED
    return found


def mean_verdict(ratio: PairedRatio, margin: float, overhead_s: float | None) -> Verdict | None:
    """What is said of the means; None where Fieller's interval carries no verdict.

    That is below FEWEST_FOR_MEANS prompts, and over several blocks, whose variation isn't in that interval.
    """
    if ratio.prompts < FEWEST_FOR_MEANS or ratio.blocks >= FEWEST_BLOCKS:
        return None
    return _verdict(ratio.interval, ratio.first_mean, ratio.second_mean, margin, overhead_s)


def overhead_bound(differences: Array, confidence: float = CONFIDENCE) -> float | None:
    """The largest mean difference, either way, that the prompts' differences allow; None if none is known.

    It is the mean's distance from 0 and, from two known differences on, its error by Student's t.
    """
    known = differences[~np.isnan(differences)]
    if len(known) == 0:
        return None
    if len(known) == 1:
        return abs(float(known[0]))
    interval = log_t_interval(known, confidence)
    return None if interval is None else max(abs(interval.low), abs(interval.high))


def from_log(value: float) -> float:
    """e^value, so that the negative value gives the exact inverse."""
    return math.exp(value) if value >= 0 else 1 / math.exp(-value)


def _verdict(
    interval: Interval | None, first_s: float, second_s: float, margin: float, overhead_s: float | None
) -> Verdict:
    if interval is None:
        return Verdict.UNDECIDED
    low, high = interval.low, interval.high
    if low >= 1 / (1 + margin) and high <= 1 + margin:
        found, effect_s = Verdict.SAME, margin * min(first_s, second_s)
    elif low <= 1 <= high:
        return Verdict.UNDECIDED
    else:
        found = Verdict.SECOND_SMALLER if low > 1 else Verdict.FIRST_SMALLER
        effect_s = abs(first_s - second_s)
    return Verdict.WITHHELD if overhead_s is not None and overhead_s >= effect_s else found


def _sum(values: Array) -> float:
    """The exactly rounded sum, so that no order of the values matters."""
    return math.fsum(values.tolist())


def _squared_error(values: Array) -> float:
    """The squared standard error of the mean."""
    n = len(values)
    centre = _sum(values) / n
    return _sum((values - centre) ** 2) / (n - 1) / n


def _quotient(first: float, second: float) -> float:
    return first / second if first >= second else 1 / (second / first)


def _ratios(logs: Interval) -> Interval:
    return Interval(from_log(logs.low), from_log(logs.high))


def _inverse(ratios: Interval) -> Interval:
    return Interval(0.0 if math.isinf(ratios.high) else 1 / ratios.high, 1 / ratios.low if ratios.low else math.inf)
