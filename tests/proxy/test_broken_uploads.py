"""Endpoints that answer, or die, while a client still sends its body, in a real `dyno proxy`."""

import asyncio
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rigs.scripted_upstream import proxied
from rigs.until import LIMIT_S

UPLOADS = 80
PIECE = b"a" * 16_384
PIECES = 24
HEAD = b"POST /e/v1/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)


async def upload(url: str, path: bytes, seed: int) -> bytes:
    """Send a body slowly, and read meanwhile; returns the status line, or b"" after a reset or an empty close."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    chance = random.Random(seed)  # noqa: S311  # of pauses

    async def send() -> None:
        writer.write(HEAD % (path, len(PIECE) * PIECES))
        for _ in range(PIECES):
            writer.write(PIECE)
            await writer.drain()
            await asyncio.sleep(chance.random() * 0.004)

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(LIMIT_S):
            return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()


async def many(url: str, path: bytes = b"chat/completions") -> Counter[bytes]:
    found: list[bytes] = []
    for first in range(0, UPLOADS, 8):
        found += await asyncio.gather(*(upload(url, path, seed) for seed in range(first, first + 8)))
    return Counter(line[:12] for line in found)


def after(bytes_before: int, then: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> object:
    """An endpoint that reads so much of each request, and then does this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(bytes_before)
        await then(writer)

    return serve


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("then", [reset, hang_up])
@pytest.mark.parametrize("path", [b"chat/completions", b"files"])
async def test_an_endpoint_that_dies_during_an_upload(
    tmp_path: Path, then: Callable[[asyncio.StreamWriter], Awaitable[None]], path: bytes
) -> None:
    """The client gets 502, and the row blames the endpoint, wherever in the body it happens."""
    async with proxied(after(100_000, then), tmp_path) as proxy:  # type: ignore[arg-type]
        assert await many(proxy.url, path) == {b"HTTP/1.1 502": UPLOADS}
        rows = await proxy.rows(UPLOADS)
        assert "Traceback" not in proxy.log.read_text()
    assert {row["outcome"] for row in rows} == {"upstream_unreachable"}
    assert {row["error_type"] for row in rows} <= {"connection_closed", "connection_reset"}


@pytest.mark.parametrize("status", [413, 401, 429])
async def test_an_endpoint_that_answers_early(tmp_path: Path, status: int) -> None:
    """Each client gets the endpoint's answer, though it hasn't sent its whole body, and the log has no traceback."""

    async def refuse(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno" % status)
        await writer.drain()
        await asyncio.sleep(0.5)

    async with proxied(after(50_000, refuse), tmp_path) as proxy:  # type: ignore[arg-type]
        assert await many(proxy.url) == {b"HTTP/1.1 %d" % status: UPLOADS}
        rows = await proxy.rows(UPLOADS)
        assert "Traceback" not in proxy.log.read_text()
    assert {row["status"] for row in rows} == {status}
