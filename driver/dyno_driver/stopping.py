"""Ctrl-C and SIGTERM: they end what is being awaited, and leave time to keep what was measured."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, Final, TypeVar

T = TypeVar("T")

# A hang-up too: the programs that `dyno compare` starts live in sessions of their own and would outlive it.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(Exception):
    """The person, or the system, asked for the end."""


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """The event is set by the first signal; further ones change nothing, so the files are written in peace."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # Under nohup hang-ups stay ignored.
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; it is cancelled, and StoppedError raised, as soon as `stop` is set."""
    if stop.is_set():
        work.close()
        raise StoppedError
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StoppedError
        return task.result()
    finally:
        for pending in (task, stopped):
            pending.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
