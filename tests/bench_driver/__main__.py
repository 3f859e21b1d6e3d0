"""`make bench-driver`: `dyno drive` beside other load generators, on the same upstream. Linux alone (/proc).

    python -m bench_driver                            everything: some fifteen minutes on two cores
    python -m bench_driver --quick                    everything, less exactly: some five
    python -m bench_driver --only dyno,wrk            some tools
    python -m bench_driver --write docs/benchmarks.md into the file's part for drivers as well

docs/benchmarks.md says how each figure is measured.
"""

import argparse
import asyncio
import gc
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from bench.cost import Others
from bench.installed import MissingError
from bench.messages import Script
from bench.results import Results, number, percentile, table, times

from .measured import FailedError, costs, memory_of_streams, punctual
from .seen import Seen, seeing
from .tools import TOOLS, CannotError, Load, Tool, write_inputs

LAG_P50, LAG_P99, RATE_ERROR = "lag p50, ms", "lag p99, ms", "rate error, %"
CPU_AT_RATE, CPU_AT_ONCE = "CPU a request at 100/s, ms", "CPU a request, 8 at once, ms"
CPU_CHUNK, MEMORY, HIGHEST = "CPU a chunk, µs", "1,000 streams, MB", "highest rate, 1/s"
FIGURES: Final = (LAG_P50, LAG_P99, RATE_ERROR, CPU_AT_RATE, CPU_AT_ONCE, CPU_CHUNK, MEMORY, HIGHEST)
GOALS: Final = {LAG_P50: 1.0, LAG_P99: 5.0, RATE_ERROR: 0.5, CPU_AT_RATE: 0.3, CPU_AT_ONCE: 0.3, MEMORY: 150.0}
RATE_PER_S: Final = 100.0
MOST_ERROR: Final = 0.005
STREAMS: Final = 1000
_SLOW: Final = Script(chunks=30, every_ms=1000)
_PACED: Final = Script(chunks=100, every_ms=20)
_AT_ONCE: Final = 20  # of the paced streams
_REST_S: Final = 0.5
_TRIED_AT_MOST: Final = 6400.0

_BEGIN: Final = "<!-- measured: written by `make bench-driver` -->\n"
_END: Final = "<!-- end of what was measured of drivers -->\n"


@dataclass(frozen=True)
class Bench:
    folder: Path
    port: int
    seen: Seen
    quick: bool
    results: Results
    reasons: dict[tuple[str, str], str]  # why a tool has no such figure

    async def one(self, figure: str, name: str, work: Callable[[Tool, Path], Awaitable[None]]) -> None:
        """Do `work` in a new folder; keep the reason where the tool can't."""
        room = self.folder / f"{name}-{time.monotonic_ns()}"
        room.mkdir()
        write_inputs(room)
        try:
            await work(TOOLS[name], room)
        except (MissingError, CannotError, FailedError) as error:
            self.reasons[name, figure] = str(error)
            print(f"bench-driver: {name}, {figure}: {error}", file=sys.stderr, flush=True)
        await asyncio.sleep(_REST_S)  # what its end closes is closed

    async def lag(self, name: str) -> None:
        async def work(tool: Tool, room: Path) -> None:
            load = Load(round(RATE_PER_S * (5 if self.quick else 20)), RATE_PER_S)
            found, cost, late_ns = await punctual(tool, load, self.seen, room, self.port)
            self.results.add(LAG_P50, name, found.lag_p50_ms)
            self.results.add(LAG_P99, name, found.lag_p99_ms)
            self.results.add(RATE_ERROR, name, found.rate_error * 100)
            self.results.add(CPU_AT_RATE, name, cost.cpu_per_request_ms)
            for late in late_ns:
                self.results.add("late, ms", name, late / 1e6)

        await self.one(LAG_P50, name, work)

    async def at_once(self, name: str) -> None:
        async def work(tool: Tool, room: Path) -> None:
            load = Load(1000 if self.quick else 4000, concurrency=8, lasts_s=2 if self.quick else 5)
            self.results.add(
                CPU_AT_ONCE, name, (await costs(tool, load, self.seen, room, self.port)).cpu_per_request_ms
            )

        await self.one(CPU_AT_ONCE, name, work)

    async def chunks(self, name: str) -> None:
        async def work(tool: Tool, room: Path) -> None:
            self.seen.script = _PACED
            rounds = 2 if self.quick else 5
            load = Load(_AT_ONCE * rounds, concurrency=_AT_ONCE, streamed=True, lasts_s=2.0 * rounds)
            self.results.add(CPU_CHUNK, name, (await costs(tool, load, self.seen, room, self.port)).cpu_per_chunk_us)

        await self.one(CPU_CHUNK, name, work)

    async def streams(self, name: str) -> None:
        async def work(tool: Tool, room: Path) -> None:
            self.seen.script = _SLOW
            load = Load(STREAMS, concurrency=STREAMS, streamed=True, lasts_s=20)
            self.results.add(MEMORY, name, await memory_of_streams(tool, load, self.seen, room, self.port))

        await self.one(MEMORY, name, work)

    async def highest(self, name: str) -> None:
        """Doubled until the rate is missed, then halved in between (by its logarithm)."""

        async def work(tool: Tool, room: Path) -> None:
            async def holds(rate_per_s: float) -> bool:
                lasts_s = 2 if self.quick else 4
                load = Load(round(rate_per_s * lasts_s), rate_per_s)
                folder = room / f"{rate_per_s:.0f}"
                folder.mkdir()
                write_inputs(folder)
                try:
                    found, _, _ = await punctual(tool, load, self.seen, folder, self.port)
                except FailedError:
                    return False
                print(f"bench-driver: {name} at {rate_per_s:.0f}/s: {found}", file=sys.stderr, flush=True)
                return found.rate_error <= MOST_ERROR

            low, high = 0.0, RATE_PER_S
            while high <= _TRIED_AT_MOST and await holds(high):
                low, high = high, high * 2
            for _ in range(0 if not low else 1 if self.quick else 3):
                middle = (low * high) ** 0.5
                low, high = (middle, high) if await holds(middle) else (low, middle)
            self.results.add(HIGHEST, name, low)

        await self.one(HIGHEST, name, work)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench_driver", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter ones")
    parser.add_argument("--only", help=f"of {', '.join(TOOLS)}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the result between the file's two marks")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("bench-driver: it reads /proc, which Linux alone has", file=sys.stderr)
        return 2
    names = list(TOOLS) if arguments.only is None else arguments.only.split(",")
    unknown = [name for name in names if name not in TOOLS]
    if unknown:
        print(f"bench-driver: --only: '{unknown[0]}' is none of {', '.join(TOOLS)}", file=sys.stderr)
        return 2
    if arguments.write is not None and _BEGIN not in arguments.write.read_text(encoding="utf-8"):
        print(f"bench-driver: {arguments.write} has no line {_BEGIN.strip()}", file=sys.stderr)
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    gc.disable()  # the upstream's own pauses would be in the figures
    with tempfile.TemporaryDirectory(prefix="dyno-bench-driver-") as folder:
        report = uvloop.run(measure(names, Path(folder), quick=arguments.quick))
    print(report)
    if arguments.write is not None:
        before, _, rest = arguments.write.read_text(encoding="utf-8").partition(_BEGIN)
        arguments.write.write_text(f"{before}{_BEGIN}\n{report}\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")
    return 0


