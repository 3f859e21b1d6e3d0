"""A proxy in the test's process between raw sockets, so that a test can look at its tasks and connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dyno_proxy.config.schema import EndpointConfig
from dyno_proxy.metrics.loop_lag import LoopLag
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.server.connection import MeasuredServer
from dyno_proxy.server.handler import Handler
from dyno_proxy.server.pages import Pages
from dyno_proxy.telemetry.telemetry import Telemetry
from dyno_proxy.upstream.endpoint import Endpoint
from rigs.journal_rows import rows_so_far
from rigs.raw_upstream import Serve, raw_upstream
from rigs.until import LIMIT_S, until


class Rig:
    """A proxy in this process, in front of one raw upstream."""

    def __init__(self, port: int, spans: Path) -> None:
        self.port = port
        self.upstream_connections = 0
        self._spans = spans

    async def send(self, request: bytes, *, up_to: bytes | None = None) -> bytes:
        """Everything that comes back until the proxy closes the connection, or up to these bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        async with asyncio.timeout(LIMIT_S):
            answer = await (reader.read() if up_to is None else reader.readuntil(up_to))
        writer.close()
        return answer

    async def rows(self, count: int) -> list[dict[str, Any]]:
        """The journal's rows. It waits until there are so many."""
        await until(lambda: len(rows_so_far(self._spans)) >= count, f"{count} rows in {self._spans}")
        return rows_so_far(self._spans)


@asynccontextmanager
async def rig(serve: Serve, spans: Path) -> AsyncIterator[Rig]:
    made: list[Rig] = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made[0].upstream_connections += 1
        await serve(reader, writer)

    async with raw_upstream(counted) as url, in_front_of(url + "/v1", spans) as proxy:
        made.append(proxy)
        yield proxy


@asynccontextmanager
async def in_front_of(url: str, spans: Path) -> AsyncIterator[Rig]:
    telemetry = Telemetry(spans, Metrics("test"))
    lag = LoopLag(asyncio.get_running_loop())
    handler = Handler({"e": Endpoint("e", EndpointConfig(url=url))}, telemetry, lag, Pages())
    server = MeasuredServer(handler, handler.refused)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield Rig(listening.sockets[0].getsockname()[1], spans)
    finally:
        listening.close()
        await server.shutdown(1.0)
        await asyncio.to_thread(telemetry.close)


def answering(*pieces: bytes, close: bool = False, reset: bool = False) -> Serve:
    """An upstream that reads each request and answers with these bytes, one write for each piece."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if length:
                await reader.readexactly(int(length[0].split(b":")[1]))
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)
            if reset:
                writer.transport.abort()
                return
            if close:
                return

    return serve
