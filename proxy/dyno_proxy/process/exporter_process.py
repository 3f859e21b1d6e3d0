"""The exporter beside a proxy: it sends the rows of the span files by OTLP, where the environment names an endpoint.

Encoding spans on the proxy's event loop, or beside it in a thread, would cost each request twice what the rest of its
telemetry does. One exporter serves all workers: the rows of all of them are in the same folder.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from dyno_proxy.config.check import age_s
from dyno_proxy.config.schema import Config
from dyno_proxy.file_modes import access_of
from dyno_proxy.telemetry.compaction import plain_environment
from dyno_proxy.telemetry.journal import check_folder
from dyno_proxy.telemetry.otlp_settings import PASSED_ON, otlp_settings, otlp_wanted

from .kept_process import KeptProcess, Process, Program

_END_LIMIT_S: Final = 15.0  # the exporter's own limit for the rest is 10 s


@asynccontextmanager
async def exporting(config: Config) -> AsyncIterator[None]:
    """Run an exporter until the block ends, and then until it has sent the rest; without an endpoint, none.

    Raises SetupError for a variable that can't be used. What isn't sent at the end is sent at the next start.
    """
    if not otlp_wanted(os.environ):
        yield
        return
    otlp_settings(os.environ)
    from_us = time.time_ns() // 1000
    await asyncio.to_thread(check_folder, Path(config.proxy.spans), access_of(config.spans.group))
    exporter = KeptProcess(_program(config, from_us))
    try:
        yield
    finally:
        await asyncio.to_thread(exporter.stop)


def _program(config: Config, from_us: int) -> Program:
    command = [sys.executable, "-P", "-m", "dyno", "send-otlp", "--spans", str(Path(config.proxy.spans).absolute())]
    command += ["--from-us", str(from_us), "--keep-s", str(age_s(config.otlp.keep))]
    environment = plain_environment()
    environment |= {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    if config.spans.group is not None:
        environment["DYNO_SPANS_GROUP"] = config.spans.group
    later = "what it hadn't sent is sent at the next start"
    end = (_close_input, _END_LIMIT_S, later)
    return Program("the exporter for OTLP", command, environment, *end, own_session=False)


def _close_input(process: Process) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
