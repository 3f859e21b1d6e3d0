"""What signals ask of a running process: to end in order, to end at once, or to read its configuration again."""

import asyncio
import signal


class Signals:
    """One event for each thing that signals ask for. `listen` or `listen_as_worker` connects them with the signals."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()  # end in order
        self.at_once = asyncio.Event()  # end without waiting for running requests
        self.reload = asyncio.Event()  # read the configuration again; who does so clears it

    def listen(self) -> None:
        """SIGTERM or SIGINT sets `stop`, a second one `at_once` too. SIGHUP sets `reload`. Needs a running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)

    def listen_as_worker(self) -> None:
        """SIGTERM and SIGINT set `stop` alone, however often they come, and SIGHUP does nothing.

        A worker's parent tells it everything else. A signal that is sent to all processes reaches both, and must not
        count twice.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)

    def _end(self) -> None:
        if self.stop.is_set():
            self.at_once.set()
        self.stop.set()
