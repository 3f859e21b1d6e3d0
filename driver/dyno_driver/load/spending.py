"""How sure each of several looks has to be, so that all of them together err with one probability. Pure.

Lan and DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70 (1983): the part of alpha that may be
spent by a look depends only on the share of the information that has come by then. We spend it as O'Brien and Fleming's
bounds do, nearly all of it late: early looks cost little, and the last is nearly an ordinary test.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from .distributions import NORMAL

_POINTS: Final = 201  # of the density between two looks' bounds; odd, for Simpson's rule
_WIDEST: Final = 8.0  # a bound in standard deviations that nothing reaches


def spent(share: float, alpha: float) -> float:
    """How much of `alpha`, both sides together, may be spent when this share of the information has come.

    Each side spends 2 - 2 Phi(z / sqrt(share)) of its half.
    """
    if share >= 1:
        return alpha
    return 4 * NORMAL.cdf(NORMAL.inv_cdf(alpha / 4) / math.sqrt(share))


@lru_cache(maxsize=100)
def levels(shares: tuple[float, ...], spent_by: tuple[float, ...]) -> list[float]:
    """The two-sided level of each look's own test. `shares` of the information rise, in any unit; `spent_by` is how
    much of alpha may be spent by each look.

    The recursion is Armitage, McPherson and Rowe's (JRSS A 132, 1969). It is for sums of independent, normal steps. For
    means of few values a look takes Student's t at the same level (Jennison and Turnbull, Group Sequential Methods with
    Applications to Clinical Trials, 2000, section 3.8).
    """
    found: list[float] = []
    places, density, before, spent_before = [0.0], [1.0], 0.0, 0.0
    for share, spent_now in zip(shares, spent_by, strict=True):
        step = math.sqrt(share - before)
        due = max(spent_now - spent_before, 0.0)
        bound = _bound(places, density, step, share, due)
        found.append(2 * NORMAL.cdf(-bound / math.sqrt(share)))
        places, density = _carried(places, density, step, bound)
        before, spent_before = share, spent_now
    return found


def _bound(places: Sequence[float], density: Sequence[float], step: float, share: float, due: float) -> float:
    """The sum that is exceeded, either way, with probability `due` by those who haven't been stopped."""
    low, high = 0.0, _WIDEST * math.sqrt(share)
    for _ in range(60):
        middle = (low + high) / 2
        beyond = 2 * sum(
            mass * NORMAL.cdf((place - middle) / step) for place, mass in zip(places, density, strict=True)
        )
        low, high = (middle, high) if beyond > due else (low, middle)
    return high


def _carried(
    places: Sequence[float], density: Sequence[float], step: float, bound: float
) -> tuple[list[float], list[float]]:
    """Where those who go on are after the step: places within the bound, and the probability at each (Simpson's)."""
    width = 2 * bound / (_POINTS - 1)
    after = [-bound + width * number for number in range(_POINTS)]
    weights = [width / 3 * (1 if number in (0, _POINTS - 1) else 4 if number % 2 else 2) for number in range(_POINTS)]
    scale = 1 / (step * math.sqrt(2 * math.pi))
    return after, [
        weight
        * scale
        * sum(
            mass * math.exp(-(((place - earlier) / step) ** 2) / 2)
            for earlier, mass in zip(places, density, strict=True)
        )
        for place, weight in zip(after, weights, strict=True)
    ]
