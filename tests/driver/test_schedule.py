from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.load.arrivals import CONSTANT
from dyno_driver.load.schedule import (
    INTERLEAVES,
    ORDERS,
    WARMUP_PROMPT_ID,
    Asked,
    Interleave,
    Load,
    Order,
    Phase,
    Shape,
    Turn,
    plan,
)

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=5, unique=True)
PROMPTS = st.lists(st.text("0123456789", min_size=1, max_size=4), min_size=1, max_size=30, unique=True)


def single(
    endpoints: list[str], prompts: list[str], *, repeats: int, warmups: int, order: Order, seed: int
) -> list[Turn]:
    """The turns of the workload `single`."""
    phases = plan(Shape(), Asked(endpoints, [prompts], repeats, warmups, order, seed))
    return [turn for phase in phases for turn in phase.turns()]


def firsts(turns: list[Turn], endpoints: int) -> list[str]:
    """The endpoint that was asked first, for each group of requests with one prompt."""
    return [turn.endpoint for turn in turns if not turn.warmup][::endpoints]


@given(NAMES, PROMPTS, st.integers(1, 3), st.integers(0, 3), st.sampled_from(ORDERS), st.integers())
def test_every_endpoint_is_asked_the_same(
    endpoints: list[str], prompts: list[str], repeats: int, warmups: int, order: Order, seed: int
) -> None:
    """Every endpoint gets each prompt once per repeat, one right after the other, and the same warm-ups before all."""
    turns = single(endpoints, prompts, repeats=repeats, warmups=warmups, order=order, seed=seed)
    expected = Counter((prompt, repeat, False) for prompt in prompts for repeat in range(1, repeats + 1))
    expected.update((WARMUP_PROMPT_ID, repeat, True) for repeat in range(1, warmups + 1))
    for endpoint in endpoints:
        assert Counter(turn[1:4] for turn in turns if turn.endpoint == endpoint) == expected
    assert all(turn.warmup for turn in turns[: warmups * len(endpoints)])
    measured = turns[warmups * len(endpoints) :]
    groups = [measured[start : start + len(endpoints)] for start in range(0, len(measured), len(endpoints))]
    assert [group[0].prompt_id for group in groups] == prompts * repeats
    assert all(len({turn[1:] for turn in group}) == 1 for group in groups)


@given(NAMES, PROMPTS, st.sampled_from(ORDERS), st.integers())
def test_who_goes_first_is_balanced(endpoints: list[str], prompts: list[str], order: Order, seed: int) -> None:
    """After any number of prompts no endpoint was first more than once oftener than another."""
    opened = firsts(single(endpoints, prompts, repeats=1, warmups=0, order=order, seed=seed), len(endpoints))
    for end in range(1, len(opened) + 1):
        counts = Counter(opened[:end])
        assert max(counts.values()) - min(counts[endpoint] for endpoint in endpoints) <= 1


@given(NAMES, PROMPTS, st.integers(1, 3), st.integers())
def test_the_same_seed_gives_the_same_schedule(
    endpoints: list[str], prompts: list[str], repeats: int, seed: int
) -> None:
    """A schedule follows from its arguments alone."""
    first, second = (
        single(endpoints, prompts, repeats=repeats, warmups=1, order="random", seed=seed) for _ in range(2)
    )
    assert first == second


def test_seeds_draw_different_orders() -> None:
    """Under 'random' the seed decides which endpoint goes first: different seeds give many different orders."""
    prompts = [str(number) for number in range(10)]
    drawn = {
        tuple(firsts(single(["a", "b"], prompts, repeats=1, warmups=0, order="random", seed=seed), 2))
        for seed in range(50)
    }
    assert len(drawn) > 20


def under(
    load: Load, interleave: Interleave | None, prompts: int, repeats: int = 1, endpoints: tuple[str, ...] = ("a", "b")
) -> list[Phase]:
    ids = [str(number) for number in range(prompts)]
    shape = Shape((load,), interleave, CONSTANT)
    return plan(shape, Asked(endpoints, [ids], repeats, 0, "alternate", 1))


LOADS = st.one_of(
    st.integers(1, 40).map(Load),
    st.floats(0.01, 100).map(lambda rate: Load(None, rate)),
    st.just(Load(None, all_at_once=True)),
)


@given(LOADS, st.sampled_from((None, *INTERLEAVES)), st.integers(1, 60), st.integers(1, 3), st.integers(1, 3))
def test_each_endpoint_gets_each_prompt_under_every_load(
    load: Load, interleave: Interleave | None, prompts: int, repeats: int, endpoints: int
) -> None:
    """However endpoints take turns, each gets each prompt once a repeat that counts; fillers never count."""
    if load != Load(1) and interleave == "pair":
        return  # it is refused
    names = ("a", "b", "c")[:endpoints]
    phases = under(load, interleave, prompts, repeats, names)
    turns = [turn for phase in phases for turn in phase.turns()]
    expected = Counter((str(prompt), repeat) for prompt in range(prompts) for repeat in range(1, repeats + 1))
    for name in names:
        assert Counter(turn[1:3] for turn in turns if turn.endpoint == name) == expected
    assert not any(turn.warmup for turn in turns)
    fillers = [turn for phase in phases for lane in phase.lanes for turn in (*lane.ramp, *lane.drain)]
    assert all(turn.warmup and turn.filler for turn in fillers)


