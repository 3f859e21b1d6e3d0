from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.schedule import ORDERS, WARMUP_PROMPT_ID, Order, Turn, single

NAMES = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=5, unique=True)
PROMPTS = st.lists(st.text("0123456789", min_size=1, max_size=4), min_size=1, max_size=30, unique=True)


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
        assert Counter(turn[1:] for turn in turns if turn.endpoint == endpoint) == expected
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
