"""What an endpoint must do under a load: the grammar of --slo, and what answers show of it."""

import re
from statistics import fmean

import pytest

from dyno_driver.load.course import Result
from dyno_driver.load.distributions import share_bounds
from dyno_driver.load.schedule import Load
from dyno_driver.load.settled import settled_from
from dyno_driver.load.slo import KNOWN, Slo, answers_needed, read_slos, standing
from rigs.queue_model import seeded

LOAD = Load(8)


def answers(latencies_s: list[float | None]) -> list[Result]:
    """Answers that took so long, one after the other; None is a failure."""
    return [
        Result("a", str(number), 1, False, LOAD, float(number), took_s is not None, took_s)
        for number, took_s in enumerate(latencies_s)
    ]


def slo(text: str) -> Slo:
    (one,) = read_slos(text)
    return one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft_p95=2s", ("ttft", 2.0, 0.05)),
        ("tpot_p50=50ms", ("tpot", 0.05, 0.5)),
        ("itl_p99=0.1s", ("itl", 0.1, 0.01)),
        ("latency_mean=1.5s", ("latency", 1.5, None)),
        ("error_rate=1%", ("failed", 0.0, 0.01)),
        ("success=99.5%", ("failed", 0.0, 0.005)),
    ],
)
def test_the_grammar(text: str, expected: tuple[str, float, float | None]) -> None:
    """Each figure has its limit, in s, and the share of requests that may miss it."""
    found = slo(text)
    assert (found.name, found.figure) == (text, expected[0])
    assert found.limit_s == pytest.approx(expected[1])
    assert found.misses == pytest.approx(expected[2]) if expected[2] is not None else found.misses is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttft_p94=2s", "unknown figure 'ttft_p94'; there are ttft_p50, "),
        ("ttfb_p95=2s", "unknown figure 'ttfb_p95'"),
        ("ttft=2s", "unknown figure 'ttft'"),
        ("", "unknown figure ''"),
        ("ttft_p95=2s,", "unknown figure ''"),
        ("ttft_p95", "'ttft_p95' must be ttft_p95= and a number above 0 with its unit, such as ttft_p95=2s or 50ms"),
        ("ttft_p95=2", "with its unit"),
        ("ttft_p95=2m", "with its unit"),
        ("ttft_p95=2%", "with its unit"),
        ("ttft_p95=0s", "a number above 0"),
        ("ttft_p95=-1s", "a number above 0"),
        ("ttft_p95=nans", "a number above 0"),
        ("error_rate=1", "such as error_rate=1%"),
        ("success=100%", "such as success=99%"),
        ("success=2s", "such as success=99%"),
    ],
)
def test_another_text_is_refused(text: str, says: str) -> None:
    """What isn't an SLO is said with what there is, or what is missing."""
    with pytest.raises(ValueError, match=re.escape(says)):
        read_slos(text)


def test_every_known_figure_is_read() -> None:
    """Each figure that the error names can be given."""
    for name in KNOWN:
        unit = "%" if name in ("error_rate", "success") else "ms"
        assert slo(f"{name}=50{unit}").name.startswith(name)


def test_answers_without_a_miss_show_it() -> None:
    """So many answers as are needed show an SLO; one less doesn't, and a figure that nobody has shows nothing."""
    for text in ("latency_p95=1s", "latency_p99=1s", "error_rate=1%"):
        needed = answers_needed(slo(text), 0.0025)
        enough, short = (standing(slo(text), answers([0.5] * number), 0.0025) for number in (needed, needed - 1))
        assert enough is not None
        assert short is not None
        assert enough.high <= slo(text).target < short.high
    assert standing(slo("tpot_p95=1s"), answers([0.5] * 10), 0.0025) is None


def test_a_failure_is_a_miss() -> None:
    """A request that failed misses every SLO of a quantile."""
    found = standing(slo("latency_p50=1s"), answers([0.5, None] * 50), 0.0025)
    assert found is not None
    assert found.value == 0.5


def test_answers_that_resemble_their_neighbours_are_worth_less() -> None:
    """Misses in a row, as a queue makes them, leave wider bounds than as many that are strewn."""
    rng = seeded(1)
    row = [2.0 if 40 <= number < 80 else 0.5 for number in range(200)]
    strewn = rng.sample(row, len(row))
    wide, narrow = (standing(slo("latency_p90=1s"), answers([*each]), 0.0025) for each in (row, strewn))
    assert wide is not None
    assert narrow is not None
    assert wide.value == narrow.value == 0.2
    assert wide.low < narrow.low
    assert wide.high > narrow.high


def test_times_far_within_the_limit_are_all_worth_something() -> None:
    """Times that drift a little, far below the limit, show as much as steady ones; near the limit they show less."""
    drifting = [0.100 + 0.0001 * number / 200 for number in range(200)]
    far, near = (
        standing(slo(text), answers([*drifting]), 0.0025) for text in ("latency_p90=1s", "latency_p90=100.1ms")
    )
    assert far is not None
    assert near is not None
    assert far.high < 0.05
    assert near.high > 0.2


def test_the_bounds_of_a_share() -> None:
    """Clopper and Pearson's bounds, as tables have them; of none and of all, one end is 0 or 1."""
    assert share_bounds(5, 100, 0.025) == pytest.approx((0.016432, 0.112835), abs=1e-6)
    assert share_bounds(0, 20, 0.05) == pytest.approx((0.0, 1 - 0.05 ** (1 / 20)))
    assert share_bounds(20, 20, 0.05) == pytest.approx((0.05 ** (1 / 20), 1.0))


def test_a_mean_has_bounds_too() -> None:
    """A mean's bounds hold it, and few answers have none."""
    rng = seeded(2)
    values = [rng.lognormvariate(0, 0.5) for _ in range(200)]
    found = standing(slo("latency_mean=1s"), answers([*values]), 0.0025)
    assert found is not None
    assert found.low < fmean(values) < found.high
    few = standing(slo("latency_mean=1s"), answers([0.1] * 3), 0.0025)
    assert few is not None
    assert few.high > 1


def test_what_settles() -> None:
    """A level series has settled from its beginning, one with a slow start from its end on, one that grows hasn't."""
    rng = seeded(3)
    level = [1 + rng.gauss(0, 0.1) for _ in range(100)]
    start = [5.0 - number / 5 for number in range(20)]
    assert settled_from(level[:19]) is None
    assert settled_from([1.0] * 20) == 0
    assert (settled_from(level) or 0) <= 50
    assert 15 <= (settled_from(start + level) or 0) <= 40
    assert settled_from([number / 10 for number in range(100)]) is None
