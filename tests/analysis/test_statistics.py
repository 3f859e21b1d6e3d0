"""Statistics against published and independently computed values, and what must hold for any data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_analysis.stats import interval, regression
from dyno_analysis.stats.crossing import Crossing, Order, crossing
from dyno_analysis.stats.interval import Array, Interval
from dyno_analysis.stats.regression import Dependence

# A small set with ties in x and in y; the expected values below are SciPy 1.17.1's.
X = np.array([1, 2, 2, 3, 5, 8, 8, 9.0])
Y = np.array([2, 1, 4, 4, 6, 5, 9, 9.0])


@pytest.mark.parametrize(("quantile", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688), (0.05, 72)])
def test_samples_needed(quantile: float, n: int) -> None:
    """The fewest samples for a two-sided 95 % interval: n is enough and n - 1 isn't."""
    assert interval.samples_needed(quantile) == n
    extreme = max(quantile, 1 - quantile)
    assert extreme**n <= 0.025 < extreme ** (n - 1)


def test_samples_needed_of_no_quantile() -> None:
    """The quantiles 0 and 1 are refused, since no sample gives an interval of them."""
    for quantile in (0, 1, -1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            interval.samples_needed(quantile)


@pytest.mark.parametrize(
    ("n", "ranks"),
    # Ranks of a two-sided 95 % interval of the median (Conover, Practical Nonparametric Statistics, from the binomial).
    [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15)), (100, (40, 61))],
)
def test_median_interval(n: int, ranks: tuple[int, int] | None) -> None:
    """The interval's ends are the order statistics of the binomial distribution."""
    found = interval.median_interval(np.arange(n, 0, -1, dtype=np.float64))
    assert (found and (found.low, found.high)) == ranks


def test_median_interval_of_very_many() -> None:
    """Where a binomial term underflows, the ranks are still those of the normal approximation."""
    n = 10_000
    found = interval.median_interval(np.arange(1, n + 1, dtype=np.float64))
    assert found is not None
    assert found.low == pytest.approx(n / 2 - 1.96 * math.sqrt(n) / 2, abs=2)


def test_rank_correlation() -> None:
    """Spearman's correlation with ties agrees with SciPy; without variation there is none."""
    assert interval.rank_correlation(X, Y) == pytest.approx(0.8902439024390245)
    assert interval.rank_correlation(X, np.ones(8)) is None
    assert interval.rank_correlation(X[:1], Y[:1]) is None


def test_least_squares() -> None:
    """Line and intervals agree with scipy.stats.linregress and Student's t of 6 degrees of freedom."""
    line = regression.least_squares(X, Y)
    t = 2.4469118511449786
    assert line.slope is not None
    assert line.fixed is not None
    assert line.slope == pytest.approx(0.7972027972027972)
    assert line.fixed == pytest.approx(1.2132867132867133)
    assert line.slope_interval is not None
    assert line.fixed_interval is not None
    assert line.slope_interval.high - line.slope == pytest.approx(t * 0.18422293527719574)
    assert line.fixed - line.fixed_interval.low == pytest.approx(t * 1.0339486598896457)
    assert regression.dependence(line, 8, 5) is Dependence.GROWS


def test_theil_sen() -> None:
    """Slope and Sen's interval agree with scipy.stats.theilslopes; the fixed part is the residuals' median."""
    line = regression.theil_sen(X, Y, seed=0)
    assert line.slope == pytest.approx(0.8541666666666667)
    assert line.slope_interval is not None
    assert line.slope_interval.low == pytest.approx(0.16666666666666666)
    assert line.slope_interval.high == pytest.approx(1.3333333333333333)
    assert line.fixed == pytest.approx(float(np.median(Y - 0.8541666666666667 * X)))


@pytest.mark.parametrize("method", [regression.least_squares, lambda x, y: regression.theil_sen(x, y, 0)])
def test_lines_that_the_points_do_not_decide(method: object) -> None:
    """Two points, one length, or none: a line without values, and never an error."""
    assert callable(method)
    for x in ([], [1.0], [1.0, 2.0], [5.0] * 8):
        line = method(np.array(x, dtype=np.float64), np.arange(len(x), dtype=np.float64))
        assert (line.slope, line.fixed) == (None, None)
        assert regression.dependence(line, 1, 1) is Dependence.UNDECIDED


