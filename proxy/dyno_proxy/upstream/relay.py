"""The hot path: one upstream connection, and what happens to each of its reads.

    upstream ──read──▶ stamp ─▶ parse HTTP ─▶ write to the client ─▶ stamp ─▶ hand to the exchange (a list append)

Bytes pass with the upstream's own framing. They are parsed before they are written, so that nothing after a message's
end reaches the client, and looked into only after they are written. Both sides are driven from `data_received`: no
task wakes up per chunk; the handler awaits one future, `ended`.
"""

import asyncio
import logging
import select
import socket
import ssl
import struct
import time
from typing import Final, cast

import httptools

from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.http.chunked import ChunkedEnd
from dyno_proxy.http.heads import HOP_BY_HOP, HeadError, check_response_head, response_head
from dyno_proxy.rewrite.usage_chunk import UsageChunkFilter

MAX_HEAD_BYTES: Final = 64 * 1024  # also of what a chunked body may hold between two pieces of data, and after the last
MAX_INTERIM: Final = 1000  # 1xx responses before the one that counts
_VERSION: Final = b"HTTP/1."
_HEAD_END: Final = b"\r\n\r\n"
_NO_BODY: Final = (204, 304)

# Names of headers that mean nothing to HTTP itself; an endpoint sends the same few again and again.
_PLAIN: Final[set[bytes]] = set()
_MAX_PLAIN: Final = 1_000
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # lingering on, for 0 s: what isn't sent is dropped, a reset is

_LOOK_AFTER_CLIENT_S: Final = 0.1
_LEAVING: Final = select.POLLERR | select.POLLHUP | getattr(select, "POLLRDHUP", 0)  # the last one is Linux's

_LOG: Final = logging.getLogger("dyno.proxy")


