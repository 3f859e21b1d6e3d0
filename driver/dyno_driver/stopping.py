"""Ctrl-C and SIGTERM end what is being awaited, and leave time to keep what was measured."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, Final, TypeVar

T = TypeVar("T")

# SIGHUP too: the programs that `dyno compare` starts have sessions of their own, so a hang-up doesn't reach them.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(Exception):
    """The user or the system sent a signal to stop."""


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """The first signal sets the event. Further ones change nothing, so that the files are written undisturbed."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    # A signal that is ignored already stays so: nohup ignores SIGHUP.
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. As soon as `stop` is set, `work` is cancelled and StoppedError is raised."""
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
