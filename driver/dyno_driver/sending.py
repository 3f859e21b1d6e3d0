"""Sends the requests of a phase, as its load says: so many open at once, or each when it is due.

A failure of one request is in its answer. An exception of `ask` ends the phase: what is open is cancelled.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from .baggage import Due
from .due_timer import DueTimer, due_timer
from .load.schedule import Group, Lane, Phase, Turn

Ask = Callable[[Turn, Due | None], Awaitable[None]]


class Door(Protocol):
    """Says when a request may leave, and whether it may. `closed`: nothing leaves any more."""

    closed: asyncio.Event

    def may(self, turn: Turn) -> bool:
        """Whether it may leave still, now or later."""

    async def begins(self, group: Group) -> bool:
        """Wait until the group's requests may leave one after the other. False if they may not."""

    async def lets(self, turn: Turn) -> bool:
        """Wait until a request of a group that has begun, or a filler, may leave. False if it may not."""


async def send(phase: Phase, ask: Ask, door: Door | None = None) -> None:
    """Send the requests of all lanes. Returns when the last answer has come. Without a door all may leave at once."""
    door = door or _Open()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(door.closed.wait(), phase.pause_s)
    lanes = [
        _closed(lane, phase.load.concurrency, ask, door)
        if phase.load.concurrency is not None
        else _open(lane, ask, door)
        for lane in phase.lanes
    ]
    await _together(lanes)


async def _closed(lane: Lane, concurrency: int, ask: Ask, door: Door) -> None:
    """Hold so many requests open: each that has ended is followed by the next."""
    waiting, under_way = iter(lane.groups), 0
    ramp, drain = iter(lane.ramp), itertools.cycle(lane.drain)

    async def client() -> None:
        nonlocal under_way
        for turn in itertools.islice(ramp, 1):
            if await door.lets(turn):
                await ask(turn, None)
        for group in waiting:
            if lane.over is not None and lane.over():
                break
            if not await door.begins(group):
                continue
            under_way += 1
            for turn in group:
                if await door.lets(turn):
                    await ask(turn, None)
            under_way -= 1
        while under_way and lane.drain:
            turn = next(drain)
            if not await door.lets(turn):
                return
            await ask(turn, None)

    clients = concurrency if lane.ramp else min(concurrency, len(lane.groups))
    await _together([client() for _ in range(clients)])


async def _open(lane: Lane, ask: Ask, door: Door) -> None:
    """Send each request when it is due, however many are open. If the door holds one, its due time stays."""
    with due_timer() as timer:
        await _when_due(lane, ask, door, timer)


async def _when_due(lane: Lane, ask: Ask, door: Door, timer: DueTimer) -> None:
    begun_s, begun_unix_us = time.monotonic(), time.time_ns() // 1000
    counted, tasks, ended = _turns(lane.groups), set[asyncio.Task[None]](), list[asyncio.Task[None]]()
    left = sum(not turn.warmup for turn in counted)

    def has_ended() -> None:
        nonlocal left
        left -= 1
        if not left:
            timer.wake()  # all that count have ended: no more load is needed

    async def one(turn: Turn, due_s: float) -> None:
        if (turn.warmup or await door.begins((turn,))) and await door.lets(turn):
            lag_s = time.monotonic() - begun_s - due_s
            await ask(turn, Due(begun_unix_us + round(due_s * 1e6), max(0.0, lag_s)))
        if not turn.warmup:
            has_ended()

    closing = asyncio.ensure_future(_wake_at(door.closed, timer))
    try:
        for turn in (*lane.ramp, *counted, *lane.drain):
            if not turn.warmup and not door.may(turn):
                has_ended()
                continue
            due_s = turn.due_s or 0.0
            # It waits again where a coarse timer has fired too soon.
            while left and not door.closed.is_set() and begun_s + due_s > time.monotonic():
                await timer.until(begun_s + due_s)
            if not turn.warmup and lane.over is not None and lane.over():
                # No more is needed. It is sent as a filler, until those that count have ended.
                turn, left = turn._replace(warmup=True), left - 1
            if not left or door.closed.is_set():
                break
            while ended:
                tasks.discard(task := ended.pop())
                task.result()
            tasks.add(task := asyncio.ensure_future(one(turn, due_s)))
            task.add_done_callback(ended.append)
        await asyncio.gather(*tasks)
    finally:
        for task in (*tasks, closing):
            task.cancel()
        await asyncio.gather(*tasks, closing, return_exceptions=True)


async def _wake_at(closed: asyncio.Event, timer: DueTimer) -> None:
    await closed.wait()
    timer.wake()


class _Open:
    """A door that holds nothing."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def may(self, _turn: Turn) -> bool:
        return True

    async def begins(self, _group: Group) -> bool:
        return True

    async def lets(self, _turn: Turn) -> bool:
        return True


def _turns(groups: Sequence[Group]) -> list[Turn]:
    return [turn for group in groups for turn in group]


async def _together(work: Sequence[Awaitable[None]]) -> None:
    """Await all. The first exception cancels the others, and is raised as it is."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
