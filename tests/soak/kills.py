"""`kill -9` under load, over and over in one spans folder: what is on disk, and what was lost.

    python -m soak.kills              100 kills
    python -m soak.kills --kills 5    a try

Exit code 1 where a row is unreadable or there twice, where one was lost whose answer had ended more than 250 ms before
the kill, or where more are lost than the next proxy has counted.
"""

import argparse
import asyncio
import json
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from dyno_analysis.spans import folder as span_folder
from rigs.journal_rows import parsed
from rigs.proxy_process import ProxyProcess, proxy_process

from .upstream import soak_upstream

KILLS: Final = 100
ON_DISK_S: Final = 0.25  # after its end
CLIENTS: Final = 12
# Small answers, and those whose lines the telemetry thread makes: 500 chunks in one write.
_BEHAVIOURS: Final = ("answer", "answer", "stream", "burst", "server_error")
_LIFE_S: Final = (0.2, 1.5)  # of a proxy under load
_CONVERTED_S: Final = 10.0  # a compaction that the last proxy has started has ended by then
_BODY: Final = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()


@dataclass
class Kills:
    kills: int = 0
    lost_after_s: list[float] = field(default_factory=list)  # a lost row's: from its answer's end to the kill
    answered: int = 0
    rows: int = 0
    lost_rows: int = 0  # of requests that a killed proxy had open: the next one writes them
    nameless: int = 0  # of these, rows with ids of their own
    counted: int = 0  # answers that the next proxy has counted as having no row
    twice: int = 0
    unknown: int = 0  # rows of requests that nobody sent
    unreadable: int = 0  # whole lines whose checksum doesn't hold
    torn: int = 0  # last lines that a kill cut: of requests that are counted as lost
    parquet: int = 0  # files that journals have become meanwhile

    def lost(self, longer_than_s: float) -> int:
        return sum(each > longer_than_s for each in self.lost_after_s)

    def holds(self, on_disk_s: float = ON_DISK_S) -> bool:
        # A proxy has open what its clients wait for, and up to 8 answers that it hasn't looked into yet.
        uncounted = len(self.lost_after_s) > self.counted + self.nameless
        uncounted |= self.lost_rows > self.kills * (CLIENTS + 8)
        return not (self.twice or self.unknown or self.unreadable or self.lost(on_disk_s) or uncounted)

    def report(self) -> str:
        lines = (
            ("kills", self.kills),
            ("answers that ended before", self.answered),
            ("rows in the spans folder", self.rows),
            ("rows of requests that a kill cut off", self.lost_rows),
            ("answers counted as having no row", self.counted),
            (f"lost, ended within {ON_DISK_S * 1e3:.0f} ms of the kill", len(self.lost_after_s) - self.lost(ON_DISK_S)),
            ("lost, ended earlier", self.lost(ON_DISK_S)),
            ("the longest that a lost one had ended, ms", round(max(self.lost_after_s, default=0.0) * 1e3)),
            ("rows that are there twice", self.twice),
            ("rows that nobody asked for", self.unknown),
            ("unreadable lines", self.unreadable),
            ("last lines torn by a kill", self.torn),
            ("Parquet files made meanwhile", self.parquet),
        )
        return "\n".join(f"{what:<44}{count:>10,}" for what, count in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0, help="of the requests and of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dyno-kills-") as name:
        found = asyncio.run(kill_often(Path(name), arguments.kills, arguments.seed))
    print(found.report())
    return 0 if found.holds() else 1


