"""The request's way to the upstream: its body is read from the client, kept as far as it is needed, and written on.

No more of it is read than the upstream takes, and than `exchange` has looked into.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from dyno_proxy.config.schema import TimeoutsConfig
from dyno_proxy.errors import RefusedError
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.exchange.kept import SHORT_BYTES
from dyno_proxy.upstream.relay import UpstreamConnection
from dyno_proxy.upstream.time_limits import TimeLimits, has_limits

from .connection import MeasuredProtocol

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PIECE_BYTES: Final = 64 * 1024  # that are read, and written, at once: the upstream may not take more


class Upload:
    """One request's body. Whatever reads it raises RefusedError where it is malformed, too long or too slow."""

    def __init__(
        self,
        request: web.BaseRequest,
        protocol: MeasuredProtocol,
        exchange: Exchange,
        *,
        chunked: bool,
        max_bytes: int | None,
        idle_s: float,
    ) -> None:
        self.exchange = exchange
        self.sent: Callable[[bytes], None] | None = None  # called with the whole body, once the request is written
        self.replaced: bytes | None = None  # what goes to the upstream in the body's place
        self._unsent: list[bytes] | None = None  # what came before the request was sent, where it isn't kept
        self._began = False  # it was sent, if only once
        self._content = request.content
        self._protocol = protocol
        self._chunked = chunked
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._http10 = request.version < HttpVersion11
        self._close = not request.keep_alive
        self._expects = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
        length = request.content_length
        if max_bytes is not None and length is not None and length > max_bytes:
            raise self._too_long()

    @property
    def replayable(self) -> bool:
        """Whether the whole body is kept, so that it can be sent again."""
        return self.exchange.body_received_ns is not None and self.exchange.request_kept

    @property
    def body(self) -> bytes:
        """The whole body, where it is `replayable`."""
        return b"".join(self.exchange.request_body)

    def take_whole(self) -> None:
        """Take the body if it has come whole, as it mostly has. This comes before connecting, which may fail."""
        if self._content.is_eof():
            self._take(self._content.read_nowait())
            self.exchange.body_received_ns = max(self.exchange.received_ns, self._protocol.last_read_ns)

    async def wait_whole(self) -> None:
        """Wait for the body, as far as it is kept. A request that is changed before it is sent needs it."""
        self._ask_for_body()
        self._protocol.receiving = self._content
        while self.exchange.body_received_ns is None and self.exchange.request_kept:
            await self._next_piece(None)
            await self._looked_into()
        while not self.exchange.request_read:  # noqa: ASYNC110  # it takes some turns of the loop
            await asyncio.sleep(0)

    async def send(self, connection: UpstreamConnection, head: bytes, timeouts: TimeoutsConfig) -> None:
        """Write the request, and wait until its response has ended, or a time limit has ended it."""
        client, transport = self._protocol.transport, connection.transport
        if client is None or transport is None:
            raise asyncio.CancelledError  # the client left while we connected
        exchange = self.exchange
        page_headers = self._protocol.page_headers
        connection.begin(exchange, client, http10=self._http10, close=self._close, replaced=page_headers)
        self._protocol.upstream = connection
        if self._protocol.writing_paused:
            connection.pause_upstream()

        pieces, self._unsent, self._began = self._pieces(), None, True
        whole_ns = exchange.body_received_ns
        if whole_ns is None:
            self._ask_for_body()
        short = exchange.request_bytes <= _PIECE_BYTES or sum(map(len, pieces)) <= _PIECE_BYTES
        if short and len(pieces) == 1 and whole_ns is not None and not self._chunked:
            first = pieces[0]  # as it mostly is
        else:
            first = self._written(pieces) if short else b""
        # Stamped before the call: on loopback the kernel may run the receiver first and return a millisecond later.
        exchange.sent_ns = time.monotonic_ns()
        _write(transport, head + first)
        limits = TimeLimits(timeouts, connection, exchange) if has_limits(timeouts) else None
        try:
            whole = short or await self._send_long(connection, transport, pieces)
            del pieces
            if whole and exchange.body_received_ns is None:
                whole = await self._stream(connection, transport)
            if self.sent is not None and self.replayable:
                sent, self.sent = self.sent, None  # once, even if the request is sent again
                sent(self.body)
            if exchange.request_bytes > SHORT_BYTES:
                self._forget()
            await connection.ended
        finally:
            if limits is not None:
                limits.stop()
        if not whole:
            # The endpoint answered before it had the whole request. It would take the next one for the rest of it.
            connection.reusable = False

    def _pieces(self) -> list[bytes]:
        """What is there of the body when the request is sent."""
        if self.replaced is not None:
            return [self.replaced]
        return self.exchange.request_body if self._unsent is None else self._unsent

    def _written(self, pieces: list[bytes], *, end: bool = True) -> bytes:
        """The pieces as they are written, and the end of the body where there is no more of it."""
        if self.replaced is not None:
            return b"".join(pieces)  # it has a length
        ending = self._end() if end and self.exchange.body_received_ns is not None else b""
        return b"".join((*map(self._framed, pieces), ending))

    async def _send_long(
        self, connection: UpstreamConnection, transport: asyncio.Transport, pieces: list[bytes]
    ) -> bool:
        """Send pieces that are there already, as the upstream takes them. Returns False if the response ends first."""
        for piece in pieces:
            for at in range(0, len(piece), _PIECE_BYTES):
                if connection.ended.done():
                    return False
                _write(transport, self._written([piece[at : at + _PIECE_BYTES]], end=False))
                await self._drain(connection)
        _write(transport, self._written([]))
        return True

    def _forget(self) -> None:
        """The request is sent. Keep its body only while it may have to be sent again."""
        exchange = self.exchange
        exchange.request_needed = False
        resendable = exchange.connection_reused or exchange.retries is not None
        if not resendable or exchange.status is not None:
            exchange.forget_request()

    async def _drain(self, connection: UpstreamConnection) -> None:
        """Wait until the upstream has room for more. Meanwhile the client isn't read either."""
        if not connection.held_up:
            return
        if self._content.is_eof():  # what comes next is another request
            await connection.drain()
            return
        self._protocol.pause_reading()
        try:
            await connection.drain()
        finally:
            if self._protocol.transport is not None:
                self._protocol.resume_reading()

    async def _looked_into(self) -> None:
        """Wait until most of what came of the body has been looked into."""
        while self.exchange.request_behind:  # noqa: ASYNC110  # it takes a turn of the loop or two
            await asyncio.sleep(0)

    def _ask_for_body(self) -> None:
        client = self._protocol.transport
        if self._expects and not self._http10 and client is not None:
            self._expects = False
            client.write(_CONTINUE)

    async def _stream(self, connection: UpstreamConnection, transport: asyncio.Transport) -> bool:
        """Send the rest of the body as it comes. Returns False if the response ends first."""
        self._protocol.receiving = self._content
        while not connection.ended.done():
            piece = await self._next_piece(connection.ended)
            if piece is None:
                return False
            if piece:
                _write(transport, self._framed(piece))
                await self._drain(connection)
                await self._looked_into()
            if self.exchange.body_received_ns is not None:
                _write(transport, self._end())
                return True
        return False

    async def _next_piece(self, ended: asyncio.Future[None] | None) -> bytes | None:
        """The next bytes of the body, b"" where its end came alone; None where the response ended first."""
        try:
            if self._content.total_bytes > self.exchange.request_bytes:
                piece: bytes | None = self._content.read_nowait(_PIECE_BYTES)
            else:
                piece = await self._wait_piece(ended)
        except web.RequestPayloadError as error:
            raise RefusedError("malformed_body", "the request's body is malformed") from error
        except ConnectionError as error:
            raise asyncio.CancelledError from error  # the client left; its cancellation is on the way too
        if piece is None:
            return None
        self._take(piece)
        if self._content.at_eof():
            self.exchange.body_received_ns = self._protocol.last_read_ns
        return piece

    async def _wait_piece(self, ended: asyncio.Future[None] | None) -> bytes | None:
        reading = asyncio.ensure_future(self._content.read(_PIECE_BYTES))
        waiting = (reading,) if ended is None else (reading, ended)
        try:
            await asyncio.wait(waiting, timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.wait((reading,))  # aiohttp reads the rest of the body, and only one may wait for it
            elif not reading.cancelled():
                reading.exception()  # if we are cancelled nobody else takes it, and asyncio would log that
        if not reading.done() or reading.cancelled():
            if ended is not None and ended.done():
                return None
            raise RefusedError("client_idle", "the request's body didn't come in time")
        return reading.result()

    def _take(self, piece: bytes) -> None:
        exchange = self.exchange
        if self._max_bytes is not None and exchange.request_bytes + len(piece) > self._max_bytes:
            exchange.request_bytes += len(piece)
            raise self._too_long()
        if piece:
            body = exchange.request_body
            exchange.take_request(piece)
            if not exchange.request_kept and not self._began:
                self._unsent = body

    def _too_long(self) -> RefusedError:
        return RefusedError("body_too_long", f"the request's body is longer than {self._max_bytes} bytes")

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked and piece else piece

    def _end(self) -> bytes:
        return b"0\r\n\r\n" if self._chunked else b""


def _write(transport: asyncio.Transport, data: bytes) -> None:
    """Write to the upstream unless its connection is closing: uvloop would raise a RuntimeError.

    The relay ends the exchange as soon as it is told of the close, so nobody waits for these bytes.
    """
    if not transport.is_closing():
        transport.write(data)
