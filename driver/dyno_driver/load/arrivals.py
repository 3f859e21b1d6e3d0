"""When the requests of an open loop are due. Pure: the same arguments give the same times.

No time depends on an answer. A slow answer delays no later request, as clients that don't know of each other would not
wait either.
"""

import math
import random
from itertools import accumulate
from typing import Final, NamedTuple


class Arrivals(NamedTuple):
    """How the times between two requests vary: their coefficient of variation (standard deviation over mean).

    0: every request comes after the same time. 1: a Poisson process. More: bursts.
    """

    name: str  # as the user wrote it
    variation: float


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


def due_times_s(arrivals: Arrivals, rate_per_s: float, count: int, seed: str) -> list[float]:
    """When each of `count` requests is due, in s after the load begins; the mean time between two is 1 / rate_per_s.

    The times between requests are gamma-distributed with shape 1 / CV², as vLLM's and other benchmarks' bursts are;
    with CV = 1 that is the exponential distribution of a Poisson process.
    """
    if arrivals.variation == 0:
        return [number / rate_per_s for number in range(count)]
    draw = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    shape = 1 / arrivals.variation**2
    gaps_s = (draw.gammavariate(shape, 1 / (shape * rate_per_s)) for _ in range(count))
    return list(accumulate(gaps_s))
