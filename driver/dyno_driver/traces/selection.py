"""Which requests of a trace are sent, and when each is due. Pure; a trace may be longer than the memory."""

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .shapes import Request

_NS = 1_000_000_000


class Window(NamedTuple):
    """A part of a trace, in s after its first request: from `begin_s` on, before `end_s`. None: to the trace's end."""

    begin_s: float
    end_s: float | None


def selected(requests: Iterable[Request], first_ns: int, window: Window | None, count: int | None) -> list[Request]:
    """The first `count` requests in the window (None: all), in order of time. Those of one moment stay in their order.

    `first_ns` is when the trace's first request came.
    """
    if window is not None:
        begin_ns = first_ns + round(window.begin_s * _NS)
        end_ns = None if window.end_s is None else first_ns + round(window.end_s * _NS)
        requests = (each for each in requests if begin_ns <= each.at_ns and (end_ns is None or each.at_ns < end_ns))
    if count is None:
        return sorted(requests, key=_order)
    return heapq.nsmallest(count, requests, key=_order)


def due_s(requests: Sequence[Request], speed: float) -> tuple[float, ...]:
    """When each is due, in s after the first one; at twice the speed in half the time."""
    return tuple((each.at_ns - requests[0].at_ns) / _NS / speed for each in requests)


def _order(request: Request) -> tuple[int, int]:
    return request.at_ns, request.number