@given(st.integers(2, 40), st.integers(1, 400), st.integers(1, 3))
def test_blocks_alternate(concurrency: int, prompts: int, endpoints: int) -> None:
    """A block belongs to one endpoint, is long enough to hold its load, and no endpoint opens oftener than another."""
    names = ("a", "b", "c")[:endpoints]
    phases = under(Load(concurrency), "block", prompts, endpoints=names)
    owners = [{turn.endpoint for turn in phase.turns()} for phase in phases]
    assert all(len(owner) == 1 for owner in owners)
    sizes = {len(phase.turns()) for phase in phases}
    assert max(sizes) - min(sizes) <= 1
    assert len(phases) == endpoints or min(sizes) >= 4 * concurrency
    opened = Counter(next(iter(owner)) for owner in owners[::endpoints])
    assert max(opened.values()) - min(opened[name] for name in names) <= 1


def test_a_ramp_asks_nothing_that_is_still_to_be_asked() -> None:
    """The requests before those that count have a prompt of their own: a cache must not know what is measured next."""
    [phase, _] = under(Load(8), "block", 30)
    [lane] = phase.lanes
    assert [turn.prompt_id for turn in lane.ramp] == [WARMUP_PROMPT_ID] * 8
    assert [turn.prompt_id for turn in lane.drain] == [turn.prompt_id for turn in phase.turns()]


def test_one_at_a_time_and_all_at_once_have_no_fillers() -> None:
    """One request at a time is at its load at once, and of all at once the end is what is measured."""
    for load in (Load(1), Load(None, all_at_once=True)):
        assert all(lane.ramp == lane.drain == () for phase in under(load, None, 5) for lane in phase.lanes)
    whole, _ = under(Load(None, all_at_once=True), None, 5, repeats=2)
    assert whole.load.concurrency == len(whole.turns()) == 10


def test_open_loops_have_the_same_times_everywhere() -> None:
    """Each endpoint's requests are due at the same times, after a ramp, before as many that fill the end."""
    [phase] = under(Load(None, 2.0), None, 20)
    first, second = ([turn.due_s for (turn,) in lane.groups] for lane in phase.lanes)
    assert first == second == [1.0 + number / 2 for number in range(20)]
    assert [turn.due_s for turn in phase.lanes[0].ramp] == [0.0, 0.5]
    assert [turn.due_s for turn in phase.lanes[0].drain] == [11.0 + number / 2 for number in range(20)]


def test_pauses_are_between_blocks() -> None:
    """There is a pause before each block but the first."""
    shape = Shape((Load(1),), "whole", pause_s=5.0)
    phases = plan(shape, Asked(["a", "b", "c"], [["p"]], 1, 1, "alternate", 0))
    assert [phase.pause_s for phase in phases] == [0.0, 0.0, 5.0, 5.0]


def test_several_loads_come_in_turn() -> None:
    """Each load has the prompts that it is given, and says in each turn what it is."""
    asked = Asked(["a", "b"], [["p"], ["q"]], 1, 1, "alternate", 0)
    warmups, *phases = plan(Shape((Load(1), Load(None, 5.0))), asked)
    assert all(turn.warmup for turn in warmups.turns())
    assert [(phase.load, {turn.prompt_id for turn in phase.turns()}) for phase in phases] == [
        (Load(1), {"p"}),
        (Load(None, 5.0), {"q"}),
    ]
    assert all(turn.load == phase.load for phase in phases for turn in phase.turns())


def test_loads_that_share_prompts_repeat_them() -> None:
    """Under a later load the same prompt is a repeat, so no two requests have the same tags."""
    asked = Asked(["a", "b"], [["p", "q"], ["p", "q"]], 2, 0, "alternate", 0)
    turns = [turn for phase in plan(Shape((Load(1), Load(2))), asked) for turn in phase.turns()]
    assert {(turn.load, turn.repeat) for turn in turns} == {
        *((Load(1), repeat) for repeat in (1, 2)),
        *((Load(2), repeat) for repeat in (3, 4)),
    }
    assert len({turn[:3] for turn in turns}) == len(turns)


def test_alternating_pairs_as_written() -> None:
    """Two endpoints take turns in going first, and the repeat of a prompt is opened by the other."""
    turns = single(["metis", "sophia"], ["p", "q"], repeats=2, warmups=1, order="alternate", seed=0)
    assert turns == [
        Turn("metis", WARMUP_PROMPT_ID, 1, True),
        Turn("sophia", WARMUP_PROMPT_ID, 1, True),
        Turn("metis", "p", 1, False),
        Turn("sophia", "p", 1, False),
        Turn("sophia", "q", 1, False),
        Turn("metis", "q", 1, False),
        Turn("sophia", "p", 2, False),
        Turn("metis", "p", 2, False),
        Turn("metis", "q", 2, False),
        Turn("sophia", "q", 2, False),
    ]
