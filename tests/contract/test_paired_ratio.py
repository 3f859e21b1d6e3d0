"""The driver's stopping rules and `dyno report` compute the same interval of the paired ratio."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.stats import student_t
from dyno_analysis.stats.paired import FEWEST_BLOCKS, FEWEST_PROMPTS, Prompts, paired_ratio
from dyno_driver.load import paired_ratio as drivers
from dyno_driver.load.distributions import t_quantile

Drawn = dict[tuple[str, int], list[float]]


def test_the_limits_are_the_same() -> None:
    """Below the same numbers of prompts and blocks neither has an interval, or the variation over time."""
    assert (drivers.FEWEST_PROMPTS, drivers.FEWEST_BLOCKS) == (FEWEST_PROMPTS, FEWEST_BLOCKS)


@given(st.floats(0.5, 1 - 1e-9), st.integers(1, 300_000))
def test_students_t_is_the_same(probability: float, degrees: int) -> None:
    """Both have the same quantiles of Student's t."""
    theirs = student_t.quantile(probability, degrees)
    assert t_quantile(probability, degrees) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("blocks", [1, 5, 6, 12])
@pytest.mark.parametrize("prompts", [5, 6, 40])
def test_the_interval_is_the_same(prompts: int, blocks: int) -> None:
    """Of the same times, in one block or several, with prompts that one side has oftener, both intervals agree."""
    rng = np.random.default_rng(prompts * blocks)
    sides: list[Drawn] = [
        {
            (str(prompt), block): [*rng.lognormal(0.1 * side, 0.3, 1 + (side + prompt) % 3)]
            for prompt in range(prompts)
            for block in range(blocks)
        }
        for side in range(2)
    ]
    mine = drivers.log_ratio(*sides)
    theirs = paired_ratio(as_the_report(prompts, blocks, *sides)).typical_interval
    if prompts < FEWEST_PROMPTS:
        assert mine is None
        assert theirs is None
        return
    assert mine is not None
    assert theirs is not None
    off = mine.half_width(0.05)
    assert (mine.centre - off, mine.centre + off) == pytest.approx(
        (math.log(theirs.low), math.log(theirs.high)), rel=1e-9
    )


def as_the_report(prompts: int, blocks: int, first: Drawn, second: Drawn) -> Prompts:
    """The report's own input, computed otherwise than the driver does."""
    logs = np.array(
        [
            [[np.log(side[str(prompt), block]).mean() for block in range(blocks)] for prompt in range(prompts)]
            for side in (first, second)
        ]
    )
    all_logs = [
        np.array([np.log(np.concatenate([side[str(p), b] for b in range(blocks)])).mean() for p in range(prompts)])
        for side in (first, second)
    ]
    ratios = logs[0] - logs[1]
    effects = (ratios - ratios.mean(axis=1, keepdims=True)).mean(axis=0) if blocks > 1 else np.zeros(0)
    ones = np.ones(prompts)
    return Prompts(ones, ones, ones, ones, all_logs[0], all_logs[1], np.full(prompts, np.nan), effects)
