"""Ratios, intervals and verdicts: against published values, by their definitions, and what must hold for any data."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_analysis.stats import student_t
from dyno_analysis.stats.interval import Array, Interval, simultaneous
from dyno_analysis.stats.paired import (
    PairedRatio,
    Prompts,
    Verdict,
    fieller_interval,
    from_log,
    log_t_interval,
    mean_verdict,
    overhead_bound,
    paired_ratio,
    typical_verdict,
)

positive = st.floats(0.001, 1000)
pairs_of_times = st.lists(st.tuples(positive, positive), min_size=6, max_size=40)
TURNED = {
    Verdict.FIRST_SMALLER: Verdict.SECOND_SMALLER,
    Verdict.SECOND_SMALLER: Verdict.FIRST_SMALLER,
}


def prompts_of(first: Array, second: Array, overhead_s: float = math.nan) -> Prompts:
    """Prompts that each side was asked once."""
    once = np.ones(len(first))
    return Prompts(once, once, first, second, np.log(first), np.log(second), np.full(len(first), overhead_s))


@pytest.mark.parametrize(
    ("probability", "degrees", "expected"),
    [
        # Digits by SciPy; they are those of every textbook's table.
        (0.975, 1, 12.706204736174694),
        (0.975, 2, 4.302652729749462),
        (0.975, 5, 2.5705818356363146),
        (0.975, 8, 2.306004135204166),
        (0.975, 9, 2.2621571627409915),
        (0.975, 29, 2.045229642132703),
        (0.975, 30, 2.0422724563012378),
        (0.995, 9, 3.2498355415921263),
        (0.995, 99, 2.6264054563851866),
        (0.95, 10, 1.8124611228107335),
    ],
)
def test_student_t_quantile(probability: float, degrees: int, expected: float) -> None:
    """Quantiles of published tables."""
    assert student_t.quantile(probability, degrees) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5001, 0.9999))
def test_student_t_closed_forms(probability: float) -> None:
    """With one and two degrees of freedom the quantile has a closed form."""
    assert student_t.quantile(probability, 1) == pytest.approx(math.tan(math.pi * (probability - 0.5)), rel=1e-9)
    two = (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    assert student_t.quantile(probability, 2) == pytest.approx(two, rel=1e-9)


def test_student_t_of_many_degrees() -> None:
    """The expansion for very many degrees of freedom continues the exact values, down to the normal distribution's."""
    exact, expanded = student_t.quantile(0.975, 100_000), student_t.quantile(0.975, 100_001)
    assert expanded == pytest.approx(exact, rel=1e-9)
    assert student_t.quantile(0.975, 10**9) == pytest.approx(1.959963984540054, rel=1e-8)
    for wrong in ((0.3, 5), (1.0, 5), (0.975, 0)):
        with pytest.raises(ValueError, match="no quantile"):
            student_t.quantile(*wrong)


def test_log_t_interval_by_hand() -> None:
    """Of 0, 1, 2, 3, 4, 5: mean 2.5, standard error sqrt(3.5 / 6), t of 5 degrees 2.570582."""
    found = log_t_interval(np.arange(6, dtype=np.float64))
    assert found is not None
    off = 2.5705818356363146 * math.sqrt(3.5 / 6)
    assert (found.low, found.high) == pytest.approx((2.5 - off, 2.5 + off))
    assert log_t_interval(np.ones(1)) is None


@settings(max_examples=200, deadline=None)
@given(pairs_of_times)
def test_fieller_by_its_definition(pairs: list[tuple[float, float]]) -> None:
    """At each end, the mean of first - r second is just as far from 0 as Student's t allows; the ratio lies within."""
    first, second = (np.array(values) for values in zip(*pairs, strict=True))
    found = fieller_interval(first, second)
    assert found is not None
    assert found.low <= first.mean() / second.mean() * (1 + 1e-9)
    assert found.high >= first.mean() / second.mean() * (1 - 1e-9)
    t = student_t.quantile(0.975, len(first) - 1)
    for end in (found.low, found.high):
        if 0 < end < math.inf:
            left = first - end * second
            scale = first.mean() + end * second.mean()
            error = t * left.std(ddof=1) / math.sqrt(len(left))
            assert abs(left.mean()) == pytest.approx(error, abs=1e-6 * scale, rel=1e-6)


def test_fieller_without_a_bound() -> None:
    """A mean that isn't told from 0 bounds nothing on its side."""
    steady, wild = np.ones(6), np.array([0.001, 0.001, 0.001, 0.001, 0.001, 50])
    found = fieller_interval(steady, wild)
    assert found is not None
    assert found.high == math.inf
    turned = fieller_interval(wild, steady)
    assert turned is not None
    assert turned.low == 0
    assert turned.high == pytest.approx(1 / found.low)


