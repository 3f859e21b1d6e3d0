"""Mixed traffic with faults through the real proxy, for half an hour; what it held at the start and at the end.

    make soak                 30 minutes
    make soak MINUTES=1       a try, too short to judge memory by its slope

Exit code 1 where a figure doesn't hold.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from rigs.running_proxy import RunningProxy, in_thread, running_proxy

from .process import proxy_pid
from .samples import Line, Sample, judge, take_sample
from .traffic import ANY_MODEL, KINDS, MALFORMED, Kind, send
from .upstream import soak_upstream

RATE_PER_S: Final = 25.0
SAMPLE_EVERY_S: Final = 10.0
LEAST_SAMPLES: Final = 20  # of a run that is shorter than so many
IDLE_LIMIT_S: Final = 40.0
FIRST_MODELS: Final = 120  # more than there are labels for: series are made before the start, not during warm-up
_TIMEOUTS: Final = "timeouts = { first_byte_s = 1.0, idle_s = 1.0 }"
# glibc keeps freed blocks of up to 32 MB for later, one inflated bomb's: memory shall be what the proxy holds.
_MALLOC: Final = {"MALLOC_TRIM_THRESHOLD_": "131072"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=RATE_PER_S, help="requests a second")
    parser.add_argument("--seed", type=int, default=0, help="of the requests' order")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dyno-soak-") as name:
        lines, wrong = asyncio.run(soak(Path(name), arguments.minutes * 60, arguments.rate, arguments.seed))
    print_report(lines, wrong)
    return 1 if wrong or not all(line.holds for line in lines) else 0


async def soak(folder: Path, duration_s: float, rate: float, seed: int = 0) -> tuple[list[Line], list[str]]:
    """Run it; returns the report's lines, and what is wrong beside: rows of a kind, exceptions in the log."""
    async with AsyncExitStack() as upstream:
        url = await upstream.enter_async_context(soak_upstream())
        config = f'[endpoints.limited]\nurl = "{url}"\n{_TIMEOUTS}\n'
        endpoints = {"up": url, "down": "http://127.0.0.1:9/v1"}
        async with in_thread(running_proxy(folder, endpoints, config, _MALLOC)) as proxy:
            load = Load(proxy, seed)
            # What is made once is there: files, threads, metrics' series.
            for kind in (*KINDS, *(ANY_MODEL for _ in range(FIRST_MODELS))):
                await load.one(kind)
            start = await load.sample()
            loaded = await load.run(duration_s, rate)
            await upstream.aclose()
            end = await load.idle_sample(start)
    # The proxy has ended in order: every row is on disk.
    rows = await asyncio.to_thread(count_rows, proxy.spans)
    lines = judge(start, loaded, end)
    lines.append(Line("rows in the span files", "", "", f"{rows.total():,}", "= started", rows.total() == end.started))
    log = proxy.log.read_text(encoding="utf-8")
    wrong = wrong_rows(load.sent, rows)
    if "Traceback" in log:
        wrong.append(f"exceptions in the proxy's log:\n{log}")
    return lines, wrong


class Load:
    """Requests at a steady rate, whatever becomes of those before."""

    def __init__(self, proxy: RunningProxy, seed: int) -> None:
        self.sent: Counter[str] = Counter()
        self._proxy = proxy
        self._pid = proxy_pid(proxy.spans)
        self._begun_s = time.monotonic()
        self._draw = random.Random(seed)  # noqa: S311 - the same requests in every run

    async def one(self, kind: Kind) -> None:
        self.sent[kind.name] += 1
        await send(self._proxy.url, kind, self._draw)

    async def run(self, duration_s: float, rate: float) -> list[Sample]:
        """Until the time is over and every client is through. Raises what a client raises: TimeoutError, mostly."""
        weights = [kind.weight for kind in KINDS]
        every_s = min(SAMPLE_EVERY_S, duration_s / LEAST_SAMPLES)
        samples: list[Sample] = []
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for number in range(int(duration_s * rate)):
                due_s = begun_s + number / rate
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                (kind,) = self._draw.choices(KINDS, weights)
                clients.create_task(self.one(kind))
                if due_s - begun_s >= every_s * (len(samples) + 1):
                    samples.append(await self.sample())
                    print_progress(samples[-1])
        return samples

    async def sample(self) -> Sample:
        return await asyncio.to_thread(take_sample, self._proxy, self._pid, self._begun_s)

    async def idle_sample(self, start: Sample) -> Sample:
        """Once nothing runs and all is written, or when it should have been."""
        limit_s = time.monotonic() + IDLE_LIMIT_S
        while True:
            sample = await self.sample()
            settled = sample.active == 0 and sample.written == sample.started and sample.fds <= start.fds
            if settled or time.monotonic() > limit_s:
                return sample
            await asyncio.sleep(0.2)


def count_rows(spans: Path) -> Counter[tuple[str, str]]:
    """Rows of the `spans` view by (kind, outcome), as `dyno sql` finds them."""
    statement = "SELECT workload, outcome, count(*) AS rows FROM spans GROUP BY ALL"
    command: list[str | Path] = [sys.executable, "-m", "dyno", "sql", statement]
    done = subprocess.run(
        [*command, "--spans", spans, "--format", "json"], capture_output=True, check=True, encoding="utf-8"
    )
    return Counter({(row["workload"] or MALFORMED, row["outcome"]): row["rows"] for row in json.loads(done.stdout)})


def wrong_rows(sent: Counter[str], rows: Counter[tuple[str, str]]) -> list[str]:
    """A line for each kind whose rows aren't as many as its requests, each with the kind's outcome."""
    expected = Counter({(kind.name, kind.outcome): sent[kind.name] for kind in KINDS})
    return [
        f"{kind}: {rows[kind, outcome]} rows with outcome {outcome}, {expected[kind, outcome]} expected"
        for kind, outcome in sorted(set(expected) | set(rows))
        if rows[kind, outcome] != expected[kind, outcome]
    ]


def print_progress(sample: Sample) -> None:
    print(
        f"{sample.at_s:6.0f} s: {sample.rss_bytes / 1e6:.1f} MB, {sample.fds} fds, {sample.threads} threads, "
        f"{sample.started} started, {sample.active} running, {sample.dropped} spans dropped",
        flush=True,
    )


def print_report(lines: Sequence[Line], wrong: Sequence[str]) -> None:
    print("\n| | start | after warm-up | end | limit | holds |\n|---|---|---|---|---|---|")
    for line in lines:
        *cells, holds = line
        print(f"| {' | '.join(map(str, cells))} | {'yes' if holds else 'NO'} |")
    print(f"\n{len(KINDS)} kinds of request; each sent one should have left one row with its kind's outcome")
    for each in wrong:
        print(f"NOT SO: {each}")


if __name__ == "__main__":
    sys.exit(main())
