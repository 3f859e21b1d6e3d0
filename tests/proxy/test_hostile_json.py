"""JSON that was written to take memory and time, in requests and answers: the memory of `dyno proxy`, and its rows."""

import asyncio
import contextlib
import gzip
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from rigs.process_memory import memory_of
from rigs.raw_http import exchange
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.until import LIMIT_S, until

MEGABYTE: Final = 1_000_000
JSON, EVENTS = b"application/json", b"text/event-stream"
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
GOOD = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'


class Upstream:
    """Answers each request with `answer`, once it has read it."""

    def __init__(self) -> None:
        self.content_type = JSON
        self.headers = b""
        self.answer = GOOD
        self.keeps = False  # the request's body
        self.request = b""
        self.deaf = asyncio.Event()  # set: requests are read
        self.deaf.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await self.deaf.wait()
        (length,) = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        left = int(length.split(b":")[1])
        self.request = b""
        while left:
            data = await reader.read(1 << 18)
            if not data:
                return
            left -= len(data)
            self.request += data if self.keeps else b""
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n"
            % (self.content_type, self.headers, len(self.answer))
        )
        for at in range(0, len(self.answer), 1 << 18):
            writer.write(self.answer[at : at + (1 << 18)])
            await writer.drain()


@contextlib.asynccontextmanager
async def proxied(folder: Path, config: str = "") -> AsyncIterator[tuple[Upstream, RunningProxy]]:
    upstream = Upstream()
    async with raw_upstream(upstream.serve) as url:
        more = f'[endpoints.e]\nurl = "{url}/v1"\n{config}'
        async with in_thread(running_proxy(folder, {}, more)) as proxy:
            await exchange(proxy.url, asking(b"/chat/completions", b'{"model":"m"}'))  # what is made once, is made
            await proxy.rows(1)
            yield upstream, proxy


def asking(path: bytes, body: bytes) -> bytes:
    return b"POST /e/v1%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
        path,
        len(body),
        body,
    )


