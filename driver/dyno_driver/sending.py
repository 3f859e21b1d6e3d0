"""Sends the requests of a phase, as its load says: so many open at once, or each when it is due.

A failure of one request is in its answer. An exception of `ask` ends the phase: what is open is cancelled.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

from .baggage import Due
from .load.schedule import Group, Lane, Phase, Turn

Ask = Callable[[Turn, Due | None], Awaitable[None]]


async def send(phase: Phase, ask: Ask) -> None:
    """Send the requests of all lanes. Returns when the last answer has come."""
    await asyncio.sleep(phase.pause_s)
    lanes = [
        _closed(lane, phase.load.concurrency, ask) if phase.load.concurrency is not None else _open(lane, ask)
        for lane in phase.lanes
    ]
    await _together(lanes)


async def _closed(lane: Lane, concurrency: int, ask: Ask) -> None:
    """Hold so many requests open: each that has ended is followed by the next."""
    waiting, under_way = iter(lane.groups), 0
    ramp, drain = iter(lane.ramp), itertools.cycle(lane.drain)

    async def client() -> None:
        nonlocal under_way
        for turn in itertools.islice(ramp, 1):
            await ask(turn, None)
        for group in waiting:
            if lane.over is not None and lane.over():
                break
            under_way += 1
            for turn in group:
                await ask(turn, None)
            under_way -= 1
        while under_way and lane.drain:
            await ask(next(drain), None)

    clients = concurrency if lane.ramp else min(concurrency, len(lane.groups))
    await _together([client() for _ in range(clients)])


async def _open(lane: Lane, ask: Ask) -> None:
    """Send each request when it is due, however many are open."""
    begun_s, begun_unix_us = time.monotonic(), time.time_ns() // 1000
    counted, tasks = _turns(lane.groups), set[asyncio.Task[None]]()
    left, all_ended = len(counted), asyncio.Event()

    async def one(turn: Turn, due_s: float) -> None:
        nonlocal left
        lag_s = time.monotonic() - begun_s - due_s
        await ask(turn, Due(begun_unix_us + round(due_s * 1e6), max(0.0, lag_s)))
        left -= not turn.warmup
        if not left:
            all_ended.set()

    try:
        for turn in (*lane.ramp, *counted, *lane.drain):
            due_s = turn.due_s or 0.0
            # It waits again where a coarse timer has fired too soon.
            while (left_s := begun_s + due_s - time.monotonic()) > 0 and not all_ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(all_ended.wait(), left_s)
            if not turn.warmup and lane.over is not None and lane.over():
                # No more is needed. It is sent as a filler, until those that count have ended.
                turn, left = turn._replace(warmup=True), left - 1
                if not left:
                    all_ended.set()
            if all_ended.is_set():
                break  # all that count have ended: no more load is needed
            for ended in [task for task in tasks if task.done()]:
                tasks.discard(ended)
                ended.result()
            tasks.add(asyncio.ensure_future(one(turn, due_s)))
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
