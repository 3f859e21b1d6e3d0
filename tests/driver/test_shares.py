from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.load.arrivals import CONSTANT, POISSON, Arrivals
from dyno_driver.load.schedule import Asked, Interleave, Load, Phase, Shape, Turn, plan
from dyno_driver.load.shares import part, share

OF = st.integers(1, 7)


def planned(load: Load, interleave: Interleave | None, prompts: int, arrivals: Arrivals = POISSON) -> list[Phase]:
    ids = [str(number) for number in range(prompts)]
    return plan(Shape((load,), interleave, arrivals), Asked(["a", "b"], [ids], 2, 1, "alternate", 7))


def every(phase: Phase | None) -> list[Turn]:
    lanes = phase.lanes if phase is not None else ()
    return [turn for lane in lanes for turn in (*lane.ramp, *(t for group in lane.groups for t in group), *lane.drain)]


@given(OF, st.integers(1, 60), st.sampled_from([CONSTANT, POISSON, Arrivals("gamma:3", 3.0)]))
def test_the_shares_of_an_open_loop_are_the_whole(of: int, prompts: int, arrivals: Arrivals) -> None:
    """All senders together send exactly the single schedule: the same requests, at the same times, each once."""
    for phase in planned(Load(None, 10.0), None, prompts, arrivals):
        shares = [share(phase, number, of) for number in range(of)]
        assert Counter(turn for each in shares for turn in every(each)) == Counter(every(phase))


@given(OF, st.integers(4, 80))
def test_the_shares_of_an_open_loop_take_turns(of: int, prompts: int) -> None:
    """At every time the senders have sent equally much, but for one request."""
    phase = planned(Load(None, 10.0), "whole", prompts)[-1]
    whole = every(phase)
    senders = [{*every(share(phase, number, of))} for number in range(of)]
    for end in range(0, len(whole), 5):
        sent = [sum(turn in own for turn in whole[:end]) for own in senders]
        assert max(sent) - min(sent) <= 1


@given(OF, st.integers(1, 40), st.integers(1, 60), st.sampled_from(["block", "parallel", "whole"]))
def test_each_holds_its_part_of_a_closed_loop(of: int, concurrency: int, prompts: int, how: Interleave) -> None:
    """The parts' sum is the load, each request that counts is sent once, and a part without clients sends nothing."""
    for phase in planned(Load(concurrency), how, prompts):
        shares = [each for number in range(of) if (each := share(phase, number, of)) is not None]
        held = phase.load.concurrency or 0
        assert sum(each.load.concurrency or 0 for each in shares) <= held
        if len(phase.lanes[0].groups) >= held:
            assert sum(each.load.concurrency or 0 for each in shares) == held
        assert Counter(turn for each in shares for turn in each.turns()) == Counter(phase.turns())
        assert {turn.load for each in shares for turn in each.turns()} == {turn.load for turn in phase.turns()}


@given(OF, st.integers(0, 1000))
def test_parts(of: int, whole: int) -> None:
    """Parts follow each other, differ by one at most, and are the whole together."""
    parts = [part(whole, number, of) for number in range(of)]
    assert sum(size for _, size in parts) == whole
    assert max(size for _, size in parts) - min(size for _, size in parts) <= 1
    assert [first for first, _ in parts] == [sum(size for _, size in parts[:number]) for number in range(of)]


def test_one_sender_has_the_whole() -> None:
    """Nothing changes where there is one."""
    for load in (Load(1), Load(6), Load(None, 3.0), Load(None, all_at_once=True)):
        for phase in planned(load, None, 20):
            assert share(phase, 0, 1) == phase


def test_due_times_stay_in_order() -> None:
    """Each sender's requests are in the order in which they are due."""
    phase = planned(Load(None, 10.0), "whole", 40)[-1]
    for number in range(3):
        due_s = [turn.due_s or 0.0 for turn in every(share(phase, number, 3))]
        assert due_s == sorted(due_s)
