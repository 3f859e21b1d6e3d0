import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.load.arrivals import CONSTANT, POISSON, Arrivals, due_times_s
from dyno_driver.load.schedule import Asked, Load, Shape, plan
from dyno_driver.load.series import Rates, Times, ramped, read_series

TIMES = st.lists(st.floats(0, 1e5), min_size=1, max_size=30).map(sorted).map(tuple)
RATES = st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 50)), min_size=1, max_size=10).filter(
    lambda steps: any(rate > 0.01 for _, rate in steps)
)


@given(TIMES, st.integers(1, 100))
def test_a_series_is_kept_and_begins_again(at_s: tuple[float, ...], count: int) -> None:
    """Requests are due at the file's times; after its end they come again, and never go back."""
    due_s = due_times_s(Arrivals("file", 1.0, Times(at_s)), Times(at_s).rate_per_s, count, "any")
    assert due_s[: len(at_s)] == list(at_s[:count])
    assert len(due_s) == count
    assert all(earlier <= later for earlier, later in pairwise(due_s))


@given(TIMES, st.floats(0.01, 1000))
def test_a_series_is_stretched_to_a_rate(at_s: tuple[float, ...], rate_per_s: float) -> None:
    """Under another mean rate all times are stretched alike."""
    series = Times(at_s)
    due_s = due_times_s(Arrivals("file", 1.0, series), rate_per_s, len(at_s), "any")
    for due, at in zip(due_s, at_s, strict=True):
        assert due * rate_per_s == pytest.approx(at * series.rate_per_s)


@given(RATES, st.integers(1, 300))
def test_a_series_of_rates_has_so_many_in_each_interval(steps: list[tuple[float, float]], count: int) -> None:
    """With constant arrivals each interval has as many requests as its rate says, give or take the one at its edge."""
    begins, rates = [0.0], []
    for length, rate in steps:
        begins.append(begins[-1] + length)
        rates.append(rate)
    series = Rates(tuple(begins[:-1]), tuple(rates))
    due_s = series.stretched([float(number) for number in range(count)])
    assert all(earlier <= later + 1e-9 for earlier, later in pairwise(due_s))
    for begin, (end, rate) in zip(begins[:-2], zip(begins[1:-1], rates[:-1], strict=True), strict=True):
        if due_s[-1] > end:
            inside = sum(begin <= due < end for due in due_s)
            assert inside == pytest.approx(rate * (end - begin), abs=1.001)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.integers(2, 500))
def test_a_ramp_goes_from_one_rate_to_the_other(begin: float, end: float, count: int) -> None:
    """It lasts as long as its mean rate says; the times between requests are 1 / rate, at its beginning and its end."""
    due_s = ramped([float(number) for number in range(count + 1)], begin, end, count)
    assert due_s[0] == 0
    assert due_s[-1] == pytest.approx(2 * count / (begin + end))
    assert all(earlier < later for earlier, later in pairwise(due_s))
    gaps = [later - earlier for earlier, later in pairwise(due_s)]
    rising = sorted(gaps, reverse=begin < end)
    assert gaps == pytest.approx(rising)
    if abs(begin - end) > 0.01 * begin:
        half_s = (math.sqrt((begin**2 + end**2) / 2) - begin) / (end - begin) * due_s[-1]
        assert ramped([count / 2], begin, end, count) == pytest.approx([half_s], rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_ramp_is_poisson_at_each_moment(seed: int) -> None:
    """The first and the last tenth of its time have as many requests as the rate there says, within 4 sigma."""
    due_s = due_times_s(POISSON, 5.5, 5500, str(seed), (1.0, 10.0))
    assert due_s[-1] == pytest.approx(1000, rel=0.1)
    for begin_s, end_s in ((0, 100), (450, 550), (850, 950)):
        expected = (end_s - begin_s) * (1 + 9 * (begin_s + end_s) / 2 / 1000)
        assert sum(begin_s <= due < end_s for due in due_s) == pytest.approx(expected, abs=4 * math.sqrt(expected))


def test_a_changing_rate_has_no_other_requests() -> None:
    """Ramps and series aren't blurred by requests before and after; each endpoint's are due at the same times."""
    for arrivals, load in (
        (Arrivals("file:x", 1.0, Times((0.0, 1.0, 1.0, 4.0))), Load(None, 1.0)),
        (CONSTANT, Load(None, 5.5, ramp=(1.0, 10.0))),
    ):
        [phase] = plan(Shape((load,), None, arrivals), Asked(["a", "b"], [list("1234")], 1, 0, "alternate", 1))
        assert [lane.ramp + lane.drain for lane in phase.lanes] == [(), ()]
        one, two = ([turn.due_s for [turn] in lane.groups] for lane in phase.lanes)
        assert one == two
        assert len(one) == 4


@pytest.mark.parametrize(
    ("content", "series"),
    [
        ("0\n1.5\n3\n", Times((0.0, 1.5, 3.0))),
        ("\ufefftime_s\r\n3\r\n0\r\n\r\n0\r\n", Times((0.0, 0.0, 3.0))),
        ("# a day\ntime_s,rate_per_s\n0,1\n60, 5\n", Rates((0.0, 60.0), (1.0, 5.0))),
        ("60,5\n0,1", Rates((0.0, 60.0), (1.0, 5.0))),
    ],
)
def test_a_file_is_read(content: str, series: Times | Rates) -> None:
    """A file has times, or times with rates, in any order; with a header or without."""
    assert read_series(content) == series


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no times"),
        ("time_s\n", "has no times"),
        ("# nothing\n\n", "has no times"),
        ("1\nnan\n", "line 2: 'nan' must be a number, 0 or more"),
        ("1\n-2\n", "line 2: '-2' must be"),
        ("1\ninf\n", "line 2: 'inf' must be"),
        ("t\n1\nx\n", "line 3: 'x' must be"),
        ("1,2\n3\n", "lines of other shapes"),
        ("1,2,3\n", "lines of other shapes"),
        ("0,1\n0,2\n", "two rates for one time"),
        ("0,0\n5,0\n", "no rate above 0"),
    ],
)
def test_a_file_of_another_form_is_refused(content: str, says: str) -> None:
    """What can't be read is said with its line."""
    with pytest.raises(ValueError, match=says) as error:
        read_series(content)
    assert "\n" not in str(error.value)


def test_a_mean_is_kept() -> None:
    """Poisson arrivals at a series of rates have the series' mean rate, over many rounds of it."""
    series = Rates((0.0, 10.0, 30.0), (0.0, 8.0, 1.0))
    due_s = due_times_s(Arrivals("file", 1.0, series), series.rate_per_s, 5000, "3")
    assert 5000 / due_s[-1] == pytest.approx(series.rate_per_s, rel=4 / math.sqrt(5000))
    assert not any(due % 50 < 9.999 for due in due_s)
    assert statistics.mean(due % 50 for due in due_s) == pytest.approx((160 * 20 + 20 * 40) / 180, rel=0.05)
