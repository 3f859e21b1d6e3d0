"""A plain socket for tests that count bytes: nothing stands between the test and the wire."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rigs.until import LIMIT_S


@dataclass
class Answer:
    """All that came back, until the peer closed or the message ended by its own framing."""

    head: bytes
    body: bytes  # as on the wire: chunk framing included
    reads: list[tuple[int, bytes]]  # (monotonic ns, bytes)
    reset: bool = False

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines if line)]

    @property
    def content(self) -> bytes:
        """The body without chunk framing."""
        if ("transfer-encoding", "chunked") not in [(name.lower(), value) for name, value in self.headers]:
            return self.body
        return b"".join(dechunk(self.body))


def dechunk(body: bytes) -> list[bytes]:
    """The data of each HTTP chunk. Raises ValueError where the framing is broken or has no end."""
    chunks: list[bytes] = []
    while True:
        size_line, separator, body = body.partition(b"\r\n")
        if not separator:
            raise ValueError("the chunked body has no end")
        size = int(size_line, 16)
        if size == 0:
            return chunks
        chunks.append(body[:size])
        if body[size : size + 2] != b"\r\n":
            raise ValueError("a chunk that doesn't end where it said")
        body = body[size + 2 :]


def request_bytes(method: str, target: str, *headers: tuple[str, str], body: bytes = b"", close: bool = True) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def post_json(target: str, payload: Any) -> bytes:
    body = json.dumps(payload).encode()
    return request_bytes("POST", target, ("Content-Type", "application/json"), body=body)


async def exchange(url: str, request: bytes, limit_s: float = LIMIT_S) -> Answer:
    """Send the bytes, then read until the peer closes or resets. Raises TimeoutError if it does neither."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    reads: list[tuple[int, bytes]] = []
    reset = False
    try:
        async with asyncio.timeout(limit_s):
            writer.write(request)
            while data := await reader.read(1 << 20):
                reads.append((time.monotonic_ns(), data))
    except ConnectionResetError:
        reset = True
    finally:
        writer.close()
    head, _, body = b"".join(data for _, data in reads).partition(b"\r\n\r\n")
    return Answer(head, body, reads, reset)
