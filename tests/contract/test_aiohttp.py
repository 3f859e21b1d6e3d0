"""What server.py leans on in aiohttp without a promise: when a test here fails, a new aiohttp needs a closer look."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web

from dyno_proxy.server import CLOSE, KEEP, MeasuredProtocol, MeasuredServer

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(handle: Handle, refused: list[tuple[int, str]] | None = None) -> AsyncIterator[Streams]:
    """A client's connection to a MeasuredServer around `handle`."""

    def note(status: int, why: str, received_ns: int, started_at_unix_us: int) -> None:
        assert 0 < received_ns <= time.monotonic_ns()
        assert started_at_unix_us > 0
        if refused is not None:
            refused.append((status, why))

    server = MeasuredServer(handle, note)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        listening.close()
        await server.shutdown(1.0)


def protocol_of(request: web.BaseRequest) -> MeasuredProtocol:
    return cast(MeasuredProtocol, request.protocol)


async def test_raw_writes_and_keep_alive() -> None:
    """A Relayed response adds no byte to what was written raw, and its keep_alive decides on the connection."""
    answers = [KEEP, KEEP, CLOSE]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol = protocol_of(request)
        protocol.take_stamp()
        assert protocol.transport is not None
        protocol.transport.write(b"HTTP/1.1 204 Fine\r\n\r\n")
        return answers.pop(0)

    async with connected(handle) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 204 Fine\r\n\r\n"
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.read() == b"HTTP/1.1 204 Fine\r\n\r\n"


async def test_one_stamp_for_each_request() -> None:
    """Every parsed head has its stamp, pipelined ones and those with a late body included; none is left over."""
    left: list[int] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol = protocol_of(request)
        received_ns, _ = protocol.take_stamp()
        body = await request.read()
        left.append(len(protocol._stamps))
        return web.Response(
            text=f"{len(body)} {received_ns <= time.monotonic_ns()}", headers={"Connection": "keep-alive"}
        )

    async with connected(handle) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await asyncio.sleep(0.02)
        writer.write(b"cd" + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        bodies = []
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            bodies.append(await reader.readexactly(6))
        assert bodies == [b"4 True", b"0 True", b"0 True"]
        assert left[-1] == 0


async def test_malformed_requests_are_heard_of() -> None:
    """What aiohttp's parser refuses reaches `refused` once, with a 4xx, and closes the connection."""

    async def handle(_request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError("a malformed request reached the handler")

    for head in (
        b"GARBAGE\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ):
        refused: list[tuple[int, str]] = []
        async with connected(handle, refused) as (reader, writer):
            writer.write(head)
            answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith((b"HTTP/1.0 4", b"HTTP/1.1 4")), answer
        assert len(refused) == 1
        assert 400 <= refused[0][0] < 500


async def test_a_client_that_leaves_cancels_its_handler() -> None:
    """The handler of a client that left is cancelled at once."""
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol_of(request).take_stamp()
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return KEEP

    async with connected(handle) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(begun.wait(), 5)
        writer.close()
        assert await asyncio.wait_for(cancelled.wait(), 5)


async def test_compressed_request_bodies_pass_as_they_are() -> None:
    """aiohttp does not decompress what the client compressed."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol_of(request).take_stamp()
        return web.Response(body=await request.read())

    async with connected(handle) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(3) == b"raw"
