"""Upstreams that never end, never begin or never stop: the memory and the connections of `dyno proxy`."""

import asyncio
import contextlib
import gzip
import socket
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import brotli  # type: ignore[import-untyped]
import pytest

from rigs.process_memory import Memory, memory_of
from rigs.raw_http import dechunk, exchange, post_json, request_bytes
from rigs.raw_upstream import Serve, raw_upstream
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.until import LIMIT_S, until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MEGABYTE: Final = 1_000_000
CHAT = post_json("/e/v1/chat/completions", {"model": "m", "messages": [], "stream": True})
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
RESET = struct.pack("ii", 1, 0)  # lingering on, for 0 s


@dataclass
class Bench:
    proxy: RunningProxy
    memory: Memory
    gone: asyncio.Event  # the proxy closed the upstream's connection

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.proxy.url.removeprefix("http://").partition(":")
        return await asyncio.open_connection(host, int(port), limit=65536)


@contextlib.asynccontextmanager
async def proxied(serve: Serve, folder: Path) -> AsyncIterator[Bench]:
    gone = asyncio.Event()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            gone.set()

    async with raw_upstream(handled) as url, in_thread(running_proxy(folder, {"e": url + "/v1"})) as proxy:
        yield Bench(proxy, memory_of(proxy), gone)


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if length:
        await reader.readexactly(int(length[0].split(b":")[1]))


def endless(head: bytes, piece: bytes, pause_s: float = 0.0) -> tuple[Serve, list[int]]:
    """An upstream that writes the piece again and again, and counts the bytes that it could send."""
    sent = [0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            sent[0] += len(piece)
            await asyncio.sleep(pause_s)

    return serve, sent


ENDLESS = {
    "a sized body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000000\r\n\r\n", b"x" * 65536),
    "a body until the close": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "events": (STREAM, b"4000\r\n" + b"data: {}\n\n" * 1638 + b"    \r\n"),
    "an event": (STREAM + b"6\r\ndata: \r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "chunk extensions": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1;" + b"e" * 60_000 + b"\r\nx\r\n",
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_endless_body_that_nobody_reads(tmp_path: Path, name: str) -> None:
    """The upstream is held back, and the proxy's memory stays flat.

    If the client leaves, the outcome is client_cancelled.
    """
    serve, sent = endless(*ENDLESS[name])
    async with proxied(serve, tmp_path) as bench:
        before = bench.memory.begin()
        reader, writer = await bench.connect()
        writer.write(CHAT)
        await until(lambda: sent[0], "the first bytes")
        last = -1
        while sent[0] != last:
            last = sent[0]
            await asyncio.sleep(0.5)
        assert 0 < sent[0] < 30 * MEGABYTE
        assert bench.memory.peak() - before < 30 * MEGABYTE
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
        await asyncio.wait_for(bench.gone.wait(), LIMIT_S)
        (row,) = await bench.proxy.rows(1)
        assert (row["outcome"], row["status"]) == ("client_cancelled", 200)


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_endless_body_that_is_read(tmp_path: Path, name: str) -> None:
    """A hundred megabytes pass, and the proxy's memory doesn't grow."""
    serve, _ = endless(*ENDLESS[name])
    async with proxied(serve, tmp_path) as bench:
        before = bench.memory.begin()
        reader, writer = await bench.connect()
        writer.write(CHAT)
        received = 0
        async with asyncio.timeout(60):
            while received < 100 * MEGABYTE:
                received += len(await reader.read(1 << 18))
        assert bench.memory.peak() - before < 90 * MEGABYTE
        writer.transport.abort()
        await asyncio.wait_for(bench.gone.wait(), LIMIT_S)
        (row,) = await bench.proxy.rows(1)
        assert row["outcome"] == "client_cancelled"


def compressed(encoding: str, data: bytes) -> bytes:
    if encoding == "gzip":
        return gzip.compress(data, mtime=0)
    if encoding == "deflate":
        return zlib.compress(data)
    return brotli.compress(data, quality=5) if encoding == "br" else zstd.compress(data)


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_a_bomb(tmp_path: Path, encoding: str, kind: str) -> None:
    """400 MB of spaces, compressed to a few hundred kB, pass unchanged and aren't decompressed into the proxy's
    memory."""
    bomb = compressed(encoding, b"data: " + b" " * 400 * MEGABYTE)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(bomb)}\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head.encode() + b"\r\n" + bomb)
        await reader.read()

    async with proxied(serve, tmp_path) as bench:
        before = bench.memory.begin()
        answer = await exchange(bench.proxy.url, CHAT)
        assert answer.body == bomb
        (row,) = await bench.proxy.rows(1)
        assert row["response_bytes"] == len(bomb)
        assert bench.memory.peak() - before < 100 * MEGABYTE


async def test_two_hundred_thousand_chunks(tmp_path: Path) -> None:
    """Chunks of one byte each pass unchanged."""
    chunks = b"1\r\nx\r\n" * 200_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM + chunks + b"0\r\n\r\n")
        await reader.read()

    async with proxied(serve, tmp_path) as bench:
        answer = await exchange(bench.proxy.url, CHAT)
        assert answer.body == chunks + b"0\r\n\r\n"
        assert len(dechunk(answer.body[:600] + b"0\r\n\r\n")) == 100


@pytest.mark.parametrize(("head", "piece"), [(b"", b""), (b"HTTP/1.1 200 OK\r\nX: ", b"a"), (b"H", b"")])
async def test_a_head_that_never_ends(tmp_path: Path, head: bytes, piece: bytes) -> None:
    """The connection to an upstream that sends nothing, or rarely a byte, ends when the client leaves, and only
    then."""
    serve, _ = endless(head, piece, pause_s=0.02)
    async with proxied(serve, tmp_path) as bench:
        reader, writer = await bench.connect()
        writer.write(CHAT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)
        assert not bench.gone.is_set()
        writer.close()
        if piece:
            await asyncio.wait_for(bench.gone.wait(), LIMIT_S)
        (row,) = await bench.proxy.rows(1)
        assert (row["outcome"], row.get("status")) == ("client_cancelled", None)