async def kill_often(folder: Path, kills: int, seed: int = 0) -> Kills:
    """Start `dyno proxy`, load it, kill it, that many times; then count what is in `folder`/spans."""
    draw = random.Random(seed)  # noqa: S311 - the same in every run
    found = Kills()
    answered_s: dict[str, tuple[float, int]] = {}  # trace id → when its answer had ended, in which life
    killed_s: list[float] = []
    sent: set[str] = set()
    async with soak_upstream() as url, aiohttp.ClientSession() as session:
        for life in range(kills):
            async with proxy_process(folder, {"up": url}) as proxy:
                found.counted += await _killed(session, proxy)
                clients = [
                    asyncio.create_task(_ask(session, proxy, draw, sent, answered_s, life)) for _ in range(CLIENTS)
                ]
                await asyncio.sleep(draw.uniform(*_LIFE_S))
                killed_s.append(time.monotonic())
                proxy.signal(signal.SIGKILL)
                await proxy.exit_code()
                await asyncio.gather(*clients)
            found.kills += 1
        async with proxy_process(folder, {"up": url}) as proxy:  # counts what the last one left
            found.counted += await _killed(session, proxy)
    # What the client read after the kill had left the proxy before it, nobody knows when: it isn't held against it.
    ended = {trace: killed_s[life] - at_s for trace, (at_s, life) in answered_s.items() if at_s <= killed_s[life]}
    found.answered = len(ended)
    spans = folder / "spans"
    await asyncio.to_thread(_wait_for_compaction, spans)
    _count_lines(spans, found)
    outcomes = _outcomes(spans)
    counted = Counter(trace for trace, _ in outcomes)
    found.rows = len(outcomes)
    found.lost_rows = sum(outcome == "lost" for _, outcome in outcomes)
    found.twice = len(outcomes) - len(counted)
    # A lost one that had just begun has a trace id of its own.
    found.nameless = sum(trace not in sent for trace, outcome in outcomes if outcome == "lost")
    found.unknown = sum(trace not in sent for trace, outcome in outcomes if outcome != "lost")
    found.lost_after_s = [age_s for trace, age_s in ended.items() if trace not in counted]
    return found


async def _ask(
    session: aiohttp.ClientSession,
    proxy: ProxyProcess,
    draw: random.Random,
    sent: set[str],
    answered_s: dict[str, tuple[float, int]],
    life: int,
) -> None:
    """One request after the other until the proxy is gone."""
    while True:
        trace = f"{draw.getrandbits(128) or 1:032x}"
        headers = {
            "traceparent": f"00-{trace}-{draw.getrandbits(64) or 1:016x}-01",
            "x-behaviour": draw.choice(_BEHAVIOURS),
            "content-type": "application/json",
        }
        sent.add(trace)
        try:
            async with session.post(f"{proxy.base_url('up')}/chat/completions", data=_BODY, headers=headers) as answer:
                await answer.read()
        except aiohttp.ClientError:
            return
        answered_s[trace] = (time.monotonic(), life)


def _wait_for_compaction(spans: Path) -> None:
    """Until nothing is on its way; a compaction outlives the proxy that has started it."""
    deadline_s = time.monotonic() + _CONVERTED_S
    quiet = 0
    while quiet < 5 and time.monotonic() < deadline_s:
        quiet = 0 if _under_way(spans.iterdir()) else quiet + 1
        time.sleep(0.1)


def _under_way(paths: Iterable[Path]) -> bool:
    return any(path.suffix in {".tmp", ".checked", ".spill"} for path in paths)


def _count_lines(spans: Path, found: Kills) -> None:
    for path in spans.iterdir():
        if path.suffix == ".rejected":
            found.unreadable += len(path.read_bytes().splitlines())
        elif path.suffix == ".parquet" and not path.name.startswith("seed-"):
            found.parquet += 1
        elif path.suffix == ".jsonl":
            *lines, last = path.read_bytes().split(b"\n")
            found.torn += bool(last)
            for line in lines:
                try:
                    parsed(line)
                except (AssertionError, ValueError):
                    found.unreadable += 1


def _outcomes(spans: Path) -> list[tuple[str, str]]:
    with span_folder.connect(spans) as connection:
        return connection.execute("SELECT trace_id, outcome FROM spans").fetchall()


async def _killed(session: aiohttp.ClientSession, proxy: ProxyProcess) -> int:
    """How many answers of the proxy before have no row, as this one has counted at its start."""
    async with session.get(f"{proxy.url}/metrics") as response:
        found = re.search(r'dyno_spans_dropped_total\{reason="killed"\} (\S+)', await response.text())
    return 0 if found is None else int(float(found[1]))


if __name__ == "__main__":
    sys.exit(main())
