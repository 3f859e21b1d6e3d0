"""Whether a series of figures has settled, and from where on. Pure.

MSER-5 (White, An effective truncation heuristic for bias reduction in simulation output, Simulation 69, 1997; Franklin
and White 2008): of means of five, so many are cut off at the front that the standard error of the mean of the rest is
least. A series that would lose more than its first half hasn't settled.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final

BATCH: Final = 5
_FEWEST_BATCHES: Final = 4
_LEFT: Final = 0.25  # of the batches, and at least two, are never cut off: by chance, a few lie near each other


def settled_from(values: Sequence[float]) -> int | None:
    """How many values at the front are cut off; None if the series hasn't settled, or is too short to tell."""
    means = [fmean(values[begin : begin + BATCH]) for begin in range(0, len(values) - BATCH + 1, BATCH)]
    if len(means) < _FEWEST_BATCHES:
        return None
    centre = fmean(means)
    best, cut = math.inf, 0
    least = max(2, math.ceil(_LEFT * len(means)))
    total = squares = 0.0
    for number in range(len(means) - 1, -1, -1):
        off = means[number] - centre  # so that squares of large, nearly equal numbers lose no digits
        total, squares = total + off, squares + off * off
        left = len(means) - number
        error = max(squares - total * total / left, 0.0) / left**2
        if left >= least and error <= best:
            best, cut = error, number
    return cut * BATCH if cut <= len(means) // 2 else None
