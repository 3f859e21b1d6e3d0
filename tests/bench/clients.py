"""The benchmark's clients: bare protocols on kept connections, in turn or at given times."""

import asyncio
import random
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

from .messages import CONTENT_LENGTH, STAMPS, STREAM_END

LIMIT_S: Final = 60.0  # for the last answers
_OPEN_AT_FIRST: Final = 64


async def ask_in_turn(port: int, request: bytes, count: int, connections: int) -> None:
    """So many requests in all, not streamed; each connection asks again as soon as it is answered."""
    left = count

    def again(client: Client) -> None:
        nonlocal left
        if left > 0:
            left -= 1
            client.ask(request)
        else:
            pool.free.append(client)

    async with connections_to(port) as pool:
        await pool.open(connections)
        clients, pool.free, pool.on_free = pool.free, [], again
        for client in clients:
            again(client)
        await pool.all_free()


async def ask_at(port: int, request: bytes, due_s: Sequence[float]) -> None:
    """A request at each of these times from now, whatever becomes of those before. Not streamed."""
    await _send_at(port, due_s, lambda client: client.ask(request))


async def stream_at(port: int, request: bytes, due_s: Sequence[float]) -> list["Stream"]:
    """The same with streams; returns them in the order of their beginning, each to its end."""
    streams: list[Stream] = []
    await _send_at(port, due_s, lambda client: streams.append(client.ask_stream(request)))
    return streams


@asynccontextmanager
async def open_streams(port: int, request: bytes) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Streams that stay open until the block ends. What it yields makes them so many, each with its first chunk."""
    streams: list[Stream] = []
    async with connections_to(port) as pool:

        async def grow(count: int) -> None:
            while len(streams) < count:
                streams.append((await pool.take()).ask_stream(request))
                await asyncio.sleep(0.001)
            async with asyncio.timeout(LIMIT_S):
                while not all(each.arrived_ns for each in streams):
                    pool.check()
                    await asyncio.sleep(0.1)

        yield grow


def due_times(rate: float, duration_s: float, seed: int) -> list[float]:
    """`rate` a second, at random: even gaps would march in step with the streams' own."""
    draw = random.Random(seed)  # noqa: S311 - the same times for every contestant
    return sorted(draw.uniform(0, duration_s) for _ in range(round(rate * duration_s)))


class Stream:
    """What a client saw of one stream, and what the upstream says of it by its stamps. Monotonic nanoseconds."""

    __slots__ = ("arrived_ns", "ended_ns", "read_ns", "sent_ns", "written_ns")

    def __init__(self) -> None:
        self.sent_ns = time.monotonic_ns()
        self.read_ns = 0  # the upstream had read the request
        self.written_ns = array("q")  # of each SSE event, by the upstream
        self.arrived_ns = array("q")  # of the same
        self.ended_ns = 0


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: "Connections") -> None:
        self._pool = pool
        self._received = b""
        self._stream: Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.fail(exc or ConnectionError("the connection was closed"))

    def ask(self, request: bytes) -> None:
        self._stream = None
        self.transport.write(request)

    def ask_stream(self, request: bytes) -> Stream:
        self._stream = stream = Stream()
        self.transport.write(request)
        return stream

    def data_received(self, data: bytes) -> None:
        if self._stream is not None:
            self._read_stream(data, self._stream)
            return
        received = self._received + data
        head_end = received.find(b"\r\n\r\n") + 4
        length = CONTENT_LENGTH.search(received)
        if head_end < 4 or not (
            received.endswith(STREAM_END) if length is None else len(received) >= head_end + int(length[1])
        ):
            self._received = received
            return
        self._received = b""
        if received.startswith(b"HTTP/1.1 200"):
            self._pool.on_free(self)
        else:
            self._pool.fail(RuntimeError(f"no 200: {received[:500]!r}"))

    def _read_stream(self, data: bytes, stream: Stream) -> None:
        now_ns = time.monotonic_ns()
        received = self._received + data
        end = 0
        for found in STAMPS.finditer(received):
            if not stream.read_ns:
                stream.read_ns = int(found[1])
            stream.written_ns.append(int(found[2]))
            stream.arrived_ns.append(now_ns)
            end = found.end()
        if received.endswith(STREAM_END):
            self._received = b""
            stream.ended_ns = now_ns
            self._pool.on_free(self)
        else:
            self._received = received[end:]


class Connections:
    """Kept connections to one port. What fails on one of them is raised by whoever waits next."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._all: list[Client] = []
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self.free: list[Client] = []
        self.on_free: Callable[[Client], None] = self._rest

    async def open(self, count: int) -> None:
        """So many more, which rest until they are taken. Raises OSError."""
        for _ in range(count):
            _, client = await self._loop.create_connection(lambda: Client(self), "127.0.0.1", self._port)
            self._all.append(client)
            self.free.append(client)

    async def take(self) -> Client:
        self.check()
        if not self.free:
            await self.open(1)
        return self.free.pop()

    async def all_free(self) -> None:
        """Wait for the last answers. Raises what a connection failed with, or TimeoutError."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.free) < len(self._all):
                self.check()
                await asyncio.sleep(0.005)
        self.check()

    def check(self) -> None:
        if self._failed.done():
            self._failed.result()

    def fail(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)

    def close(self) -> None:
        self._failed.cancel()
        for client in self._all:
            client.transport.abort()

    def _rest(self, client: Client) -> None:
        self.free.append(client)


@asynccontextmanager
async def connections_to(port: int) -> AsyncIterator[Connections]:
    connections = Connections(port)
    try:
        yield connections
    finally:
        connections.close()


async def _send_at(port: int, due_s: Sequence[float], send: Callable[[Client], object]) -> None:
    async with connections_to(port) as pool:
        await pool.open(min(_OPEN_AT_FIRST, len(due_s)))
        begun_s = time.monotonic()
        for due in due_s:
            wait_s = begun_s + due - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            send(await pool.take())
        await pool.all_free()
