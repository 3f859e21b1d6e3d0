"""Bytes a span: what the proxy writes of requests of many lengths, as `dyno compact` leaves it."""

import asyncio
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import aiohttp
import duckdb

from rigs.fake_upstream import fake_upstream
from rigs.proxy_process import proxy_process

from .results import BYTES_CHUNK_TIMES, BYTES_RESPONSE_ID, BYTES_SPAN, Results, Setting, number, table

REQUESTS: Final = 12_000
_CLIENTS: Final = 48
_STREAMED: Final = 0.5
_TIME_SCALE: Final = 0.05  # of the simulated latencies, so that it ends in time
_LARGEST: Final = 4  # columns that are named


async def measure(setting: Setting, results: Results) -> str:
    """Of dyno alone: nobody else writes spans."""
    count = round(setting.of(REQUESTS, REQUESTS / 4))
    room = setting.room("storage")
    async with (
        fake_upstream(profile="metis", time_scale=_TIME_SCALE) as metis,
        fake_upstream(profile="openai", seed=1, time_scale=_TIME_SCALE) as other,
        proxy_process(room, {"metis": metis.url, "other": other.url}) as proxy,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        await _ask(session, proxy.url, count)
    spans = room / "spans"
    journal_bytes = sum(path.stat().st_size for path in spans.glob("*Z-*.jsonl"))
    await asyncio.to_thread(_compact, spans)
    sizes, rows, chunks = _column_bytes(spans)
    whole = sum(path.stat().st_size for path in spans.glob("*Z-*.parquet"))
    offsets, response_id = sizes.pop("chunk_offsets_us"), sizes.pop("response_id")
    bare = (whole - offsets - response_id) / rows
    results.add(BYTES_SPAN, "dyno", bare)
    results.add(BYTES_RESPONSE_ID, "dyno", response_id / rows)
    results.add(BYTES_CHUNK_TIMES, "dyno", offsets / chunks)
    largest = sizes.most_common(_LARGEST)
    cells = [
        ["a span without response id and chunk times", number(bare)],
        *([f"of it `{column}`", number(size / rows)] for column, size in largest),
        ["of it all else", number(bare - sum(size for _, size in largest) / rows)],
        ["the response id adds", number(response_id / rows)],
        ["a chunk's time adds", number(offsets / chunks, 2)],
        ["a span with all of it", number(whole / rows)],
        ["the same as a line of the journal", number(journal_bytes / rows)],
    ]
    return (
        f"{table(['bytes', 'dyno'], cells)}\n\n{rows:,} spans of requests to two simulated endpoints, with prompts and "
        f"answers of many lengths; half of them streams, {chunks:,} chunks in all. Parquet by `dyno compact`; "
        "a column's bytes are those that the files' own metadata names."
    )


async def _ask(session: aiohttp.ClientSession, url: str, count: int) -> None:
    draw = random.Random(0)  # noqa: S311 - the same in every run
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            words = round(draw.lognormvariate(4, 0.7)) + 5
            prompt = " ".join(f"{draw.getrandbits(16):x}" for _ in range(words))
            asked: dict[str, Any] = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": prompt}]}
            if draw.random() < _STREAMED:
                asked |= {"stream": True, "stream_options": {"include_usage": True}}
            endpoint = draw.choice(("metis", "other"))
            async with session.post(f"{url}/{endpoint}/v1/chat/completions", json=asked) as answer:
                await answer.read()

    await asyncio.gather(*(client() for _ in range(_CLIENTS)))


def _compact(spans: Path) -> None:
    """Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "dyno", "compact", "--background", "--spans", spans], check=True)


def _column_bytes(spans: Path) -> tuple[Counter[str], int, int]:
    """Compressed bytes of each column, over all Parquet files; the rows in them, and their chunks."""
    files = [str(path) for path in spans.glob("*Z-*.parquet")]
    with duckdb.connect() as connection:
        sizes = connection.execute(
            "SELECT split_part(path_in_schema, ',', 1), sum(total_compressed_size)::BIGINT "
            "FROM parquet_metadata(?) GROUP BY ALL",
            [files],
        ).fetchall()
        ((rows, chunks),) = connection.execute(
            "SELECT count(*), sum(len(chunk_offsets_us))::BIGINT FROM read_parquet(?)", [files]
        ).fetchall()
    return Counter(dict(sizes)), rows, chunks
