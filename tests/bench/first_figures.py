"""`make bench`: how fast Dyno starts, and what its proxy adds to a request, as tables.

The upstream is a simulated endpoint that waits for nothing, so a request takes what client, upstream and proxy
themselves take. Direct and proxied requests alternate; other gateways, load and CPU per request are not measured here.
"""

import asyncio
import math
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import aiohttp

from programs import running
from running_proxy import running_proxy

DYNO: Final[list[str | Path]] = [Path(sys.executable).parent / "dyno"]
STARTS: Final = 7
WARMUP: Final = 50
PAIRS: Final = 500
BODY: Final = {"model": "a-model", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="dyno-bench-") as name:
        folder = Path(name)
        print(f"| start ({STARTS} times) | best, s | median, s |\n|---|---|---|")
        for what, times_s in (
            ("dyno --help", [help_s() for _ in range(STARTS)]),
            ("dyno proxy, to the first answer of /healthz", [healthz_s(folder) for _ in range(STARTS)]),
        ):
            print(f"| {what} | {min(times_s):.3f} | {statistics.median(times_s):.3f} |", flush=True)
        simulate = [*DYNO, "simulate", "--profile", "openai", "--time-scale", "0", "--output-tokens", "30"]
        with ExitStack() as programs:
            (upstream,) = programs.enter_context(running(simulate, r" on (http://\S+)$", folder / "simulate.log"))
            proxy = programs.enter_context(running_proxy(folder, {"up": upstream[1]}))
            asyncio.run(print_added(upstream[1], proxy.base_url("up")))
    return 0


def help_s() -> float:
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


async def print_added(direct: str, proxied: str) -> None:
    print(f"\n| {PAIRS} pairs, one request at a time | p50, ms | p99, ms |\n|---|---|---|")
    async with aiohttp.ClientSession() as session:
        for kind, stream in (("whole answer", False), ("streamed, to the first bytes", True)):
            times_s: dict[str, list[float]] = {"direct": [], "proxied": []}
            for number in range(WARMUP + PAIRS):
                for way, base in (("direct", direct), ("proxied", proxied)):
                    taken_s = await request_s(session, f"{base}/chat/completions", stream=stream)
                    if number >= WARMUP:
                        times_s[way].append(taken_s)
            for way, taken in times_s.items():
                print(f"| {kind}, {way} | {percentile_ms(taken, 50):.2f} | {percentile_ms(taken, 99):.2f} |")
            added = [percentile_ms(times_s["proxied"], p) - percentile_ms(times_s["direct"], p) for p in (50, 99)]
            print(f"| **{kind}, added** | **{added[0]:.2f}** | **{added[1]:.2f}** |", flush=True)


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


def percentile_ms(times_s: list[float], percent: int) -> float:
    """Nearest rank."""
    return sorted(times_s)[math.ceil(len(times_s) * percent / 100) - 1] * 1e3


if __name__ == "__main__":
    sys.exit(main())
