"""The order in which a run's requests are sent, and the load that each part of it offers. Pure: the same arguments give
the same schedule.

    run ─▶ phases, one after the other ─▶ lanes, side by side ─▶ groups ─▶ turns, one after the other
"""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple, get_args

from .arrivals import POISSON, Arrivals, due_times_s

Order = Literal["alternate", "random"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)
Interleave = Literal["pair", "block", "parallel", "whole"]
INTERLEAVES: Final[tuple[Interleave, ...]] = get_args(Interleave)

# A warm-up has a prompt of its own. A measured prompt would later find its prefix in the endpoint's cache.
WARMUP_PROMPT_ID: Final = "warm-up"

_BLOCKS: Final = 4  # how often each endpoint has its turn under one load, if there are enough prompts
_BLOCK_OF_LOADS: Final = 4  # a block has at least so many requests for each that is open at once
_RAMP_SHARE: Final = 0.1  # of an open loop's requests, sent before those that count


class Load(NamedTuple):
    """What is offered: `concurrency` requests open at once (a closed loop), or `rate_per_s` new ones (an open loop).

    Exactly one of the two fields is set. `all_at_once`: as many are open as there are prompts. `ramp`: the rate goes
    from the first value to the second, and `rate_per_s` is their mean.
    """

    concurrency: int | None
    rate_per_s: float | None = None
    all_at_once: bool = False
    ramp: tuple[float, float] | None = None

    def in_words(self) -> str:
        """What a person reads: `8 at once`."""
        if self.all_at_once:
            return "all at once"
        if self.ramp is not None:
            return f"{self.ramp[0]:g} to {self.ramp[1]:g} a second"
        if self.rate_per_s is not None:
            return f"{self.rate_per_s:g} a second"
        return "one at a time" if self.concurrency == 1 else f"{self.concurrency} at once"


ONE_AT_A_TIME: Final = Load(1)


class Turn(NamedTuple):
    """One request to be sent."""

    endpoint: str
    prompt_id: str
    repeat: int  # from 1
    warmup: bool
    load: Load = ONE_AT_A_TIME
    due_s: float | None = None  # after its phase begins; None in a closed loop
    chain: str | None = None  # the conversation that it is a turn of

    @property
    def filler(self) -> bool:
        """Whether it is sent only so that others meet the whole load."""
        return self.warmup and self.load != ONE_AT_A_TIME


Group = tuple[Turn, ...]


class Lane(NamedTuple):
    """Requests that share one load.

    `ramp` and `drain` are sent before and after those that count, so that all that count meet the whole load. They are
    flagged as warm-ups. Of `drain` no more is sent than is needed. `over` is asked before each of the groups: True ends
    them. None: all are sent.
    """

    groups: tuple[Group, ...]
    ramp: tuple[Turn, ...] = ()
    drain: tuple[Turn, ...] = ()
    over: Callable[[], bool] | None = None


class Phase(NamedTuple):
    """A part of the run under one load. It ends when its last answer has come. `pause_s` passes before it begins."""

    load: Load
    lanes: tuple[Lane, ...]
    pause_s: float = 0.0

    def turns(self) -> list[Turn]:
        """The requests that count."""
        return [turn for lane in self.lanes for group in lane.groups for turn in group]


class Shape(NamedTuple):
    """The shape of a run's traffic: its loads, in turn; how endpoints take turns under each; the times of open loops.

    pair: each prompt goes to every endpoint, one right after the other, so anything that drifts (a noisy network, a
    neighbour's load) meets all alike. block: a part of the prompts to one endpoint, then to the next, and so on, so
    that each really holds its load. parallel: to all at once, each under the whole load. whole: all to one, then all
    to the next. None: pair for one request at a time, parallel for an open loop, whole if all come at once, else block.
    """

    loads: tuple[Load, ...] = (ONE_AT_A_TIME,)
    interleave: Interleave | None = None
    arrivals: Arrivals = POISSON
    pause_s: float = 0.0  # between blocks


class Asked(NamedTuple):
    """What is asked: `prompt_ids` of each load, `repeats` times; `warmups` requests to each endpoint before."""

    endpoints: Sequence[str]
    prompt_ids: Sequence[Sequence[str]]
    repeats: int
    warmups: int
    order: Order
    seed: int


def plan(shape: Shape, asked: Asked) -> list[Phase]:
    """The phases of a run. Warm-ups come before everything.

    Going first is balanced: after any number of prompts (of blocks), no endpoint has been first more than once oftener
    than another. With several repeats the whole set is asked again; no prompt is asked twice in a row. Under
    'alternate', another endpoint then goes first on each prompt. The seed is used under 'random', and for due times.
    """
    opening = openings(asked)
    phases: list[Phase] = []
    for number, (load, prompt_ids) in enumerate(zip(shape.loads, asked.prompt_ids, strict=True)):
        # Where loads share their prompts, a later one's are repeats.
        first = 1 + asked.repeats * sum(earlier == prompt_ids for earlier in asked.prompt_ids[:number])
        repeats = range(first, first + asked.repeats)
        questions = [(prompt_id, repeat) for repeat in repeats for prompt_id in prompt_ids]
        if load.all_at_once:
            load = load._replace(concurrency=len(questions))
        phases += phases_under(load, shape, asked, questions, opening)
    phases[0] = phases[0]._replace(pause_s=0.0)  # pauses are between blocks
    return [*warmup_phases(asked), *phases]


