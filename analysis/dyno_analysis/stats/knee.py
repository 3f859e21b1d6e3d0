"""From which load on an endpoint's throughput hardly grows any more. Pure.

Two lines that meet, on logarithmic scales of load and throughput, by least squares: Hudson, Fitting segmented curves
whose join points have to be estimated, Journal of the American Statistical Association 61 (1966). The load at which
they meet is the knee. Its interval is a parametric bootstrap over the errors of the measured throughputs.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from .interval import CONFIDENCE, Array, Interval

FEWEST_LOADS: Final = 4
_JOINTS: Final = 201
_DRAWS: Final = 1_000
_LEAST_ERROR: Final = 1e-3  # of a logarithm: so closely does nobody know a throughput
# Behind the knee throughput grows less than half as fast, on logarithmic scales, as before it.
_BEND: Final = 0.5


@dataclass(frozen=True)
class Knee:
    """The knee, and how throughput grows on its two sides: 1 means in proportion to the load, 0 not at all."""

    at: float
    interval: Interval
    growth_before: float
    growth_after: float


def knee(loads: Array, throughputs: Array, log_errors: Array, seed: int, confidence: float = CONFIDENCE) -> Knee | None:
    """The knee of throughput over ascending loads, all above 0; None if there is none that is told, or too few loads.

    `log_errors`: the standard error of each throughput's logarithm. It is told where the draws bend, but for half of
    1 - confidence.
    """
    if len(loads) < FEWEST_LOADS:
        return None
    x, y = np.log(loads), np.log(throughputs)
    weights = 1 / np.maximum(log_errors, _LEAST_ERROR)
    joints = np.linspace(x[1], x[-2], _JOINTS)
    draws = y + np.random.default_rng(seed).standard_normal((_DRAWS, len(y))) / weights
    best, before, after = _fits(x, np.vstack([y, draws]), weights, joints)
    bends = (before > 0) & (after < _BEND * before)
    miss = (1 - confidence) / 2
    if not bends[0] or bends[1:].mean() < 1 - miss:
        return None
    drawn = np.exp(joints[best[1:]])
    at = float(np.exp(joints[best[0]]))
    low, high = (float(end) for end in np.quantile(drawn, [miss, 1 - miss]))
    return Knee(at, Interval(min(low, at), max(high, at)), float(before[0]), float(after[0]))


def _fits(x: Array, ys: Array, weights: Array, joints: Array) -> tuple[Array, Array, Array]:
    """For each row of `ys` the place of the best joint, and the slopes before and after it."""
    residuals = np.empty((len(joints), len(ys)))
    slopes = np.empty((len(joints), 2, len(ys)))
    scaled = ys * weights
    for place, joint in enumerate(joints):
        columns = np.stack([np.ones_like(x), np.minimum(x - joint, 0), np.maximum(x - joint, 0)], axis=1)
        design = columns * weights[:, None]
        solved = np.linalg.pinv(design) @ scaled.T
        residuals[place] = ((scaled.T - design @ solved) ** 2).sum(axis=0)
        slopes[place] = solved[1:]
    best = residuals.argmin(axis=0)
    rows = np.arange(len(ys))
    return best, slopes[best, 0, rows], slopes[best, 1, rows]
