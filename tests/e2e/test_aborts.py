"""Clients that leave a real `dyno proxy`: the upstream is told at once, and nothing stays behind.

The assertions' messages and the test's output have the times. The machine may be busy. So the quickest of several
clients shows how long the proxy needs, and the limit for the middle one only shows that nobody waits for a time limit.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import pytest

from rigs.fd_limit import soft_limit_of_fds
from rigs.network import blackhole
from rigs.raw_http import post_json, request_bytes
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.until import LIMIT_S, until
from soak.process import ProcessFigures, connecting_to, process_figures, proxy_pid

STREAMS: Final = 1000
LEFT_LIMIT_S: Final = 10.0  # 200 ms on a machine that has nothing else to do
BEST_LIMIT_S: Final = 0.1
MEDIAN_LIMIT_S: Final = 2.0
REPEATS: Final = 7
REST_S: Final = 0.5
RSS_LIMIT_BYTES: Final = 150_000_000

ASK: Final = post_json("/up/v1/chat/completions", {"model": "m", "stream": True, "messages": []})
UPLOAD: Final = request_bytes("POST", "/up/v1/files", ("Content-Length", "10000000")) + b"x" * 1000
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT: Final = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
CHUNK: Final = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)


class Upstream(asyncio.Protocol):
    """One connection at the upstream.

    It answers with `first` once the request's head is there, and sends nothing more.
    """

    def __init__(self, connections: "Connections") -> None:
        self._connections = connections
        self._asked = b""
        self.answered = False
        self.lost_s = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connections.open.add(self)
        self._connections.made.put_nowait(self)
        if not self._connections.reads:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self._asked += data
        if not self.answered and b"\r\n\r\n" in self._asked:
            self.answered = True
            self.transport.write(self._connections.first)
            self._connections.asked.put_nowait(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a reset or an end, both will do
        self._connections.open.discard(self)
        self.lost_s.set_result(time.monotonic())


class Connections:
    """The connections of one upstream: all that are open, and each when it came and when its request came."""

    def __init__(self, first: bytes, *, reads: bool) -> None:
        self.first = first
        self.reads = reads
        self.open: set[Upstream] = set()
        self.made: asyncio.Queue[Upstream] = asyncio.Queue()
        self.asked: asyncio.Queue[Upstream] = asyncio.Queue()
        self.port = 0


@asynccontextmanager
async def upstream(first: bytes = b"", *, reads: bool = True) -> AsyncIterator[Connections]:
    connections = Connections(first, reads=reads)
    server = await asyncio.get_running_loop().create_server(
        lambda: Upstream(connections), "127.0.0.1", 0, backlog=STREAMS
    )
    connections.port = server.sockets[0].getsockname()[1]
    try:
        yield connections
    finally:
        server.close()
        for each in list(connections.open):
            each.transport.abort()


async def opened(proxy: RunningProxy, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(proxy.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    return reader, writer


def leave(writer: asyncio.StreamWriter) -> float:
    """Close the connection at once, without a word. Returns the time, in monotonic seconds."""
    now_s = time.monotonic()
    writer.transport.abort()
    return now_s


async def moment(holds: Callable[[], bool], what: str) -> float:
    """The time at which a condition came true, in monotonic seconds.

    It is polled, because the kernel's tables notify nobody.
    """
    await until(holds, what, every_s=0.002)
    return time.monotonic()


async def at_rest(pid: int) -> ProcessFigures:
    """The process's figures, once the number of its file descriptors has been steady: a scrape's connection is closed
    then."""
    figures, since_s = process_figures(pid), time.monotonic()
    while time.monotonic() - since_s < REST_S:
        await asyncio.sleep(0.02)
        now = process_figures(pid)
        if now.fds != figures.fds:
            figures, since_s = now, time.monotonic()
    return figures


async def test_a_thousand_streams_whose_clients_all_leave(tmp_path: Path) -> None:
    """A thousand clients leave in the middle of their streams: there are a thousand outcomes, and nothing stays open.

    The proxy is started with a limit of 1,024 file descriptors, as in most shells and services. It raises it itself.
    """
    with soft_limit_of_fds(4 * STREAMS):
        async with upstream(HEAD + CHUNK) as connections:
            with soft_limit_of_fds(1024):
                starting = in_thread(running_proxy(tmp_path, {"up": f"http://127.0.0.1:{connections.port}/v1"}))
                proxy = await starting.__aenter__()
            try:
                await leave_a_thousand_streams(proxy, connections)
            finally:
                await starting.__aexit__(None, None, None)


async def leave_a_thousand_streams(proxy: RunningProxy, connections: Connections) -> None:
    # One stream before, so that what is made once is there: files, threads.
    _, writer = await opened(proxy, ASK)
    before = await connections.asked.get()
    leave(writer)
    await before.lost_s
    await proxy.rows(1)
    await asyncio.to_thread(proxy.metrics)
    pid = proxy_pid(proxy.spans)
    start = await at_rest(pid)

    streams = await asyncio.gather(*(opened(proxy, ASK) for _ in range(STREAMS)))
    try:
        async with asyncio.timeout(LIMIT_S):
            events = await asyncio.gather(*(first_event(reader) for reader, _ in streams))
        assert events.count(EVENT) == STREAMS, "the proxy has no room for so many file descriptors"
        assert len(connections.open) == STREAMS
        assert await asyncio.to_thread(proxy.total, "dyno_active_requests") == STREAMS
        full = process_figures(pid)
    finally:
        left_s = min([leave(writer) for _, writer in streams])
    took_s = await moment(lambda: not connections.open, "the upstream connections to close") - left_s
    rows = (await proxy.rows(1 + STREAMS))[1:]
    await until(lambda: process_figures(pid).fds <= start.fds, "the proxy's file descriptors to be as few as before")
    end = process_figures(pid)
    print(
        f"{STREAMS} streams left at once: the last upstream connection closed after {took_s * 1e3:.0f} ms; "
        f"fds {start.fds} → {full.fds} → {end.fds}; "
        f"RSS {start.rss_bytes / 1e6:.0f} → {full.rss_bytes / 1e6:.0f} → {end.rss_bytes / 1e6:.0f} MB"
    )
    assert took_s < LEFT_LIMIT_S
    assert Counter(row["outcome"] for row in rows) == {"client_cancelled": STREAMS}
    assert {(row["status"], len(row["chunk_offsets_us"])) for row in rows} == {(200, 1)}
    started, ended = (proxy.total(f"dyno_requests{which}_total") for which in ("_started", ""))
    assert started == ended == 1 + STREAMS
    assert proxy.total("dyno_active_requests") == 0
    assert end.fds == start.fds
    assert end.rss_bytes < RSS_LIMIT_BYTES


async def first_event(reader: asyncio.StreamReader) -> bytes:
    """The first event of a stream. If the answer ended without one, what came instead."""
    try:
        head_and_event = await reader.readuntil(EVENT)
    except asyncio.IncompleteReadError as error:
        return error.partial
    return head_and_event[-len(EVENT) :]


async def test_leaving_while_the_proxy_connects(tmp_path: Path) -> None:
    """An attempt to connect ends when the client that wanted it leaves."""
    with blackhole() as port:
        await asyncio.sleep(0.1)
        fillers = connecting_to(port)
        took_s: list[float] = []
        async with in_thread(running_proxy(tmp_path, {"up": f"http://127.0.0.1:{port}/v1"})) as proxy:
            for _ in range(REPEATS):
                _, writer = await opened(proxy, ASK)
                await until(lambda: connecting_to(port) > fillers, "the proxy to connect")
                left_s = leave(writer)
                took_s.append(await moment(lambda: connecting_to(port) == fillers, "the attempt to end") - left_s)
            rows = await proxy.rows(REPEATS)
    report("connecting", took_s)
    assert [row["outcome"] for row in rows] == ["client_cancelled"] * REPEATS
    assert not any("status" in row or "connected_us" in row for row in rows)


@pytest.mark.parametrize(
    ("phase", "scheme", "first", "reads", "request_sent"),
    [
        ("the TLS handshake", "https", b"", True, ASK),
        ("the upload", "http", b"", True, UPLOAD),
        ("an upload that the upstream doesn't read", "http", b"", False, UPLOAD + b"x" * 8_000_000),
        ("the wait for the head", "http", b"", True, ASK),
        ("a head in its middle", "http", HEAD[:-2], True, ASK),
        ("the stream", "http", HEAD + CHUNK, True, ASK),
        ("a body with a length", "http", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", True, ASK),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
async def test_leaving_in_each_phase(
    tmp_path: Path, phase: str, scheme: str, first: bytes, reads: bool, request_sent: bytes
) -> None:
    """In every phase of a request, its upstream connection closes within 100 ms of the client's.

    The row says who left.
    """

    async def in_phase(connections: Connections, reader: asyncio.StreamReader) -> Upstream:
        connection = await connections.made.get()
        if scheme == "http" and reads:
            await connections.asked.get()
        if first.startswith(HEAD) or b"Content-Length" in first:
            await reader.readuntil(first[-3:])
        else:
            await asyncio.sleep(0.05)  # nothing tells from outside that the proxy is where it should be
        return connection

    await leave_in(tmp_path, phase, scheme, first, reads, request_sent, in_phase)


async def test_leaving_without_reading(tmp_path: Path) -> None:
    """The same holds for a client that reads nothing while the stream backs up, and then leaves."""

    async def in_phase(connections: Connections, _reader: asyncio.StreamReader) -> Upstream:
        connection = await connections.asked.get()
        connection.transport.write(CHUNK * 200_000)
        await asyncio.sleep(0.3)
        assert connection.transport.get_write_buffer_size() > 0, "the proxy took it all: no back-pressure"
        return connection

    await leave_in(tmp_path, "back-pressure", "http", HEAD, True, ASK, in_phase)


InPhase = Callable[[Connections, asyncio.StreamReader], Awaitable[Upstream]]


async def leave_in(
    folder: Path, phase: str, scheme: str, first: bytes, reads: bool, request_sent: bytes, in_phase: InPhase
) -> None:
    """Let several clients, one after the other, leave in this phase."""
    took_s: list[float] = []
    async with (
        upstream(first, reads=reads) as connections,
        in_thread(running_proxy(folder, {"up": f"{scheme}://127.0.0.1:{connections.port}/v1"})) as proxy,
    ):
        for _ in range(REPEATS):
            reader, writer = await opened(proxy, request_sent)
            async with asyncio.timeout(LIMIT_S):
                connection = await in_phase(connections, reader)
                left_s = leave(writer)
                connection.transport.resume_reading()  # or it would not hear
                took_s.append(await connection.lost_s - left_s)
        rows = await proxy.rows(REPEATS)
        assert not connections.open
        assert proxy.total("dyno_active_requests") == 0
    report(phase, took_s)
    assert [row["outcome"] for row in rows] == ["client_cancelled"] * REPEATS
    expected_status = 200 if first.endswith((CHUNK, b"abc", HEAD)) else None
    assert {row.get("status") for row in rows} == {expected_status}


def report(phase: str, took_s: list[float]) -> None:
    """Print how long the upstream waited for the close, and check the quickest and the middle time against their
    limits."""
    median_s = statistics.median(took_s)
    print(f"left during {phase}: median {median_s * 1e3:.1f} ms, worst {max(took_s) * 1e3:.1f} ms of {len(took_s)}")
    assert min(took_s) < BEST_LIMIT_S, took_s
    assert median_s < MEDIAN_LIMIT_S, took_s
