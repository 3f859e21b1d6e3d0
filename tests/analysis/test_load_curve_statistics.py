"""The statistics of several loads and of claims, held to simulations whose truth is known."""

import heapq
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.stats.binomial import at_least, at_most
from dyno_analysis.stats.highest_load import Limit, highest_load
from dyno_analysis.stats.interval import Interval, simultaneous
from dyno_analysis.stats.isotonic import falling, rising
from dyno_analysis.stats.knee import knee
from dyno_analysis.stats.load_crossings import RatioAt, load_crossings
from dyno_analysis.stats.makespan import makespans
from dyno_analysis.stats.mean_difference import mean_difference, prompts_needed
from dyno_analysis.stats.paired import log_t_interval
from dyno_analysis.stats.spread import Repeats, spread_ratio
from dyno_analysis.stats.throughput import log_error, ratio_interval

LOADS = (1, 8, 32, 64, 128)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=12))
def test_a_monotone_fit(points: list[tuple[float, int]]) -> None:
    """The fit never rises, keeps the weighted mean, leaves a falling row alone, and is the mirror of the rising one."""
    values, weights = (np.asarray(each, dtype=float) for each in zip(*points, strict=True))
    fitted = falling(values, weights)
    assert all(a >= b - 1e-12 for a, b in pairwise(fitted))
    assert float((fitted * weights).sum()) == pytest.approx(float((values * weights).sum()))
    ordered = np.sort(values)[::-1]
    assert falling(ordered, weights) == pytest.approx(ordered)
    assert rising(-values, weights) == pytest.approx(-fitted)


def test_binomial_tails() -> None:
    """The tails are the sums of the binomial's terms."""
    n, share = 40, 0.9
    terms = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    for met in range(n + 1):
        assert at_least(met, n, share) == pytest.approx(sum(terms[met:]))
        assert at_most(met, n, share) == pytest.approx(sum(terms[: met + 1]))


def ratios(seed: int, slope_of_first: float, slope_of_second: float, spread: float = 0.2) -> list[RatioAt]:
    """Two endpoints whose latency is 1 + slope x load; 40 prompts under each load, asked of both."""
    random = np.random.default_rng(seed)
    confidence = simultaneous(len(LOADS))
    found = []
    for load in LOADS:
        first, second = (
            np.log(1 + slope * load) + base + random.normal(0, spread, 40)
            for slope, base in ((slope_of_first, 0.0), (slope_of_second, -0.7))
        )
        held = log_t_interval(first - second, confidence)
        assert held is not None
        ratio = math.exp(float((first - second).mean()))
        found.append(RatioAt(load, ratio, Interval(math.exp(held.low), math.exp(held.high))))
    return found


def test_a_known_crossover_lies_in_its_interval() -> None:
    """Two latencies that cross at a known load: it lies in the interval in at least 19 of 20 seeds."""
    # 1 + x / 100 = (1 + x / 25) e^-0.7
    at = (1 - math.exp(-0.7)) / (math.exp(-0.7) / 25 - 0.01)
    assert 32 < at < 64
    held = 0
    for seed in range(20):
        found = load_crossings(ratios(seed, 0.01, 0.04))
        assert len(found) == 1
        assert found[0].first_larger_below
        held += found[0].interval.holds(at) and found[0].interval.holds(found[0].at)
    assert held >= 19


def test_identical_endpoints_do_not_cross() -> None:
    """Between identical endpoints no crossover is found in at least 95 of 100 seeds."""
    found = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        points = []
        for load in LOADS:
            logs = random.normal(0, 0.4, 12)
            held = log_t_interval(logs, simultaneous(len(LOADS)))
            assert held is not None
            interval = Interval(math.exp(held.low), math.exp(held.high))
            points.append(RatioAt(load, math.exp(float(logs.mean())), interval))
        found += bool(load_crossings(points))
    assert found <= 5