class UpstreamConnection(asyncio.Protocol):
    """One connection to an endpoint; carries one exchange at a time, and rests in the pool between them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.idle_since_s = 0.0
        self.last_read_ns = 0
        self._drained: asyncio.Future[None] | None = None  # set while the upstream reads our request too slowly
        self._exchange: Exchange | None = None

    # The exchange's life

    def begin(self, exchange: Exchange, client: asyncio.Transport, *, http10: bool, close: bool) -> None:
        """Take on an exchange, before its request is written. `close`: the client's connection ends with it."""
        self._exchange = exchange
        self._client = client
        self._http10 = http10  # such a client knows no chunked framing
        self.client_close = close or http10
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.responded = False  # a byte of the response came: the request can't be replayed
        self.last_read_ns = 0
        self.paused_ns: int | None = None  # since when the client has been reading too slowly
        self.head_written = False
        self.unframed = False
        self.reusable = False
        self._parser = httptools.HttpResponseParser(self)
        self._head = b""
        self._interim = 0
        self._usage_chunk: UsageChunkFilter | None = None
        self._reset_message()
        if self.closed:  # since it was handed out; nobody was there to be told
            self._end(exchange, ("upstream_unreachable", "connection_closed"))

    def _reset_message(self) -> None:
        self._in_body = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._has_hop_by_hop = False
        self._reason = b""
        self._chunked = False
        self._remaining: int | None = None  # bytes of a Content-Length body still to come
        self._chunked_end: ChunkedEnd | None = None
        self._bare_bytes = 0  # of a chunked body, since its last piece of data
        self._message_complete = False
        self._surplus = False
        self._parts: list[bytes] = []  # the body's bytes in this read, without framing

    def release(self) -> None:
        """The exchange is over: nothing that comes now belongs to anyone."""
        self._exchange = None
        self.idle_since_s = self._loop.time()
        self.resume_upstream()  # the last write may have paused it for a client that is no longer concerned

    def abort(self) -> None:
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
        try:
            out = self._parse(data, now_ns, exchange)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, HeadError):
            outcome = "upstream_unreachable" if exchange.status is None else "truncated"
            self._end(exchange, (outcome, "upstream_protocol_error"))
            return
        if out:
            self._client.write(out)
            self.head_written = self._in_body
        if self._parts:
            body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            try:
                exchange.read(now_ns, time.monotonic_ns(), body)
            except Exception as error:  # noqa: BLE001  # whatever it is, the response passes on
                _LOG.exception("a response could not be read; its span has less")
                exchange.give_up(f"proxy_{type(error).__name__}")
        if self._message_complete:
            exchange.complete = True
            exchange.end_ns = now_ns
            self.reusable = self.reusable and not self._surplus
            self._end(exchange, None)

    def _parse(self, data: bytes, now_ns: int, exchange: Exchange) -> bytes:
        """The bytes to write for this read. Raises HttpParserError or HeadError for what isn't HTTP."""
        self.responded = True
        out = b""
        while not self._in_body:
            seen = len(self._head)
            self._head += data
            end = self._head.find(_HEAD_END, max(0, seen - 3))
            if (end if end >= 0 else len(self._head)) > MAX_HEAD_BYTES:
                raise HeadError("the response's head is too long")
            if end < 0:
                _check_begun_head(self._head, seen)
                return out
            head, data = self._head[: end + 4], self._head[end + 4 :]
            self._head = b""
            out += self._read_head(head, now_ns, exchange)
        if not data or self._message_complete:
            self._surplus = bool(data)
            return out
        if self._chunked:
            data = self._read_chunked(data)
        else:
            if self._remaining is not None:
                if len(data) > self._remaining:
                    self._surplus = True
                    data = data[: self._remaining]
                self._remaining -= len(data)
            self._parser.feed_data(data)
        if self._usage_chunk is not None:
            data = self._less_usage_chunk(self._usage_chunk)
        return out + data if out else data

    def _read_head(self, head: bytes, now_ns: int, exchange: Exchange) -> bytes:
        check_response_head(head[:-4])
        self._parser.feed_data(head)
        status = self._parser.get_status_code()
        if not self._in_body and not self._message_complete:
            raise HeadError("the response's head doesn't end where it should")
        if status < 100 or not head.startswith(_VERSION):
            raise HeadError("a status or a version that HTTP/1.1 doesn't have")
        if self._chunked and head.startswith(b"HTTP/1.0"):
            raise HeadError("a transfer coding in HTTP/1.0")
        if status < 200:
            return self._read_interim(status)
        self._in_body = True
        exchange.head(now_ns, status, self._headers)
        if exchange.method == "HEAD" or status in _NO_BODY:
            self.reusable = self._parser.should_keep_alive() or self.reusable
            self._message_complete = True
        if status == 204 and (self._chunked or self._remaining):
            # It has no body whatever its head says; who believes the head would take what follows for one.
            self._chunked = self.reusable = False
            self.client_close = True
        headers = self._headers
        if exchange.usage_asked and exchange.streamed and status == 200 and not self._message_complete:
            headers = self._expect_usage_chunk(headers)
        sized = self._remaining is not None and self._usage_chunk is None
        chunked = (self._chunked or self._usage_chunk is not None) and not self._http10
        if not (chunked or sized or self._message_complete):
            self.client_close = True
        # Where nothing in the bytes tells the end of the body, the end of the client's connection has to.
        self.unframed = self.client_close and not sized and not chunked
        as_it_is = not (self._has_hop_by_hop or self.client_close or self._usage_chunk is not None)
        if (
            as_it_is and self._reason and head.startswith(b"HTTP/1.1 ") and not (b"\r\n " in head or b"\r\n\t" in head)
        ):  # folded lines
            return head
        return response_head(status, self._reason, headers, chunked=chunked, close=self.client_close)

    def _read_interim(self, status: int) -> bytes:
        self._interim += 1
        if status == 101 or self._interim > MAX_INTERIM:
            raise HeadError("an upgrade that nobody asked for, or interim responses without an end")
        if self._chunked or self._remaining is not None:
            raise HeadError("an interim response with a body")
        head = response_head(status, self._reason, self._headers, chunked=False, close=False)
        self._reset_message()
        self._parser = httptools.HttpResponseParser(self)
        return b"" if self._http10 else head

    def _read_chunked(self, data: bytes) -> bytes:
        """Parse a read of a chunked body; returns what of it passes, which is nothing after the message's end."""
        if self._chunked_end is None:
            self._chunked_end = ChunkedEnd()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._message_complete:  # what follows the end may be anything
                raise
        if self._message_complete:
            end = self._chunked_end.end_in(data)
            self._surplus = end < len(data)
            data = data[:end]
        else:
            self._chunked_end.passed(data)
        if self._parts:
            self._bare_bytes = 0
        else:
            self._bare_bytes += len(data)
            if self._bare_bytes > MAX_HEAD_BYTES:
                raise HeadError("chunk extensions or trailers are too long")
        return b"".join(self._parts) if self._http10 else data

    def _expect_usage_chunk(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Begin to take out what the client didn't ask for; returns the headers without the length, which changes."""
        if any(name.lower() == b"content-encoding" for name, _ in headers):
            return headers  # in spite of our Accept-Encoding: it passes as it is
        self._usage_chunk = UsageChunkFilter()
        return [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"trailer")]

    def _less_usage_chunk(self, usage_chunk: UsageChunkFilter) -> bytes:
        """This read's part of the body less the usage chunk, in a framing of our own; trailers are left out."""
        body = usage_chunk.feed(b"".join(self._parts))
        if self._message_complete:
            body += usage_chunk.finish()
        if self._http10:
            return body
        framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return framed + b"0\r\n\r\n" if self._message_complete else framed

    # httptools' callbacks

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer: it passes in the raw bytes
        self._headers.append((name, value))
        if name in _PLAIN:
            return
        lowered = name.lower()
        if lowered == b"content-length":
            self._remaining = int(value)
        elif lowered == b"transfer-encoding":
            coding = value.strip().lower()
            if self._chunked or coding != b"chunked":
                raise HeadError("a transfer coding other than chunked")
            self._chunked = True
        elif lowered in HOP_BY_HOP:
            self._has_hop_by_hop = True
        elif len(_PLAIN) < _MAX_PLAIN:
            _PLAIN.add(name)

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        if not self._message_complete:  # else it is what follows the end
            self._parts.append(body)

    def on_message_complete(self) -> None:
        if not self._message_complete:
            self.reusable = self._parser.should_keep_alive()  # afterwards it is False
            self._message_complete = True

    # The connection's own events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        exchange = self._exchange
        if exchange is None or self.ended.done():
            return
        lost = "connection_closed" if exc is None else "tls" if isinstance(exc, ssl.SSLError) else "connection_reset"
        if not self.responded or not self._in_body:
            self._end(exchange, ("upstream_unreachable", lost))
        elif exc is None and self._remaining is None and not self._chunked:
            exchange.complete = self._message_complete = True
            if self._usage_chunk is not None:
                self._client.write(self._less_usage_chunk(self._usage_chunk))
            self._end(exchange, None)
        else:
            self._end(exchange, ("truncated", lost))

    def cut(self, outcome: str, error_type: str) -> None:
        """End the exchange from outside: a time limit has passed."""
        if self._exchange is not None and not self.ended.done():
            self._end(self._exchange, (outcome, error_type))

    def _end(self, exchange: Exchange, broken: tuple[str, str] | None) -> None:
        if broken is not None:
            exchange.broken = broken
            self.abort()
        if not self.ended.done():
            self.ended.set_result(None)

    # Back-pressure, both ways

    def pause_upstream(self) -> None:
        """The client reads too slowly."""
        if self.transport is not None and not self.closed:
            self.transport.pause_reading()
            self.paused_ns = time.monotonic_ns()

    def resume_upstream(self) -> None:
        if self.paused_ns is not None:
            self.paused_ns = None
            self.last_read_ns = time.monotonic_ns()  # the upstream's silence so far was the client's doing
        if self.transport is not None and not self.closed:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def reset_client(self) -> None:
        """Close the client's connection in a way that can't be taken for the end of the body: by a TCP reset."""
        socket_of_client = self._client.get_extra_info("socket")
        if socket_of_client is not None:
            socket_of_client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._client.abort()

    async def drain(self) -> None:
        """Wait until the upstream has room for more of the request.

        Meanwhile nobody reads from the client, so it may leave unheard: it is looked after here. Where it has left, its
        transport is aborted, and the server cancels the request.
        """
        while self._drained is not None and not self._drained.done():
            await asyncio.wait((self._drained,), timeout=_LOOK_AFTER_CLIENT_S)
            if not self._client.is_closing() and _has_left(self._client):
                self._client.abort()


def _has_left(client: asyncio.Transport) -> bool:
    """Whether the client closed or reset its connection, though what it sent before may not be read yet."""
    socket_of_client = client.get_extra_info("socket")
    if socket_of_client is None:
        return True
    poll = select.poll()
    poll.register(socket_of_client.fileno(), _LEAVING)
    return bool(poll.poll(0))


def _check_begun_head(head: bytes, seen: int) -> None:
    """Raises HeadError as soon as a head that isn't whole can't become one, rather than wait for more of it.

    `seen`: how much of it was checked before, but for a CR at its end, whose LF was still to come.
    """
    if not head.startswith(_VERSION) and not _VERSION.startswith(head):
        raise HeadError("no HTTP response")
    checked = seen - head.endswith(b"\r", 0, seen)
    check_response_head(head[checked:].removesuffix(b"\r"))
