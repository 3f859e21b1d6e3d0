"""The places where TCP cuts a message don't matter: over real sockets, each side's bytes are cut at every place in
turn."""

import asyncio
from pathlib import Path
from typing import Any, Final

from rigs.relay_rig import Rig, rig
from rigs.splits import every_cut

# The body is JSON with the bytes that end a head in it; another request follows at once.
BODY: Final = b'{"model": "m", "stream": true,\r\n\r\n"max_tokens": 7}'
REQUESTS: Final = (
    b"POST /e/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    + b"GET /e/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
)
SHORT: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ASKED: Final = (
    b"POST /e/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    % (len(BODY), BODY)
)
EVENTS: Final = (
    b'data: {"id":"r","choices":[{"index":0,"delta":{"content":"Hi"}}]}\r\n\r\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":1}}\n\n',
    b"data: [DONE]\n\n",
)
STREAM: Final = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x;a=b\r\n%b\r\n" % (len(event), event) for event in EVENTS)
    + b"0\r\nX-Trailer: 1\r\n\r\n"
)
FIELDS: Final = (
    *("method", "path", "status", "outcome", "error_type", "model", "streamed", "request_bytes", "response_bytes"),
    *("response_id", "finish_reasons", "output_tokens", "chunk_count", "attributes"),
)
PAUSE_S: Final = 0.002  # in which the proxy reads what was written before


def said(row: dict[str, Any]) -> dict[str, Any]:
    """The part of the row that describes the messages, without times and ids, which differ for each request."""
    attributes = {name: value for name, value in row.get("attributes", {}).items() if "gc_pause" not in name}
    return {name: row.get(name) for name in FIELDS} | {"attributes": attributes}


async def in_reads(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(PAUSE_S)


async def ask(proxy: Rig, pieces: list[bytes]) -> bytes:
    """Everything that comes back until the proxy closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    await in_reads(writer, pieces)
    answer = await reader.read()
    writer.close()
    return answer


async def test_requests_are_cut_anywhere(tmp_path: Path) -> None:
    """However a request is cut, the endpoint gets the same bytes, the client the same answers, and the rows are
    equal."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(len(BODY)) if head.startswith(b"POST") else b""
            lines = [line for line in head.split(b"\r\n") if not line.startswith(b"traceparent")]
            received.append(b"\r\n".join(lines) + body)
            writer.write(SHORT)
            await writer.drain()

    async with rig(serve, tmp_path) as proxy:
        ways = [[REQUESTS], *every_cut(REQUESTS)]
        answers = [await ask(proxy, pieces) for pieces in ways]
        rows = await proxy.rows(2 * len(ways))
    assert answers[0].count(b"HTTP/1.1 200 OK") == 2
    assert set(answers) == {answers[0]}
    assert {BODY in each for each in received[::2]} == {True}
    assert (set(received[::2]), set(received[1::2])) == ({received[0]}, {received[1]})
    for method in ("POST", "GET"):
        own = [said(row) for row in rows if row["method"] == method]
        assert len(own) == len(ways)
        assert [row for row in own if row != own[0]] == []


async def test_a_response_is_cut_anywhere(tmp_path: Path) -> None:
    """However a response is cut, the client gets the same bytes, and the rows are equal."""
    ways = [[STREAM], *every_cut(STREAM)]
    coming = iter(ways)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(BODY))
            await in_reads(writer, next(coming))

    async with rig(serve, tmp_path) as proxy:
        answers = [await ask(proxy, [ASKED]) for _ in ways]
        rows = await proxy.rows(len(ways))
    assert answers[0].endswith(b"X-Trailer: 1\r\n\r\n")
    assert set(answers) == {answers[0]}
    first = said(rows[0])
    assert (first["outcome"], first["output_tokens"], first["chunk_count"]) == ("ok", 1, 1)
    assert [said(row) for row in rows if said(row) != first] == []
