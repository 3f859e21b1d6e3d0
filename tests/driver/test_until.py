"""Runs that end early: the looks, what they share of alpha, and what a run says of its end."""

import asyncio
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from dyno_driver.load.course import Course, Result
from dyno_driver.load.looks import Rule, look_levels, planned_looks, read_rule, stages
from dyno_driver.load.schedule import Asked, Phase, Shape, Turn
from dyno_driver.load.spending import levels, spent
from dyno_driver.load.until import StagedCourse, Until
from rigs.driven import drive
from rigs.fake_proxy import Script, answering, fake_proxy
from verdict_coverage import measure, shapes
from verdict_coverage.sequential import stopped

from .test_workloads import prompt_file

VERDICT, CI = Rule("verdict", None), Rule("ci=5%", 0.05)
TimeOf = Callable[[Turn], float | None]


def course(
    rule: Rule | None, prompts: int, *, repeats: int = 1, blocks: int = 1, names: tuple[str, ...] = ("a", "b")
) -> StagedCourse:
    ids = [str(number) for number in range(prompts)]
    asked = Asked(names, [ids], repeats, 0, "alternate", 1)
    return StagedCourse(Shape(pause_s=3.0), asked, Until(rule, "latency", blocks))


def play(going: Course, time_of: TimeOf) -> list[Phase]:
    """Send the course's phases to endpoints that take so long; None is a failure. Returns the phases."""
    sent = []
    at_s = 0.0
    while (phase := going.next()) is not None:
        sent.append(phase)
        for turn in phase.turns():
            took_s = time_of(turn)
            at_s += took_s or 0.0
            going.heard(
                Result(
                    turn.endpoint, turn.prompt_id, turn.repeat, turn.warmup, turn.load, at_s, took_s is not None, took_s
                )
            )
    return sent


def test_spending_is_the_published_one() -> None:
    """Five equal looks have the bounds that gsDesign and Jennison and Turnbull print for this spending function."""
    shares = (0.2, 0.4, 0.6, 0.8, 1.0)
    found = levels(shares, tuple(spent(share, 0.05) for share in shares))
    bounds = [measure.NORMAL.inv_cdf(1 - level / 2) for level in found]
    assert bounds == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=2e-3)


def test_one_look_is_an_ordinary_test() -> None:
    """Without a look before the end nothing is paid for looking."""
    assert look_levels(VERDICT, [50], 50, 1) == pytest.approx([0.048], abs=1e-9)
    assert look_levels(VERDICT, [50], 50, 3) == pytest.approx([0.016], abs=1e-9)


def test_a_run_that_is_cut_short_spends_what_is_left() -> None:
    """A budget that ends the run before the last planned look leaves its last look all of alpha that is left."""
    early = look_levels(VERDICT, [20, 25, 33], 100, 1)
    last = look_levels(VERDICT, [20, 25, 33], 100, 1, last=True)
    assert early[:2] == last[:2]
    assert last[2] == pytest.approx(0.048, rel=0.01)


@pytest.mark.parametrize("prompts", [6, 20, 21, 100, 1000])
def test_looks_are_planned(prompts: int) -> None:
    """Looks begin at 20 pairs, grow by a quarter at least, and the last one is at the end."""
    parts = stages(prompts, 3)
    assert sum(parts) == 3 * prompts
    upto = np.cumsum(parts)
    looks = [int(upto[stage]) for stage in planned_looks(parts, 1)]
    assert looks[-1] == 3 * prompts
    assert looks[0] >= 20 or len(looks) == 1
    assert all(later >= 1.25 * earlier for earlier, later in pairwise(looks[:-1]))


def given(times: dict[str, shapes.Array]) -> TimeOf:
    """The times of endpoints by prompt."""
    return lambda turn: float(times[turn.endpoint][int(turn.prompt_id)])


@pytest.mark.parametrize("rule", [VERDICT, CI], ids=lambda rule: rule.name)
def test_the_simulation_is_what_the_driver_does(rule: Rule) -> None:
    """What `make coverage` simulates in arrays ends as a real course does: same pairs, same interval, same verdict."""
    rng = np.random.default_rng(5)
    first, second = (shapes.lognormal(0.12)(rng, (12, 60)) for _ in range(2))
    first[::2] *= 1.08
    many = stopped(first, second, rule)
    for run in range(12):
        going = course(rule, 60)
        play(going, given({"a": first[run], "b": second[run]}))
        found = going.found()
        assert found is not None
        look = found["comparisons"][0]["looks"][-1]
        assert look["pairs"] == found["pairs"] == many.pairs[run]
        assert (math.log(look["low"]), math.log(look["high"])) == pytest.approx(
            (many.low[run], many.high[run]), rel=1e-6
        )
        assert (look["said"] != "undecided") == bool(many.verdict[run])
        assert found["ended_by"] == ("rule" if look["ends"] else "budget")


def test_false_verdicts_are_rare() -> None:
    """Identical endpoints end in a verdict in 5 % of the runs; the bound has three standard errors."""
    for name, cells in measure.false_stops(2_000).items():
        assert max(cell for cell in cells if cell is not None) <= 0.066, name


def test_a_narrow_interval_covers() -> None:
    """Runs that end because their interval is narrow hold the truth in nearly 95 %, though they chose when to end."""
    for name, cells in measure.misses_after_ci(2_000).items():
        if "spiky" not in name and "Pareto" not in name:
            assert max(cell for cell in cells if cell is not None) <= 0.075, name


