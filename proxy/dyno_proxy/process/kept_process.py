"""A program of ours beside the proxy, in a process of its own, which is started again whenever it ends."""

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from .backoff import Backoff

_LOG: Final = logging.getLogger("dyno.proxy")

Process = subprocess.Popen[bytes]


class Program(NamedTuple):
    """What runs, and how it ends."""

    name: str  # for the log, as in 'the collector'
    command: Sequence[str]
    environment: Mapping[str, str]
    end: Callable[[Process], None]  # tells it to end
    end_limit_s: float  # then it is killed
    cost_of_kill: str  # for the log
    descriptors: Sequence[int] = ()  # that it inherits
    own_session: bool = True  # False: the proxy's, whose priorities Linux compares with its own (autogroups)


class KeptProcess:
    """A thread starts the program again whenever it ends, until `stop()`. When its stdin closes, the proxy is gone."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.in_order = True  # none has ended with exit code 1, as one does that has lost something, nor was killed
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: Process | None = None
        self._thread = threading.Thread(target=self._keep, name=f"dyno-{program.name.split()[-1]}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell the program to end, and wait until it has; kill it after its limit."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._program.end(self._process)
        self._thread.join(self._program.end_limit_s)
        if self._thread.is_alive() and self._process is not None:
            _LOG.error("%s doesn't end and is killed; %s", self._program.name, self._program.cost_of_kill)
            self.in_order = False
            self._process.kill()

    def _keep(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            started_s = time.monotonic()
            why = self._run()
            if self._stopping.is_set():
                return
            _LOG.error("%s ended: %s; it is started again", self._program.name, why)
            self._stopping.wait(backoff.pause_s(time.monotonic() - started_s))

    def _run(self) -> str:
        """Start the process and wait for its end; returns how it ended."""
        with self._lock:
            if self._stopping.is_set():
                return ""
            try:
                self._process = subprocess.Popen(  # noqa: S603  # the command is ours
                    self._program.command,
                    stdin=subprocess.PIPE,
                    env=self._program.environment,
                    pass_fds=self._program.descriptors,
                    # In both cases a terminal's Ctrl-C is for the proxy alone.
                    start_new_session=self._program.own_session,
                    process_group=None if self._program.own_session else 0,
                )
            except OSError as error:
                return error.strerror or str(error)
        code = self._process.wait()
        self.in_order &= code != 1
        return f"exit code {code}" if code >= 0 else f"signal {-code}"