@settings(max_examples=300, deadline=None)
@given(pairs_of_times, st.sampled_from([0.95, 0.99]), st.floats(0, 0.5) | st.just(math.nan))
def test_exchange_of_endpoints(pairs: list[tuple[float, float]], confidence: float, overhead_s: float) -> None:
    """Exchanged, every ratio and interval is the exact inverse, and every verdict turns."""
    first, second = (np.array(values) for values in zip(*pairs, strict=True))
    found = paired_ratio(prompts_of(first, second, overhead_s), confidence)
    turned = paired_ratio(prompts_of(second, first, -overhead_s), confidence)
    for ratio in ("typical_ratio", "median_ratio", "ratio"):
        above, below = sorted((getattr(found, ratio), getattr(turned, ratio)), reverse=True)
        assert below == 1 / above
    for held in ("typical_interval", "median_interval", "interval"):
        one, other = getattr(found, held), getattr(turned, held)
        if one is not None:
            assert (other.low, other.high) == pytest.approx((_inverse(one.high), _inverse(one.low)), rel=1e-12)
    bounds = [overhead_bound(np.full(3, sign * overhead_s)) for sign in (1, -1)]
    assert bounds[0] == bounds[1]
    verdict = typical_verdict(found, 0.05, bounds[0])
    assert typical_verdict(turned, 0.05, bounds[1]) is TURNED.get(verdict, verdict)
    of_means = mean_verdict(found, 0.05, bounds[0])
    assert mean_verdict(turned, 0.05, bounds[1]) is (None if of_means is None else TURNED.get(of_means, of_means))


def _inverse(value: float) -> float:
    return math.inf if value == 0 else 1 / value


@settings(max_examples=200, deadline=None)
@given(pairs_of_times, st.randoms(use_true_random=False))
def test_order_of_prompts(pairs: list[tuple[float, float]], chance: object) -> None:
    """Another order of the prompts changes nothing, to the last bit."""
    first, second = (np.array(values) for values in zip(*pairs, strict=True))
    chance.shuffle(pairs)  # type: ignore[attr-defined]
    other_first, other_second = (np.array(values) for values in zip(*pairs, strict=True))
    assert paired_ratio(prompts_of(other_first, other_second)) == paired_ratio(prompts_of(first, second))


@settings(max_examples=200, deadline=None)
@given(pairs_of_times, st.sampled_from([1e-6, 1e-3, 0.1, 7.0, 1e3, 1e9]))
def test_another_unit(pairs: list[tuple[float, float]], unit: float) -> None:
    """Ratios and intervals are the same in any unit, but for rounding."""
    first, second = (np.array(values) for values in zip(*pairs, strict=True))
    found = paired_ratio(prompts_of(first, second))
    scaled = paired_ratio(prompts_of(unit * first, unit * second))
    assert scaled.typical_ratio == pytest.approx(found.typical_ratio, rel=1e-9)
    assert scaled.ratio == pytest.approx(found.ratio, rel=1e-9)
    assert scaled.first_typical == pytest.approx(unit * found.first_typical, rel=1e-9)
    for one, other in ((found.typical_interval, scaled.typical_interval), (found.interval, scaled.interval)):
        assert one is not None
        assert other is not None
        assert (other.low, other.high) == pytest.approx((one.low, one.high), rel=1e-6)


def test_unequal_numbers_of_requests() -> None:
    """A prompt counts once in the typical ratio; in the ratio of means it weighs what both sides have of it."""
    prompts = Prompts(
        first_n=np.array([2.0, 1, 1, 1, 1, 4]),
        second_n=np.array([2.0, 1, 1, 1, 1, 1]),
        first_mean=np.array([4.0, 2, 2, 2, 2, 2]),
        second_mean=np.array([2.0, 1, 1, 1, 1, 1]),
        first_log=np.log([4.0, 2, 2, 2, 2, 2]),
        second_log=np.log([2.0, 1, 1, 1, 1, 1]),
        more_overhead_s=np.zeros(6),
    )
    found = paired_ratio(prompts)
    assert (found.prompts, found.first_requests, found.second_requests) == (6, 10, 7)
    assert (found.first_mean, found.second_mean) == pytest.approx((18 / 7, 9 / 7))
    assert (found.ratio, found.typical_ratio, found.median_ratio) == pytest.approx((2, 2, 2))
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((2, 2))


