"""The request's way to the upstream: its body is read from the client, kept for the span, and written on."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from dyno_proxy.config.schema import TimeoutsConfig
from dyno_proxy.errors import RefusedError
from dyno_proxy.exchange.exchange import KEPT_REQUEST_BYTES, Exchange
from dyno_proxy.upstream.relay import UpstreamConnection
from dyno_proxy.upstream.time_limits import TimeLimits, has_limits

from .connection import MeasuredProtocol

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


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
        self._beyond = b""  # the piece that went beyond what is kept, read before the request was sent
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
        return self.exchange.body_received_ns is not None and self.exchange.request_bytes <= KEPT_REQUEST_BYTES

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
        while self.exchange.body_received_ns is None and self.exchange.request_bytes <= KEPT_REQUEST_BYTES:
            piece = await self._next_piece(None)
            if piece and self.exchange.request_bytes > KEPT_REQUEST_BYTES:
                self._beyond = piece

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

        if self.replaced is not None:
            first = self.replaced
        else:
            first = b"".join([self._framed(piece) for piece in (*exchange.request_body, self._beyond)])
            if exchange.body_received_ns is not None:
                first += self._end()
            else:
                self._ask_for_body()
        # Stamped before the call: on loopback the kernel may run the receiver first and return a millisecond later.
        exchange.sent_ns = time.monotonic_ns()
        _write(transport, head + first)
        limits = TimeLimits(timeouts, connection, exchange) if has_limits(timeouts) else None
        try:
            if exchange.body_received_ns is None:
                await self._stream(connection, transport)
            if self.sent is not None and self.replayable:
                sent, self.sent = self.sent, None  # once, even if the request is sent again
                sent(self.body)
            await connection.ended
        finally:
            if limits is not None:
                limits.stop()
        if exchange.body_received_ns is None:
            # The endpoint answered before it had the whole request. It would take the next one for the rest of it.
            connection.reusable = False

    def _ask_for_body(self) -> None:
        client = self._protocol.transport
        if self._expects and not self._http10 and client is not None:
            self._expects = False
            client.write(_CONTINUE)

    async def _stream(self, connection: UpstreamConnection, transport: asyncio.Transport) -> None:
        """Send the rest of the body as it comes. Ends early if the response does."""
        self._protocol.receiving = self._content
        while not connection.ended.done():
            piece = await self._next_piece(connection.ended)
            if piece is None:
                return
            if piece:
                _write(transport, self._framed(piece))
                await connection.drain()
            if self.exchange.body_received_ns is not None:
                _write(transport, self._end())
                return

    async def _next_piece(self, ended: asyncio.Future[None] | None) -> bytes | None:
        """The next bytes of the body, b"" where its end came alone; None where the response ended first."""
        reading = asyncio.ensure_future(self._content.readany())
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
        try:
            piece = self._take(reading.result())
        except web.RequestPayloadError as error:
            raise RefusedError("malformed_body", "the request's body is malformed") from error
        except ConnectionError as error:
            raise asyncio.CancelledError from error  # the client left; its cancellation is on the way too
        if self._content.at_eof():
            self.exchange.body_received_ns = self._protocol.last_read_ns
        return piece

    def _take(self, piece: bytes) -> bytes:
        exchange = self.exchange
        exchange.request_bytes += len(piece)
        if self._max_bytes is not None and exchange.request_bytes > self._max_bytes:
            raise self._too_long()
        if piece and exchange.request_bytes <= KEPT_REQUEST_BYTES:
            exchange.request_body.append(piece)
        return piece

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
