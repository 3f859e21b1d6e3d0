"""The highest load that meets an SLO is found: on models of queues first, then at a real server."""

import asyncio
import json
import math
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.load.boundary import Boundary, Bounds, isotonic
from dyno_driver.load.course import Result
from dyno_driver.load.schedule import Asked, Load, Shape
from dyno_driver.load.search import Search, SearchCourse
from dyno_driver.load.slo import read_slos
from rigs.driven import drive
from rigs.fake_proxy import answering, fake_proxy
from rigs.queue_model import Draw, Model, Taken, seeded

from .test_workloads import Slow, prompt_file

SEEDS = 20
AT_ONCE, RATES = Bounds(1, 256, whole=True), Bounds(2, 40, whole=False)


def searched(
    slo: str, bounds: Bounds, seed: int, hold_s: float = 10.0, **endpoints: tuple[int, Draw]
) -> tuple[SearchCourse, Model]:
    """A search over models, to its end."""
    asked = Asked(tuple(endpoints), [[str(number) for number in range(200)]], 1, 0, "alternate", seed)
    course = SearchCourse(Shape(interleave="block"), asked, Search(read_slos(slo), bounds, hold_s))
    model = Model(endpoints)
    model.play(course)
    return course, model


def found(course: SearchCourse, name: str = "a") -> tuple[float | None, float | None, float | None]:
    entry = course.found()["endpoints"][name]
    return entry["load"], entry["low"], entry["high"]


def hits(truth: float, search: Callable[[int], SearchCourse]) -> int:
    """In how many seeds the interval holds the true capacity."""
    intervals = [found(search(seed))[1:] for seed in range(SEEDS)]
    return sum((low or 0.0) <= truth <= (high or math.inf) for low, high in intervals)


def batch(rng: random.Random) -> tuple[int, Draw]:
    """Answers 32 at once; others wait."""
    return 32, lambda _: Taken(0.2 + rng.random() * 0.05, 0.01, 80)


def slowing(rng: random.Random, each: float = 0.02) -> tuple[int, Draw]:
    """Answers all at once, but each further answer makes a token take so much longer."""
    return 10**6, lambda at_once: Taken(0.2, 0.02 * (1 + each * (at_once - 1)) * math.exp(rng.gauss(0, 0.03)), 80)


def test_a_batch_limit_is_found() -> None:
    """Of an endpoint with 32 places the first token waits from 33 on: the interval holds 32 in 17 of 20 seeds."""
    slo = "ttft_p95=255ms"
    assert hits(32, lambda seed: searched(slo, AT_ONCE, seed, a=batch(seeded(seed)))[0]) >= 17


def test_a_slowing_endpoint_is_found() -> None:
    """Where tokens slow down with the load, the load at which their p95 crosses the limit is in the interval."""
    truth = math.floor(1 + (0.05 * math.exp(-1.6449 * 0.03) / 0.02 - 1) / 0.02)
    slo = "tpot_p95=50ms"
    assert (
        hits(truth, lambda seed: searched(slo, Bounds(16, 128, whole=True), seed, 4.0, a=slowing(seeded(seed)))[0])
        >= 17
    )


def test_a_queues_rate_is_found() -> None:
    """One place and exponential times (M/M/1): time in the system is exponential with rate mu - lambda, so the highest
    rate with p95 within the limit is mu - ln(20) / limit. Answers of a queue resemble their neighbours.
    """

    def search(seed: int) -> SearchCourse:
        rng = seeded(seed)
        return searched("latency_p95=500ms", RATES, seed, 6.0, a=(1, lambda _: Taken(rng.expovariate(20.0))))[0]

    assert hits(20 - math.log(20) / 0.5, search) >= 17


def test_equal_endpoints_end_undecided() -> None:
    """Two endpoints with the same capacity are hardly ever told apart; one with twice as much is."""
    told = 0
    for seed in range(10):
        rng = seeded(seed)
        course, _ = searched("ttft_p95=255ms", AT_ONCE, seed, a=batch(rng), b=batch(rng))
        told += "undecided" not in course.said()[-1]
    assert told <= 1
    rng = seeded(1)
    course, _ = searched("ttft_p95=255ms", AT_ONCE, 1, a=batch(rng), b=(64, batch(rng)[1]))
    assert course.said()[-1] == "b bears more load than a."


def test_all_and_none_are_said() -> None:
    """Where every load meets the SLO, or none does, the search says so, with what was tried."""
    rng = seeded(1)
    bounds = Bounds(1, 16, whole=True)
    course, model = searched("ttft_p95=255ms", bounds, 1, 1.0, a=batch(rng))
    assert found(course) == (16, 16, None)
    assert course.said()[1] == "a: all that were tried meet it, up to 16 at once (surely)."
    assert max(turn.load.concurrency or 0 for turn in model.sent) == 16
    course, model = searched("ttft_p95=100ms", bounds, 1, 1.0, a=batch(rng))
    assert found(course)[0] is None
    assert course.said()[1] == "a: none of those that were tried, from one at a time on."
    assert max(turn.load.concurrency or 0 for turn in model.sent) == 1


def test_a_figure_that_nobody_has_ends_the_search() -> None:
    """An SLO on TPOT of answers with one token can't be judged: that is said after the first load."""
    course, model = searched("tpot_p95=50ms", AT_ONCE, 1, 1.0, a=(8, lambda _: Taken(0.1)))
    assert course.said()[1] == "a: its answers say nothing of tpot_p95=50ms."
    assert {turn.load.concurrency for turn in model.sent} == {1}


