"""The collector beside a proxy: `dyno collect` in a process of its own, which is started again when it ends.

Decoding spans on the proxy's event loop would delay its reads. The proxy itself binds the sockets. So a port in use
is an error at the proxy's start, and connections wait in the sockets' queue while a collector is started again.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from dyno_proxy.config.schema import Config
from dyno_proxy.telemetry.compaction import plain_environment

from .kept_process import KeptProcess, Process, Program
from .sockets import bind, url_of

_END_LIMIT_S: Final = 20.0  # for the collector to write what it has taken; then it is killed


@asynccontextmanager
async def collecting(config: Config) -> AsyncIterator[Callable[[], bool]]:
    """Run a collector at `collector.listen` until the block ends; without that key, none. Raises ConfigError.

    Gives a function that says, after the block's end, whether the collector lost no span.
    """
    if config.collector.listen is None:
        yield lambda: True
        return
    (sockets,) = bind(config.collector.listen, "collector.listen", flag="--collector-listen")
    collector = KeptProcess(_program(config, sockets))
    print(f"dyno proxy: taking OTLP on {url_of(sockets[0])}", flush=True)
    try:
        yield lambda: collector.in_order
    finally:
        await asyncio.to_thread(collector.stop)
        for each in sockets:
            each.close()


def _program(config: Config, sockets: Sequence[socket.socket]) -> Program:
    descriptors = [each.fileno() for each in sockets]
    # The collector doesn't read the proxy's configuration file, which may hold secrets that it has no use for.
    command = [sys.executable, "-P", "-m", "dyno", "collect", "--config", os.devnull]
    command += ["--spans", config.proxy.spans, "--listen", config.collector.listen or ""]
    command += ["--sockets", ",".join(map(str, descriptors))]
    if config.proxy.keys_file is not None:
        command += ["--keys-file", config.proxy.keys_file]
    environment = plain_environment() | {"DYNO_SPANS_COMPACT": str(config.spans.compact).lower()}
    if config.spans.keep is not None:
        environment["DYNO_SPANS_KEEP"] = config.spans.keep
    if config.spans.group is not None:
        environment["DYNO_SPANS_GROUP"] = config.spans.group
    lost = "spans that it hadn't written are lost"
    return Program("the collector", command, environment, Process.terminate, _END_LIMIT_S, lost, descriptors)
