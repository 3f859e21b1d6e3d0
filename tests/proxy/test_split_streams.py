"""One stream of requests, and one answer, split in two at each byte: the same bytes pass, and the same is recorded."""

import asyncio
import re
from pathlib import Path
from typing import Any

from rigs.raw_http import dechunk
from rigs.raw_upstream import raw_upstream
from rigs.relay_rig import Rig, in_front_of
from rigs.until import LIMIT_S

_PAUSE_S = 0.001  # the proxy reads meanwhile: it runs on the same loop
_OWN_TO_EACH = {"seq", "trace_id", "span_id", "attributes", "chunk_us"}

_BODY = b'{"model":"m"}\r\n\r\nGET /e/v1/hidden HTTP/1.1\r\n\r\n'
_REQUESTS = (
    b"POST /e/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
    + b"\r\nGET /e/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    + b"POST /e/v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"4;x=y\r\n\r\n\r\n\r\n0\r\nX-T: 1\r\n\r\n"
)
_ASK = (
    b"POST /e/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 13\r\n\r\n"
    b'{"model":"m"}'
)
_EVENTS = (
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"\xc3\xa9"}}]}\r\n\r\n',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
)
_ANSWER = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in _EVENTS)
    + b"0\r\nX-T: 1\r\n\r\n"
)


async def _talk(port: int, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(_PAUSE_S)
    async with asyncio.timeout(LIMIT_S):
        answer = await reader.read()
    writer.close()
    return answer


def _said(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what is each request's own: times, of which only remains that they are known, and ids."""
    return {name: not name.endswith("_us") and value for name, value in row.items() if name not in _OWN_TO_EACH}


async def _rows(rig: Rig, count: int) -> list[dict[str, Any]]:
    """What the rows say, in the order in which the requests came."""
    rows = await rig.rows(count)
    assert len(rows) == count
    return [_said(row) for row in sorted(rows, key=lambda row: int(row["started_at_us"]))]


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    """A request's bytes, without its chunks' framing: a chunk may come on in two."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    if length:
        return head + await reader.readexactly(int(length[1]))
    if b"Transfer-Encoding" in head:
        return head + b"".join(dechunk(await reader.readuntil(b"0\r\n\r\n")))
    return head


async def test_requests_split_at_each_byte(tmp_path: Path) -> None:
    """A body with empty lines in it, a request behind an empty line, a chunked one: each is one request as it was."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heard.append(await _read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % (len(heard) % 3))

    async with raw_upstream(serve) as url, in_front_of(url + "/v1", tmp_path) as rig:
        await _talk(rig.port, _REQUESTS)  # so that every other has a connection to the upstream
        answer = await _talk(rig.port, _REQUESTS)
        assert (answer.count(b"HTTP/1.1 200 OK"), len(heard)) == (3, 6)
        for at in range(1, len(_REQUESTS)):
            assert (at, await _talk(rig.port, _REQUESTS[:at], _REQUESTS[at:])) == (at, answer)
        rows = await _rows(rig, 3 * (len(_REQUESTS) + 1))
    assert heard == heard[:3] * (len(_REQUESTS) + 1)
    assert rows[3:] == rows[3:6] * len(_REQUESTS)


async def test_an_answer_split_at_each_byte(tmp_path: Path) -> None:
    """An interim head, a head, chunks and a trailer: the client gets what it gets of the whole, and so does the row."""
    cuts = iter([0, 0, *range(1, len(_ANSWER))])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await _read_request(reader)
            cut = next(cuts)
            writer.write(_ANSWER[:cut])
            await asyncio.sleep(_PAUSE_S)
            writer.write(_ANSWER[cut:])

    async with raw_upstream(serve) as url, in_front_of(url + "/v1", tmp_path) as rig:
        await _talk(rig.port, _ASK)
        answer = await _talk(rig.port, _ASK)
        assert answer.endswith(_ANSWER[-20:])
        for at in range(1, len(_ANSWER)):
            assert (at, await _talk(rig.port, _ASK)) == (at, answer)
        rows = await _rows(rig, len(_ANSWER) + 1)
    assert rows[1]["outcome"] == "ok"
    assert rows[1:] == rows[1:2] * len(_ANSWER)
