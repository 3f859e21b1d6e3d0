"""`dyno collect` for tests: in this process, so that a test can look inside, or as the program that a user starts."""

import io
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dyno_proxy.collect.intake import QUEUE_BYTES
from dyno_proxy.collect.otlp import PROTOBUF
from dyno_proxy.collect.server import Collector
from dyno_proxy.config.schema import SpansConfig
from dyno_proxy.process.sockets import bind, url_of
from dyno_proxy.server.keys import ClientKeys
from rigs.journal_rows import rows_so_far
from rigs.programs import running

_READY = r"dyno collect: listening on (?P<url>http://\S+), spans in (?P<spans>.+)"
START_NS = 1_795_557_540_000_000_000


@dataclass(frozen=True)
class RunningCollector:
    url: str
    spans: Path

    def rows(self, folder: str = "collected") -> list[dict[str, Any]]:
        return rows_so_far(self.spans / folder)


@contextmanager
def running_collector(folder: Path, *flags: str) -> Iterator[RunningCollector]:
    """The program runs until the block ends."""
    folder.mkdir(exist_ok=True)
    spans = folder / "spans"
    command = [sys.executable, "-m", "dyno", "collect", "--listen", "127.0.0.1:0", "--spans", str(spans), *flags]
    with running(command, _READY, folder / "collector.log") as (ready,):
        yield RunningCollector(ready["url"], spans)


@asynccontextmanager
async def own_collector(
    spans: Path, keys: ClientKeys | None = None, *, queue_bytes: int = QUEUE_BYTES
) -> AsyncIterator[RunningCollector]:
    """A collector in this process and on this loop."""
    (sockets,) = bind("127.0.0.1:0", "listen")
    collector = Collector(spans, keys, SpansConfig(compact=False), queue_bytes=queue_bytes)
    await collector.listen(sockets)
    try:
        yield RunningCollector(url_of(sockets[0]), spans)
    finally:
        await collector.stop()


def message(*spans: dict[str, Any], scope: str = "tests", resource: dict[str, str] | None = None) -> bytes:
    """An ExportTraceServiceRequest. Each span has the given fields and those that every span needs."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    for name, value in (resource or {}).items():
        of_resource.resource.attributes.add(key=name).value.string_value = value
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name = scope
    for number, fields in enumerate(spans, start=1):
        plain = {
            "trace_id": number.to_bytes(16),
            "span_id": number.to_bytes(8),
            "name": "a span",
            "kind": 2,
            "start_time_unix_nano": START_NS,
            "end_time_unix_nano": START_NS + 1_000_000,
            **fields,
        }
        of_scope.spans.add(**plain)
    return request.SerializeToString()


async def post(
    session: aiohttp.ClientSession, url: str, body: bytes, content_type: str = PROTOBUF, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of the answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.post(
        f"{url}/v1/traces", data=io.BytesIO(body), headers={"Content-Type": content_type, **named}
    ) as response:
        return response.status, await response.read(), dict(response.headers)