def test_several_crossovers() -> None:
    """A ratio that isn't monotone crosses more than once; a load at which nothing is told lies within an interval."""
    sides = {1: (1.5, 2.5), 2: (0.9, 1.2), 4: (0.4, 0.6), 8: (0.3, 0.5), 16: (1.2, 1.4), 32: None}
    points = [
        RatioAt(load, math.sqrt(ends[0] * ends[1]) if ends else 1.0, Interval(*ends) if ends else None)
        for load, ends in sides.items()
    ]
    found = load_crossings(points)
    assert [(one.interval, one.first_larger_below) for one in found] == [
        (Interval(1, 4), True),
        (Interval(8, 16), False),
    ]
    turned = load_crossings(
        [
            RatioAt(p.load, 1 / p.ratio, Interval(1 / p.interval.high, 1 / p.interval.low) if p.interval else None)
            for p in points
        ]
    )
    assert [one.at for one in turned] == pytest.approx([one.at for one in found])
    assert load_crossings(points[:2]) == load_crossings([]) == []


def kept_by(capacity: float, loads: list[int], n: int, random: np.random.Generator) -> list[int]:
    """How many of n requests keep a limit that exactly 95 % keep at the capacity."""
    shares = [1 / (1 + math.exp(2 * math.log(load / capacity) - math.log(19))) for load in loads]
    return [int(random.binomial(n, share)) for share in shares]


def test_a_known_capacity_lies_in_its_interval() -> None:
    """Two limits that hold up to 10 and up to 25: the interval holds 10 in at least 95 of 100 seeds."""
    loads = [1, 2, 4, 8, 16, 32, 64]
    held = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        limits = [Limit(0.95, kept_by(capacity, loads, 200, random), [200] * 7) for capacity in (10, 25)]
        found = highest_load(loads, limits)
        assert found.interval.holds(found.at)
        held += found.interval.holds(10)
    assert held >= 95


def test_a_search_of_few_requests_a_load() -> None:
    """Many loads of 30 requests each, too few to tell a p95 alone, tell it together: 10 lies in a bounded interval."""
    loads = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24]
    held, bounded = 0, 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        found = highest_load(loads, [Limit(0.95, kept_by(10, loads, 30, random), [30] * len(loads))])
        held += found.interval.holds(10)
        bounded += found.interval.low > 0 and found.interval.high < math.inf
    assert held >= 95
    assert bounded >= 50


def test_the_ends_of_a_capacity() -> None:
    """Nothing is told of too few requests; a limit that all keep, or none, lies beyond what was measured."""
    loads = [1, 8, 64]
    few = highest_load(loads, [Limit(0.95, [20, 20, 20], [20, 20, 20])])
    assert (few.at, few.interval) == (math.inf, Interval(0, math.inf))
    assert highest_load(loads, [Limit(0.95, [80, 80, 80], [80, 80, 80])]).interval == Interval(64, math.inf)
    none = highest_load(loads, [Limit(0.95, [0, 0, 0], [80, 80, 80])])
    assert (none.at, none.interval) == (0, Interval(0, 1))
    step = highest_load(loads, [Limit(0.95, [80, 80, 2], [80, 80, 80])])
    assert step.interval == Interval(8, 64)
    assert 8 <= step.at < 64


def test_the_knee_of_a_limit() -> None:
    """Throughput in proportion up to 24 at once, flat from there on: the interval holds 24 in 17 of 20 seeds."""
    loads, held = np.asarray(LOADS, dtype=float), 0
    for seed in range(20):
        errors = np.full(len(loads), 0.03)
        noise = np.random.default_rng(seed).normal(0, 0.03, len(loads))
        found = knee(loads, 10 * np.minimum(loads, 24) * np.exp(noise), errors, seed)
        held += found is not None and found.interval.holds(24)
    assert held >= 17
    assert knee(loads, 10 * loads**0.8, np.full(5, 0.02), 0) is None
    assert knee(loads[:3], np.asarray([1.0, 8.0, 8.0]), np.full(3, 0.02), 0) is None


