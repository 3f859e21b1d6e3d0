"""Surroundings of a proxy that holds secrets: an HTTP proxy on the way to the endpoint, and a collector of spans."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from rigs.canaries import Canaries


@asynccontextmanager
async def http_proxy(canaries: Canaries) -> AsyncIterator[tuple[int, list[bytes]]]:
    """An HTTP proxy that answers instead of the upstream, and refuses tunnels. Its answers hold a secret too.

    Yields its port, and the heads that it was sent.
    """
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        said = canaries.plant("the HTTP proxy's answer")
        if head.startswith(b"CONNECT "):
            writer.write(f"HTTP/1.1 407 {said}\r\nX: {said}\r\nContent-Length: 30\r\n\r\n{said}\r\n\r\n".encode())
        else:
            writer.write(f"HTTP/1.1 200 OK\r\nServer: dyno-simulate\r\nContent-Length: 26\r\n\r\n{said}".encode())
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()


@asynccontextmanager
async def otlp_collector(exported: list[bytes]) -> AsyncIterator[str]:
    """Receives OTLP over HTTP and keeps the bodies. It refuses the first, so the exporter complains. Yields its URL."""

    async def take(request: web.BaseRequest) -> web.Response:
        exported.append(await request.read())
        return web.Response(status=400 if len(exported) == 1 else 200)

    runner = web.ServerRunner(web.Server(take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
