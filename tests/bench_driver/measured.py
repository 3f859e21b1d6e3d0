"""One tool under one load: what the upstream saw of it, and what its processes cost meanwhile."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from bench.cost import cpu_ns, tree
from bench.results import percentile

from .seen import Seen
from .tools import Load, Tool, started

T = TypeVar("T")

_BEGIN_LIMIT_S: Final = 120.0  # from the start to the first request
_SAMPLE_S: Final = 0.1
_SKIPPED_SHARE: Final = 0.1  # of the arrivals: connections are opened, code is warmed up


class FailedError(Exception):
    """The tool sent less than it should have; the message has its last line."""


@dataclass(frozen=True)
class Punctuality:
    """Of arrivals at a constant rate: how far each lies behind the even beat of the earliest one, in ms."""

    lag_p50_ms: float
    lag_p99_ms: float
    rate_error: float  # a share: 0.005 is half a percent


@dataclass(frozen=True)
class Cost:
    """Of all the tool's processes, between its first request and its last."""

    cpu_per_request_ms: float
    cpu_per_chunk_us: float  # the stream's request is in it


def punctuality(arrived_ns: Sequence[int], rate_per_s: float) -> Punctuality:
    """Arrivals in order, at least two. The tool's beat is taken to be the asked one, from its most punctual request on.

    So the same is measured of every tool, whether or not it says when its requests were due.
    """
    counted = arrived_ns[int(len(arrived_ns) * _SKIPPED_SHARE) :]
    late_ms = [(at - counted[0]) / 1e6 - number * 1e3 / rate_per_s for number, at in enumerate(counted)]
    earliest = min(late_ms)
    ordered = sorted(each - earliest for each in late_ms)
    rate = (len(counted) - 1) / ((counted[-1] - counted[0]) / 1e9)
    return Punctuality(percentile(ordered, 50), percentile(ordered, 99), abs(rate / rate_per_s - 1))


async def punctual(
    tool: Tool, load: Load, seen: Seen, folder: Path, port: int
) -> tuple[Punctuality, Cost, Sequence[int]]:
    """Returns also how late each request came behind the due time that it says, in ns, where it says one."""
    assert load.rate_per_s is not None
    cost = await costs(tool, load, seen, folder, port)
    return punctuality(seen.arrived_ns[: load.requests], load.rate_per_s), cost, seen.late_ns[: load.requests]


async def costs(tool: Tool, load: Load, seen: Seen, folder: Path, port: int) -> Cost:
    """Raises FailedError if fewer than 95 % of the requests came."""
    async with _running(tool, load, seen, folder, port) as process:
        first = last = (_read(lambda: cpu_ns(process.pid)), len(seen.arrived_ns), seen.chunks)
        while process.poll() is None and (last[1] < load.requests or load.streamed):
            await asyncio.sleep(_SAMPLE_S)
            with contextlib.suppress(OSError):  # it has just ended
                now = (cpu_ns(process.pid), len(seen.arrived_ns), seen.chunks)
                if now[1:] == last[1:] and now[1] >= load.requests:
                    break
                if now[0] > last[0] and now[1:] != last[1:]:
                    last = now
        if "wrk" not in tool.title and len(seen.arrived_ns) < 0.95 * load.requests:
            raise FailedError(f"{len(seen.arrived_ns)} of {load.requests} requests came: {_last_line(folder)}")
    cpu, requests, chunks = (late - early for early, late in zip(first, last, strict=True))
    return Cost(cpu / max(requests, 1) / 1e6, cpu / max(chunks, 1) / 1e3)


async def memory_of_streams(tool: Tool, load: Load, seen: Seen, folder: Path, port: int) -> float:
    """MB (RSS) of all its processes, three seconds after so many streams were open. Raises FailedError."""
    async with _running(tool, load, seen, folder, port) as process:
        ends_s = time.monotonic() + 60
        while seen.open < (load.concurrency or 0):
            if process.poll() is not None or time.monotonic() > ends_s:
                raise FailedError(f"at most {seen.most_open} streams were open: {_last_line(folder)}")
            await asyncio.sleep(0.05)
        await asyncio.sleep(3)
        return _read(lambda: _rss_mb(process.pid))


@asynccontextmanager
async def _running(
    tool: Tool, load: Load, seen: Seen, folder: Path, port: int
) -> "AsyncIterator[subprocess.Popen[bytes]]":
    """The tool from its first request on. It is ended with the block."""
    seen.again()
    process = await asyncio.to_thread(started, tool, load, folder, port)
    try:
        ends_s = time.monotonic() + _BEGIN_LIMIT_S
        while not seen.arrived_ns:
            if process.poll() is not None or time.monotonic() > ends_s:
                raise FailedError(f"it sent nothing: {_last_line(folder)}")
            await asyncio.sleep(0.002)
        yield process
    finally:
        await asyncio.to_thread(_ended, process)


def _ended(process: "subprocess.Popen[bytes]") -> None:
    for number, limit_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(limit_s)
            if number == signal.SIGKILL:
                return


def _rss_mb(pid: int) -> float:
    """Of the process and its children; one that has ended and wasn't waited for has none."""
    pages = [int(Path(f"/proc/{each}/statm").read_text(encoding="ascii").split()[1]) for each in tree(pid)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _read(look: Callable[[], T]) -> T:
    """A tool may start and end processes of its own while /proc is read. Then it is read again."""
    for _ in range(20):
        with contextlib.suppress(OSError):
            return look()
    raise FailedError("its processes come and go too quickly to be measured")


def _last_line(folder: Path) -> str:
    lines = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"
