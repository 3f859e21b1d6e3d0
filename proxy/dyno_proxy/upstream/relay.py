"""The hot path: one upstream connection, and what happens to each of its reads.

    upstream ──read──▶ stamp ─▶ parse HTTP ─▶ write to the client ─▶ stamp ─▶ hand to the exchange (a list append)

Bytes pass with the upstream's own framing. HTTP is parsed before they are written, so that nothing behind a message's
end reaches the client. What they say is looked into only after they are written. `data_received` drives both sides: no
task wakes up per chunk, and the handler awaits one future, `ended`.
"""

import asyncio
import logging
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from typing import Final, cast

from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.http.response import MALFORMED, Headers, Response
from dyno_proxy.outcomes import ConnectionLost, Ending
from dyno_proxy.rewrite.usage_chunk import UsageChunkFilter

from .round_trip import round_trips_us

# SO_LINGER on, with 0 s: closing the socket drops what isn't sent yet, and sends a reset.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

_LOG: Final = logging.getLogger("dyno.proxy")


class UpstreamConnection(asyncio.Protocol):
    """One connection to an endpoint. It carries one exchange at a time, and rests in the pool between two."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        self.socket: socket.socket | None = None  # the transport's, where its peer is the endpoint
        self.closed = False
        self.idle_since_s = 0.0
        self.round_trip_s = 0.0  # to the endpoint, by how long connecting took
        self.last_read_ns = 0
        self._client_slow = self._exchange_behind = False  # why no more is read from the upstream for now
        self._ended_in_order = False  # with TLS a FIN alone may be anybody's on the way, who would cut the body short
        self._drained: asyncio.Future[None] | None = None  # set while the upstream reads our request too slowly
        self._exchange: Exchange | None = None
        self._response = Response()

    # The exchange's life

    def begin(
        self,
        exchange: Exchange,
        client: asyncio.Transport,
        *,
        http10: bool,
        close: bool,
        replaced: Mapping[str, str] | None = None,
    ) -> None:
        """Take on an exchange, before its request is written.

        `http10`: the client speaks HTTP/1.0. `close`: the client's connection ends with this exchange. `replaced`:
        headers that take the place of the response's own.
        """
        self._exchange = exchange
        exchange.upstream = self
        self._client = client
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.responded = False  # whether a byte of the response came: then the request can't be replayed
        self.last_read_ns = 0
        self.paused_ns: int | None = None  # since when nothing has been read from the upstream, by our own will
        self.head_written = False
        self.reusable = False
        self._response.begin(
            self._take_head, to_head=exchange.method == "HEAD", http10=http10, close=close, replaced=replaced
        )
        if self.closed:  # the endpoint closed it after it was taken from the pool
            self._end(exchange, ("upstream_unreachable", "connection_closed"))

    @property
    def client_close(self) -> bool:
        """Whether the client's connection has to end with this response."""
        return self._response.client_close

    @property
    def unframed(self) -> bool:
        """Whether nothing but the end of the client's connection tells it where the body ends."""
        return self._response.unframed

    def release(self) -> None:
        """The exchange is over. Bytes that come from now on belong to no request."""
        self._exchange = None
        self._exchange_behind = False
        self.idle_since_s = self._loop.time()
        self.resume_upstream()  # the last write may have paused it, for a client that has its answer by now

    def abort(self) -> None:
        """Close the connection at once; it can't be used again."""
        self.closed = True
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()

    # Each read

    def data_received(self, data: bytes) -> None:
        now_ns = self.last_read_ns = time.monotonic_ns()
        exchange = self._exchange
        if exchange is None or self.ended.done():
            self.abort()  # bytes that answer no request
            return
        if not self.responded:
            self.responded = True
            if self.socket is not None:  # a microsecond, once a request
                exchange.rtt_us, exchange.min_rtt_us = round_trips_us(self.socket)
        response = self._response
        try:
            out = response.feed(data)
        except MALFORMED:
            if exchange.status is None:
                self._end(exchange, ("upstream_unreachable", "upstream_protocol_error"))
            else:
                self._end(exchange, ("truncated", "upstream_protocol_error"))
            return
        if out:
            self._client.write(out)
            self.head_written = response.in_body
        parts = response.parts
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            try:
                exchange.read(now_ns, time.monotonic_ns(), body)
            except Exception as error:  # noqa: BLE001  # whatever failed, the client gets its response
                _LOG.exception("a response could not be read; its span has less")
                exchange.give_up(f"proxy_{type(error).__name__}")
        if response.complete:
            exchange.complete = True
            exchange.end_ns = now_ns
            self.reusable = response.reusable
            self._end(exchange, None)

    def _take_head(self, status: int, headers: Headers) -> UsageChunkFilter | None:
        """Note the response's head; returns the filter for a usage chunk that the client didn't ask for."""
        exchange = self._exchange
        if exchange is None:
            return None
        exchange.head(self.last_read_ns, status, headers)
        if not (exchange.usage_asked and status == 200):
            return None
        names = {name.lower() for name, _ in headers}
        if b"content-encoding" in names:
            return None  # it is compressed although we asked for `identity`, so it passes unchanged
        if not exchange.streamed and b"content-length" in names:
            return None  # a body whose length is known beforehand isn't a stream, whatever its type
        return UsageChunkFilter()

    # The connection's own events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def eof_received(self) -> None:
        """The endpoint sends no more. With TLS only its close_notify says so; asyncio calls this for a FIN as well."""
        over = None if self.transport is None else self.transport.get_extra_info("ssl_object")
        try:
            self._ended_in_order = over is None or over.read(1) == b""
        except ssl.SSLError:  # no close_notify came: there may be more to read
            self._ended_in_order = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        exchange = self._exchange
        if exchange is None or self.ended.done():
            return
        lost: ConnectionLost
        lost = "connection_closed" if exc is None else "tls" if isinstance(exc, ssl.SSLError) else "connection_reset"
        response = self._response
        if not self.responded or not response.in_body:
            self._end(exchange, ("upstream_unreachable", lost))
        elif exc is None and self._ended_in_order and (rest := response.closed()) is not None:
            exchange.complete = True
            if rest:
                self._client.write(rest)
            self._end(exchange, None)
        else:
            self._end(exchange, ("truncated", lost))

    def cut(self, ending: Ending) -> None:
        """End the exchange from outside, for instance because a time limit has passed."""
        if self._exchange is not None and not self.ended.done():
            self._end(self._exchange, ending)

    def _end(self, exchange: Exchange, broken: Ending | None) -> None:
        if broken is not None:
            exchange.broken = broken
            self.abort()
        if not self.ended.done():
            self.ended.set_result(None)

    # Back-pressure, both ways

    def pause_upstream(self) -> None:
        """Stop reading from the upstream: the client reads too slowly."""
        self._client_slow = True
        self._pause()

    def resume_upstream(self) -> None:
        """Read from the upstream again."""
        self._client_slow = False
        self._resume()

    def hold_back(self) -> None:
        """Stop reading from the upstream: the exchange can't look into so much so fast."""
        self._exchange_behind = True
        self._pause()

    def go_on(self) -> None:
        """The exchange has caught up."""
        self._exchange_behind = False
        self._resume()

    def _pause(self) -> None:
        if self.transport is not None and not self.closed:
            self.transport.pause_reading()
            self.paused_ns = time.monotonic_ns()

    def _resume(self) -> None:
        if self._client_slow or self._exchange_behind:
            return
        if self.paused_ns is not None:
            self.paused_ns = None
            self.last_read_ns = time.monotonic_ns()  # the upstream's silence so far was our doing
        if self.transport is not None and not self.closed:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def reset_client(self) -> None:
        """Close the client's connection by a TCP reset, which can't be taken for the end of the body."""
        socket_of_client = self._client.get_extra_info("socket")
        if socket_of_client is not None:
            socket_of_client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._client.abort()

    @property
    def held_up(self) -> bool:
        """Whether the upstream has no room for more of the request."""
        return self._drained is not None and not self._drained.done()

    async def drain(self) -> None:
        """Wait until the upstream has room for more of the request.

        If the client leaves meanwhile, the server cancels the request.
        """
        if self._drained is not None and not self._drained.done():
            await asyncio.wait((self._drained,))
