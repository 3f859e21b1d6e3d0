"""The highest load under which limits are kept, with an interval. Pure.

A limit such as 'the 95th percentile of TTFT is at most 2 s' holds where at least 95 % of the requests kept 2 s. So a
load is judged by a share of requests, and a failed request has kept nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import binomial
from .interval import CONFIDENCE, Array, Interval
from .isotonic import falling


@dataclass(frozen=True)
class Limit:
    """How one limit was kept: an entry of `met` and `n` is one load; `share`: so large a part has to keep it."""

    share: float
    met: Sequence[int]
    n: Sequence[int]  # at least 1


@dataclass(frozen=True)
class HighestLoad:
    """`at` is 0 where even the lowest load is too much, and infinite where the highest isn't.

    The interval's ends are loads that were measured, or 0 and infinity: nothing is assumed of the curve between them.
    """

    at: float
    interval: Interval


def highest_load(loads: Sequence[float], limits: Sequence[Limit], confidence: float = CONFIDENCE) -> HighestLoad:
    """The highest of the ascending `loads` (above 0) that keeps all limits.

    The estimate is where the falling (isotonic) fit of a limit's share passes the share that it needs, on the
    logarithm of the load. The interval is by exact binomial tests in a fixed order: from the lowest load upwards as
    long as each is told to keep all limits, and from the highest downwards as long as each is told to miss one. Such an
    order needs no correction for the number of loads (Maurer, Hothorn and Lehmacher, Multiple comparisons in drug
    clinical trials, 1995). Each end may miss with half of 1 - confidence. A load with too few requests to tell that it
    keeps a limit borrows those of the next higher loads, which keep it no better.
    """
    miss = (1 - confidence) / 2
    low, high = 0.0, math.inf
    for place, load in enumerate(loads):
        if any(_kept_by_chance(each, place, miss) > miss for each in limits):
            break
        low = load
    for place, load in reversed(list(enumerate(loads))):
        missed = (binomial.at_most(each.met[place], each.n[place], each.share) for each in limits)
        if min(missed) > miss / len(limits):
            break
        high = load
    at = min(_passes(loads, each) for each in limits)
    return HighestLoad(min(max(at, low), high), Interval(low, high))


def _kept_by_chance(limit: Limit, place: int, miss: float) -> float:
    """The chance of so many that kept the limit, or more, if the load itself just missed it."""
    needed = math.log(miss) / math.log(limit.share)
    met = n = 0
    for kept, asked in zip(limit.met[place:], limit.n[place:], strict=True):
        met, n = met + kept, n + asked
        if n >= needed:
            break
    return binomial.at_least(met, n, limit.share)


def _passes(loads: Sequence[float], limit: Limit) -> float:
    """The load at which the fitted share falls below the one that the limit needs."""
    n = np.asarray(limit.n, dtype=np.float64)
    over: Array = falling(np.asarray(limit.met, dtype=np.float64) / n, n) - limit.share
    below = np.flatnonzero(over < 0)
    if not len(below):
        return math.inf
    first = int(below[0])
    if first == 0:
        return 0.0
    left, right = math.log(loads[first - 1]), math.log(loads[first])
    part = over[first - 1] / (over[first - 1] - over[first])
    return math.exp(left + float(part) * (right - left))
