"""Time limits, retries and limits on clients, in a real `dyno proxy` in front of a raw upstream."""

import asyncio
import time
from pathlib import Path

import pytest

from rigs.network import refusing_port
from rigs.raw_http import exchange
from rigs.running_proxy import in_thread, running_proxy
from rigs.scripted_upstream import ANSWER, ASK, EVENT, HEAD, LAST, TARGET, answering, framed, proxied, read_request
from rigs.until import LIMIT_S

STALLS = [
    # (the limit, the upstream's pieces, status, whether the body breaks off, error.type)
    ("first_byte_s = 0.2", (), 504, False, "first_byte_timeout"),
    ("first_byte_s = 0.7", ((0.0, HEAD[:30]),), None, False, None),
    ("idle_s = 0.2", ((0.0, HEAD[:30]),), 504, False, "idle_timeout"),
    ("idle_s = 0.2", ((0.5, ANSWER),), 200, False, None),
    ("idle_s = 0.2", ((0.0, HEAD + framed(EVENT)), (0.1, framed(EVENT)), (0.1, framed(EVENT))), 200, True,
     "idle_timeout"),
    ("idle_s = 1.0", ((0.0, HEAD), *((0.2, framed(EVENT)) for _ in range(6)), (0.2, framed(LAST) + b"0\r\n\r\n")),
     200, False, None),
    ("total_s = 0.3", (), 504, False, "total_timeout"),
    ("total_s = 0.8", ((0.0, HEAD), *((0.1, framed(EVENT)) for _ in range(20))), 200, True, "total_timeout"),
    ("total_s = 20, first_byte_s = 20, idle_s = 20", ((0.0, ANSWER),), 200, False, None),
]  # fmt: skip


@pytest.mark.parametrize(("limit", "pieces", "status", "broken", "error_type"), STALLS)
async def test_each_time_limit_ends_in_its_own_error(
    tmp_path: Path,
    limit: str,
    pieces: tuple[tuple[float, bytes], ...],
    status: int | None,
    broken: bool,
    error_type: str | None,
) -> None:
    """If a limit passes, the client gets 504, or a broken body if a part was passed on.

    A fast endpoint isn't affected.
    """
    async with proxied(answering(*pieces), tmp_path, f"timeouts = {{ {limit} }}") as proxy:
        if status is None:
            with pytest.raises(TimeoutError):  # a head that never ends is no business of this limit's
                await exchange(proxy.url, ASK, limit_s=1.5)
            return
        answer = await exchange(proxy.url, ASK)
        assert answer.status == status
        assert answer.body.endswith(b"0\r\n\r\n") is (status == 200 and not broken)
        (row,) = await proxy.rows(1)
        outcome = "ok" if error_type is None else "upstream_timeout"
        assert (row["outcome"], row.get("error_type")) == (outcome, error_type)


async def test_a_client_that_reads_slowly_is_not_the_upstreams_silence(tmp_path: Path) -> None:
    """While the client doesn't read, the endpoint is held back, and its time limit doesn't run."""
    size = 4_000_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await reader.read()

    async with proxied(serve, tmp_path, "timeouts = { idle_s = 0.3 }") as proxy:
        host, _, port = proxy.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(ASK)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(1.0)
        received = 0
        async with asyncio.timeout(20):
            while data := await reader.read(1 << 20):
                received += len(data)
        assert received == size
        writer.close()


async def test_retries_are_only_the_configurations(tmp_path: Path) -> None:
    """A request is retried as often as configured, while no byte of a response came. The span counts the retries."""
    seen: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        seen.append(1)
        if len(seen) < 3:
            writer.transport.abort()
            return
        writer.write(ANSWER)
        await reader.read()

    async with proxied(serve, tmp_path, "retries = 2") as proxy:
        assert (await exchange(proxy.url, ASK)).status == 200
        (row,) = await proxy.rows(1)
        assert (row["outcome"], row["retries"]) == ("ok", 2)
    assert len(seen) == 3


