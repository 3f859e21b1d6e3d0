"""When the requests of an open loop are due. Pure: the same arguments give the same times.

No time depends on an answer. A slow answer delays no later request, as clients that don't know of each other would not
wait either.
"""

import math
import random
from itertools import accumulate
from typing import Final, NamedTuple

from .series import Rates, Series, Times, ramped


class Arrivals(NamedTuple):
    """How the times between two requests vary: their coefficient of variation (standard deviation over mean).

    0: every request comes after the same time. 1: a Poisson process. More: bursts.
    """

    name: str  # as the user wrote it
    variation: float
    series: Series | None = None  # what a file says; its times are as they are, those of rates are drawn


CONSTANT: Final = Arrivals("constant", 0.0)
POISSON: Final = Arrivals("poisson", 1.0)
LARGEST_VARIATION: Final = 20.0


def read_arrivals(text: str) -> Arrivals | None:
    """`constant`, `poisson`, or `gamma:CV`; None for anything else."""
    for known in (CONSTANT, POISSON):
        if text == known.name:
            return known
    kind, _, number = text.partition(":")
    try:
        variation = float(number) if kind == "gamma" else math.nan
    except ValueError:
        return None
    return Arrivals(text, variation) if 0 < variation <= LARGEST_VARIATION else None


def due_times_s(
    arrivals: Arrivals, rate_per_s: float, count: int, seed: str, ramp: tuple[float, float] | None = None
) -> list[float]:
    """When each of `count` requests is due, in s after the load begins; the mean time between two is 1 / rate_per_s.

    The times between requests are gamma-distributed with shape 1 / CV², as vLLM's and other benchmarks' bursts are;
    with CV = 1 that is the exponential distribution of a Poisson process. A series is stretched in time until it has
    that mean rate. `ramp`: the rate goes from the first value to the second over these requests.
    """
    series = arrivals.series
    if isinstance(series, Times):
        slower = 1.0 if rate_per_s == series.rate_per_s else series.rate_per_s / rate_per_s
        return [at_s * slower for at_s in series.due_s(count)]
    if isinstance(series, Rates):
        slower = 1.0 if rate_per_s == series.rate_per_s else series.rate_per_s / rate_per_s
        return [at_s * slower for at_s in series.stretched(_drawn_s(arrivals.variation, 1.0, count, seed))]
    if ramp is not None:
        return ramped(_drawn_s(arrivals.variation, 1.0, count, seed), *ramp, count)
    return _drawn_s(arrivals.variation, rate_per_s, count, seed)


def _drawn_s(variation: float, rate_per_s: float, count: int, seed: str) -> list[float]:
    if variation == 0:
        return [number / rate_per_s for number in range(count)]
    draw = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    shape = 1 / variation**2
    gaps_s = (draw.gammavariate(shape, 1 / (shape * rate_per_s)) for _ in range(count))
    return list(accumulate(gaps_s))
