"""Workloads: the order in which requests are sent. Pure: the same arguments give the same schedule."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, NamedTuple, get_args

Order = Literal["alternate", "random"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)

# A warm-up has a prompt of its own. A measured prompt would later find its prefix in the endpoint's cache.
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
    """The workload `single`: one request at a time, each prompt to every endpoint, one right after the other.

    So anything that drifts (a noisy network, a neighbour's load) meets all endpoints alike. Going first is balanced:
    after any number of prompts, no endpoint has been first more than once oftener than another. With several
    `repeats` the whole set is asked again; no prompt is asked twice in a row. Under 'alternate', another endpoint
    then goes first on each prompt. `seed` is used only under 'random'. Warm-ups come before everything.
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
    """Each order is the last one rotated by one. Each repeat starts one further: otherwise an even number of prompts
    would let the same endpoint go first on a prompt in every repeat.
    """
    places = list(range(endpoints))
    repeat = 0
    while True:
        for prompt in range(prompts):
            first = (prompt + repeat) % endpoints
            yield places[first:] + places[:first]
        repeat += 1


def _random(endpoints: int, _prompts: int, seed: int) -> Iterator[list[int]]:
    """Permuted blocks: within a block each endpoint goes first once, in a drawn order; the others follow as drawn.

    With independent coin flips, one endpoint would go first in at least 8 of 10 pairs in every ninth run.
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
