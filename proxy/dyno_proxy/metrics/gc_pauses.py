"""Measures the garbage collector's time, in which nothing else runs in this process."""

import gc
import time
from collections.abc import Callable


class GcPauses:
    """Sums the time of collections from `start()` to `stop()`, and calls `on_pause(ns)` after each."""

    def __init__(self, on_pause: Callable[[int], None] = lambda _pause_ns: None) -> None:
        self.total_ns = 0  # since `start()`
        self._on_pause = on_pause
        self._began_ns = 0

    def start(self) -> None:
        """Measure every collection from now on."""
        gc.callbacks.append(self._collecting)

    def stop(self) -> None:
        """Measure no more. Raises ValueError without a `start()` before."""
        gc.callbacks.remove(self._collecting)

    def _collecting(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = time.monotonic_ns()
        elif self._began_ns:
            pause_ns = time.monotonic_ns() - self._began_ns
            self.total_ns += pause_ns
            self._on_pause(pause_ns)
