"""A mirror in the test's process, and raw upstreams that keep what they receive."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dyno_proxy.config.schema import EndpointConfig, MirrorConfig
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.http.heads import RawHeaders
from dyno_proxy.metrics.gc_pauses import GcPauses
from dyno_proxy.metrics.loop_lag import LoopLag
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.readers import APIS
from dyno_proxy.server.bracket import Requests
from dyno_proxy.server.deferred import EndedRequests
from dyno_proxy.server.mirror import Mirror
from dyno_proxy.telemetry.telemetry import Telemetry
from dyno_proxy.upstream.endpoint import Endpoint
from rigs.journal_rows import stored
from rigs.until import until

CHAT = "/chat/completions"
BODY = b'{"messages": [{"role":"user","content":"h\xc3\xa9"}], "model":"small" ,"stream":true}'
COPY = BODY.replace(b"small", b"large")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


ANSWER = HEAD + framed(EVENT) + framed(END) + b"0\r\n\r\n"


@dataclass
class Upstream:
    """A raw upstream: `serve` gets the head and the body of each request, and answers it."""

    port: int = 0
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    open: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def read(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
        self.requests.append((head, body))


Answers = Callable[[Upstream, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answering(*pieces: bytes, times: int | None = None) -> Answers:
    """Each request is answered with these bytes. After the given number of requests the connection is closed."""

    async def serve(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served = 0
        while times is None or served < times:
            await upstream.read(reader)
            served += 1
            for piece in pieces:
                writer.write(piece)
                await writer.drain()

    return serve


async def silent(upstream: Upstream, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await upstream.read(reader)
    await reader.read()


@asynccontextmanager
async def upstream_of(answers: Answers) -> AsyncIterator[Upstream]:
    upstream = Upstream()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.connections += 1
        upstream.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the proxy closed it
            await answers(upstream, reader, writer)
        writer.close()
        upstream.open -= 1

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()


@dataclass
class Rig:
    """A mirror of endpoint `a` to `b` in this process; `offer` is what the handler calls for each request."""

    mirror: Mirror
    ended_requests: EndedRequests
    a: Endpoint
    b: Endpoint
    telemetry: Telemetry
    spans: Path
    results: list[tuple[str, str]] = field(default_factory=list)

    def offer(
        self,
        body: bytes = BODY,
        headers: RawHeaders = ((b"Content-Type", b"application/json"),),
        rest: str = CHAT,
        baggage: dict[str, Any] | None = None,
    ) -> Exchange:
        original = Exchange(1, 1, "POST", f"/a/v1{rest}")
        original.trace_id, original.span_id = 0xABC, 0xDEF
        original.operation, original.reader = "chat", APIS[rest].reader if rest in APIS else None
        original.baggage = baggage or {}
        original.take_request(body)
        self.mirror.offer(original, self.a, self.b, headers, rest, body)
        return original

    async def ended(self, count: int) -> list[tuple[str, str]]:
        """What became of the requests that were chosen. It waits until there are so many of them."""
        await until(lambda: len(self.results) >= count, f"{count} copies' ends")
        return self.results

    async def rows(self) -> list[dict[str, Any]]:
        self.ended_requests.finish_all()
        await asyncio.to_thread(self.telemetry.flush)
        return stored(self.spans)


@asynccontextmanager
async def mirroring(
    url: str, spans: Path, config: dict[str, Any] | None = None, *, share: float = 1.0, max_requests: int = 4
) -> AsyncIterator[Rig]:
    """`config`: configuration keys of the endpoint that gets the copies."""
    telemetry = Telemetry(spans, Metrics("test"))
    mirror_config = MirrorConfig(to="b", share=share, max_requests=max_requests)
    a = Endpoint("a", EndpointConfig(url="http://a.example/v1", mirror=mirror_config))
    b = Endpoint("b", EndpointConfig(url=url, model="large", **(config or {})))
    lag = LoopLag(asyncio.get_running_loop())
    results: list[tuple[str, str]] = []
    ended = EndedRequests(telemetry.record)
    mirror = Mirror(Requests(telemetry.started, ended, lag, GcPauses()), lambda *result: results.append(result))
    try:
        yield Rig(mirror, ended, a, b, telemetry, spans, results)
    finally:
        await mirror.close()
        ended.finish_all()
        b.pool.close()
        await asyncio.to_thread(telemetry.close)