def test_throughput_of_identical_endpoints() -> None:
    """Two closed loops of the same prompts and the same speed: the interval misses 1 in about 5 % of the runs."""
    missed = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        tokens = np.asarray(random.poisson(80, 60), dtype=np.float64)
        first_s, second_s = (0.5 + tokens * 0.01 * random.lognormal(0, 0.4, 60) for _ in range(2))
        held = ratio_interval(float(second_s.sum() / first_s.sum()), (tokens, first_s), (tokens, second_s))
        assert held is not None
        missed += not held.holds(1)
    assert missed <= 0.09 * 300
    assert ratio_interval(1.0, (tokens[:5], tokens[:5]), (tokens[:5], tokens[:5])) is None
    assert log_error(np.asarray([10.0]), np.asarray([1.0])) == math.inf


def repeats(values: np.ndarray, blocks: int = 1) -> Repeats:
    """One prompt's values, in so many blocks of equal size."""
    n = len(values)
    return Repeats(values, np.zeros(n, dtype=np.intp), np.arange(n) * blocks // n)


def test_spread_of_identical_endpoints() -> None:
    """The interval of the ratio of spreads misses 1 seldom, also where blocks differ from each other."""
    missed = {1: 0, 12: 0}
    for seed in range(200):
        random = np.random.default_rng(seed)
        for blocks in missed:
            first, second = (
                5 + random.normal(0, 0.3, 120) + np.repeat(random.normal(0, 0.4 * (blocks > 1), blocks), 120 // blocks)
                for _ in range(2)
            )
            found = spread_ratio(repeats(first, blocks), repeats(second, blocks))
            assert found is not None
            missed[blocks] += not found.interval.holds(1)
    assert max(missed.values()) <= 0.1 * 200


def test_a_known_ratio_of_spreads() -> None:
    """The published spreads, 0.311 s against 0.839 s, are told from 60 repeats; prompts' own means don't count."""
    random = np.random.default_rng(1)
    prompts = np.arange(60) % 3
    first, second = (5 * prompts + random.normal(0, spread, 60) for spread in (0.311, 0.839))
    blocks = np.zeros(60, dtype=np.intp)
    found = spread_ratio(Repeats(first, prompts, blocks), Repeats(second, prompts, blocks))
    assert found is not None
    assert found.interval.high < 1
    assert found.interval.holds(0.311 / 0.839)
    assert spread_ratio(repeats(first[:19]), repeats(second)) is None


def test_equal_scores() -> None:
    """All equal scores say little when there are few prompts, and lie within 5 points from some 72 on."""
    for n, within in ((10, False), (60, False), (80, True)):
        held = mean_difference(np.zeros(n))
        assert held is not None
        assert (max(-held.low, held.high) <= 0.05) == within
    assert prompts_needed(np.zeros(10), 0.05) == 72
    assert prompts_needed(np.asarray([1.0, 0.0]), 0.05) is None
    assert mean_difference(np.zeros(1)) is None


def queued(times_s: np.ndarray, servers: int) -> np.ndarray:
    """When each of the requests ends, if so many are served at once."""
    free = [0.0] * servers
    ends = []
    for time_s in times_s:
        end = heapq.heappop(free) + float(time_s)
        heapq.heappush(free, end)
        ends.append(end)
    return np.asarray(ends)


@pytest.mark.parametrize("servers", [1, 64, 300])
def test_one_batch_of_identical_endpoints(servers: int) -> None:
    """One batch on each side: identical endpoints' makespans are told apart in at most 5 % of the runs."""
    missed = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        first, second = (queued(random.lognormal(0, 0.4, 300), servers) for _ in range(2))
        found = makespans([first], [second])
        assert found.interval is not None
        missed += not found.interval.holds(1)
    assert missed <= 3


def test_makespans_that_differ() -> None:
    """Half the servers take twice as long, which one batch of 1,000 tells; three batches tell a tenth."""
    random = np.random.default_rng(3)
    one = makespans([queued(random.lognormal(0, 0.3, 1_000), 32)], [queued(random.lognormal(0, 0.3, 1_000), 64)])
    assert one.interval is not None
    assert 1.3 < one.interval.low < 2 < one.interval.high
    slow, fast = ([queued(random.lognormal(0, 0.1, 300), 30) * factor for _ in range(3)] for factor in (1.1, 1.0))
    three = makespans(slow, fast)
    assert three.interval is not None
    assert three.interval.low > 1
    assert makespans([np.ones(5)], [np.ones(5)]).interval is None
