"""Workloads: which request follows which. Pure: no clock, no I/O; the same arguments give the same schedule."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple, get_args

Order = Literal["alternate", "random"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)

# A warm-up asks something of its own: one of the measured prompts would find its prefix in the endpoint's cache.
WARMUP_PROMPT_ID: Final = "warm-up"


class Turn(NamedTuple):
    """One request to be sent."""

    endpoint: str
    prompt_id: str
    repeat: int  # from 1
    warmup: bool


def single(
    endpoints: Sequence[str], prompt_ids: Sequence[str], *, repeats: int, warmups: int, order: Order, seed: int
) -> list[Turn]:
    """One request at a time, each prompt to every endpoint one right after the other.

    So what drifts (a noisy network, a neighbour's load) meets all endpoints alike, and who goes first is balanced:
    after any number of prompts no endpoint was first more than once oftener than another. With several
    `repeats` the whole set is asked again, not each prompt twice in a row, and under 'alternate' another endpoint
    opens each prompt. `seed` counts under 'random' alone. Warm-ups come before everything.
    """
    opening = _ORDERS[order](len(endpoints), len(prompt_ids), seed)
    turns = [
        Turn(endpoint, WARMUP_PROMPT_ID, repeat, warmup=True)
        for repeat in range(1, warmups + 1)
        for endpoint in endpoints
    ]
    for repeat in range(1, repeats + 1):
        for prompt_id in prompt_ids:
            turns += [Turn(endpoints[place], prompt_id, repeat, warmup=False) for place in next(opening)]
    return turns


WORKLOADS: Final[dict[str, Callable[..., list[Turn]]]] = {"single": single}


def _alternate(endpoints: int, prompts: int, _seed: int) -> Iterator[list[int]]:
    """Rotations in turn; a repeat starts one further, so an even number of prompts doesn't fix who opens which."""
    places = list(range(endpoints))
    repeat = 0
    while True:
        for prompt in range(prompts):
            first = (prompt + repeat) % endpoints
            yield places[first:] + places[:first]
        repeat += 1


def _random(endpoints: int, _prompts: int, seed: int) -> Iterator[list[int]]:
    """Permuted blocks: within each, every endpoint opens once, in a drawn order, and the rest follow as drawn.

    Free coin flips would leave one endpoint first in 8 of 10 pairs in every ninth run.
    """
    draw = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    while True:
        for first in draw.sample(range(endpoints), endpoints):
            rest = [place for place in range(endpoints) if place != first]
            draw.shuffle(rest)
            yield [first, *rest]


_ORDERS: Final[dict[Order, Callable[[int, int, int], Iterator[list[int]]]]] = {
    "alternate": _alternate,
    "random": _random,
}
