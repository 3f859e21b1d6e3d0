"""The collector beside a proxy: `dyno collect` in a process of its own, which is started again when it ends.

Decoding spans on the proxy's event loop would delay its reads. The proxy itself binds the sockets. So a port in use
is an error at the proxy's start, and connections wait in the sockets' queue while a collector is started again.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from dyno_proxy.config.schema import Config
from dyno_proxy.telemetry.compaction import plain_environment

from .backoff import Backoff
from .sockets import bind, url_of

_END_LIMIT_S: Final = 20.0  # for the collector to write what it has taken; then it is killed

_LOG: Final = logging.getLogger("dyno.proxy")


@asynccontextmanager
async def collecting(config: Config) -> AsyncIterator[Callable[[], bool]]:
    """Run a collector at `collector.listen` until the block ends; without that key, none. Raises ConfigError.

    Gives a function that says, after the block's end, whether the collector lost no span.
    """
    if config.collector.listen is None:
        yield lambda: True
        return
    (sockets,) = bind(config.collector.listen, "collector.listen", flag="--collector-listen")
    collector = _CollectorProcess(config, sockets)
    print(f"dyno proxy: taking OTLP on {url_of(sockets[0])}", flush=True)
    try:
        yield lambda: collector.in_order
    finally:
        await asyncio.to_thread(collector.stop)
        for each in sockets:
            each.close()


class _CollectorProcess:
    """The collector's process. A thread starts it again whenever it ends, until `stop()`."""

    def __init__(self, config: Config, sockets: Sequence[socket.socket]) -> None:
        self._descriptors = [each.fileno() for each in sockets]
        # The collector doesn't read the proxy's configuration file, which may hold secrets that it has no use for.
        self._command = [sys.executable, "-P", "-m", "dyno", "collect", "--config", os.devnull]
        self._command += ["--spans", config.proxy.spans, "--listen", config.collector.listen or ""]
        self._command += ["--sockets", ",".join(map(str, self._descriptors))]
        if config.proxy.keys_file is not None:
            self._command += ["--keys-file", config.proxy.keys_file]
        self._environment = plain_environment() | {"DYNO_SPANS_COMPACT": str(config.spans.compact).lower()}
        if config.spans.keep is not None:
            self._environment["DYNO_SPANS_KEEP"] = config.spans.keep
        if config.spans.group is not None:
            self._environment["DYNO_SPANS_GROUP"] = config.spans.group
        self.in_order = True  # none has ended with exit code 1, as one does that has lost spans, nor was killed by us
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="dyno-collecting", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the process write what it has taken, and wait until it ends; kill it after _END_LIMIT_S."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(_END_LIMIT_S)
        if self._thread.is_alive() and self._process is not None:
            _LOG.error("the collector doesn't end and is killed; spans that it hadn't written are lost")
            self.in_order = False
            self._process.kill()

    def _keep(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            started_s = time.monotonic()
            why = self._run()
            if self._stopping.is_set():
                return
            _LOG.error("the collector ended: %s; it is started again", why)
            self._stopping.wait(backoff.pause_s(time.monotonic() - started_s))

    def _run(self) -> str:
        """Start the process and wait for its end; returns how it ended."""
        with self._lock:
            if self._stopping.is_set():
                return ""
            try:
                self._process = subprocess.Popen(  # noqa: S603  # the command is ours
                    self._command,
                    stdin=subprocess.PIPE,  # when it closes, the collector knows that the proxy is gone
                    env=self._environment,
                    pass_fds=self._descriptors,
                    start_new_session=True,  # Ctrl-C is for the proxy
                )
            except OSError as error:
                return error.strerror or str(error)
        code = self._process.wait()
        self.in_order &= code != 1
        return f"exit code {code}" if code >= 0 else f"signal {-code}"
