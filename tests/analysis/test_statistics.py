"""Statistics against published and independently computed values, and what must hold for any data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_analysis.stats import paired, regression
from dyno_analysis.stats.paired import Array, Interval, PairedRatio, Verdict

positive = st.floats(0.001, 1000)

# Efron and Tibshirani, An Introduction to the Bootstrap (1993), table 10.1: eight subjects' hormone levels with a
# placebo, an old and a new patch; theta = mean(new - old) / mean(old - placebo).
PLACEBO = np.array([9243, 9671, 11792, 13357, 9055, 6290, 12412, 18806.0])
OLD = np.array([17649, 12013, 19979, 21816, 13850, 9806, 17208, 29044.0])
NEW = np.array([16449, 14614, 17274, 23798, 12560, 10157, 16570, 26325.0])
# A small set with ties in x and in y; the expected values below are SciPy 1.17.1's.
X = np.array([1, 2, 2, 3, 5, 8, 8, 9.0])
Y = np.array([2, 1, 4, 4, 6, 5, 9, 9.0])


@pytest.mark.parametrize(("quantile", "n"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688), (0.05, 72)])
def test_samples_needed(quantile: float, n: int) -> None:
    """The fewest samples for a two-sided 95 % interval: n is enough and n - 1 isn't."""
    assert paired.samples_needed(quantile) == n
    extreme = max(quantile, 1 - quantile)
    assert extreme**n <= 0.025 < extreme ** (n - 1)


def test_samples_needed_of_no_quantile() -> None:
    """The quantiles 0 and 1 are refused, since no sample gives an interval of them."""
    for quantile in (0, 1, -1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            paired.samples_needed(quantile)


def test_bootstrap_of_the_patch_data() -> None:
    """The ratio and its bootstrap standard error are those of the textbook: -0.0713 and 0.10."""
    first, second = NEW - OLD, OLD - PLACEBO
    assert first.sum() / second.sum() == pytest.approx(-0.0713, abs=5e-5)
    assert paired.bootstrap_ratios(first, second, seed=1, resamples=100_000).std() == pytest.approx(0.102, abs=0.002)


def test_bca_interval_of_the_patch_data() -> None:
    """The BCa interval agrees with SciPy's: -0.2227 to 0.1894 by scipy.stats.bootstrap, 500,000 resamples."""
    found = paired.bca_ratio_interval(NEW - OLD, OLD - PLACEBO, seed=1, resamples=200_000)
    assert found.low == pytest.approx(-0.2227, abs=0.003)
    assert found.high == pytest.approx(0.1894, abs=0.006)


def test_bca_interval_is_seeded() -> None:
    """The same seed gives the same interval, another seed nearly the same."""
    one, again, other = (paired.bca_ratio_interval(X, Y, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert one.low == pytest.approx(other.low, rel=0.05)


def test_bca_interval_of_a_constant_ratio() -> None:
    """Where every pair has the same ratio, the interval is that ratio."""
    found = paired.bca_ratio_interval(2 * Y, Y, seed=0)
    assert (found.low, found.high) == (2, 2)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(positive, positive), min_size=6, max_size=30), st.floats(0.1, 10))
def test_bca_interval_properties(pairs: list[tuple[float, float]], scale: float) -> None:
    """An interval lies within the pairs' own ratios, and a change of unit moves it along."""
    first, second = (np.array(values) for values in zip(*pairs, strict=True))
    found = paired.bca_ratio_interval(first, second, seed=0, resamples=500)
    ratios = first / second
    assert found.low <= found.high
    assert ratios.min() * (1 - 1e-9) <= found.low
    assert found.high <= ratios.max() * (1 + 1e-9)
    scaled = paired.bca_ratio_interval(scale * first, second, seed=0, resamples=500)
    assert scaled.low == pytest.approx(scale * found.low, rel=1e-6)


def test_bootstrap_in_pieces() -> None:
    """More pairs than fit in one piece give as many resamples, and very many pairs fewer than asked for."""
    many = np.ones(paired.DRAWS_AT_ONCE // 3)
    assert len(paired.bootstrap_ratios(many, many, seed=0, resamples=7)) == 7
    assert [paired.affordable_resamples(n) for n in (10, 10_000, 10**7)] == [10_000, 5_000, 1_000]


@pytest.mark.parametrize(
    ("n", "ranks"),
    # Ranks of a two-sided 95 % interval of the median (Conover, Practical Nonparametric Statistics, from the binomial).
    [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15)), (100, (40, 61))],
)
def test_median_interval(n: int, ranks: tuple[int, int] | None) -> None:
    """The interval's ends are the order statistics of the binomial distribution."""
    found = paired.median_interval(np.arange(n, 0, -1, dtype=np.float64))
    assert (found and (found.low, found.high)) == ranks


