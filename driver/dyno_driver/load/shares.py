"""A schedule divided among several senders: processes of one machine, or workers of many. Pure.

In an open loop the shares' schedules together are the whole schedule exactly: the same requests at the same times. In a
closed loop each sender holds its part of the concurrency, and the parts' sum is the whole. Every request is in exactly
one share.
"""

from collections.abc import Sequence
from typing import TypeVar

from .schedule import Lane, Phase

T = TypeVar("T")


def share(phase: Phase, number: int, of: int) -> Phase | None:
    """What the sender `number`, from 0 to `of` - 1, sends of this phase. None: nothing.

    The turns' own `load` stays the whole one, since that is what an endpoint meets. The phase's concurrency is the
    sender's part of it.
    """
    concurrency = phase.load.concurrency
    if concurrency is None:
        lanes = [_of_open(lane, number, of) for lane in phase.lanes]
        load = phase.load
    else:
        first, held = part(concurrency, number, of)
        lanes = [_of_closed(lane, first, held, concurrency) for lane in phase.lanes] if held else []
        load = phase.load._replace(concurrency=held)
    kept = tuple(lane for lane in lanes if any(lane))
    return phase._replace(load=load, lanes=kept) if kept else None


def part(whole: int, number: int, of: int) -> tuple[int, int]:
    """The first place of the sender's part and its size. Parts differ by one at most; together they are the whole."""
    first = whole * number // of
    return first, whole * (number + 1) // of - first


def _of_open(lane: Lane, number: int, of: int) -> Lane:
    """Every `of`-th request, so that all senders have the same rate at every time."""
    begun = len(lane.ramp)
    ended = begun + len(lane.groups)
    return Lane(
        tuple(lane.groups[-(begun - number) % of :: of]),
        tuple(lane.ramp[number::of]),
        tuple(lane.drain[-(ended - number) % of :: of]),
    )


def _of_closed(lane: Lane, first: int, held: int, concurrency: int) -> Lane:
    """What falls to its clients if each of the whole load's clients took every so-many-th request."""
    return Lane(
        _of_clients(lane.groups, first, held, concurrency),
        _of_clients(lane.ramp, first, held, concurrency),
        _of_clients(lane.drain, first, held, concurrency),
    )


def _of_clients(items: Sequence[T], first: int, held: int, concurrency: int) -> tuple[T, ...]:
    return tuple(item for place, item in enumerate(items) if first <= place % concurrency < first + held)
