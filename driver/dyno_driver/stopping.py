"""Ctrl-C, SIGTERM and SIGHUP: the first one lets what runs end, the second one ends it."""

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


class Stop:
    """What signals asked for. `asked`: to begin nothing more. `now`: to give up what runs, too."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.now = asyncio.Event()

    def signal(self) -> None:
        """Take one signal."""
        (self.now if self.asked.is_set() else self.asked).set()


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Until the block ends, signals only set events: so the files are written undisturbed."""
    loop = asyncio.get_running_loop()
    stop = Stop()
    # A signal that is ignored already stays so: nohup ignores SIGHUP.
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, stop.signal)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. As soon as the event is set, `work` is cancelled and StoppedError is raised."""
    if event.is_set():
        work.close()
        raise StoppedError
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise StoppedError
        return task.result()
    finally:
        for pending in (task, stopped):
            pending.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