def test_no_prompt_is_asked_twice_alike() -> None:
    """However often a load is held, no endpoint gets a prompt twice under one repeat."""
    _, model = searched("ttft_p95=255ms", Bounds(1, 64, whole=True), 1, a=batch(seeded(1)))
    counted = [(turn.endpoint, turn.prompt_id, turn.repeat) for turn in model.sent if not turn.warmup]
    assert len(counted) == len(set(counted))


def test_an_slo_that_fails_at_the_lowest_of_several_is_the_bound() -> None:
    """Of several SLOs the one that is crossed first decides."""
    rng = seeded(4)
    first, second = (
        searched(text, AT_ONCE, 1, 4.0, a=slowing(rng))[0]
        for text in ("tpot_p95=30ms", "tpot_p95=30ms,latency_p95=60s")
    )
    assert found(first)[0] == pytest.approx(found(second)[0], rel=0.3)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 100)), min_size=1, max_size=30))
def test_the_fit_rises(points: list[tuple[float, float]]) -> None:
    """The fit never falls, keeps the weighted mean, and leaves values that rise as they are."""
    values, weights = [value for value, _ in points], [weight for _, weight in points]
    fitted = isotonic(values, weights)
    assert all(later >= earlier for earlier, later in pairwise(fitted))
    total = sum(value * weight for value, weight in points)
    assert sum(value * weight for value, weight in zip(fitted, weights, strict=True)) == pytest.approx(total)
    assert isotonic(sorted(values), weights) == sorted(values)


def test_the_next_load_is_where_the_boundary_is_least_certain() -> None:
    """It doubles until a load seems to fail, then lies between the highest that meets and the lowest that doesn't."""
    boundary = Boundary(read_slos("latency_p95=1s"), AT_ONCE)
    tried: list[float] = []
    while (load := boundary.next_load()) is not None and len(tried) < 12:
        tried.append(load)
        took_s = 0.5 if load <= 21 else 2.0
        boundary.visited(load, [Result("a", str(n), 1, False, Load(1), float(n), True, took_s) for n in range(150)])
    assert tried[:6] == [1, 2, 4, 8, 16, 32]
    assert all(16 < load < 32 for load in tried[6:])
    assert boundary.found()[:3] == (21, 21, 21)


class Limited(Slow):
    """Answers so many at once in time; with more, all are slow."""

    def __init__(self, places: int) -> None:
        super().__init__(0.0)
        self._places, self._at_once = places, 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self._at_once += 1
        try:
            await asyncio.sleep(0.02 if self._at_once <= self._places else 0.4)
            return await super().__call__(request)
        finally:
            self._at_once -= 1


async def test_a_real_search(tmp_path: Path) -> None:
    """`--slo` over a range ends with a load for each endpoint, on the screen and in run.json."""
    async with fake_proxy({"metis": Limited(4), "sophia": answering("42")}) as proxy:
        prompts = prompt_file(tmp_path, 50)
        flags = ("--slo", "latency_p90=200ms", "--concurrency", "1..6", "--hold", "0.2")
        done = await drive(proxy, tmp_path, "--prompts", prompts, *flags)
    assert done.code == 0, done.err
    course = done.record["course"]
    assert (course["kind"], course["of"], course["bounds"], course["ended_by"]) == (
        "search",
        "concurrency",
        [1, 6],
        "search",
    )
    assert course["endpoints"]["sophia"]["load"] == 6
    metis = course["endpoints"]["metis"]
    assert metis["low"] <= 4 <= metis["high"] <= 5
    assert [point["load"] for point in metis["points"]] == sorted(point["load"] for point in metis["points"])
    assert "sophia: all that were tried meet it, up to 6 at once" in done.out
    assert json.dumps(course)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--slo", "ttfb_p95=2s"), "--slo: unknown figure 'ttfb_p95'; there are ttft_p50"),
        (("--slo", "ttft_p95=2"), "--slo: 'ttft_p95=2' must be"),
        (("--search", "rate"), "--search needs what the load must meet; give --slo"),
        (("--concurrency", "1..8"), "--concurrency LOW..HIGH is a search's; give --slo"),
        (("--slo", "ttft_p95=2s", "--concurrency", "8..1"), "'8..1' must be LOW..HIGH, the lower load first"),
        (("--slo", "ttft_p95=2s", "--rate", "0..5"), "'0' must be a number of requests a second above 0"),
        (("--slo", "ttft_p95=2s", "--concurrency", "1..x"), "'x' must be a whole number, 1 or more"),
        (("--slo", "ttft_p95=2s", "--no-stream"), "needs streamed answers"),
        (("--slo", "ttft_p95=2s", "--until", "verdict"), "--slo searches, and --until doesn't go with it"),
        (("--slo", "ttft_p95=2s", "--search", "rate"), "--search rate needs its bounds; give them as --rate LOW..HIGH"),
        (("--slo", "ttft_p95=2s", "--concurrency", "1..8", "--search", "rate"), "--search rate takes its bounds from"),
        (("--slo", "ttft_p95=2s", "--concurrency", "all"), "--slo can't search up to 'all'"),
        (("--hold", "0"), "'0' must be a number of seconds above 0"),
        (("--hold", "1", "--concurrency", "all"), "--hold can't hold 'all' at once"),
        (("--hold", "1", "--until", "verdict"), "--hold doesn't go with --until or --blocks"),
    ],
)
async def test_what_cannot_be_searched_is_refused(flags: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """A search that can't be made is one line and exit code 2, before anything is sent."""
    async with fake_proxy({"metis": answering("42"), "sophia": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path, *flags)
    assert (done.code, done.err.count("\n"), proxy.received) == (2, 1, [])
    assert says in done.err
