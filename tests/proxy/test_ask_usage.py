"""`ask_usage = true` in a real `dyno proxy`: what the endpoint is sent, and what the client gets."""

import asyncio
import gzip
import re
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from rigs.differences import chunk, unchunk
from rigs.raw_http import dechunk, exchange
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import RunningProxy, in_thread, running_proxy

# One upstream, one proxy and one loop for all.
pytestmark = pytest.mark.asyncio(loop_scope="module")

BEGIN = b'data: {"id":"c1","object":"chat.completion.chunk","created":1764000000,"model":"m","choices":['
ROLE = BEGIN + b'{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}\n\n'
TOKEN = BEGIN + b'{"index":0,"delta":{"content":"\xc3\xa9"}}],"usage":null}\n\n'
LAST = BEGIN + b'{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
USAGE = BEGIN + b'],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"
EVENTS = (ROLE, TOKEN, TOKEN, LAST, USAGE, DONE)
WITHOUT = b"".join(event for event in EVENTS if event is not USAGE)

BODY = b'{ "model" :"m", "messages":[{"role":"user","content":"h\xc3\xa9, \\"stream\\":false}"}],\n"stream":true }\n'
ASKING = BODY.replace(b"true }", b'true,"stream_options":{"include_usage":true} }')
CHAT = "/chat/completions"
FRAMINGS = ("chunked", "length", "close")
LIMIT_S = 20.0


@dataclass
class Upstream:
    """Keeps each request as it came. The request's headers X-Framing, X-Split and X-Cut say how to answer."""

    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    answer: bytes | None = None  # in the stream's place
    refusing: int = 0  # so many requests are cut off unanswered

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append((head, await read_body(reader, head)))
            if self.refusing:
                self.refusing -= 1
                writer.transport.abort()
                return
            framing, split, cut = header(head, "X-Framing", "chunked"), header(head, "X-Split"), header(head, "X-Cut")
            if self.answer is not None:
                writer.write(self.answer)
                if framing == "close":
                    return
            elif b" /v1/models " in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            else:
                body = streamed(framing)[: int(cut) if cut else None]
                at = int(split) if split else len(body)
                writer.write(response_head(framing) + body[:at])
                if split:
                    await writer.drain()
                    await asyncio.sleep(0.004)
                writer.write(body[at:])
                if cut:
                    await writer.drain()
                    await asyncio.sleep(0.02)
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no end
                    writer.transport.abort()
                    return
                if framing == "close":
                    return
            await writer.drain()


