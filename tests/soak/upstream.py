"""The endpoint of the soak: does what a request's `x-behaviour` header says, faults included."""

import asyncio
import gzip
import json
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal

EVENT_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
LARGE_BYTES: Final = 2_000_000
_NOISE: Final = random.Random(1).randbytes(65_536)  # noqa: S311 - bytes that don't compress
_TOKENS: Final = 20
_EVERY_S: Final = 0.02


End = Literal["keep", "close", "reset", "wait"]  # what becomes of a connection; wait: until the proxy leaves
Behaviour = Callable[[asyncio.StreamWriter], Awaitable[End]]


@asynccontextmanager
async def soak_upstream() -> AsyncIterator[str]:
    """Runs until the block ends, which closes its connections; yields its base URL."""
    open_connections: set[asyncio.StreamWriter] = set()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        try:
            while (end := await _serve(reader, writer)) == "keep":
                pass
            if end == "wait":
                await reader.read()
            elif end == "reset":
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the proxy went first
        finally:
            open_connections.discard(writer)
            writer.close()

    server = await asyncio.start_server(handled, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        for writer in list(open_connections):
            writer.transport.abort()
        await asyncio.sleep(0.1)  # for their handlers to hear of it


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> End:
    """One request. Raises IncompleteReadError where the proxy leaves."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
    left = int(headers.get("content-length", "0"))
    while left:
        piece = await reader.read(min(left, 65_536))
        if not piece:
            return "close"
        left -= len(piece)
    end = await BEHAVIOURS[headers["x-behaviour"]](writer)
    await writer.drain()
    return end


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: %b\n\n" % json.dumps({"id": "soak", "model": "m", "choices": choices}).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _sized(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


_TOKEN: Final = _event({"content": " token"})
_USAGE: Final = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":20,"total_tokens":29}}\n\n'
_END: Final = (_event({}, "stop"), _USAGE, b"data: [DONE]\n\n")
_ANSWER: Final = json.dumps(
    {
        "id": "soak",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    }
).encode()


async def _stream(writer: asyncio.StreamWriter) -> End:
    writer.write(EVENT_HEAD + b"\r\n")
    for _ in range(_TOKENS):
        writer.write(_chunk(_TOKEN))
        await writer.drain()  # raises where the proxy is gone
        await asyncio.sleep(_EVERY_S)
    writer.write(b"".join(map(_chunk, _END)) + b"0\r\n\r\n")
    return "keep"


async def _burst(writer: asyncio.StreamWriter) -> End:
    writer.write(EVENT_HEAD + b"\r\n" + _chunk(_TOKEN * 500 + b"".join(_END)) + b"0\r\n\r\n")
    return "keep"


async def _compressed_stream(writer: asyncio.StreamWriter) -> End:
    packed = gzip.compress(_TOKEN * _TOKENS + b"".join(_END), mtime=0)
    writer.write(EVENT_HEAD + b"Content-Encoding: gzip\r\n\r\n")
    for at in range(0, len(packed), 50):
        writer.write(_chunk(packed[at : at + 50]))
        await asyncio.sleep(0.005)
    writer.write(b"0\r\n\r\n")
    return "keep"


async def _large(writer: asyncio.StreamWriter) -> End:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(0, LARGE_BYTES, len(_NOISE)):
        writer.write(_chunk(_NOISE))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    return "keep"


async def _endless(writer: asyncio.StreamWriter) -> End:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(_chunk(_NOISE))
        await writer.drain()


async def _break_off(writer: asyncio.StreamWriter, end: End) -> End:
    writer.write(EVENT_HEAD + b"\r\n" + _chunk(_TOKEN) * 3)
    await asyncio.sleep(0.05)
    return end


async def _bad_chunks(writer: asyncio.StreamWriter) -> End:
    writer.write(EVENT_HEAD + b"\r\n" + _chunk(_TOKEN))
    await asyncio.sleep(0.02)
    writer.write(b"no size\r\n" + _NOISE[:1000])
    return "wait"


async def _end_at_once(_writer: asyncio.StreamWriter, end: End) -> End:
    return end


def _says(data: bytes, end: End = "keep") -> Behaviour:
    async def say(writer: asyncio.StreamWriter) -> End:
        writer.write(data)
        return end

    return say


_ERROR_EVENT: Final = b'data: {"error":{"message":"boom"}}\n\n'
BEHAVIOURS: Final[dict[str, Behaviour]] = {
    "stream": _stream,
    "burst": _burst,
    "compressed_stream": _compressed_stream,
    "answer": _says(_sized("200 OK", _ANSWER)),
    "compressed_answer": _says(_sized("200 OK", gzip.compress(_ANSWER, mtime=0), "Content-Encoding: gzip")),
    "bomb": _says(_sized("200 OK", gzip.compress(b" " * 50_000_000 + _ANSWER, 9, mtime=0), "Content-Encoding: gzip")),
    "large": _large,
    "rate_limit": _says(_sized("429 Too Many Requests", b'{"error":{"message":"slow"}}', "Retry-After: 2")),
    "auth": _says(_sized("401 Unauthorized", b'{"error":{"message":"who?"}}')),
    "server_error": _says(_sized("500 Internal Server Error", b"<html>oops</html>")),
    "error_in_stream": _says(EVENT_HEAD + b"\r\n" + _chunk(_TOKEN + _ERROR_EVENT) + b"0\r\n\r\n"),
    "no_finish": _says(EVENT_HEAD + b"\r\n" + _chunk(_TOKEN + b"data: [DONE]\n\n") + b"0\r\n\r\n"),
    "reset": lambda writer: _break_off(writer, "reset"),
    "close": lambda writer: _break_off(writer, "close"),
    "stall_in_stream": lambda writer: _break_off(writer, "wait"),
    "stall": lambda writer: _end_at_once(writer, "wait"),
    "hang_up": lambda writer: _end_at_once(writer, "close"),
    "bad_chunks": _bad_chunks,
    "endless": _endless,
    "garbage": _says(_NOISE, "wait"),
    "header_flood": _says(b"HTTP/1.1 200 OK\r\nX-Flood: " + b"y" * 100_000 + b"\r\n\r\n", "wait"),
    "http_0_9": _says(b"<html>hello</html>", "wait"),
}