def filled(begin: bytes, each: bytes, end: bytes, size_bytes: int) -> bytes:
    return begin + each * (size_bytes // len(each)) + end


REQUESTS: dict[str, tuple[tuple[bytes, bytes, bytes], str | None, str | None]] = {
    # (its parts, the model in the row, why its parameters are unknown)
    "a model of lists": ((b'{"model":[', b"[],", b"1]}"), None, None),
    "a seed of objects": ((b'{"model":"m","seed":[', b"{},", b"1]}"), "m", None),
    "messages of lists": ((b'{"messages":[', b"[],", b'1],"model":"m"}'), "m", None),
    "a giant text": ((b'{"model":"', b"x", b'"}'), None, None),
    "a giant number": ((b'{"model":"m","seed":', b"1", b"}"), "m", None),
    "many members": ((b'{"model":"m"', b',"k":1', b"}"), None, "too_complex"),
    "deep": ((b'{"model":"m","x":', b"[", b"}"), None, None),
}


@pytest.mark.parametrize("config", ["", "ask_usage = true", "retries = 2"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_hostile_request(tmp_path: Path, name: str, config: str) -> None:
    """It passes, takes little more memory than its bytes, and has a row."""
    parts, model, unread = REQUESTS[name]
    body = filled(*parts, 8 * MEGABYTE)
    async with proxied(tmp_path, config) as (_, proxy):
        memory = memory_of(proxy)
        before_bytes = memory.begin()
        answer = await exchange(proxy.url, asking(b"/chat/completions", body))
        assert answer.body == GOOD
        row = (await proxy.rows(2))[1]
        assert (row["outcome"], row["request_bytes"], row.get("model")) == ("ok", len(body), model)
        assert row["attributes"].get("dyno.request.unread") == unread
        assert memory.peak() - before_bytes < 60 * MEGABYTE


LISTS = (b'{"error":[', b"[],", b"1]}")
ANSWERS: dict[str, tuple[bytes, tuple[bytes, bytes, bytes], str, str | None]] = {
    # (path, the answer's parts, outcome, why it is unread)
    "an error of lists": (b"/chat/completions", LISTS, "stream_error", None),
    "an error of lists in a response": (b"/responses", LISTS, "stream_error", None),
    "an error of lists in a message": (b"/messages", LISTS, "stream_error", None),
    "an error of lists for embeddings": (b"/embeddings", LISTS, "stream_error", None),
    "an id of another type": (b"/chat/completions", (b'{"id":5,"x":[', b"{},", b"1]}"), "stream_error", None),
    "empty choices": (b"/chat/completions", (b'{"choices":[', b"{},", b"{}]}"), "ok", "too_complex"),
    "a text of lists": (
        b"/chat/completions",
        (b'{"choices":[{"message":{"content":[', b"[],", b'1]},"finish_reason":"stop"}]}'),
        "ok",
        None,
    ),
    "arguments of objects": (
        b"/responses",
        (b'{"status":"completed","output":[{"name":"f","arguments":[', b"{},", b"1]}]}"),
        "ok",
        None,
    ),
    "an input of objects": (
        b"/messages",
        (b'{"type":"message","stop_reason":"x","content":[{"name":"f","input":[', b"{},", b"1]}]}"),
        "ok",
        None,
    ),
    "embeddings": (b"/embeddings", (b'{"data":[', b"{},", b"1]}"), "ok", None),
    "many members": (b"/chat/completions", (b"{", b'"k":1,', GOOD[1:]), "ok", "too_complex"),
    "a giant text": (b"/chat/completions", (b'{"x":"', b"x", b'",' + GOOD[1:]), "ok", None),
}


@pytest.mark.parametrize("how", ["plain", "gzip", "event"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_a_hostile_answer(tmp_path: Path, name: str, how: str) -> None:
    """It passes, takes little more memory than its bytes, and has a row with the right outcome."""
    path, parts, outcome, unread = ANSWERS[name]
    body = filled(*parts, 15 * MEGABYTE)
    async with proxied(tmp_path) as (upstream, proxy):
        upstream.answer = body
        if how == "gzip":
            upstream.headers, upstream.answer = b"Content-Encoding: gzip\r\n", gzip.compress(body, 1, mtime=0)
        elif how == "event":
            upstream.content_type, upstream.answer = EVENTS, b"data: " + body + b"\n\n" + STOP
        memory = memory_of(proxy)
        before_bytes = memory.begin()
        answer = await exchange(proxy.url, asking(path, b'{"model":"m"}'))
        assert answer.body == upstream.answer
        row = (await proxy.rows(2))[1]
        assert (row["response_bytes"], row["model"]) == (len(upstream.answer), "m")
        if how != "event":
            assert (row["outcome"], row["attributes"].get("dyno.unread")) == (outcome, unread)
        assert memory.peak() - before_bytes < 60 * MEGABYTE


UPLOADS: Final = 100


@pytest.mark.parametrize("path", [b"/files", b"/../v1/unknown/api", b"/audio/transcriptions"])
@pytest.mark.parametrize("deaf", [False, True])
async def test_stalled_uploads(tmp_path: Path, path: bytes, deaf: bool) -> None:
    """A hundred uploads that nobody reads, and that stop before their end, cost the proxy little each.

    `deaf`: the endpoint doesn't take them, so the proxy doesn't, either.
    """
    target = b"/e" + path.removeprefix(b"/..") if path.startswith(b"/..") else b"/e/v1" + path
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (target, 9 * MEGABYTE)
    async with proxied(tmp_path) as (upstream, proxy):
        if deaf:
            upstream.deaf.clear()
        memory = memory_of(proxy)
        before_bytes = memory.begin()
        host, _, port = proxy.url.removeprefix("http://").partition(":")
        stalled: list[asyncio.StreamWriter] = []

        async def upload() -> None:
            _, writer = await asyncio.open_connection(host, int(port))
            stalled.append(writer)
            writer.write(head)
            for _ in range(8 * MEGABYTE // 100_000):
                writer.write(bytes(100_000))
                try:
                    await asyncio.wait_for(writer.drain(), 5 if deaf else LIMIT_S)
                except TimeoutError:
                    return  # the proxy reads no further

        await asyncio.gather(*(upload() for _ in range(UPLOADS)))
        assert memory.peak() - before_bytes < UPLOADS * 2 * MEGABYTE
        for writer in stalled:  # a close would wait, like what was sent before it, until the proxy reads
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        rows = await proxy.rows(1 + UPLOADS)
        assert {row["outcome"] for row in rows[1:]} == {"client_cancelled"}
        upstream.deaf.set()


async def test_long_requests_that_wait_for_their_answers(tmp_path: Path) -> None:
    """A request that is sent and can't be sent again isn't kept while its answer is awaited."""
    body = b'{"model":"m","x":"' + b"x" * 7 * MEGABYTE + b'"}'
    answering = asyncio.Event()
    arrived: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(body))
        arrived.append(writer)
        await answering.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(GOOD), GOOD))
        await writer.drain()

    async with (
        raw_upstream(serve) as url,
        in_thread(running_proxy(tmp_path, {"e": url + "/v1"})) as proxy,
    ):
        memory = memory_of(proxy)
        before_bytes = memory.begin()
        running = [asyncio.create_task(exchange(proxy.url, asking(b"/chat/completions", body))) for _ in range(4)]
        await until(lambda: len(arrived) == 4, "four requests at the endpoint")
        for _ in range(16):  # one after another: none adds to those before it
            count = len(arrived)
            running.append(asyncio.create_task(exchange(proxy.url, asking(b"/chat/completions", body))))
            await until(lambda count=count: len(arrived) > count, "one more")  # type: ignore[misc]
        assert memory.peak() - before_bytes < 100 * MEGABYTE
        answering.set()
        assert {answer.status for answer in await asyncio.gather(*running)} == {200}
        rows = await proxy.rows(20)
        assert {(row["outcome"], row["model"]) for row in rows} == {("ok", "m")}


@pytest.mark.parametrize("sizes", [None, 9_000, 700_000])
async def test_a_long_request_that_is_changed(tmp_path: Path, sizes: int | None) -> None:
    """A request of some megabytes gets the one member that `ask_usage` adds, whether it has a length or comes in
    chunks."""
    body = b'{"stream":true ,"model":"m","messages":["' + b"x" * 3 * MEGABYTE + b'"]}'
    sent = asking(b"/chat/completions", body)
    if sizes is not None:
        parts = [body[at : at + sizes] for at in range(0, len(body), sizes)]
        head = asking(b"/chat/completions", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        sent = head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    async with proxied(tmp_path, "ask_usage = true") as (upstream, proxy):
        upstream.keeps = True
        assert (await exchange(proxy.url, sent)).content == GOOD
        assert upstream.request == body.replace(b'"m"', b'"m","stream_options":{"include_usage":true}')
        row = (await proxy.rows(2))[1]
        assert (row["outcome"], row["model"], row["request_bytes"]) == ("ok", "m", len(body))
        assert row["attributes"]["dyno.usage.asked"] == "true"
