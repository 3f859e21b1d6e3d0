"""Clients that send a head or a body slowly, or read slowly: each reaches its limit, and no other client is slowed."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from pathlib import Path

from rigs.process_memory import memory_of
from rigs.raw_http import Answer, exchange
from rigs.running_proxy import RunningProxy
from rigs.scripted_upstream import ANSWER, ASK, HEAD, LAST, TARGET, framed, proxied, read_request
from rigs.until import LIMIT_S

_SLOW = 200
_QUICK = b"GET /e/v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_KEPT = ASK.replace(b"Connection: close\r\n", b"")
_PIECE = framed(b"data: " + b"x" * 65_000 + b"\n\n")


async def sending(proxy: RunningProxy, *pieces: bytes, pause_s: float = 0.1) -> tuple[Answer, float]:
    """Send each piece after a pause. Returns what comes back until the proxy closes, and how long that took."""
    begun_s = time.monotonic()
    host, port = proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    got = b""
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(LIMIT_S):
            got = await reader.read()
    head, _, body = got.partition(b"\r\n\r\n")
    return Answer(head, body, []), time.monotonic() - begun_s


async def always(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(ANSWER)


async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await asyncio.sleep(1.0)
    writer.write(ANSWER)
    await reader.read()


async def others_are_served(proxy: RunningProxy) -> None:
    """Twenty requests, one after the other, none of which waits for the slow ones."""
    begun_s = time.monotonic()
    for _ in range(20):
        assert (await exchange(proxy.url, _QUICK)).status == 200
    assert time.monotonic() - begun_s < 5


async def test_a_head_that_does_not_come(tmp_path: Path) -> None:
    """The answer is 408 and there is a row, however often a byte comes.

    This also holds for a connection's second request.
    """
    async with proxied(always, tmp_path, proxy="head_timeout_s = 0.5") as proxy:
        drops = [ASK[position : position + 1] for position in range(8)]
        answer, took_s = await sending(proxy, *drops, pause_s=0.05)
        assert (answer.status, b"head_timeout" in answer.body) == (408, True)
        assert took_s < 5
        answer, _ = await sending(proxy, _KEPT, ASK[:40])
        assert answer.status == 200
        assert b"HTTP/1.1 408" in answer.body
        rows = await proxy.rows(3)
        assert [(row["outcome"], row.get("error_type"), row.get("status")) for row in rows] == [
            ("rejected", "head_timeout", 408),
            ("ok", None, 200),
            ("rejected", "head_timeout", 408),
        ]
        assert proxy.started() == proxy.total("dyno_requests_total") == 3


async def test_a_head_that_began_behind_another_request(tmp_path: Path) -> None:
    """A slow head begins in the same write as a request. Its time runs, but the request is answered completely."""
    for serve in (always, late):
        (tmp_path / serve.__name__).mkdir()
        async with proxied(serve, tmp_path / serve.__name__, proxy="head_timeout_s = 0.3") as proxy:
            answer, took_s = await sending(proxy, _KEPT + ASK[:40])
            whole, _, behind = answer.body.partition(b"0\r\n\r\n")
            assert (answer.status, whole.endswith(framed(LAST))) == (200, True)
            assert (behind.startswith(b"HTTP/1.1 408"), b"head_timeout" in behind) == (True, True)
            assert took_s < 5
            rows = await proxy.rows(2)
            assert [(row["outcome"], row.get("error_type")) for row in rows] == [
                ("ok", None),
                ("rejected", "head_timeout"),
            ]


async def test_a_head_too_long_behind_a_running_answer(tmp_path: Path) -> None:
    """The answer comes completely, the connection then ends, and the unfinished head has its row."""
    async with proxied(late, tmp_path, proxy="max_head_bytes = 2000") as proxy:
        answer, _ = await sending(proxy, _KEPT, ASK[:40] + b"A" * 1500, b"A" * 1500)
        assert (answer.status, answer.body.endswith(framed(LAST) + b"0\r\n\r\n")) == (200, True)
        rows = await proxy.rows(2)
        assert Counter((row["outcome"], row.get("error_type")) for row in rows) == {
            ("ok", None): 1,
            ("rejected", "head_too_long"): 1,
        }


async def test_many_slow_heads_and_bodies(tmp_path: Path) -> None:
    """With two hundred slow clients of each kind, others are served, each slow one gets its answer, and memory stays
    small."""
    half = ASK.replace(b"Content-Length: ", b"Content-Length: 9")
    async with proxied(always, tmp_path, proxy="head_timeout_s = 4\nclient_idle_s = 4") as proxy:
        memory = memory_of(proxy)
        before_bytes = memory.begin()
        slow = [
            asyncio.create_task(sending(proxy, *pieces))
            for pieces in ([ASK[:20], ASK[20:21], ASK[21:22]], [half])
            for _ in range(_SLOW)
        ]
        await asyncio.sleep(0.5)
        await others_are_served(proxy)
        answers = [answer for answer, _ in await asyncio.gather(*slow)]
        assert Counter(answer.status for answer in answers) == {408: 2 * _SLOW}
        rows = await proxy.rows(20 + 2 * _SLOW)
        assert Counter(row.get("error_type") for row in rows) == {
            "head_timeout": _SLOW,
            "client_idle": _SLOW,
            None: 20,
        }
        assert memory.peak() - before_bytes < 2 * _SLOW * 100_000
        assert proxy.started() == proxy.total("dyno_requests_total") == 20 + 2 * _SLOW


async def test_silence_is_closed_without_a_row(tmp_path: Path) -> None:
    """A connection that sends nothing, or only empty lines, is no request."""
    async with proxied(always, tmp_path, proxy="head_timeout_s = 0.3") as proxy:
        for said in (b"", b"\r\n\r\n"):
            answer, took_s = await sending(proxy, said)
            assert (answer.head, answer.body) == (b"", b"")
            assert took_s < 5
        assert proxy.started() == 0


async def test_a_kept_connection_may_rest(tmp_path: Path) -> None:
    """The limit is for a head that has begun. Between two requests a connection may be idle for any time."""
    async with proxied(always, tmp_path, proxy="head_timeout_s = 0.2") as proxy:
        answer, _ = await sending(proxy, _KEPT, ASK, pause_s=0.7)
        assert answer.status == 200
        assert answer.body.count(b"HTTP/1.1 200") == 1


async def test_heads_that_are_too_long(tmp_path: Path) -> None:
    """At `max_head_bytes` the answer is 431, whether the head comes in one read or in many.

    A body may have any length.
    """
    async with proxied(always, tmp_path, proxy="max_head_bytes = 2000") as proxy:
        long = ASK.replace(b"Host: localhost\r\n", b"Host: localhost\r\n" + b"X-A: " + b"a" * 3000 + b"\r\n")
        for pieces in ((long,), (long[:1500], long[1500:2900], long[2900:])):
            answer, _ = await sending(proxy, *pieces)
            assert (answer.status, b"head_too_long" in answer.body) == (431, True)
        body = b'{"model":"' + b"m" * 5000 + b'"}'
        sound = b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (
            TARGET.encode(),
            len(body),
        )
        assert (await exchange(proxy.url, sound + body)).status == 200
        rows = await proxy.rows(3)
        assert Counter(row.get("error_type") for row in rows) == {"head_too_long": 2, None: 1}


async def test_clients_that_do_not_read(tmp_path: Path) -> None:
    """With two hundred clients that don't read, the upstreams are held back and others are served.

    Then they are cut off.
    """
    sent_bytes = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        if b"models" in await reader.readuntil(b"\r\n"):
            writer.write(ANSWER)
            return
        await read_request(reader)
        writer.write(HEAD)
        while True:
            writer.write(_PIECE)
            sent_bytes += len(_PIECE)
            await writer.drain()

    async with proxied(serve, tmp_path, proxy="client_idle_s = 20") as proxy:
        memory = memory_of(proxy)
        before_bytes = memory.begin()
        host, port = proxy.url.removeprefix("http://").split(":")
        with contextlib.ExitStack() as slow:
            for _ in range(_SLOW):
                client = slow.enter_context(contextlib.closing(socket.socket()))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect((host, int(port)))
                client.sendall(ASK)
            before_bytes_sent = -1
            async with asyncio.timeout(LIMIT_S):
                while before_bytes_sent != sent_bytes:  # until the kernel's buffers are full: then the upstream waits
                    before_bytes_sent = sent_bytes
                    await asyncio.sleep(0.3)
            assert proxy.read_rows() == []  # and not because they were cut off
            await others_are_served(proxy)
            rows = await proxy.rows(20 + _SLOW)
        assert Counter((row["outcome"], row.get("error_type")) for row in rows) == {
            ("rejected", "client_too_slow"): _SLOW,
            ("ok", None): 20,
        }
        # Some 300 kB each: what was read before the pause, and the exchange's own copy for its figures.
        assert memory.peak() - before_bytes < _SLOW * 1_000_000


async def test_a_client_that_reads_slowly_but_reads(tmp_path: Path) -> None:
    """The limit is for a client that reads nothing. A client that reads a part now and then gets the whole answer."""
    pieces = 200

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(HEAD)
        for _ in range(pieces):
            writer.write(_PIECE)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await reader.read()

    async with proxied(serve, tmp_path, proxy="client_idle_s = 1.0") as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=65536)
        writer.write(ASK)
        got_bytes = 0
        while data := await reader.read(1 << 20):
            got_bytes += len(data)
            await asyncio.sleep(0.02)
        writer.close()
        assert got_bytes > pieces * len(_PIECE)
        (row,) = await proxy.rows(1)
        assert row.get("error_type") != "client_too_slow"
