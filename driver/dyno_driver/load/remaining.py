"""What of a phase is still to be sent, after a part of it was: of a run that is resumed, or ends by a limit. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from .schedule import WARMUP_PROMPT_ID, Lane, Phase, Turn


class Request(NamedTuple):
    """What tells one request of a run from all others that count."""

    endpoint: str
    prompt_id: str
    repeat: int


def request_of(turn: Turn) -> Request:
    """The request that this turn is."""
    return Request(turn.endpoint, turn.prompt_id, turn.repeat)


def remaining(phase: Phase, wanted: Callable[[Turn], bool]) -> Phase | None:
    """The phase with the wanted turns alone; None if there are none.

    They meet the same load as before: a lane's ramp and drain stay. In an open loop the times between its requests
    stay too, and a request that came in between and isn't wanted is a filler.
    """
    turns = phase.turns()
    if all(map(wanted, turns)):
        return phase
    lanes = [
        _open(lane, wanted) if phase.load.rate_per_s is not None else _closed(lane, wanted) for lane in phase.lanes
    ]
    lanes = [lane for lane in lanes if lane.groups]
    return phase._replace(lanes=tuple(lanes)) if lanes else None


def _closed(lane: Lane, wanted: Callable[[Turn], bool]) -> Lane:
    groups = (tuple(filter(wanted, group)) for group in lane.groups)
    return lane._replace(groups=tuple(group for group in groups if group))


def _open(lane: Lane, wanted: Callable[[Turn], bool]) -> Lane:
    turns = [turn for group in lane.groups for turn in group]
    first = next((number for number, turn in enumerate(turns) if wanted(turn)), None)
    if first is None:
        return lane._replace(groups=())
    sooner_s = (turns[first].due_s or 0.0) - (turns[0].due_s or 0.0)

    def moved(turn: Turn) -> Turn:
        turn = turn if turn.warmup or wanted(turn) else turn._replace(prompt_id=WARMUP_PROMPT_ID, warmup=True)
        return turn._replace(due_s=(turn.due_s or 0.0) - sooner_s)

    return lane._replace(
        groups=tuple((moved(turn),) for turn in turns[first:]), drain=tuple(moved(turn) for turn in lane.drain)
    )
