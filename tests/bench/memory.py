"""Memory with 1, 100 and 1,000 open streams, and over a million chunks."""

import asyncio
from typing import Final

from .clients import open_streams, stream_at
from .contestants import CONTESTANTS, Running, started
from .cost import memory
from .messages import Script
from .results import GROWTH, PSS, RSS, Results, Setting, missing_rows, number, table
from .upstream import Upstream, listen

NAMES: Final = ("nginx", "bare", "dyno")
LEVELS: Final = (1, 100, 1000)  # open streams
SLOW: Final = Script(chunks=600, every_ms=1000)
DENSE: Final = Script(chunks=1000, every_ms=10, per_write=10)
_DENSE_AT_ONCE: Final = 50
_SETTLE_S: Final = 2.0


async def measure(setting: Setting, results: Results) -> str:
    upstream, port = await listen(Upstream)
    names = setting.names(NAMES)
    async with upstream, started(names, setting.room("memory"), port) as field:
        for name, running in field.running.items():
            await _open_streams(name, running, results)
    header = ["MB: RSS / PSS", *(f"{level:,} open" for level in LEVELS), "kB (RSS) a stream"]
    rows = []
    for name in field.running:
        rss, pss = ([results.values(f"{kind} {level}", name)[0] for level in LEVELS] for kind in (RSS, PSS))
        cells = [" / ".join(map(number, pair)) for pair in zip(rss, pss, strict=True)]
        rows.append([CONTESTANTS[name].title, *cells, number((rss[-1] - rss[0]) * 1e3 / (LEVELS[-1] - LEVELS[0]))])
    rows += missing_rows(field.missing, {name: each.title for name, each in CONTESTANTS.items()}, len(header))
    section = table(header, rows)
    if "dyno" not in names:
        return section
    return f"{section}\n\n{await _through_chunks(setting, results)}"


async def _open_streams(name: str, running: Running, results: Results) -> None:
    async with open_streams(running.port, running.contestant.request(SLOW)) as grow:
        for level in LEVELS:
            await grow(level)
            await asyncio.sleep(_SETTLE_S)
            now = memory(running.pid)
            results.add(f"{RSS} {level}", name, now.rss / 1e6)
            results.add(f"{PSS} {level}", name, now.pss / 1e6)


async def _through_chunks(setting: Setting, results: Results) -> str:
    upstream, port = await listen(Upstream)
    waves = round(setting.of(20, 4))  # each of 50,000 chunks
    sizes_mb: list[float] = []
    async with upstream, started(["dyno"], setting.room("chunks"), port) as field:
        running = field.running["dyno"]
        for _ in range(waves + 4):
            await stream_at(running.port, running.contestant.request(DENSE), [0.02 * n for n in range(_DENSE_AT_ONCE)])
            await asyncio.sleep(0.5)  # spans are written
            sizes_mb.append(memory(running.pid).rss / 1e6)
    warm_mb, end_mb = sizes_mb[3], sizes_mb[-1]
    results.add(GROWTH, "dyno", end_mb - warm_mb)
    chunks = waves * _DENSE_AT_ONCE * DENSE.chunks
    warm = 4 * _DENSE_AT_ONCE * DENSE.chunks
    return (
        f"Through dyno, {_DENSE_AT_ONCE} streams at once: {number(warm_mb)} MB (RSS) after the first {warm:,} chunks, "
        f"{number(end_mb)} MB {chunks:,} chunks later; at most {number(max(sizes_mb[3:]))} MB between."
    )