@settings(max_examples=50, deadline=None)
@given(st.floats(-5, 5), st.floats(-5, 5), st.lists(st.integers(1, 500), min_size=8, max_size=40, unique=True))
def test_exact_line_is_found(fixed: float, slope: float, tokens: list[int]) -> None:
    """Points on a line give that line by both methods, and intervals around it."""
    x: Array = np.array(tokens, dtype=np.float64)
    for line in (regression.least_squares(x, fixed + slope * x), regression.theil_sen(x, fixed + slope * x, 0)):
        assert line.slope == pytest.approx(slope, abs=1e-9)
        assert line.fixed == pytest.approx(fixed, abs=1e-7)
        assert line.fixed_interval is not None
        assert line.fixed_interval.low - 1e-7 <= fixed <= line.fixed_interval.high + 1e-7


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Over 400 seeded samples of a known line, 95 % intervals hold it in at least 91 %."""
    # 91 % is more than three standard errors below.
    rng = np.random.default_rng(7)
    held = {"slope": 0, "fixed": 0, "ts slope": 0, "ts fixed": 0}
    for _ in range(400):
        x = rng.integers(20, 200, 15).astype(np.float64)
        y = 1.0 + 0.01 * x + rng.normal(0, 0.3, 15)
        squares, sen = regression.least_squares(x, y), regression.theil_sen(x, y, 0)
        for name, found, truth in (
            ("slope", squares.slope_interval, 0.01),
            ("fixed", squares.fixed_interval, 1.0),
            ("ts slope", sen.slope_interval, 0.01),
            ("ts fixed", sen.fixed_interval, 1.0),
        ):
            assert found is not None
            held[name] += found.holds(truth)
    assert min(held.values()) >= 0.91 * 400, held


def test_theil_sen_samples_many_points() -> None:
    """Beyond its limit a seeded sample is taken: the same seed, the same line."""
    x = np.arange(regression.MOST_POINTS + 500, dtype=np.float64)
    y = x + np.sin(x)
    line = regression.theil_sen(x, y, 3)
    assert line.points == regression.MOST_POINTS
    assert line == regression.theil_sen(x, y, 3)


def _line(points: int, low: float, high: float) -> regression.Line:
    return regression.Line("any", points, 1.0, None, (low + high) / 2, Interval(low, high))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (_line(10, 0.01, 0.02), Dependence.GROWS),
        (_line(10, -0.02, -0.01), Dependence.FALLS),
        (_line(10, -0.02, 0.02), Dependence.UNDECIDED),
        (_line(10, -0.0004, 0.0005), Dependence.NONE),  # times 100 tokens: 0.05 s of 1 s
        (_line(10, 0.0003, 0.0005), Dependence.NONE),  # it grows, but by less than 5 %
        (_line(10, -0.0004, 0.00051), Dependence.UNDECIDED),
        (_line(5, 0.01, 0.02), Dependence.UNDECIDED),  # a law from five requests isn't a finding
    ],
)
def test_dependence_on_length(line: regression.Line, expected: Dependence) -> None:
    """The slope's interval decides: within 5 % of the mean over the lengths measured there is no dependence."""
    assert regression.dependence(line, 100, 1.0) is expected


@pytest.mark.parametrize("points", [200, 5_000])
def test_flat_points_are_found_flat(points: int) -> None:
    """Latencies that don't depend on length are called so, by both methods, if there are enough of them."""
    rng = np.random.default_rng(3)
    x = rng.integers(20, 400, points).astype(np.float64)
    y = rng.lognormal(0, 0.05, points)
    for line in (regression.least_squares(x, y), regression.theil_sen(x, y, 0)):
        assert regression.dependence(line, 380, float(y.mean())) is Dependence.NONE


def _crossing(lines: tuple[tuple[float, float], tuple[float, float]], noise: float, seed: int = 0) -> Crossing:
    """30 points of each line y = fixed + slope x, from 20 to 310."""
    rng = np.random.default_rng(seed)
    x: Array = np.arange(20, 320, 10, dtype=np.float64)
    ys = [fixed + slope * x + rng.normal(0, noise, len(x)) for fixed, slope in lines]
    return crossing(x, ys[0], x, ys[1])


def test_a_crossing_has_an_interval() -> None:
    """Lines that cross within the lengths measured: the interval holds the length, and turns with the endpoints."""
    lines = ((1.0, 0.02), (3.0, 0.01))  # they cross at 200
    found = _crossing(lines, 0.2)
    assert found.order is Order.FIRST_LOWER_BELOW
    assert found.interval is not None
    assert found.interval.holds(200)
    assert 20 < found.interval.low < found.interval.high < 310
    turned = _crossing((lines[1], lines[0]), 0.0)
    assert turned.order is Order.SECOND_LOWER_BELOW
    assert turned.at == pytest.approx(200)


def test_no_crossing_without_evidence() -> None:
    """Parallel lines have an order at all lengths; noise, few points and lengths that don't overlap decide nothing."""
    assert _crossing(((1.0, 0.01), (3.0, 0.01)), 0.2).order is Order.FIRST_LOWER
    assert _crossing(((3.0, 0.01), (1.0, 0.01)), 0.2).order is Order.SECOND_LOWER
    assert _crossing(((1.0, 0.02), (3.0, 0.01)), 5.0).order is Order.UNDECIDED
    few: Array = np.arange(5, dtype=np.float64)
    assert crossing(few, few, few, 4 - few).order is Order.UNDECIDED
    many: Array = np.arange(20, dtype=np.float64)
    assert crossing(many, many, many + 100, 20 - many).order is Order.UNDECIDED
    assert crossing(many * 0 + 7, many, many, many).order is Order.UNDECIDED


def test_identical_lines_rarely_cross() -> None:
    """Of 400 comparisons of a line with itself, hardly one asserts a crossing, and at most 5 % an order."""
    found = [_crossing(((2.0, 0.01), (2.0, 0.01)), 0.5, seed).order for seed in range(400)]
    crossed = sum(order in (Order.FIRST_LOWER_BELOW, Order.SECOND_LOWER_BELOW) for order in found)
    ordered = sum(order in (Order.FIRST_LOWER, Order.SECOND_LOWER) for order in found)
    assert crossed <= 4
    assert ordered <= 0.05 * 400
