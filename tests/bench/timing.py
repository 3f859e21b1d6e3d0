"""The proxy's stamps against an upstream that knows when it wrote."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from .clients import Stream, ask_at, due_times, stream_at
from .contestants import Running, started
from .messages import Script
from .results import ERROR_P50, ERROR_P99, Results, Setting, number, percentile, table
from .streams import PACED, RATE
from .upstream import Upstream, listen

SCRIPT: Final = Script(chunks=20, every_ms=30, first_ms=50)
PROBES: Final = 40.0  # streams a second whose stamps are compared
REQUESTS: Final = 400.0  # a second, each of which makes a span
EVENTS: Final = ("first token", "chunk", "end")
_WRITTEN_S: Final = 1.0  # after so long a span is on disk


async def measure(setting: Setting, results: Results) -> str:
    """Of dyno alone: nobody else stamps."""
    duration_s = setting.of(10.0, 3.0)
    upstream, port = await listen(Upstream)
    async with upstream, started(["dyno"], setting.room("timing"), port) as field:
        running = field.running["dyno"]
        await _probe(running, 1.0)
        for name, beside in LOADS.items():
            load = asyncio.create_task(beside(running, duration_s + 1))
            streams = await _probe(running, duration_s)
            await load
            await asyncio.sleep(_WRITTEN_S)
            _compare(streams, rows_by_read_ns(running.spans), name, results)
    header = ["µs", *(f"{event}, {p}" for event in EVENTS for p in ("p50", "p99"))]
    rows = [
        [name, *(number(results.median(f"{p} {event}", name), 0) for event in EVENTS for p in (ERROR_P50, ERROR_P99))]
        for name in LOADS
    ]
    return (
        f"{table(header, rows)}\n\nThe span's time from `sent` to each event, less the upstream's own time from "
        f"reading the request to writing that event: {SCRIPT.chunks} chunks {SCRIPT.every_ms} ms apart, "
        f"{PROBES * duration_s:,.0f} streams each. Both hops over the loopback are in it."
    )


async def _probe(running: Running, duration_s: float) -> list[Stream]:
    due_s = due_times(PROBES, duration_s, seed=1)
    return await stream_at(running.port, running.contestant.request(SCRIPT), due_s)


async def _idle(_running: Running, _duration_s: float) -> None:
    return


async def _streams(running: Running, duration_s: float) -> None:
    await stream_at(running.port, running.contestant.request(PACED), due_times(RATE, duration_s, seed=2))


async def _requests(running: Running, duration_s: float) -> None:
    await ask_at(running.port, running.contestant.request(), due_times(REQUESTS, duration_s, seed=3))


LOADS: Final[dict[str, Callable[[Running, float], Coroutine[None, None, None]]]] = {
    "nothing beside": _idle,
    f"{RATE * PACED.chunks:,.0f} chunks/s beside": _streams,
    f"{REQUESTS:g} spans/s written beside": _requests,
}


def rows_by_read_ns(spans: Path) -> dict[int, dict[str, Any]]:
    """The rows so far of streams, by the stamp that the upstream put into their id."""
    lines = [line for path in spans.glob("*.jsonl") for line in path.read_bytes().split(b"\n") if line]
    rows = [json.loads(line) for line in lines]
    return {int(row["response_id"].removeprefix("chatcmpl-")): row for row in rows if row.get("streamed")}


def _compare(streams: list[Stream], rows: dict[int, dict[str, Any]], name: str, results: Results) -> None:
    """Raises KeyError where a stream has no span."""
    errors_us: dict[str, list[float]] = {event: [] for event in EVENTS}
    for stream in streams:
        row = rows[stream.read_ns]
        written_us = [(each - stream.read_ns) / 1e3 for each in stream.written_ns]
        errors_us["first token"].append(row["first_token_us"] - row["sent_us"] - written_us[0])
        errors_us["end"].append(row["done_us"] - row["sent_us"] - written_us[-1])
        offsets_us = row["chunk_offsets_us"]
        errors_us["chunk"] += [
            offset - row["sent_us"] - written
            for offset, written in zip(offsets_us, written_us[: len(offsets_us)], strict=True)
        ]
    for event, errors in errors_us.items():
        ordered = sorted(map(abs, errors))
        results.add(f"{ERROR_P50} {event}", name, percentile(ordered, 50))
        results.add(f"{ERROR_P99} {event}", name, percentile(ordered, 99))
