"""How fast Dyno starts, and what its proxy adds to one request at a time."""

import asyncio
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import aiohttp

from rigs.programs import running
from rigs.running_proxy import running_proxy

from .results import Results, Setting, number, percentile, table

DYNO: Final[list[str | Path]] = [Path(sys.executable).parent / "dyno"]
WARMUP: Final = 50
BODY: Final = {"model": "a-model", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}


async def measure(setting: Setting, _results: Results) -> str:
    folder = setting.room("starts")
    starts, pairs = round(setting.of(7, 3)), round(setting.of(500, 200))
    rows = []
    for what, measured in (("dyno --help", help_s), ("dyno proxy, to the first answer of /healthz", healthz_s)):
        times_s = [await asyncio.to_thread(measured, folder) for _ in range(starts)]
        rows.append([what, number(min(times_s), 3), number(statistics.median(times_s), 3)])
    sections = [table([f"start ({starts} times)", "best, s", "median, s"], rows)]

    simulate = [*DYNO, "simulate", "--profile", "openai", "--time-scale", "0", "--output-tokens", "30"]
    with ExitStack() as programs:
        (upstream,) = programs.enter_context(running(simulate, r" on (http://\S+)$", folder / "simulate.log"))
        proxy = programs.enter_context(running_proxy(folder, {"up": upstream[1]}))
        rows = await added(upstream[1], proxy.base_url("up"), pairs)
    sections.append(table([f"{pairs} pairs, one request at a time", "p50, ms", "p99, ms"], rows))
    return "\n\n".join(sections)


def help_s(_folder: Path) -> float:
    begun = time.perf_counter()
    subprocess.run([*DYNO, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def healthz_s(folder: Path) -> float:
    """Seconds from starting `dyno proxy` to its first answer."""
    begun = time.perf_counter()
    with (
        running_proxy(folder, {"up": "http://127.0.0.1:9/v1"}) as proxy,
        urllib.request.urlopen(f"{proxy.url}/healthz", timeout=10) as response,
    ):
        response.read()
        return time.perf_counter() - begun


async def added(direct: str, proxied: str, pairs: int) -> list[list[str]]:
    """Rows: direct and proxied requests alternate. The upstream waits for nothing."""
    rows = []
    async with aiohttp.ClientSession() as session:
        for kind, stream in (("whole answer", False), ("streamed, to the first bytes", True)):
            times_s: dict[str, list[float]] = {"direct": [], "proxied": []}
            for count in range(WARMUP + pairs):
                for way, base in (("direct", direct), ("proxied", proxied)):
                    taken_s = await request_s(session, f"{base}/chat/completions", stream=stream)
                    if count >= WARMUP:
                        times_s[way].append(taken_s)
            milliseconds = {
                way: [percentile(sorted(taken), percent) * 1e3 for percent in (50, 99)]
                for way, taken in times_s.items()
            }
            differences = [b - a for a, b in zip(milliseconds["direct"], milliseconds["proxied"], strict=True)]
            for way, values in (*milliseconds.items(), ("added", differences)):
                rows.append([f"{kind}, {way}", *(number(value, 2) for value in values)])
    return rows


async def request_s(session: aiohttp.ClientSession, url: str, *, stream: bool) -> float:
    """Seconds until the answer is there: its first bytes where it is streamed, else all of it."""
    begun = time.perf_counter()
    async with session.post(url, json={**BODY, "stream": stream}) as response:
        if stream:
            await response.content.readany()
            taken_s = time.perf_counter() - begun
            await response.read()
            return taken_s
        await response.read()
        return time.perf_counter() - begun
