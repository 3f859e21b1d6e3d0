"""Runs that stop early, many at once: a row of an array is a run, a column a pair. Pure.

The looks, their levels and what ends a run are the driver's own. tests/driver/test_until.py holds the shortcut taken
here to what the driver computes, run by run.
"""

import math
from typing import NamedTuple

import numpy as np

from dyno_analysis.stats.student_t import quantile
from dyno_driver.load.looks import Rule, look_levels, planned_looks, stages

from .shapes import Array


class Stopped(NamedTuple):
    """One value a run: whether it has a verdict, its last interval in logarithms, after how many pairs it ended."""

    verdict: Array
    low: Array
    high: Array
    pairs: Array


def stopped(first: Array, second: Array, rule: Rule) -> Stopped:
    """How runs end that ask each prompt once, and at most as many prompts as there are columns."""
    logs = np.log(first / second)
    runs, most = logs.shape
    upto = np.cumsum(stages(most, 1))
    looks = [int(upto[stage]) for stage in planned_looks(stages(most, 1), 1)]
    levels = look_levels(rule, looks, most, 1)
    open_runs = np.ones(runs, dtype=bool)
    found = Stopped(*(np.zeros(runs) for _ in range(4)))
    for n, level in zip(looks, levels, strict=True):
        seen = logs[:, :n]
        centre = seen.mean(axis=1)
        off = quantile(1 - level / 2, n - 1) * seen.std(axis=1, ddof=1) / math.sqrt(n)
        middle = np.median(seen, axis=1)
        verdict = (centre - off > 0) & (middle >= 0) | (centre + off < 0) & (middle <= 0)
        ends = verdict if rule.width is None else off <= math.log1p(rule.width)
        for name, values in (("verdict", verdict), ("low", centre - off), ("high", centre + off)):
            getattr(found, name)[open_runs] = values[open_runs]
        found.pairs[open_runs] = n
        open_runs &= ~ends
    return found
