"""The signals to a running process: end in order, end at once, read the configuration again."""

import asyncio
import signal


class Signals:
    """Events that signals set: `stop`, `at_once` (with `stop`), and `reload`, which its reader clears."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()  # end in order
        self.at_once = asyncio.Event()  # end without waiting for running requests
        self.reload = asyncio.Event()  # read the configuration again; who does so clears it

    def listen(self) -> None:
        """The first SIGTERM or SIGINT sets `stop`, the second `at_once` too. SIGHUP sets `reload`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def listen_as_worker(self) -> None:
        """A worker takes orders from its parent. A signal that reaches both must not count twice."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)

    def _end(self) -> None:
        if self.stop.is_set():
            self.at_once.set()
        self.stop.set()
