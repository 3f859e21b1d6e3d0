"""The benchmark's upstream: a bare protocol that answers with bytes made beforehand, as a request's script says."""

import asyncio
import time
from typing import Final, cast

from .messages import ANSWER, CONTENT_LENGTH, STREAM_HEAD, EventMaker, Script, read_script

BACKLOG: Final = 4096


class Upstream(asyncio.Protocol):
    """One connection, one request at a time. A write that is late doesn't delay those after it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        received = self._received + data
        head_end = received.find(b"\r\n\r\n") + 4
        length = CONTENT_LENGTH.search(received)
        if head_end < 4 or (length is not None and len(received) < head_end + int(length[1])):
            self._received = received
            return
        self._received = b""
        script = read_script(received)
        if not script.chunks:
            self._transport.write(ANSWER)
            return
        self._stream(script, now_ns)

    def _stream(self, script: Script, now_ns: int) -> None:
        self._script = script
        self._left = script.chunks
        self._events = EventMaker(now_ns)
        self._transport.write(STREAM_HEAD)
        self._due_s = self._loop.time() + script.first_ms / 1000
        if script.first_ms:
            self._loop.call_at(self._due_s, self._write)
        else:
            self._write()

    def _write(self) -> None:
        if self._transport.is_closing():
            return
        if not self._left:
            self._transport.write(self._events.end(time.monotonic_ns()))
            self._ended()
            return
        count = min(self._script.per_write, self._left)
        self._left -= count
        self._transport.write(self._events.token(time.monotonic_ns()) * count)
        self._due_s += self._script.every_ms / 1000
        self._loop.call_at(self._due_s, self._write)

    def _ended(self) -> None:
        """A stream's last byte is written."""


class OtlpSink(asyncio.Protocol):
    """Takes whatever OTLP/HTTP sends, and answers as a collector does."""

    def __init__(self) -> None:
        self._missing = 0  # bytes of the body
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            length = CONTENT_LENGTH.search(head)
            self._missing = 0 if length is None else int(length[1])
        self._missing -= len(data)
        if not self._missing:
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
            )


class StalledSink(asyncio.Protocol):
    """Accepts, reads, and never answers."""


async def listen(protocol: type[asyncio.Protocol]) -> tuple[asyncio.Server, int]:
    """On a free port of this machine; returns the port too."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=BACKLOG)
    return server, server.sockets[0].getsockname()[1]
