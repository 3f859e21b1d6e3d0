import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.load.arrivals import CONSTANT, POISSON, Arrivals, due_times_s, read_arrivals

COUNT = 4000
RATE_PER_S = 5.0


def gaps_s(arrivals: Arrivals, seed: int) -> list[float]:
    due_s = due_times_s(arrivals, RATE_PER_S, COUNT, str(seed))
    return [due_s[0], *(later - earlier for earlier, later in pairwise(due_s))]


def largest_difference(values: list[float], mean: float) -> float:
    """The Kolmogorov-Smirnov statistic against an exponential distribution of this mean."""
    ordered = sorted(values)
    return max(
        max(abs((number + 1) / len(ordered) - expected), abs(number / len(ordered) - expected))
        for number, value in enumerate(ordered)
        for expected in (1 - math.exp(-value / mean),)
    )


@pytest.mark.parametrize("seed", range(10))
def test_poisson_arrivals_are_exponential(seed: int) -> None:
    """The times between requests pass a Kolmogorov-Smirnov test (alpha 0.001), and don't hang together."""
    gaps = gaps_s(POISSON, seed)
    assert largest_difference(gaps, 1 / RATE_PER_S) < 1.95 / math.sqrt(COUNT)  # the critical value for 0.001
    assert abs(statistics.correlation(gaps[1:], gaps[:-1])) < 3.3 / math.sqrt(COUNT)


@pytest.mark.parametrize("variation", [0.5, 1.0, 2.0, 4.0])
def test_bursts_have_the_variation_that_was_asked_for(variation: float) -> None:
    """The mean rate is the one asked for, whatever the bursts; the coefficient of variation is as asked for."""
    gaps = [gap for seed in range(5) for gap in gaps_s(Arrivals("gamma", variation), seed)]
    error = variation / math.sqrt(len(gaps))
    assert statistics.mean(gaps) * RATE_PER_S == pytest.approx(1, abs=4 * error)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(variation, rel=0.15)


def test_known_arrivals() -> None:
    """The kinds are read with their coefficient of variation."""
    assert (read_arrivals("constant"), read_arrivals("poisson")) == (CONSTANT, POISSON)
    assert read_arrivals("gamma:2.5") == Arrivals("gamma:2.5", 2.5)


def test_constant_arrivals() -> None:
    """Every request comes after the same time, the first at once."""
    assert due_times_s(CONSTANT, 4.0, 5, "any") == [0.0, 0.25, 0.5, 0.75, 1.0]


@given(st.sampled_from([CONSTANT, POISSON, Arrivals("gamma:3", 3.0)]), st.floats(1e-6, 1e4), st.integers(1, 50))
def test_times_never_go_back(arrivals: Arrivals, rate_per_s: float, count: int) -> None:
    """There is a time for each request, in order, and the same seed gives the same."""
    due_s = due_times_s(arrivals, rate_per_s, count, "seed")
    assert len(due_s) == count
    assert due_s == sorted(due_s)
    assert due_s[0] >= 0
    assert due_s == due_times_s(arrivals, rate_per_s, count, "seed")


@pytest.mark.parametrize(
    "text", ["", "uniform", "gamma", "gamma:0", "gamma:-1", "gamma:nan", "gamma:21", "gamma:x", "poisson:2"]
)
def test_unknown_arrivals(text: str) -> None:
    """What isn't a kind of arrivals is none."""
    assert read_arrivals(text) is None
