"""Loads that are held: for so long, until their figures have settled, and no longer than that takes."""

from collections import Counter
from pathlib import Path

import pytest

from dyno_driver.load.arrivals import CONSTANT
from dyno_driver.load.course import Result
from dyno_driver.load.holding import HeldCourse, Stretch
from dyno_driver.load.schedule import Asked, Interleave, Load, Shape, Turn
from rigs.driven import drive
from rigs.fake_proxy import fake_proxy
from rigs.queue_model import Draw, Model, Taken, seeded

from .test_workloads import Slow, prompt_file


def held(
    loads: tuple[Load, ...],
    prompts: int,
    hold_s: float,
    interleave: Interleave | None = None,
    **endpoints: tuple[int, Draw],
) -> tuple[HeldCourse, Model]:
    ids = [[f"{number}.{prompt}" for prompt in range(prompts)] for number in range(len(loads))]
    asked = Asked(tuple(endpoints), ids, 1, 0, "alternate", 1)
    course = HeldCourse(Shape(loads, interleave, CONSTANT), asked, hold_s)
    model = Model(endpoints)
    model.play(course)
    return course, model


def steady(took_s: float, seed: int = 1) -> tuple[int, Draw]:
    rng = seeded(seed)
    return 10**6, lambda _: Taken(took_s * rng.uniform(0.9, 1.1))


def counted(model: Model, endpoint: str) -> list[Turn]:
    return [turn for turn in model.sent if turn.endpoint == endpoint and not turn.warmup]


@pytest.mark.parametrize("interleave", [None, "block", "parallel", "whole"])
@pytest.mark.parametrize("load", [Load(4), Load(None, 20.0)], ids=["closed", "open"])
def test_a_load_is_held_for_its_time(load: Load, interleave: Interleave | None) -> None:
    """Each stretch lasts at least as long as asked for, also with few prompts; it ends soon where all is steady."""
    course, model = held((load,), 5, 6.0, interleave, a=steady(0.2, 1), b=steady(0.1, 2))
    stretches = course.found()["stretches"]
    assert {name for stretch in stretches for name in stretch["endpoints"]} == {"a", "b"}
    assert all(6.0 <= stretch["held_s"] < 9.0 and stretch["settled"] for stretch in stretches)
    assert all(stretch["requests"] >= 80 for stretch in stretches)
    assert course.said() == ()
    for name in "ab":
        asked = Counter((turn.prompt_id, turn.repeat) for turn in counted(model, name))
        assert set(asked.values()) == {1}


def test_pairs_are_held_together() -> None:
    """One at a time, each prompt still goes to every endpoint, one right after the other."""
    course, _ = held((Load(1),), 5, 20.0, a=steady(0.2, 1), b=steady(0.1, 2))
    (stretch,) = course.found()["stretches"]
    assert stretch["endpoints"] == ["a", "b"]
    assert stretch["held_s"] >= 20.0


def test_all_prompts_are_asked() -> None:
    """A load that settles at once still asks every prompt of its own at each endpoint."""
    _, model = held((Load(2), Load(4)), 200, 0.1, a=steady(0.01, 1), b=steady(0.01, 2))
    for name in "ab":
        assert len({turn.prompt_id for turn in counted(model, name)}) == 400


def test_a_load_that_never_settles_ends_and_is_named() -> None:
    """An endpoint that can't bear the rate has a line that grows: it is held five times as long, and named."""
    course, _ = held((Load(None, 20.0),), 5, 4.0, a=(1, lambda _: Taken(0.1)))
    (stretch,) = course.found()["stretches"]
    assert not stretch["settled"]
    assert 20.0 <= stretch["held_s"] < 22.0
    assert course.said() == ["Figures that hadn't settled within 20 s: a with 20 a second."]


def test_what_is_over_stays_over() -> None:
    """A stretch that was over once asks for nothing more."""
    stretch = Stretch(["a"], Load(4), 1.0, 1)
    for number in range(100):
        stretch.heard(Result("a", "x", number, False, Load(4), number / 10, True, 0.1))
    assert stretch.over()
    held_s = stretch.held_s
    for number in range(100):
        stretch.heard(Result("a", "x", number, False, Load(4), 10 + number, True, float(number)))
    assert stretch.over()
    assert stretch.held_s == held_s


async def test_a_real_hold(tmp_path: Path) -> None:
    """`--hold` goes on after the prompts have been asked: the load stays, and each request has a repeat of its own."""
    metis = Slow(0.02)
    async with fake_proxy({"metis": metis}) as proxy:
        prompts = prompt_file(tmp_path, 10)
        done = await drive(proxy, tmp_path, "--prompts", prompts, "--concurrency", "5", "--hold", "0.6")
    assert done.code == 0, done.err
    assert metis.most == 5
    course = done.record["course"]
    assert (course["kind"], course["hold_s"]) == ("held", 0.6)
    assert all(stretch["held_s"] >= 0.6 and stretch["requests"] > 10 for stretch in course["stretches"])


async def test_an_open_loop_is_held(tmp_path: Path) -> None:
    """Under --rate a hold goes on at the same rate, until its time has passed."""
    async with fake_proxy({"metis": Slow(0.01)}) as proxy:
        prompts = prompt_file(tmp_path, 5)
        flags = ("--rate", "50", "--arrivals", "constant", "--hold", "1")
        done = await drive(proxy, tmp_path, "--prompts", prompts, *flags)
    assert done.code == 0, done.err
    (stretch,) = done.record["course"]["stretches"]
    assert 1.0 <= stretch["held_s"] <= 5.5
    assert stretch["requests"] >= 40
