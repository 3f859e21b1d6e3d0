"""The OTLP endpoint of `dyno proxy` is down, or accepts connections and never answers: traffic isn't affected."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from rigs.network import refusing_port
from rigs.raw_http import exchange
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import in_thread, running_proxy
from rigs.scripted_upstream import ANSWER, ASK, read_request
from rigs.until import until

REQUESTS: Final = 150
SETTINGS: Final = {
    "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
    "OTEL_BSP_MAX_QUEUE_SIZE": "20",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10",
    "OTEL_BSP_SCHEDULE_DELAY": "50",
}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(ANSWER)


async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 16):
        pass


@asynccontextmanager
async def collector_that_is(state: str) -> AsyncIterator[str]:
    """The Collector's address: either nothing listens there, or a server that never answers."""
    if state == "down":
        yield f"http://127.0.0.1:{refusing_port()}"
    else:
        async with raw_upstream(never) as url:
            yield url


@pytest.mark.parametrize(
    ("protocol", "state"),
    [("http/protobuf", "down"), ("http/protobuf", "silent"), ("grpc", "down"), ("grpc", "silent")],
)
async def test_traffic_costs_nothing(tmp_path: Path, protocol: str, state: str) -> None:
    """Requests go in turns through a proxy with such a Collector and through one without. All are answered in the same
    time and are in the span files. Nothing is lost, the log says why the spans wait, and the end is in time.
    """
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    async with raw_upstream(answer) as upstream, collector_that_is(state) as url:
        otlp = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, **SETTINGS}
        endpoints = {"e": f"{upstream}/v1"}
        async with (
            in_thread(running_proxy(tmp_path / "without", endpoints)) as without,
            in_thread(running_proxy(tmp_path / "with", endpoints, environment=otlp)) as beside,
        ):
            took_s: dict[str, list[float]] = {without.url: [], beside.url: []}
            for _ in range(REQUESTS):
                for proxy_url, times_s in took_s.items():
                    begun_s = time.perf_counter()
                    came = await exchange(proxy_url, ASK)
                    times_s.append(time.perf_counter() - begun_s)
                    assert came.status == 200
                    assert came.content.endswith(b"[DONE]\n\n")
            assert len(await beside.rows(REQUESTS)) == REQUESTS
            await until(lambda: "Spans wait in the span files" in beside.log.read_text(), "the log's line", every_s=0.1)
            metrics = beside.metrics()
            assert "dyno_otlp_spans_sent_total 0.0" in metrics
            assert 'dyno_otlp_spans_dropped_total{reason="too_old"} 0.0' in metrics
            assert "dyno_otlp" not in without.metrics()
            ending_s = time.monotonic()
    assert time.monotonic() - ending_s < 30.0
    assert f"{REQUESTS} spans aren't sent yet" in (tmp_path / "with" / "proxy.log").read_text()
    without_s, with_s = (statistics.median(times_s) for times_s in took_s.values())
    print(
        f"median of {REQUESTS}: {without_s * 1e6:.0f} µs without OTLP, {with_s * 1e6:.0f} µs with one that is {state}"
    )
    assert with_s < 1.5 * without_s + 0.002