@pytest.mark.parametrize("retries", [0, 1])
async def test_no_more_retries_than_configured(tmp_path: Path, retries: int) -> None:
    """By default there are no retries. After the last one, the fault is the outcome."""
    seen: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        seen.append(1)
        writer.transport.abort()

    async with proxied(serve, tmp_path, f"retries = {retries}") as proxy:
        assert (await exchange(proxy.url, ASK)).status == 502
        (row,) = await proxy.rows(1)
        assert row["outcome"] == "upstream_unreachable"
        assert row.get("retries") == (1 if retries else None)
    assert len(seen) == 1 + retries


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\n", HEAD + framed(EVENT)])
async def test_nothing_is_retried_after_the_first_byte(tmp_path: Path, begun: bytes) -> None:
    """A request isn't retried once an answer has begun: a second attempt could do the work twice."""
    seen: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        seen.append(1)
        writer.write(begun)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    async with proxied(serve, tmp_path, "retries = 5") as proxy:
        await exchange(proxy.url, ASK)
        (row,) = await proxy.rows(1)
        assert row["retries"] == 0
    assert len(seen) == 1


async def test_a_refused_connection_is_retried(tmp_path: Path) -> None:
    """If an endpoint isn't up yet, the request is sent again, and the retries are counted."""
    config = f'[endpoints.e]\nurl = "http://127.0.0.1:{refusing_port()}/v1"\nretries = 2'
    async with in_thread(running_proxy(tmp_path, {}, config)) as proxy:
        assert (await exchange(proxy.url, ASK)).status == 502
        (row,) = await proxy.rows(1)
        assert (row["error_type"], row["retries"]) == ("connection_refused", 2)


async def test_too_many_requests_at_once(tmp_path: Path) -> None:
    """Beyond the limit a request gets 503 with Retry-After, and a row. The running requests go on."""
    release = asyncio.Event()
    arrived = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        arrived.release()
        await release.wait()
        writer.write(ANSWER)
        await reader.read()

    async with proxied(serve, tmp_path, proxy="max_requests = 3") as proxy:
        running = [asyncio.create_task(exchange(proxy.url, ASK)) for _ in range(3)]
        for _ in running:
            await arrived.acquire()
        refused = await exchange(proxy.url, ASK)
        assert refused.status == 503
        assert ("Retry-After", "1") in refused.headers
        release.set()
        assert [answer.status for answer in await asyncio.gather(*running)] == [200] * 3
        rows = await proxy.rows(4)
        assert sorted((row["outcome"], row.get("error_type")) for row in rows) == sorted(
            [("ok", None)] * 3 + [("rejected", "too_many_requests")], key=str
        )


@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_a_body_that_is_too_long(tmp_path: Path, framing: str) -> None:
    """An API's request that is too long gets 413. A file may be of any length."""
    received: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        received.append(0)
        while data := await reader.read(1 << 16):
            received[-1] += len(data)
            if received[-1] >= 200_000:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def request(target: str) -> bytes:
        body = b"x" * 200_000
        how = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        if framing == "chunked":
            how = b"Transfer-Encoding: chunked\r\n\r\n" + framed(body) + b"0\r\n\r\n"
        return b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%b" % (target.encode(), how)

    async with proxied(serve, tmp_path, proxy="max_body_bytes = 100000") as proxy:
        refused = await exchange(proxy.url, request(TARGET))
        assert refused.status == 413
        assert b"body_too_long" in refused.body
        assert (await exchange(proxy.url, request("/e/v1/files"))).status == 200
        rows = await proxy.rows(2)
        assert [(row["outcome"], row.get("error_type")) for row in rows] == [
            ("rejected", "body_too_long"),
            ("ok", None),
        ]


async def test_a_body_that_does_not_come(tmp_path: Path) -> None:
    """The client gets 408 after `client_idle_s`, and the endpoint's connection is closed."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        while await reader.read(1 << 16):
            pass
        gone.set()

    async with proxied(serve, tmp_path, proxy="client_idle_s = 0.3") as proxy:
        begun_s = time.monotonic()
        answer = await exchange(proxy.url, ASK.replace(b"Content-Length: ", b"Content-Length: 9"))
        assert answer.status == 408
        assert time.monotonic() - begun_s < 30
        await asyncio.wait_for(gone.wait(), LIMIT_S)
        (row,) = await proxy.rows(1)
        assert (row["outcome"], row["error_type"]) == ("rejected", "client_idle")