def steady(seed: int, drift: float) -> TimeOf:
    """Times of two identical endpoints that vary by chance, and each from block to block of two repeats."""
    rng = np.random.default_rng(seed)
    effects = {(name, block): rng.normal(0, drift) for name in "ab" for block in range(12)}
    return lambda turn: math.exp(effects[turn.endpoint, (turn.repeat - 1) // 2] + rng.normal(0, 0.2))


def test_identical_endpoints_end_undecided() -> None:
    """Of 100 runs of `steady`, whose endpoints vary alike from block to block, at least 90 end undecided."""
    undecided = 0
    for seed in range(100):
        going = course(VERDICT, 10, repeats=2, blocks=12)
        play(going, steady(seed, drift=0.05))
        found = going.found()
        assert found is not None
        undecided += found["comparisons"][0]["looks"][-1]["said"] == "undecided"
    assert undecided >= 90


def test_a_difference_ends_the_run_early() -> None:
    """A clear difference ends `--until verdict` long before the budget, and the record and the screen say where."""
    rng = np.random.default_rng(1)
    going = course(VERDICT, 400)
    sent = play(going, lambda turn: (1.3 if turn.endpoint == "a" else 1.0) * float(rng.lognormal(0, 0.3)))
    found, said = going.found(), going.said()
    assert found is not None
    assert found["ended_by"] == "rule"
    assert found["pairs"] == sum(len(phase.turns()) for phase in sent) // 2 < 250
    assert found["comparisons"][0]["looks"][-1]["said"] == "second faster"
    assert 0 < found["alpha_spent"] < 0.05
    assert "ended the run at look" in said[0]
    assert "b is faster" in said[1]


def test_the_budget_ends_the_run_otherwise() -> None:
    """Where nothing is found all that was asked for is sent, and the run says that the rule wasn't reached."""
    going = course(CI, 40)
    rng = np.random.default_rng(1)
    sent = play(going, lambda _: float(rng.lognormal(0, 1)))
    assert sum(len(phase.turns()) for phase in sent) == 80
    found = going.found()
    assert found is not None
    assert (found["ended_by"], found["alpha_spent"]) == ("budget", None)
    assert "wasn't reached within the 40 pairs" in going.said()[0]


def test_blocks_are_spread_over_time() -> None:
    """Each block asks everything again under new repeats; pauses are between blocks, and looks begin after six."""
    going = course(VERDICT, 6, repeats=4, blocks=8)
    sent = play(going, lambda _: 1.0)
    assert [phase.pause_s for phase in sent] == [0.0, *[3.0] * 7]
    assert [{turn.repeat for turn in phase.turns()} for phase in sent] == [
        set(range(1 + 4 * block, 5 + 4 * block)) for block in range(8)
    ]
    found = going.found()
    assert found is not None
    assert found["looks_planned"][0] == 6 * 24


def test_variation_between_blocks_is_in_the_interval() -> None:
    """Endpoints that drift from block to block give a wider interval than the prompts of one block would."""
    widths = []
    for drift in (0.0, 0.4):
        going = course(CI, 10, repeats=2, blocks=12)
        play(going, steady(3, drift))
        found = going.found()
        assert found is not None
        look = found["comparisons"][0]["looks"][-1]
        widths.append(math.log(look["high"] / look["low"]))
    assert widths[1] > 2 * widths[0]


def test_failures_have_no_ratio() -> None:
    """A prompt that an endpoint failed has no pair; with too few prompts there is no interval and no early end."""
    going = course(VERDICT, 30)
    play(going, lambda turn: None if turn.endpoint == "a" and int(turn.prompt_id) > 4 else 1.0)
    found = going.found()
    assert found is not None
    assert (found["ended_by"], found["comparisons"][0]["looks"]) == ("budget", [])
    assert "no interval" in going.said()[1]


@pytest.mark.parametrize("text", ["ci", "ci=5", "ci=0%", "ci=-1%", "ci=x%", "verdicts", "", "ci=nan%", "ci=inf%"])
def test_other_rules_are_none(text: str) -> None:
    """A text that is no rule is none; the command says what one looks like."""
    assert read_rule(text) is None


def slow(after_s: float) -> Script:
    """Answers after so many seconds."""

    async def script(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(after_s)
        return await answering("42")(request)

    return script


async def test_a_real_run_ends_early(tmp_path: Path) -> None:
    """`--until verdict` stops sending at its look, and run.json says which."""
    async with fake_proxy({"metis": slow(0.06), "sophia": answering("42")}) as proxy:
        prompts = prompt_file(tmp_path, 200)
        done = await drive(proxy, tmp_path, "--prompts", prompts, "--until", "verdict")
    assert done.code == 0, done.err
    found = done.record["course"]
    assert (found["kind"], found["ended_by"]) == ("until", "rule")
    assert found["pairs"] < 200
    assert found["comparisons"][0]["looks"][-1]["said"] == "second faster"
    assert "sophia is faster" in done.out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--until", "ci=5"), "--until: 'ci=5' must be verdict, or ci=P%"),
        (("--until", "verdict", "-n", "5"), "--until needs an interval, which 5 prompts don't give; ask -n 6 or more"),
        (("--until", "verdict", "--endpoints", "metis"), "--until compares endpoints, and there is one"),
        (("--until", "verdict", "--concurrency", "1,2"), "--until and --blocks take one load"),
        (("--blocks", "0"), "'0' must be a whole number, 1 or more"),
    ],
)
async def test_what_cannot_stop_is_refused(flags: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """A stopping rule that could never be met is one line and exit code 2, before anything is sent."""
    async with fake_proxy({"metis": answering("42"), "sophia": answering("42")}) as proxy:
        done = await drive(proxy, tmp_path, *flags)
    assert (done.code, done.err.count("\n"), proxy.received) == (2, 1, [])
    assert says in done.err