@dataclass
class Bench:
    upstream: Upstream
    host: str  # the upstream's, as it is asked
    proxy: RunningProxy

    async def rows(self) -> list[dict[str, Any]]:
        """The rows of all requests so far, in the order of their start. (The rows of small answers are written
        later.)"""
        rows = await self.proxy.rows(await asyncio.to_thread(self.proxy.started))
        return sorted(rows, key=lambda row: int(row["started_at_us"]))

    async def row(self) -> dict[str, Any]:
        """The row of the newest request."""
        return (await self.rows())[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    upstream = Upstream()
    async with raw_upstream(upstream.serve) as url:
        more = "".join(
            f'[endpoints.{name}]\nurl = "{url}/v1"\nask_usage = true\n{keys}\n'
            for name, keys in (("e", ""), ("again", "retries = 1"))
        )
        async with in_thread(running_proxy(tmp_path_factory.mktemp("proxy"), {}, more)) as proxy:
            yield Bench(upstream, urlsplit(url).netloc, proxy)


@pytest.fixture(autouse=True)
def answering_again(bench: Bench) -> None:
    bench.upstream.answer = None


def header(head: bytes, name: str, default: str = "") -> str:
    found = re.search(rf"\r\n{name}: (.*)\r\n".encode(), head)
    return found[1].decode() if found else default


async def read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The answer as it is on the wire."""
    length = header(head, "Content-Length")
    if length:
        return await reader.readexactly(int(length))
    body = b""
    while b"Transfer-Encoding: chunked" in head and not body.endswith(b"\r\n0\r\n\r\n"):
        piece = await reader.read(1 << 20)
        if not piece:
            raise asyncio.IncompleteReadError(body, None)
        body += piece
    return body


def response_head(framing: str) -> bytes:
    line = {
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "length": b"Content-Length: %d\r\n" % len(b"".join(EVENTS)),
        "close": b"",
    }[framing]
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + line + b"x-request-id: r1\r\n\r\n"


def streamed(framing: str) -> bytes:
    return chunk(*EVENTS) if framing == "chunked" else b"".join(EVENTS)


def asking(
    *headers: str, body: bytes = BODY, target: str = f"/e/v1{CHAT}", version: str = "1.1", method: str = "POST"
) -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost", *headers]
    if not any(line.startswith("Transfer-Encoding") for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def connected(proxy: RunningProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(proxy.url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def test_what_the_endpoint_is_sent(bench: Bench) -> None:
    """The request has one more member in its body, the new length, and no compression.

    Every other byte is the client's.
    """
    headers = ("Content-Type: application/json", "accept-encoding: gzip, br", "X-b: 2", "X-A: 1", "Connection: close")
    answer = await exchange(bench.proxy.url, asking(*headers, target=f"/e/v1{CHAT}?a=%2F&a=1"))
    assert answer.content == WITHOUT
    head, body = bench.upstream.requests[-1]
    assert body == ASKING
    assert head.decode().split("\r\n")[:-2] == [
        f"POST /v1{CHAT}?a=%2F&a=1 HTTP/1.1",
        f"Host: {bench.host}",
        *("Content-Type: application/json", "X-b: 2", "X-A: 1"),
        *("Accept-Encoding: identity", f"Content-Length: {len(ASKING)}"),
    ]
    row = await bench.row()
    assert (row["outcome"], row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("ok", "server", 3, 2)
    assert row["attributes"]["dyno.usage.asked"] == "true"
    assert (row["request_bytes"], row["response_bytes"]) == (len(BODY), len(b"".join(EVENTS)))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_the_client_gets_the_rest_whatever_the_split(bench: Bench, framing: str, version: str) -> None:
    """However the stream is cut in two, it arrives without the usage chunk and otherwise unchanged.

    The connection stays.
    """
    positions = list(range(len(streamed(framing))))
    shares = [positions[share::16] for share in range(16)]
    ask = client_1_1 if version == "1.1" else client_1_0
    before = len(await bench.rows())
    await asyncio.gather(*(ask(bench.proxy, framing, share) for share in shares))
    rows = (await bench.rows())[before:]
    streams = [row for row in rows if row["method"] == "POST"]
    assert len(streams) == len(positions)
    assert {(row["outcome"], row["output_tokens"], row["attributes"]["dyno.usage.asked"]) for row in streams} == {
        ("ok", 2, "true")
    }


async def client_1_1(proxy: RunningProxy, framing: str, positions: list[int]) -> None:
    """All streams come on one connection, and a request for something else follows at its end."""
    reader, writer = await connected(proxy)
    async with asyncio.timeout(LIMIT_S * 3):
        for split in positions:
            writer.write(asking(f"X-Framing: {framing}", f"X-Split: {split}"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head == (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: r1\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            body = await reader.readuntil(b"\r\n0\r\n\r\n")
            assert unchunk(body) == WITHOUT, split
        writer.write(asking(method="GET", target="/e/v1/models", body=b""))
        assert await reader.readuntil(b"[]") == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
    writer.close()


async def client_1_0(proxy: RunningProxy, framing: str, positions: list[int]) -> None:
    for split in positions:
        request = asking(f"X-Framing: {framing}", f"X-Split: {split}", version="1.0")
        answer = await exchange(proxy.url, request, LIMIT_S)
        assert answer.head == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: r1\r\nConnection: close"
        )
        assert (answer.body, answer.reset) == (WITHOUT, False), split


async def test_a_client_that_asks_itself(bench: Bench) -> None:
    """If the client asks itself, its request doesn't change, it gets the usage chunk, and the row doesn't say that we
    asked."""
    answer = await exchange(bench.proxy.url, asking("Accept-Encoding: gzip", "Connection: close", body=ASKING))
    assert answer.body == streamed("chunked")
    head, body = bench.upstream.requests[-1]
    assert body == ASKING
    assert header(head, "Accept-Encoding") == "gzip"
    row = await bench.row()
    assert (row["usage_source"], row["output_tokens"]) == ("server", 2)
    assert "dyno.usage.asked" not in row.get("attributes", {})


CHUNKED = "Transfer-Encoding: chunked"
PACKED = gzip.compress(BODY, mtime=0)
LONG = BODY.replace(b"h\xc3\xa9", b"x" * (9 * 1024 * 1024))
UNTOUCHED: dict[str, tuple[bytes, bytes]] = {
    # (the request, the body as the endpoint gets it)
    "not a stream": (asking(body=BODY.replace(b"true", b"false")), BODY.replace(b"true", b"false")),
    "no word of a stream": (asking(body=b'{"model":"m"}'), b'{"model":"m"}'),
    "asks not to": (asking(body=ASKING.replace(b"{\"include_usage\":true}", b"5")),
                    ASKING.replace(b"{\"include_usage\":true}", b"5")),
    "responses": (asking(target="/e/v1/responses"), BODY),
    "embeddings": (asking(target="/e/v1/embeddings"), BODY),
    "messages": (asking(target="/e/v1/messages"), BODY),
    "an unknown path": (asking(target="/e/v1/chat"), BODY),
    "a GET with a body": (asking(method="GET"), BODY),
    "PUT": (asking(method="PUT"), BODY),
    "no JSON": (asking(body=BODY + b"}"), BODY + b"}"),
    "JSON of another kind": (asking(body=b'["stream",true]'), b'["stream",true]'),
    "UTF-16": (asking(body=BODY.decode().encode("utf-16")), BODY.decode().encode("utf-16")),
    "empty": (asking(body=b""), b""),
    "compressed": (asking("Content-Encoding: gzip", body=PACKED), PACKED),
    "longer than what is kept": (asking(body=LONG), LONG),
    "longer than what is kept, chunked": (asking(CHUNKED, body=chunk(LONG)), chunk(LONG)),
    "not a stream, chunked": (asking(CHUNKED, body=chunk(b'{"model":', b'"m"}')), chunk(b'{"model":"m"}')),
}  # fmt: skip


@pytest.mark.parametrize("name", UNTOUCHED)
async def test_what_is_left_alone(bench: Bench, name: str) -> None:
    """A request that doesn't ask for a stream of chat or completions, or can't be read, passes unchanged, as does its
    answer."""
    request, expected = UNTOUCHED[name]
    head, _, body = request.partition(b"\r\n\r\n")
    request = head + b"\r\nAccept-Encoding: gzip, br\r\nConnection: close\r\n\r\n" + body
    answer = await exchange(bench.proxy.url, request)
    assert answer.content == b"".join(EVENTS)
    sent_head, sent = bench.upstream.requests[-1]
    assert (unchunk(sent) if name.endswith("chunked") else sent) == (
        unchunk(expected) if name.endswith("chunked") else expected
    )
    assert header(sent_head, "Accept-Encoding") == "gzip, br"
    assert "dyno.usage.asked" not in (await bench.row()).get("attributes", {})


async def test_completions_are_asked_too(bench: Bench) -> None:
    """Only these two paths know the option."""
    await exchange(bench.proxy.url, asking("Connection: close", target="/e/v1/completions"))
    assert bench.upstream.requests[-1][1] == ASKING


PACKED_EVENTS = gzip.compress(b"".join(EVENTS), mtime=0)
ANSWERS: dict[str, bytes] = {
    "compressed all the same": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        % len(PACKED_EVENTS)
        + PACKED_EVENTS
    ),
    "not a stream": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    "no body": b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    "an empty stream": b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n",
    **{
        f"{status}, as {kind}": b"HTTP/1.1 %d No\r\nContent-Type: %b\r\nRetry-After: 2\r\nContent-Length: %d\r\n\r\n%b"
        % (status, kind.encode(), len(USAGE), USAGE)
        for status in (400, 401, 404, 429, 500, 503)
        for kind in ("application/json", "text/event-stream")
    },
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_that_pass_as_they_are(bench: Bench, name: str) -> None:
    """From an answer that isn't a plain stream with status 200, nothing is taken out: head and body are equal."""
    bench.upstream.answer = ANSWERS[name]
    reader, writer = await connected(bench.proxy)
    for _ in range(2):  # on one connection: nothing is missing, nothing is left over
        writer.write(asking())
        async with asyncio.timeout(LIMIT_S):
            assert await reader.readexactly(len(ANSWERS[name])) == ANSWERS[name]
    writer.close()
    assert bench.upstream.requests[-1][1] == ASKING


LASTS = {
    # The stream's last bytes, whose empty line is missing → what of them is the client's.
    b"data: [DONE]": b"data: [DONE]",
    b"data: [DONE]\r\n": b"data: [DONE]\r\n",
    USAGE.rstrip(b"\n"): b"",
    USAGE.rstrip(b"\n") + b"\n": b"",
    BEGIN: BEGIN,
}


@pytest.mark.parametrize("last", LASTS)
async def test_a_last_event_without_its_end(bench: Bench, last: bytes) -> None:
    """At the body's end, what was held passes, unless it is the usage chunk. This holds for each framing."""
    sse = TOKEN + LAST + last
    ok = b" 200 OK\r\nContent-Type: text/event-stream\r\n"
    for wire in (
        b"HTTP/1.1" + ok + b"Transfer-Encoding: chunked\r\n\r\n" + chunk(TOKEN + LAST, last),
        b"HTTP/1.1" + ok + b"Content-Length: %d\r\n\r\n" % len(sse) + sse,
        b"HTTP/1.1" + ok + b"Connection: close\r\n\r\n" + sse,
        b"HTTP/1.0" + ok + b"\r\n" + sse,
    ):
        bench.upstream.answer = wire
        answer = await exchange(bench.proxy.url, asking("X-Framing: close", "Connection: close"))
        assert answer.content == TOKEN + LAST + LASTS[last]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_stream_that_breaks_off(bench: Bench, framing: str, version: str) -> None:
    """The client sees the break, by a missing last chunk or a reset. The complete events before the break arrive."""
    before = len(await bench.rows())
    cuts = range(1, len(streamed(framing)) - len(DONE) - 8, 97)
    for cut in cuts:
        headers = (f"X-Framing: {framing}", f"X-Cut: {cut}", "Connection: close")
        answer = await exchange(bench.proxy.url, asking(*headers, version=version))
        assert answer.status == 200
        if version == "1.1":
            with pytest.raises(ValueError, match="no end"):
                dechunk(answer.body)
            got = b"".join(dechunk(answer.body + b"0\r\n\r\n"))
        else:
            assert answer.reset
            got = answer.body
        assert WITHOUT.startswith(got)
        assert got.startswith(whole_events(framing, cut))
    ends = [(row["outcome"], row["error_type"]) for row in (await bench.rows())[before:]]
    assert ends == [("truncated", "connection_reset")] * len(cuts)


def whole_events(framing: str, cut: int) -> bytes:
    """The events that were complete before a cut, without the usage chunk."""
    events, at = b"", 0
    for event in EVENTS:
        at += len(chunk(event)) - len(chunk()) if framing == "chunked" else len(event)
        if at <= cut and event is not USAGE:
            events += event
    return events


async def test_a_body_in_pieces(bench: Bench) -> None:
    """However the request comes (chunked, split, or only after `100 Continue`), the endpoint gets it in one piece."""
    sized, chunked = asking("Connection: close"), asking(CHUNKED, "Connection: close", body=b"")
    expecting = ("Expect: 100-continue", "Connection: close")
    rest = b"%x\r\n" % (len(BODY) - 1)
    for request, pieces in (
        (chunked, [chunk(BODY[:7], BODY[7:40], BODY[40:])]),
        (chunked, [b"1\r\n{\r\n", rest, BODY[1:] + b"\r\n", b"0\r\n\r\n"]),
        (sized.removesuffix(BODY), [BODY[:1], BODY[1:50], BODY[50:]]),
        (asking(*expecting).removesuffix(BODY), [BODY]),
        (asking(CHUNKED, *expecting, body=b""), [chunk(BODY)]),
    ):
        before = len(bench.upstream.requests)
        reader, writer = await connected(bench.proxy)
        async with asyncio.timeout(LIMIT_S):
            writer.write(request)
            first = await reader.readexactly(25) if b"Expect" in request else b""
            assert first in (b"", b"HTTP/1.1 100 Continue\r\n\r\n")
            for piece in pieces:
                await asyncio.sleep(0.02)
                assert len(bench.upstream.requests) == before
                writer.write(piece)
            answer = await reader.read()
        writer.close()
        head, body = bench.upstream.requests[-1]
        assert body == ASKING
        assert header(head, "Content-Length") == str(len(ASKING))
        assert not header(head, "Transfer-Encoding")
        assert not header(head, "Expect")
        assert unchunk(answer.partition(b"\r\n\r\n")[2]) == WITHOUT


async def test_a_client_that_leaves_before_its_body_is_there(bench: Bench) -> None:
    """The endpoint gets nothing of the request, and the row says who left."""
    before = len(bench.upstream.requests)
    _, writer = await connected(bench.proxy)
    rows = len(await bench.rows())
    writer.write(asking()[:-5])
    await asyncio.sleep(0.1)
    writer.close()
    row = (await bench.proxy.rows(rows + 1))[-1]
    assert (row["outcome"], len(bench.upstream.requests)) == ("client_cancelled", before)


async def test_asked_once_more(bench: Bench) -> None:
    """A retry asks like the first attempt, and the usage chunk is taken out of its answer too."""
    before = len(bench.upstream.requests)
    bench.upstream.refusing = 1
    answer = await exchange(bench.proxy.url, asking("Connection: close", target=f"/again/v1{CHAT}"))
    assert answer.content == WITHOUT
    first, second = bench.upstream.requests[before:]
    assert (first, second[1]) == (second, ASKING)
    row = await bench.row()
    assert (row["retries"], row["attributes"]["dyno.usage.asked"]) == (1, "true")


async def test_each_request_left_one_row(bench: Bench) -> None:
    """Requests started = rows = the sum of outcomes, whatever was changed or taken out."""
    started = bench.proxy.started()
    assert len(await bench.proxy.rows(started)) == started == bench.proxy.total("dyno_requests_total")
