"""The client's connections to the proxy: bare protocols, so that the driver's own time stays small.

aiohttp's client spends several times as long on a request, and a task's wake-up on each chunk. Here a chunk is stamped
and read within the event loop's callback; a task only waits for the whole answer.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from .http_answer import AnswerReader, Head, NotHttpError

CONNECT_TIMEOUT_S: Final = 10.0
# A server may close a connection that rests, just as the next request is written. So none is used that rested longer.
RESTS_S: Final = 15.0


class NotConnectedError(Exception):
    """No connection could be made; `__cause__` says why."""


class BrokeOffError(Exception):
    """The answer has no proper end."""


class Receiver(Protocol):
    """What is told of an answer, within the event loop's callback."""

    def head(self, head: Head) -> None: ...

    def body(self, data: bytes, now_ns: int, /) -> bool:
        """`now_ns`: monotonic, when it was read. False: nothing more of the answer is wanted."""


class Connections:
    """Kept connections to one server. `url`'s path isn't looked at."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._addresses: list[tuple[int, str]] | None = None  # family, address
        self._free: list[_Connection] = []
        self._all: set[_Connection] = set()

    async def ask(self, request: bytes, receiver: Receiver) -> None:
        """Send the request; returns when its whole answer has been told.

        Raises NotConnectedError, BrokeOffError, NotHttpError. Whoever cancels it ends the connection.
        """
        connection = self._rested() or await self._connect()
        try:
            await connection.ask(request, receiver)
        except BaseException:
            connection.abort()
            raise
        if connection.free:
            self._free.append(connection)

    def close(self) -> None:
        for connection in [*self._all]:
            connection.abort()

    def _rested(self) -> "_Connection | None":
        """A connection that is open and free. The one that rested least comes first."""
        while self._free:
            connection = self._free.pop()
            if connection.free and time.monotonic() - connection.rests_since_s < RESTS_S:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        first: OSError | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                for family, address in await self._resolved():
                    try:
                        _, connection = await loop.create_connection(
                            lambda: _Connection(self._all.discard),
                            address,
                            self._port,
                            family=family,
                            ssl=self._tls,
                            server_hostname=self._host if self._tls else None,
                        )
                    except OSError as error:
                        first = first or error
                    else:
                        self._all.add(connection)
                        return connection
        except (OSError, TimeoutError) as error:
            raise NotConnectedError(str(error)) from error
        raise NotConnectedError(str(first)) from first

    async def _resolved(self) -> list[tuple[int, str]]:
        """The server's addresses, asked for once: a name server's time isn't the endpoint's."""
        if self._addresses is None:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._addresses = [(family, str(address[0])) for family, _, _, _, address in found]
        return self._addresses


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, on_lost: Callable[["_Connection"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._receiver: Receiver | None = None
        self._reader = AnswerReader()
        self._done: asyncio.Future[None] | None = None
        self._open = False
        self.rests_since_s = 0.0

    @property
    def free(self) -> bool:
        """Whether another request can be sent."""
        return self._open and self._receiver is None and not self._transport.is_closing()

    async def ask(self, request: bytes, receiver: Receiver) -> None:
        self._receiver, self._reader, self._head_told = receiver, AnswerReader(), False
        self._done = self._loop.create_future()
        self._transport.write(request)
        await self._done

    def abort(self) -> None:
        self._receiver = None
        if self._open:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._open = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        receiver = self._receiver
        if receiver is None:
            self.abort()  # nobody asked for it
            return
        try:
            self._take(data, now_ns, receiver)
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            self._end(error)
            self.abort()

    def _take(self, data: bytes, now_ns: int, receiver: Receiver) -> None:
        reader = self._reader
        body = reader.feed(data)
        if not self._head_told and reader.head is not None:
            self._head_told = True
            receiver.head(reader.head)
        if body and not receiver.body(body, now_ns):
            self._end(None)
            self.abort()
        elif reader.ended:
            keeps_open = reader.head is not None and reader.head.keeps_open and not reader.excess
            self._end(None)
            if not keeps_open:
                self.abort()

    def eof_received(self) -> None:
        return None  # the transport closes itself

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = False
        self._on_lost(self)
        if self._receiver is not None:
            complete = exc is None and self._reader.connection_ended()
            self._end(None if complete else _broken(exc, self._reader))

    def _end(self, error: Exception | None) -> None:
        self._receiver, self.rests_since_s = None, time.monotonic()
        if self._done is not None and not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)


def _broken(why: Exception | None, reader: AnswerReader) -> BrokeOffError:
    if why is not None:
        return BrokeOffError(str(why) or type(why).__name__)
    return BrokeOffError("the connection was closed " + ("without an answer" if reader.head is None else "too early"))


__all__ = ["BrokeOffError", "Connections", "NotConnectedError", "NotHttpError", "Receiver"]