def test_median_interval_of_very_many() -> None:
    """Where a binomial term underflows, the ranks are still those of the normal approximation."""
    n = 10_000
    found = paired.median_interval(np.arange(1, n + 1, dtype=np.float64))
    assert found is not None
    assert found.low == pytest.approx(n / 2 - 1.96 * math.sqrt(n) / 2, abs=2)


def test_paired_ratio_counts_repeats() -> None:
    """Sums over repeats give the ratio of means over pairs; prompts, not pairs, are resampled."""
    first, second, counts = (
        np.array([4.0, 2, 2, 2, 2, 2]),
        np.array([2.0, 1, 1, 1, 1, 1]),
        np.array([2.0, 1, 1, 1, 1, 1]),
    )
    found = paired.paired_ratio(first, second, counts, seed=0)
    assert (found.prompts, found.first_mean, found.second_mean, found.ratio, found.median_ratio) == (6, 2, 1, 2, 2)
    assert found.interval == Interval(2, 2)


def test_paired_ratio_of_few_prompts() -> None:
    """Below six prompts there is a ratio and no interval."""
    found = paired.paired_ratio(X[:5], Y[:5], np.ones(5), seed=0)
    assert (found.interval, found.median_interval) == (None, None)


def _ratio(first_s: float, second_s: float, interval: Interval | None) -> PairedRatio:
    return PairedRatio(10, first_s, second_s, first_s / second_s, interval, 10_000, first_s / second_s, None)


@pytest.mark.parametrize(
    ("low", "high", "overhead_s", "expected"),
    [
        (1.2, 1.9, None, Verdict.SECOND_SMALLER),
        (0.5, 0.8, None, Verdict.FIRST_SMALLER),
        (0.9, 1.2, None, Verdict.UNDECIDED),
        (0.96, 1.04, None, Verdict.SAME),
        (1.01, 1.04, None, Verdict.SAME),  # a difference, but within the margin
        (1.01, 1.06, None, Verdict.SECOND_SMALLER),
        (1.2, 1.9, 0.4, Verdict.SECOND_SMALLER),
        (1.2, 1.9, 0.5, Verdict.WITHHELD),  # as large as the effect, 1.5 s - 1 s
        (0.96, 1.04, 0.049, Verdict.SAME),
        (0.96, 1.04, 0.05, Verdict.WITHHELD),  # as large as the margin of 1 s
        (0.9, 1.2, 9.0, Verdict.UNDECIDED),
    ],
)
def test_verdict(low: float, high: float, overhead_s: float | None, expected: Verdict) -> None:
    """What the interval allows to say, and where the instrument's own error forbids it."""
    assert paired.verdict(_ratio(1.5, 1.0, Interval(low, high)), 0.05, overhead_s) is expected


def test_verdict_without_an_interval() -> None:
    """Too few prompts decide nothing."""
    assert paired.verdict(_ratio(9, 1, None), 0.05, None) is Verdict.UNDECIDED


def test_rank_correlation() -> None:
    """Spearman's correlation with ties agrees with SciPy; without variation there is none."""
    assert paired.rank_correlation(X, Y) == pytest.approx(0.8902439024390245)
    assert paired.rank_correlation(X, np.ones(8)) is None
    assert paired.rank_correlation(X[:1], Y[:1]) is None


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
    assert line.decided


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
        assert (line.slope, line.fixed, line.decided) == (None, None, False)


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
        for name, interval, truth in (
            ("slope", squares.slope_interval, 0.01),
            ("fixed", squares.fixed_interval, 1.0),
            ("ts slope", sen.slope_interval, 0.01),
            ("ts fixed", sen.fixed_interval, 1.0),
        ):
            assert interval is not None
            held[name] += interval.holds(truth)
    assert min(held.values()) >= 0.91 * 400, held


def test_theil_sen_samples_many_points() -> None:
    """Beyond its limit a seeded sample is taken: the same seed, the same line."""
    x = np.arange(regression.MOST_POINTS + 500, dtype=np.float64)
    y = x + np.sin(x)
    line = regression.theil_sen(x, y, 3)
    assert line.points == regression.MOST_POINTS
    assert line == regression.theil_sen(x, y, 3)


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(1, 12.706204736174694), (2, 4.302652729749462), (8, 2.306004135204166), (30, 2.0422724563012378)],
)
def test_student_t_quantile(degrees: int, expected: float) -> None:
    """The 97.5 % quantiles of every textbook's table (digits by SciPy)."""
    assert regression.student_t_quantile(0.975, degrees) == pytest.approx(expected, rel=1e-10)


def test_student_t_quantile_nears_the_normal() -> None:
    """With many degrees of freedom it is the normal distribution's."""
    assert regression.student_t_quantile(0.975, 10**6) == pytest.approx(1.95996, abs=1e-4)
