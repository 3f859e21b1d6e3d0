"""Wakes a sender when its next request is due, to some 0.1 ms, and without turning in circles until then.

An event loop's own timers count in milliseconds: uvloop's fire up to half a millisecond too soon, and whoever then
waits again spins. Linux has timers that are files (timerfd), which any event loop can watch.
"""

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from typing import Final

_CLOCK_MONOTONIC: Final = 1  # the clock of time.monotonic
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_LEAST_S: Final = 0.001  # of the event loop's own timers, where there is no timerfd


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class DueTimer:
    """One waits at a time."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] | None = None

    async def until(self, at_s: float) -> None:
        """Return at this moment of time.monotonic, or at `wake`; in the worst case a little too soon."""
        self._woken = self._loop.create_future()
        if self._fd is None:
            handle = self._loop.call_later(max(at_s - time.monotonic(), _LEAST_S), self.wake)
            try:
                await self._woken
            finally:
                handle.cancel()
        else:
            _set(self._fd, at_s)
            await self._woken

    def wake(self) -> None:
        """Let whoever waits go on now."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def fired(self) -> None:
        """The timer's file can be read."""
        if self._fd is not None:
            with contextlib.suppress(BlockingIOError):  # it was set again meanwhile
                os.read(self._fd, 8)
                self.wake()


@contextlib.contextmanager
def due_timer() -> Iterator[DueTimer]:
    """A timer of the running event loop."""
    fd = _new()
    timer = DueTimer(fd)
    loop = asyncio.get_running_loop()
    if fd is not None:
        loop.add_reader(fd, timer.fired)
    try:
        yield timer
    finally:
        if fd is not None:
            loop.remove_reader(fd)
            os.close(fd)


def _new() -> int | None:
    """None where there is no timerfd, or no file descriptor left."""
    if not sys.platform.startswith("linux"):
        return None
    fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    return fd if fd >= 0 else None


def _set(fd: int, at_s: float) -> None:
    at_ns = max(round(at_s * 1e9), 1)  # zero would switch it off
    value = _Itimerspec(_Timespec(0, 0), _Timespec(at_ns // 1_000_000_000, at_ns % 1_000_000_000))
    _libc.timerfd_settime(fd, _ABSOLUTE, ctypes.byref(value), None)


_libc: Final = ctypes.CDLL(None, use_errno=True)
