"""How long many requests take that were all submitted at once, and how sure the ratio of two such times is. Pure."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from .interval import CONFIDENCE, Array, Interval
from .paired import from_log
from .student_t import quantile

FEWEST_ANSWERS: Final = 20
_FEWEST_BATCHES: Final = 3
_DEGREES: Final = 9  # of the error of a single batch, which is a bound and not a variance of so many values
_TAIL: Final = 0.95
_OF_TAIL: Final = 0.5
_OF_WAVES: Final = 1.5
_OF_CHANCE: Final = 1.5


@dataclass(frozen=True)
class Makespans:
    """The ratio first / second of the typical times until the last answer. None: too few requests for an interval."""

    first_s: float
    second_s: float
    ratio: float
    interval: Interval | None
    batches: int  # of the side with fewer


def makespans(first: list[Array], second: list[Array], confidence: float = CONFIDENCE) -> Makespans:
    """Compare two endpoints' batches, at least one each. An array has the seconds after which answers ended.

    From three batches on, it is Welch's t on the logarithms of their makespans. With fewer, each batch's error is a
    bound from its own course (`_log_error_of_one`); how batches vary over time isn't in it.
    """
    sides = [_log_makespan(batches) for batches in (first, second)]
    (a, a_part, a_degrees), (b, b_part, b_degrees) = sides
    log, total = a - b, a_part + b_part
    interval = None
    if min(a_degrees, b_degrees) > 0:
        weights = a_part**2 / a_degrees + b_part**2 / b_degrees
        degrees = max(int(total**2 / weights), 1) if weights > 0 else min(a_degrees, b_degrees)
        off = quantile(1 - (1 - confidence) / 2, degrees) * math.sqrt(total)
        interval = Interval(from_log(log - off), from_log(log + off))
    fewest = min(len(first), len(second))
    return Makespans(math.exp(a), math.exp(b), from_log(log), interval, fewest)


def _log_makespan(batches: list[Array]) -> tuple[float, float, int]:
    """The mean logarithm of the makespans, its squared error, and the degrees of freedom; 0: no error is known."""
    logs = np.log([float(ends.max()) for ends in batches])
    centre = float(logs.mean())
    if len(batches) >= _FEWEST_BATCHES:
        return centre, float(logs.var(ddof=1)) / len(logs), len(logs) - 1
    if min(len(ends) for ends in batches) < FEWEST_ANSWERS:
        return centre, math.inf, 0
    squared = math.fsum(_log_error_of_one(np.sort(ends)) ** 2 for ends in batches)
    return centre, squared / len(batches) ** 2, _DEGREES


def _log_error_of_one(ends: Array) -> float:
    """A bound on the standard error of a makespan's logarithm from one batch's ascending ends alone.

    Three parts are added as variances, each as a share of the makespan: the deviation of the ends' course from a
    straight line (waves, where as many are served at once as fit; and drift), half of the time that the last
    twentieth took (stragglers), and the spread of the ends over the root of their number (chance of the prompts). The
    factors were chosen by simulation: with 1 to n requests served at once, and times whose logarithms have a standard
    deviation of up to 0.5, the bound is about the true error or above it.
    """
    n, last = len(ends), float(ends[-1])
    middle = ends[n // 20 : n - n // 20]
    places = np.arange(len(middle), dtype=np.float64)
    slope, start = np.polyfit(places, middle, 1)
    waves = _OF_WAVES * float((middle - start - slope * places).std()) / last
    tail = _OF_TAIL * (last - float(ends[math.ceil(_TAIL * n) - 1])) / last
    chance = _OF_CHANCE * float(ends.std()) / float(ends.mean()) / math.sqrt(n)
    return math.sqrt(waves**2 + tail**2 + chance**2)
