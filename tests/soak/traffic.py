"""The soak's requests: each kind with its weight, what its client does, and the only outcome that it may have.

A kind's name travels in the request's baggage as `dyno.workload`, so each row says of which kind it is. What can't be
parsed carries none: its rows are `MALFORMED`.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from .upstream import LARGE_BYTES

MALFORMED: Final = "malformed"
ENDPOINTS: Final = ("up", "limited", "down")  # `limited` has time limits, nothing listens at `down`
CLIENT_LIMIT_S: Final = 30.0
_MODELS: Final = ("gpt-oss-120b", "llama-70b", "qwen3")
_CHAT: Final = "/chat/completions"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Client = Callable[[Connection, bytes], Awaitable[None]]


class Kind(NamedTuple):
    name: str
    weight: int
    outcome: str
    behaviour: str
    client: Client
    path: str = "/up/v1" + _CHAT
    body_bytes: int = 0  # 0: a small JSON body


async def read_all(connection: Connection, request: bytes) -> None:
    """Send it, and read until the peer closes."""
    reader, writer = connection
    writer.write(request)
    await writer.drain()
    while await reader.read(65_536):
        pass


async def read_slowly(connection: Connection, request: bytes) -> None:
    reader, writer = connection
    writer.write(request)
    while True:
        data = await reader.read(16_384)
        if not data:
            return
        await asyncio.sleep(len(data) / 1_600_000)


async def leave_after_events(connection: Connection, request: bytes) -> None:
    reader, writer = connection
    writer.write(request)
    for _ in range(3):
        await reader.readuntil(b"data: ")


async def leave_while_waiting(connection: Connection, request: bytes) -> None:
    connection[1].write(request)
    await asyncio.sleep(0.3)


async def leave_while_uploading(connection: Connection, request: bytes) -> None:
    connection[1].write(request[: len(request) // 2])
    await asyncio.sleep(0.1)


async def upload_in_pieces(connection: Connection, request: bytes) -> None:
    reader, writer = connection
    for at in range(0, len(request), 100_000):
        writer.write(request[at : at + 100_000])
        await writer.drain()
        await asyncio.sleep(0.005)
    await reader.read()


ANY_MODEL: Final = Kind("any_model", 2, "ok", "answer", read_all)  # a name that was never asked for before
# fmt: off
KINDS: Final = (
    Kind("stream", 20, "ok", "stream", read_all),
    Kind("burst", 5, "ok", "burst", read_all),
    Kind("answer", 20, "ok", "answer", read_all),
    Kind("compressed_stream", 4, "ok", "compressed_stream", read_all),
    Kind("compressed_answer", 4, "ok", "compressed_answer", read_all),
    # 50 MB of spaces in 50 kB, which pass as they are; the meter's copy is given up within its limit.
    Kind("bomb", 1, "ok", "bomb", read_all),
    Kind("large_answer", 2, "ok", "large", read_all, "/up/v1/audio/speech"),
    Kind("large_upload", 2, "ok", "answer", read_all, "/up/v1/files", LARGE_BYTES),
    Kind("slow_upload", 2, "ok", "answer", upload_in_pieces, "/up/v1/files", LARGE_BYTES),
    Kind("slow_reader", 2, "ok", "large", read_slowly, "/up/v1/audio/speech"),
    ANY_MODEL,
    Kind("left_in_stream", 5, "client_cancelled", "stall_in_stream", leave_after_events),
    Kind("left_early", 3, "client_cancelled", "stall", leave_while_waiting),
    Kind("left_uploading", 2, "client_cancelled", "answer", leave_while_uploading, "/up/v1/files", 500_000),
    Kind("left_unread", 2, "client_cancelled", "endless", leave_while_waiting, "/up/v1/audio/speech"),
    Kind("rate_limit", 4, "rate_limited", "rate_limit", read_all),
    Kind("auth", 2, "auth", "auth", read_all),
    Kind("server_error", 3, "http_error", "server_error", read_all),
    Kind("error_in_stream", 2, "stream_error", "error_in_stream", read_all),
    Kind("no_finish", 2, "truncated", "no_finish", read_all),
    Kind("reset", 3, "truncated", "reset", read_all),
    Kind("close", 2, "truncated", "close", read_all),
    Kind("bad_chunks", 2, "truncated", "bad_chunks", read_all),
    Kind("hang_up", 2, "upstream_unreachable", "hang_up", read_all),
    Kind("garbage", 2, "upstream_unreachable", "garbage", read_all),
    Kind("header_flood", 1, "upstream_unreachable", "header_flood", read_all),
    Kind("http_0_9", 1, "upstream_unreachable", "http_0_9", read_all),
    Kind("unreachable", 2, "upstream_unreachable", "answer", read_all, "/down/v1" + _CHAT),
    Kind("stalled_head", 1, "upstream_timeout", "stall", read_all, "/limited/v1" + _CHAT),
    Kind("stalled_stream", 1, "upstream_timeout", "stall_in_stream", read_all, "/limited/v1" + _CHAT),
    Kind("unknown_endpoint", 1, "rejected", "answer", read_all, "/venus/v1" + _CHAT),
    Kind("smuggled", 1, "rejected", "answer", read_all, "/up/v1/../../x"),
    Kind(MALFORMED, 2, "rejected", "", read_all),
)
# fmt: on

_BROKEN: Final = (
    b"GET /up/v1/models HTTP/9.9\r\nHost: [::1]\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /up/v1/files HTTP/1.1\r\nHost: [::1]\r\nContent-Length: -1\r\n\r\n",
    b"POST /up/v1/files HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /up/v1/models HTTP/1.1\r\nHost: [::1]\r\nBad Name: x\r\n\r\n",
    b"GET /up/v1/models HTTP/1.1\r\nHost: [::1]\r\nX: a\x00b\r\n\r\n",
    b"GET /up/v1/models HTTP/1.1\r\nHost: [::1]\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
)


def request_of(kind: Kind, draw: random.Random) -> bytes:
    """One request of a kind, as it goes on the wire."""
    if kind.name == MALFORMED:
        return draw.choice(_BROKEN)
    model = f"model-{draw.getrandbits(64)}" if kind is ANY_MODEL else draw.choice(_MODELS)
    prompt = "x" * draw.choice((10, 100, 3000))
    asked = {"model": model, "stream": "stream" in kind.behaviour, "messages": [{"role": "user", "content": prompt}]}
    body = draw.randbytes(1000) * (kind.body_bytes // 1000) if kind.body_bytes else json.dumps(asked).encode()
    lines = [
        f"POST {kind.path} HTTP/1.1",
        "Host: [::1]",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"x-behaviour: {kind.behaviour}",
        f"baggage: dyno.workload={kind.name}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def send(proxy: str, kind: Kind, draw: random.Random) -> None:
    """One request on a connection of its own. Raises TimeoutError where the proxy keeps it waiting."""
    parts = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(CLIENT_LIMIT_S):
            await kind.client((reader, writer), request_of(kind, draw))
    except (ConnectionError, asyncio.IncompleteReadError):
        return  # refused in the middle of an upload, or cut with the upstream: the row says which
    finally:
        writer.transport.abort()
