"""The event loop's lag: how long a callback waits before the loop runs it."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

_PERIOD_S = 0.1
_KEPT = 10  # readings, which are those of the last second

_LOG = logging.getLogger("dyno.proxy")


class LoopLag:
    """A thread asks the loop ten times a second, and times the answer.

    A timer on the loop itself would be simpler. But uvloop's timers tick in milliseconds, and so would the readings.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, each_time: Callable[[], None] | None = None) -> None:
        """The thread also calls `each_time` whenever it asks."""
        self._loop = loop
        self._each_time = each_time
        self._failing = False
        self._readings_us: deque[int] = deque(maxlen=_KEPT)
        self._worst_us = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="dyno-lag", daemon=True)
        self._asked_ns: int | None = None  # a question that the loop hasn't answered yet

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more, and end the thread. Takes 0.1 s at the most, and needs a `start()` before."""
        self._stop.set()
        self._thread.join()

    def worst_us(self) -> int:
        """The largest lag of the last second in µs. A question that is still open counts."""
        asked_ns = self._asked_ns
        if asked_ns is None:
            return self._worst_us
        return max(self._worst_us, (time.monotonic_ns() - asked_ns) // 1000)

    def _ask(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            if self._each_time is not None:
                self._call(self._each_time)
            if self._asked_ns is None:
                self._asked_ns = time.monotonic_ns()
                try:
                    self._loop.call_soon_threadsafe(self._answer)
                except RuntimeError:  # the loop is closed: nothing is left to measure
                    return

    def _call(self, each_time: Callable[[], None]) -> None:
        try:
            each_time()
            self._failing = False
        except Exception:  # noqa: BLE001  # whatever failed, the lag must still be measured
            if not self._failing:
                _LOG.exception("the figures for the other workers can't be written")
            self._failing = True

    def _answer(self) -> None:
        asked_ns, self._asked_ns = self._asked_ns, None
        if asked_ns is not None:
            self._readings_us.append((time.monotonic_ns() - asked_ns) // 1000)
            self._worst_us = max(self._readings_us)
