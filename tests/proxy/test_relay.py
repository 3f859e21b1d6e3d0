"""The relay against raw sockets on both sides: what passes, what is refused, and the row that each leaves."""

import asyncio
import gc
import json
from pathlib import Path

import pytest

from dyno_proxy.server.connection import MeasuredProtocol
from rigs.relay_rig import answering, rig
from rigs.until import LIMIT_S, until

POST = b"POST /e/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
FINISHED = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = HEAD + b"Content-Length: %d\r\n\r\n" % len(FINISHED)
SIZE = b"%x" % len(FINISHED)

PASSED: list[tuple[str, tuple[bytes, ...], bool, bytes, str]] = [
    # (what, the upstream's pieces, whether it closes then, what the client gets after the head, the outcome)
    ("sized", (SIZED + FINISHED,), False, FINISHED, "ok"),
    ("chunked", (CHUNKED, SIZE + b"\r\n", FINISHED + b"\r\n0\r\n\r\n"), False,
     SIZE + b"\r\n" + FINISHED + b"\r\n0\r\n\r\n", "ok"),
    ("trailers and extensions", (CHUNKED + SIZE + b";a=b\r\n" + FINISHED + b"\r\n0\r\nX-T: 1\r\n\r\n",), False,
     SIZE + b";a=b\r\n" + FINISHED + b"\r\n0\r\nX-T: 1\r\n\r\n", "ok"),
    ("until close", (HEAD + b"\r\n", FINISHED), True, FINISHED, "ok"),
    ("head in pieces", (HEAD[:9], HEAD[9:30], HEAD[30:] + b"\r", b"\n" + FINISHED), True, FINISHED, "ok"),
    ("cut short", (HEAD + b"Content-Length: 500\r\n\r\n", FINISHED), True, FINISHED, "truncated"),
    ("chunks cut short", (CHUNKED + b"5\r\nhel",), True, b"5\r\nhel", "truncated"),
    ("surplus after a sized body", (SIZED + FINISHED + b"HTTP/1.1 200 OK\r\n\r\n",), False, FINISHED, "ok"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "close", "body", "outcome"), [case[1:] for case in PASSED], ids=[c[0] for c in PASSED]
)
async def test_what_passes(tmp_path: Path, pieces: tuple[bytes, ...], close: bool, body: bytes, outcome: str) -> None:
    """The body's bytes pass with the upstream's framing, and each kind of end has its outcome."""
    async with rig(answering(*pieces, close=close), tmp_path) as proxy:
        answer = await proxy.send(POST.replace(b"Host", b"Connection: close\r\nHost"))
        assert answer.startswith(b"HTTP/1.1 ")
        assert answer.partition(b"\r\n\r\n")[2] == body
        (row,) = await proxy.rows(1)
        assert row["outcome"] == outcome


UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
REFUSED = [
    ("garbage", (b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), b"upstream protocol error"),
    ("HTTP/0.9", (b"hello",), b"protocol error"),
    (
        "an upgrade",
        (UPGRADE,),
        b"protocol error",
    ),
    ("a header of 100 kB", (HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",), b"protocol error"),
    ("a control character", (HEAD + b"X: a\x0bb\r\n\r\n",), b"protocol error"),
    ("two lengths", (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",), b"protocol error"),
    ("nothing", (), b"connection closed"),
]


@pytest.mark.parametrize(("pieces", "said"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
async def test_what_is_no_response(tmp_path: Path, pieces: tuple[bytes, ...], said: bytes) -> None:
    """An answer that isn't HTTP becomes a 502 that says why, in OpenAI's format. Its row isn't ok."""
    async with rig(answering(*pieces, close=True), tmp_path) as proxy:
        answer = await proxy.send(POST.replace(b"Host", b"Connection: close\r\nHost"))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert said in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "dyno_proxy_error"
        (row,) = await proxy.rows(1)
        assert row["outcome"] == "upstream_unreachable"


async def test_bytes_after_a_chunked_end_do_not_pass(tmp_path: Path) -> None:
    """A second response smuggled behind the first never reaches the client, and the connection isn't used again."""
    evil = (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    )
    async with rig(answering(evil), tmp_path) as proxy:
        for _ in range(2):
            assert b"evil" not in await proxy.send(POST.replace(b"Host", b"Connection: close\r\nHost"))
        assert proxy.upstream_connections == 2


async def test_connections_are_used_again(tmp_path: Path) -> None:
    """Requests one after another share a connection, and the rows say which requests reused one."""
    ok = HEAD + b"Content-Length: %d\r\n\r\n" % len(FINISHED) + FINISHED
    async with rig(answering(ok), tmp_path) as proxy:
        for _ in range(3):
            await proxy.send(POST, up_to=FINISHED)
        rows = await proxy.rows(3)
        assert [row["connection_reused"] for row in rows] == [False, True, True]
        assert proxy.upstream_connections == 1


async def test_a_stale_connection_is_replaced_once(tmp_path: Path) -> None:
    """If the endpoint has closed an idle connection meanwhile, no request fails, because nothing had come back."""
    ok = HEAD + b"Content-Length: %d\r\n\r\n" % len(FINISHED) + FINISHED
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(2)
        served += 1
        writer.write(ok)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")  # takes the next request's head, and hangs up on it

    async with rig(serve, tmp_path) as proxy:
        for _ in range(3):
            assert FINISHED in await proxy.send(POST, up_to=FINISHED)
        rows = await proxy.rows(3)
        assert [row["outcome"] for row in rows] == ["ok", "ok", "ok"]
        assert [row.get("resent") for row in rows] == [None, True, True]
        assert served == 3


async def test_a_request_that_was_worked_on_is_not_sent_again(tmp_path: Path) -> None:
    """If the endpoint closes a used connection later than a close can cross the request, the client gets 502."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            came.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2))
            if len(came) == 2:
                await asyncio.sleep(1.0)  # it works on the request, and dies of it
                return
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(FINISHED) + FINISHED)
            await writer.drain()

    async with rig(serve, tmp_path) as proxy:
        assert FINISHED in await proxy.send(POST, up_to=FINISHED)
        assert (await proxy.send(POST, up_to=b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
        _, row = await proxy.rows(2)
    assert len(came) == 2
    assert (row["outcome"], row["error_type"]) == ("upstream_unreachable", "connection_closed")
    assert (row["connection_reused"], row.get("resent")) == (True, None)


async def test_a_client_that_leaves_cancels_the_upstream(tmp_path: Path) -> None:
    """A client's abort closes the upstream connection, long before any time limit, and is counted as the client's."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        await reader.readexactly(2)
        await reader.read()
        gone.set()

    async with rig(serve, tmp_path) as proxy:
        await proxy.send(POST, up_to=b"\r\n\r\n")
        await asyncio.wait_for(gone.wait(), LIMIT_S)
        (row,) = await proxy.rows(1)
        assert (row["outcome"], row["status"]) == ("client_cancelled", 200)


async def test_an_old_client_gets_no_chunks(tmp_path: Path) -> None:
    """HTTP/1.0 has no chunked framing: the client gets the bare body, which ends with the connection."""
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(FINISHED) + FINISHED + b"\r\n0\r\n\r\n"
    async with rig(answering(chunked), tmp_path) as proxy:
        answer = await proxy.send(POST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"chunked" not in head.lower()
        assert body == FINISHED


async def test_a_slow_reader_holds_the_upstream_back(tmp_path: Path) -> None:
    """A client that doesn't read makes the proxy stop reading, instead of filling its memory."""
    sent = 0
    piece = b"x" * 65536

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: %d\r\n\r\n" % (len(piece) * 1000))
        for _ in range(1000):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    async with rig(serve, tmp_path) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=65536)
        writer.write(POST)
        await until(lambda: sent, "the first bytes")
        before = -1
        while sent != before:  # until the kernel's buffers are full, and the upstream stands still
            before = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < 30_000_000
        async with asyncio.timeout(60):
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(1000):
                assert await reader.readexactly(len(piece)) == piece
        writer.close()
        (row,) = await proxy.rows(1)
        assert (row["outcome"], row["response_bytes"]) == ("ok", len(piece) * 1000)


async def test_uploads_stream(tmp_path: Path) -> None:
    """A long upload is passed on while it arrives, in its own framing. An early answer ends it."""
    heard = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"chunked" in head:
            assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        else:
            await reader.readexactly(3)
            heard.set()
            await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with rig(serve, tmp_path) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"POST /e/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabc")
        await asyncio.wait_for(heard.wait(), LIMIT_S)
        writer.write(b"de")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.write(b"POST /e/v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"2\r\nde\r\n0\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()
        rows = await proxy.rows(2)
        assert [(row["request_bytes"], row["response_bytes"]) for row in rows] == [(5, 2), (5, 2)]


async def test_a_body_that_is_malformed_later_is_refused(tmp_path: Path) -> None:
    """A malformed chunk in a separate read gives a 400 and one row. The endpoint's connection isn't used again."""
    begun = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"abc\r\n")
        begun.set()
        assert await reader.read() == b""

    async with rig(serve, tmp_path) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"POST /e/v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.wait_for(begun.wait(), LIMIT_S)
        writer.write(b"zz\r\n")
        assert (await asyncio.wait_for(reader.read(), LIMIT_S)).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await asyncio.sleep(0.3)
        rows = await proxy.rows(1)
        assert [(row["outcome"], row["error_type"]) for row in rows] == [("rejected", "malformed_body")]


async def test_an_answer_before_the_requests_end(tmp_path: Path) -> None:
    """If an endpoint answers before it has read the whole request, that connection isn't used again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await reader.read()

    async with rig(serve, tmp_path) as proxy:
        upload = b"POST /e/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"
        for _ in range(2):
            assert (await proxy.send(upload, up_to=b"\r\n\r\nno")).startswith(b"HTTP/1.1 413 ")
        assert [row["status"] for row in await proxy.rows(2)] == [413, 413]
        assert proxy.upstream_connections == 2


async def test_requests_that_are_refused_make_rows(tmp_path: Path) -> None:
    """Every request counts once, also a refused one: an unknown endpoint, a path with dot segments, bytes that aren't
    HTTP."""
    async with rig(answering(), tmp_path) as proxy:
        for target in (b"/other/v1/x", b"/e/v1/../../x", b"http://elsewhere/e/v1/x"):
            assert b" 404 " in await proxy.send(
                b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
        assert b" 400 " in await proxy.send(b"GARBAGE\r\n\r\n")
        rows = await proxy.rows(4)
        assert {row["outcome"] for row in rows} == {"rejected"}
        assert proxy.upstream_connections == 0


async def test_faults_in_the_heads_own_read_are_a_502(tmp_path: Path) -> None:
    """A response that breaks before any of it was passed on becomes a 502, not an empty close."""
    async with rig(answering(CHUNKED + b"zz\r\n", close=True), tmp_path) as proxy:
        assert (await proxy.send(POST.replace(b"Host", b"Connection: close\r\nHost"))).startswith(b"HTTP/1.1 502 ")
        (row,) = await proxy.rows(1)
        assert (row["outcome"], row["error_type"]) == ("truncated", "upstream_protocol_error")


async def test_other_transfer_codings_are_refused(tmp_path: Path) -> None:
    """A response in a coding that the client wouldn't be told is refused, because the client would get garbage."""
    answer = HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    async with rig(answering(answer, close=True), tmp_path) as proxy:
        assert (await proxy.send(POST.replace(b"Host", b"Connection: close\r\nHost"))).startswith(b"HTTP/1.1 502 ")


async def test_a_broken_body_without_framing_ends_in_a_reset(tmp_path: Path) -> None:
    """If only the connection's close ends the body, the client must see the difference when the body breaks off."""
    async with rig(answering(CHUNKED + SIZE + b"\r\n", FINISHED, close=True), tmp_path) as proxy:
        with pytest.raises(ConnectionResetError):
            await proxy.send(POST.replace(b"HTTP/1.1", b"HTTP/1.0"))


async def test_a_closed_connection_does_not_wait_for_the_garbage_collector(tmp_path: Path) -> None:
    """Closed connections are freed without the garbage collector.

    It runs rarely, and a thousand would hold 2 MB until then.
    """
    async with rig(answering(SIZED + FINISHED), tmp_path) as proxy:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await proxy.send(POST.replace(b"Host", b"Connection: close\r\nHost"))
            await proxy.rows(3)
            await until(
                lambda: not any(isinstance(each, MeasuredProtocol) for each in gc.get_objects()),
                "the connections' objects to go",
                every_s=0.05,
            )
        finally:
            gc.enable()


async def test_two_traceparents_are_none(tmp_path: Path) -> None:
    """Of two parents neither can be trusted, so the request begins a trace. Its tracestate isn't taken either."""
    parents = [
        f"traceparent: 00-{trace:032x}-{trace:016x}-01\r\ntracestate: a={trace}\r\n".encode() for trace in (1, 2)
    ]
    async with rig(answering(HEAD + b"Content-Length: 2\r\n\r\n{}"), tmp_path) as proxy:
        for headers in (parents[0], b"".join(parents)):
            await proxy.send(
                b"GET /e/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n"
            )
        one, two = await proxy.rows(2)
    assert (one["trace_id"], one["parent_span_id"]) == (f"{1:032x}", f"{1:016x}")
    assert two["trace_id"] not in (f"{1:032x}", f"{2:032x}")
    assert "parent_span_id" not in two