def test_prompts_and_blocks_are_crossed() -> None:
    """From six blocks on their squared error adds to the prompts'; below, the interval is about these blocks only."""
    first, second = np.exp(np.arange(6.0) / 10), np.ones(6)
    alone = paired_ratio(prompts_of(first, second)).typical_interval
    few = paired_ratio(replace(prompts_of(first, second), block_effects=np.arange(5.0)))
    assert (few.typical_interval, few.blocks) == (alone, 5)
    effects = np.array([-0.5, -0.3, -0.1, 0.1, 0.3, 0.5])
    found = paired_ratio(replace(prompts_of(first, second), block_effects=effects))
    # Squared errors: 0.035 / 6 and 0.14 / 6. Satterthwaite: 5 * 0.175^2 / (0.035^2 + 0.14^2) = 7.35 degrees.
    off = student_t.quantile(0.975, 7) * math.sqrt(0.175 / 6)
    assert found.typical_interval is not None
    assert math.log(found.typical_interval.high) == pytest.approx(0.25 + off)
    assert found.blocks == 6
    many = paired_ratio(replace(prompts_of(np.full(40, 2.0), np.ones(40)), block_effects=effects))
    assert mean_verdict(many, 0.05, None) is None


def test_few_prompts() -> None:
    """Below six prompts there are ratios and no interval; below 30 the ratio of means has no verdict."""
    found = paired_ratio(prompts_of(np.arange(1.0, 6), np.ones(5)))
    assert (found.interval, found.median_interval, found.typical_interval) == (None, None, None)
    assert typical_verdict(found, 0.05, None) is Verdict.UNDECIDED
    for n, expected in ((29, None), (30, Verdict.SECOND_SMALLER)):
        assert mean_verdict(paired_ratio(prompts_of(np.full(n, 2.0), np.ones(n))), 0.05, None) is expected


def _ratio(first_s: float, second_s: float, held: Interval | None, median: float | None = None) -> PairedRatio:
    ratio = first_s / second_s
    return PairedRatio(
        prompts=10,
        first_requests=10,
        second_requests=10,
        first_mean=first_s,
        second_mean=second_s,
        ratio=ratio,
        interval=held,
        median_ratio=ratio if median is None else median,
        median_interval=held,
        first_typical=first_s,
        second_typical=second_s,
        typical_ratio=ratio,
        typical_interval=held,
        confidence=0.95,
        blocks=1,
    )


@pytest.mark.parametrize(
    ("low", "high", "overhead_s", "expected"),
    [
        (1.2, 1.9, None, Verdict.SECOND_SMALLER),
        (0.5, 0.8, None, Verdict.FIRST_SMALLER),
        (0.9, 1.2, None, Verdict.UNDECIDED),
        (0.0, math.inf, None, Verdict.UNDECIDED),
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
    median = 0.7 if high < 1 else 1.5
    assert typical_verdict(_ratio(1.5, 1.0, Interval(low, high), median), 0.05, overhead_s) is expected


def test_the_median_must_not_disagree() -> None:
    """An interval above 1 with a median below 1 decides nothing, and the other way round."""
    assert typical_verdict(_ratio(1.5, 1, Interval(1.2, 1.9), 0.99), 0.05, None) is Verdict.UNDECIDED
    assert typical_verdict(_ratio(1, 1.5, Interval(0.5, 0.8), 1.01), 0.05, None) is Verdict.UNDECIDED
    assert typical_verdict(_ratio(1.5, 1, Interval(1.2, 1.9), 1.0), 0.05, None) is Verdict.SECOND_SMALLER


def test_overhead_is_bounded_by_its_mean_and_error() -> None:
    """The mean difference with its error by Student's t: over many pairs a wide spread around 0 is no objection."""
    assert overhead_bound(np.array([math.nan, math.nan])) is None
    assert overhead_bound(np.array([math.nan, -0.002])) == 0.002
    assert overhead_bound(np.full(10, -0.001)) == pytest.approx(0.001)
    few = overhead_bound(np.array([0.0, 1, 2, 3, 4, 5]))
    assert few == pytest.approx(2.5 + 2.5705818356363146 * math.sqrt(3.5 / 6))
    spread = np.random.default_rng(0).normal(0, 0.001, 5_000)
    many = overhead_bound(spread)
    assert many is not None
    assert many < 0.0001


@pytest.mark.parametrize(("verdicts", "each"), [(0, 0.95), (1, 0.95), (3, 1 - 0.05 / 3), (10, 0.995)])
def test_simultaneous(verdicts: int, each: float) -> None:
    """Several intervals share the 5 % that all of them together may miss."""
    assert simultaneous(verdicts) == pytest.approx(each)


@given(st.floats(-50, 50))
def test_from_log_inverts(value: float) -> None:
    """A negative logarithm gives exactly the inverse."""
    assert from_log(-abs(value)) == 1 / from_log(abs(value))