def how_interleaved(shape: Shape, load: Load) -> Interleave:
    """How the endpoints take turns under this load."""
    if shape.interleave is not None:
        return shape.interleave
    if load.rate_per_s is not None:
        return "parallel"
    if load.all_at_once:
        return "whole"
    return "pair" if load.concurrency == 1 else "block"


def openings(asked: Asked) -> Iterator[list[int]]:
    """Without end: the order of the endpoints' places, for each group (each block) in turn."""
    return _ORDERS[asked.order](len(asked.endpoints), len(asked.prompt_ids[0]), asked.seed)


def warmup_phases(asked: Asked) -> list[Phase]:
    """What is sent before everything: one phase, or none."""
    if not asked.warmups:
        return []
    turns = [
        (Turn(endpoint, WARMUP_PROMPT_ID, repeat, warmup=True),)
        for repeat in range(1, asked.warmups + 1)
        for endpoint in asked.endpoints
    ]
    return [Phase(ONE_AT_A_TIME, (Lane(tuple(turns)),))]


def phases_under(
    load: Load, shape: Shape, asked: Asked, questions: list[tuple[str, int]], opening: Iterator[list[int]]
) -> Iterator[Phase]:
    """The phases in which these questions (a prompt and its repeat) are asked under one load."""
    how = how_interleaved(shape, load)
    if how == "pair":
        groups = tuple(
            tuple(Turn(asked.endpoints[place], *question, warmup=False, load=load) for place in next(opening))
            for question in questions
        )
        yield Phase(load, (closed_lane(load, groups),), shape.pause_s)
    elif how == "parallel":
        lanes = (lane_to(endpoint, load, shape, asked, questions, "") for endpoint in asked.endpoints)
        yield Phase(load, tuple(lanes), shape.pause_s)
    else:
        for number, block in enumerate(_blocks(load, questions, 1 if how == "whole" else _BLOCKS)):
            for place in next(opening):
                lane = lane_to(asked.endpoints[place], load, shape, asked, block, str(number))
                yield Phase(load, (lane,), shape.pause_s)


def lane_to(
    endpoint: str,
    load: Load,
    shape: Shape,
    asked: Asked,
    questions: Sequence[tuple[str, int]],
    block: str,
    ramp: int | None = None,
) -> Lane:
    """A lane of one endpoint. In an open loop each endpoint's requests are due at the same times as another's, and
    `ramp` requests come before those that count; None: a tenth of them.
    """
    turns = [Turn(endpoint, *question, warmup=False, load=load) for question in questions]
    if load.rate_per_s is None:
        return closed_lane(load, tuple((turn,) for turn in turns))
    seed = f"{asked.seed} {load.rate_per_s!r} {block}"
    if shape.arrivals.series is not None or load.ramp is not None:
        # The rate is meant to change: no other requests before and after may blur that.
        times_s = due_times_s(shape.arrivals, load.rate_per_s, len(turns), seed, load.ramp)
        return Lane(tuple((turn._replace(due_s=at_s),) for turn, at_s in zip(turns, times_s, strict=True)))
    before = max(1, round(_RAMP_SHARE * len(turns))) if ramp is None else ramp
    due_s = iter(due_times_s(shape.arrivals, load.rate_per_s, before + 2 * len(turns), seed))
    filling = [_filler(turns[0], WARMUP_PROMPT_ID)._replace(due_s=next(due_s)) for _ in range(before)]
    counted = [(turn._replace(due_s=next(due_s)),) for turn in turns]
    drain = [_filler(turn)._replace(due_s=at_s) for turn, at_s in zip(turns, due_s, strict=True)]
    return Lane(tuple(counted), tuple(filling), tuple(drain))


def closed_lane(load: Load, groups: tuple[Group, ...]) -> Lane:
    """A lane of a closed loop. One request at a time needs no ramp, and all at once is nothing but one."""
    if load.all_at_once or load.concurrency is None or load.concurrency == 1:
        return Lane(groups)
    members = [group[number % len(group)] for number, group in enumerate(groups)]
    # Prompts that are still to be asked must not be in an endpoint's cache. At the end all have been asked.
    ramp = [_filler(members[number % len(members)], WARMUP_PROMPT_ID) for number in range(load.concurrency)]
    return Lane(groups, tuple(ramp), tuple(map(_filler, members)))


def _filler(turn: Turn, prompt_id: str | None = None) -> Turn:
    return turn._replace(prompt_id=prompt_id or turn.prompt_id, warmup=True)


def _blocks(load: Load, questions: list[tuple[str, int]], most: int) -> list[list[tuple[str, int]]]:
    """The questions in at most `most` parts of nearly equal size."""
    least = _BLOCK_OF_LOADS * (load.concurrency or 1)
    number = min(most, max(1, len(questions) // least))
    bounds = [len(questions) * part // number for part in range(number + 1)]
    return [questions[begin:end] for begin, end in pairwise(bounds)]


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