async def measure(names: list[str], folder: Path, *, quick: bool) -> str:
    others, begun_s = Others(), time.monotonic()
    server, port, seen = await seeing()
    bench = Bench(folder, port, seen, quick, Results(), {})
    async with server:
        for _ in range(1 if quick else 3):
            for work in (bench.lag, bench.at_once, bench.chunks):
                for name in names:  # in turn, so that a disturbance meets all
                    await work(name)
        for name in names:
            await bench.streams(name)
            await bench.highest(name)
    taken = f"It took {time.monotonic() - begun_s:.0f} s. {others.share()}"
    return "\n\n".join([described(names, quick=quick), *tables(names, bench), taken]) + "\n"


def described(names: list[str], *, quick: bool) -> str:
    cpus = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    model = cpus[0].partition(":")[2].strip() if cpus else platform.machine()
    return "\n".join(
        (
            f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC{', the quick variant' if quick else ''}.",
            f"Machine: {model}, {os.cpu_count()} cores; Linux {platform.release()}.",
            f"Versions: Python {platform.python_version()}; {'; '.join(TOOLS[name].version for name in names)}.",
        )
    )


def tables(names: list[str], bench: Bench) -> list[str]:
    """What was measured, the others' figures to dyno's, the goals, and why a cell is empty."""
    results = bench.results
    digits = {CPU_CHUNK: 1, MEMORY: 0, HIGHEST: 0}
    found = [[TOOLS[n].title, *(results.cell(f, n, digits.get(f, 2)) for f in FIGURES)] for n in names]
    made = [table(["", *FIGURES], found)]
    ratios = [
        [TOOLS[name].title, *(times(_ahead(results, figure, name)) for figure in FIGURES)]
        for name in names
        if name != "dyno"
    ]
    if "dyno" in names and ratios:
        made.append(f"How far dyno is ahead (above 1x it is better):\n\n{table(['', *FIGURES], ratios)}")
        goals = [
            [figure, f"≤ {number(limit, 2)}", number(results.median(figure, "dyno"), 2), _met(results, figure, limit)]
            for figure, limit in GOALS.items()
        ]
        made.append(table(["dyno's goal", "", "measured", "met"], goals))
        late = sorted(results.values("late, ms", "dyno"))
        if late:
            made.append(
                f"By the due times that dyno's own requests say, they came {number(percentile(late, 50), 2)} ms (p50) "
                f"and {number(percentile(late, 99), 2)} ms (p99) late; the way over the loopback is in it."
            )
    why = [f"- {TOOLS[name].title}, {figure}: {reason}." for (name, figure), reason in bench.reasons.items()]
    return [*made, *(["\n".join(why)] if why else [])]


def _ahead(results: Results, figure: str, name: str) -> float | None:
    ours, theirs = results.median(figure, "dyno"), results.median(figure, name)
    if not ours or theirs is None or not theirs:
        return None
    return ours / theirs if figure == HIGHEST else theirs / ours


def _met(results: Results, figure: str, limit: float) -> str:
    measured = results.median(figure, "dyno")
    return "not measured" if measured is None else "yes" if measured <= limit else "**no**"


if __name__ == "__main__":
    sys.exit(main())