async def has_room(writer: asyncio.StreamWriter) -> bool:
    try:
        await asyncio.wait_for(writer.drain(), 1)
    except TimeoutError:
        return False
    return True


async def test_an_upstream_that_does_not_read(tmp_path: Path) -> None:
    """If the upstream doesn't read, an upload is held back, isn't kept in memory, and ends when the client leaves."""

    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await over.wait()

    async with proxied(serve, tmp_path) as bench:
        before = bench.memory.begin()
        _, writer = await bench.connect()
        writer.write(b"POST /e/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000000\r\n\r\n")
        sent, room = 0, True
        while room:
            writer.write(b"x" * 65536)
            sent += 65536
            room = await has_room(writer)
        assert sent < 30 * MEGABYTE
        assert bench.memory.peak() - before < 30 * MEGABYTE
        reset(writer)  # a close would wait, like what was sent before it, until the proxy reads
        (row,) = await bench.proxy.rows(1)
        assert row["outcome"] == "client_cancelled"
        over.set()


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_an_answer_in_the_middle_of_an_upload(tmp_path: Path, end: str) -> None:
    """If an upstream refuses an upload early and closes, its answer reaches the client.

    The connection isn't used again.
    """
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        if end == "reset":
            await asyncio.sleep(0.05)
            reset(writer)

    async with proxied(serve, tmp_path) as bench:
        for _ in range(2):
            reader, writer = await bench.connect()
            writer.write(
                b"POST /e/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000
            )
            assert (await reader.readuntil(b"\r\n\r\nno")).startswith(b"HTTP/1.1 413 ")
            writer.close()
        rows = await bench.proxy.rows(2)
        assert [(row["outcome"], row["status"]) for row in rows] == [("http_error", 413)] * 2
        assert connections == 2


@pytest.mark.parametrize("surplus", [GOOD.replace(b"good", b"evil"), b"\r\n", b"0\r\n\r\n", b"junk"])
async def test_what_comes_on_a_resting_connection_is_nobodys(tmp_path: Path, surplus: bytes) -> None:
    """If an upstream sends more after its answer, its connection is closed. The next request gets its own answer."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(GOOD)
        await asyncio.sleep(0.05)
        writer.write(surplus)
        await read_request(reader)

    async with proxied(serve, tmp_path) as bench:
        for number in range(3):
            answer = await exchange(bench.proxy.url, request_bytes("GET", "/e/v1/x"))
            assert (answer.status, answer.body) == (200, b"good")
            assert connections == number + 1
            await asyncio.sleep(0.2)
        rows = await bench.proxy.rows(3)
        assert [row["connection_reused"] for row in rows] == [False] * 3


HALF_CLOSED = {
    "after a sized body": (GOOD, b"good", "ok"),
    "in a sized body": (GOOD[:-2], b"go", "truncated"),
    "in a body until the close": (b"HTTP/1.1 200 OK\r\n\r\ngood", b"good", "ok"),
    "in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngo", b"4\r\ngo", "truncated"),
}


@pytest.mark.parametrize("name", HALF_CLOSED)
async def test_half_a_close(tmp_path: Path, name: str) -> None:
    """An upstream that closes only its own direction counts as one that will send nothing more."""
    written, body, outcome = HALF_CLOSED[name]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(written)
        writer.write_eof()
        assert await reader.read() == b""

    async with proxied(serve, tmp_path) as bench:
        answer = await exchange(bench.proxy.url, request_bytes("GET", "/e/v1/x"))
        assert answer.body == body
        (row,) = await bench.proxy.rows(1)
        assert row["outcome"] == outcome


async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def resets(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def speaks_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read()


async def answers_unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GOOD.replace(b"good", b"evil"))
    await reader.readuntil(b"\r\n\r\n")


@pytest.mark.parametrize("serve", [closes, resets, speaks_first, answers_unasked])
async def test_a_connection_that_is_none(tmp_path: Path, serve: Serve) -> None:
    """An upstream that closes or writes as soon as it is connected gives a 502 each time, and never hangs."""
    async with proxied(serve, tmp_path) as bench:
        for _ in range(20):
            answer = await exchange(bench.proxy.url, CHAT)
            if b"evil" not in answer.body:  # the answer may as well be one to the request: nobody can tell
                assert answer.status == 502
        rows = await bench.proxy.rows(20)
        assert {row["outcome"] for row in rows} <= {"upstream_unreachable", "stream_error"}


@pytest.mark.parametrize(("scheme", "serve", "error_type"), [("http", None, "connection_refused"),
                                                             ("https", speaks_first, "tls"),
                                                             ("https", closes, None)])  # fmt: skip
async def test_no_connection(tmp_path: Path, scheme: str, serve: Serve | None, error_type: str | None) -> None:
    """If nothing listens, or the upstream doesn't speak TLS, the client gets a 502 that says so."""
    async with contextlib.AsyncExitStack() as listening:
        url = await listening.enter_async_context(raw_upstream(serve or closes))
        if serve is None:
            await listening.aclose()
        url = url.replace("http:", f"{scheme}:") + "/v1"
        proxy = await listening.enter_async_context(in_thread(running_proxy(tmp_path, {"e": url})))
        assert (await exchange(proxy.url, CHAT)).status == 502
        (row,) = await proxy.rows(1)
        assert row["outcome"] == "upstream_unreachable"
        assert error_type in (None, row["error_type"])
