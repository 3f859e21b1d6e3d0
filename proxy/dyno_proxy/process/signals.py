"""What the signals ask of the process that runs: to end in order, to end at once, to read its configuration again."""

import asyncio
import signal


class Signals:
    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.at_once = asyncio.Event()
        self.reload = asyncio.Event()

    def listen(self) -> None:
        """SIGTERM and SIGINT ask for an end, twice for one at once; SIGHUP for the configuration."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def listen_as_worker(self) -> None:
        """A worker's parent tells it what to do. A signal to all processes reaches both: it must not count twice."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)

    def _end(self) -> None:
        if self.stop.is_set():
            self.at_once.set()
        self.stop.set()
