"""A client's connection: aiohttp's server, bent where the proxy needs it.

What this leans on without a promise of aiohttp's stands in leaned_on.py, row by row, with the reason why the server
stays aiohttp's.
"""

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from aiohttp.web_server import Server

from dyno_proxy.config.schema import ProxyConfig
from dyno_proxy.errors import RefusedError
from dyno_proxy.http.request_reads import RequestReads
from dyno_proxy.outcomes import OtherName, Refusal
from dyno_proxy.upstream.relay import UpstreamConnection

from .answers import raw_error
from .departure import Departure

Refused = Callable[[int, Refusal | OtherName, int, int], None]

# How long what a client still sends is read and dropped, once it has its answer: a connection that is closed over
# unread bytes is reset, and the client may lose the answer (RFC 9112, 9.6). nginx takes as long.
LINGER_S: Final = 30.0
_LOG_AGAIN_S: Final = 60.0

_LOG: Final = logging.getLogger("dyno.proxy")


class _MalformedBodyError(web.RequestPayloadError, TimeoutError):
    """It is a TimeoutError too: aiohttp may be reading the rest of the body, and logs any other error as unhandled."""


class MeasuredProtocol(RequestHandler):
    """One client's connection. It stamps each request as its head is parsed, and limits heads, bodies and slow readers.

    While the client doesn't read, the upstream isn't read either.
    """

    __slots__ = (
        *("_body", "_departure", "_head_begun", "_head_timer", "_linger_timer", "_measured", "_reads"),
        *("_stalled_timer", "_stamps"),
        *(
            "client_address",
            "head_too_long",
            "last_read_ns",
            "page_headers",
            "peer_is_trusted",
            "receiving",
            "surplus",
            "upstream",
        ),
    )

    def __init__(self, manager: "MeasuredServer", **options: Any) -> None:
        super().__init__(manager, **options)
        self._measured = manager
        self._stamps: deque[tuple[int, int, bool]] = deque()  # of the requests that are parsed and not yet handled
        self._body: StreamReader = EMPTY_PAYLOAD  # the last parsed request's; once it has ended, a head may begin
        self._reads = RequestReads(manager.limits.max_head_bytes)
        self._head_begun = (0, 0)  # the stamp of a head that isn't whole yet
        self._head_timer: asyncio.TimerHandle | None = None
        self._stalled_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._departure: Departure | None = None
        self.last_read_ns = 0
        self.client_address: str | None = None
        self.head_too_long = False  # of the request whose stamp was taken last
        self.page_headers: dict[str, str] | None = None  # that let the asking web page read the answer
        self.peer_is_trusted: bool | None = None  # None until somebody asks who is at the other end
        self.surplus = False  # it came when there were as many connections as can be served
        self.upstream: UpstreamConnection | None = None
        self.receiving: StreamReader | None = None  # the body that is being read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.client_address = peer[0] if isinstance(peer, tuple) else None
        self._head_timer = self._loop.call_later(self._measured.limits.head_timeout_s, self._head_late)
        if sys.version_info < (3, 12):
            self._loop = _InPlace(self._loop)  # type: ignore[assignment]  # it has all that a loop has

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp calls this after each piece of a body that is read. Where nothing is paused, there is nothing to do.
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def pause_reading(self) -> None:
        super().pause_reading()
        self._watch()

    def _watch(self) -> None:
        if self._departure is None and self.transport is not None:
            self._departure = Departure(self._loop, self.transport, self._is_unread)
        if self._departure is not None:
            self._departure.watch()

    def _is_unread(self) -> bool:
        return self._reading_paused or self._buffer_paused

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._departure is not None:
            self._departure.stop()
            self._departure = None
        for timer in (self._head_timer, self._stalled_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        # It refers back to this object: both would wait for the garbage collector, which seldom runs.
        self._body = EMPTY_PAYLOAD

    def data_received(self, data: bytes) -> None:
        now_ns = self.last_read_ns = time.monotonic_ns()
        before = self._request_count
        body = self._body
        in_head = body.is_eof()
        RequestHandler.data_received(self, data)  # on Python 3.11 super() takes longer, and this runs for each read
        reads = self._reads
        if reads.held:
            data = reads.with_held(data)
        count = self._request_count - before
        if not count:
            if in_head:
                self._go_on_with_head(data, now_ns)
            elif not reads.all_body(len(data), body.total_bytes):
                self._go_on_with_body(data, now_ns)
            return
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if not in_head:
            reads.all_body(len(data), body.total_bytes)
        for at in range(-count, 0):
            message, payload = self._messages[at]
            if isinstance(message, _ErrInfo):
                self._end_with_error(body, now_ns)
                return
            self._body = payload
            self._stamps.append((now_ns, time.time_ns() // 1000, reads.head(data, payload.total_bytes)))
            if message.chunked or message.upgrade:
                through = payload.is_eof() and not reads.behind_at
                self._messages[at] = (self._strict(message, through=through), payload)
        if reads.behind_at:
            self._look_behind(data, now_ns)

    def _end_with_error(self, body: StreamReader, now_ns: int) -> None:
        """The parser has refused what it read. `body`: of the request before that."""
        self._stamps.append((now_ns, time.time_ns() // 1000, False))
        self._body = EMPTY_PAYLOAD
        self._reads.end()
        if not body.is_eof():
            # In the middle of a body this means that the body is malformed, but its reader isn't told. Tell it.
            body.set_exception(_MalformedBodyError("malformed body"))

    def _look_behind(self, data: bytes, now_ns: int) -> None:
        """Something follows the last message that was found in a read."""
        # With its queue full, the parser stops behind a message.
        if not self._body.is_eof() or len(self._messages) >= self._max_msg_queue_size:
            self._reads.hold(data)
            self._watch()
        elif self._reads.behind(data):
            self._begin_head(now_ns)

    @property
    def rests(self) -> bool:
        """Whether it has served a request and waits for another one, of which no byte has come."""
        served = self._request_count > 0 and not self._force_close
        return served and not self._answering() and not self._reads.begun_bytes

    def take_stamp(self) -> tuple[int, int]:
        """When the next request was received: monotonic ns, and the wall clock's anchor in Unix µs."""
        received_ns, started_at_unix_us, self.head_too_long = self._stamps.popleft()
        return received_ns, started_at_unix_us

    def end_with(self, answer: bytes = b"") -> web.StreamResponse:
        """Write the connection's last answer, if it isn't written yet; close once the client has closed its side."""
        self._force_close = True  # aiohttp parses no more, and leaves the closing to us
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(answer)
            transport.write_eof()
            self._linger_timer = self._loop.call_later(LINGER_S, transport.close)
        return CLOSE

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.upstream is not None:
            self.upstream.pause_upstream()
        self._look_after_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None
        if self.upstream is not None:
            self.upstream.resume_upstream()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that the parser refused never reaches the handler: it is counted here, and gets a short answer."""
        if self.upstream is not None or exc is None or status >= 500:
            return super().handle_error(request, status, exc, message)
        if isinstance(exc, RefusedError):
            self._measured.refused(exc.status, exc.code, *self.take_stamp())
            return self.end_with(raw_error(exc.status, exc.code, str(exc)))
        if isinstance(exc, LineTooLong):
            status = 431
        self._measured.refused(status, OtherName(type(exc).__name__), *self.take_stamp())
        return self.end_with(raw_error(status, OtherName(type(exc).__name__), "the request is malformed"))

    def _strict(self, message: RawRequestMessage, *, through: bool) -> RawRequestMessage | _ErrInfo:
        """What aiohttp takes more lightly than RFC 9112 does. `through`: the read ends with this message's end.

        aiohttp keeps a chunked request's last trailer (3.14), and puts it among the headers of the next request on the
        connection, which may be another user's where a balancer stands in front. So the connection ends with a chunked
        request. aiohttp also passes over what lies behind a request for an upgrade in the same read, and would take
        the rest of that for a request. So the connection ends there too, unless nothing lies behind.
        """
        if message.method == "CONNECT":
            return self._refusal("the proxy makes no tunnels")
        codings = [value.lower() for name, value in message.raw_headers if name.lower() == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or message.version < HttpVersion11):
            return self._refusal("a transfer coding other than chunked, or one in HTTP/1.0")
        if not message.chunked:
            if self._upgraded:  # a web socket that nobody here opens: what comes next is a request
                self._upgraded = False
                self._parser.set_upgraded(False)  # type: ignore[union-attr]  # it has just parsed
                self._message_tail = b""
            if through:
                return message
            self._reads.end()
            return message._replace(should_close=True)
        self._reads.end()
        return message._replace(should_close=True)

    def _refusal(self, message: str) -> _ErrInfo:
        self._reads.end()
        return _ErrInfo(400, RefusedError("malformed_head", message), message)

    def _go_on_with_head(self, data: bytes, now_ns: int) -> None:
        """A read in which no head ends, and which is of no body."""
        if self._force_close or self._close:
            return  # nobody parses it
        reads = self._reads
        if len(self._messages) >= self._max_msg_queue_size:
            reads.hold(data)
            self._watch()
            return
        if reads.head_goes_on(data):
            self._begin_head(now_ns)
        elif reads.head_too_long:
            self._refuse_long_head()

    def _begin_head(self, now_ns: int) -> None:
        self._head_begun = (now_ns, time.time_ns() // 1000)
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self._loop.call_later(self._measured.limits.head_timeout_s, self._head_late)
        if self._reads.head_too_long:
            self._refuse_long_head()

    def _go_on_with_body(self, data: bytes, now_ns: int) -> None:
        """A read that began in a body, and held more than the body's data."""
        if self._force_close or self._close:
            return  # nobody parses it
        if not self._reads.last:
            self._look_behind(data, now_ns)
        elif self._reads.too_bare(len(data)) and not (self._reading_paused or self._buffer_paused):
            self._body.set_exception(_MalformedBodyError("chunk extensions or trailers are too long"))
            self.close()  # after the answer; until then no read is parsed

    def _head_late(self) -> None:
        self._head_timer = None
        if not self._reads.begun_bytes:
            if self.transport is not None:
                self.transport.close()  # the client has sent nothing, so there is nothing to answer
        elif self._answering():
            self._head_timer = self._loop.call_later(self._measured.limits.head_timeout_s, self._head_late)
        else:
            self._refuse_head("head_timeout", "the request's head didn't come in time")

    def _refuse_long_head(self) -> None:
        self._refuse_head("head_too_long", "the request's head is too long")

    def _refuse_head(self, code: Refusal, message: str) -> None:
        refusal = RefusedError(code, message)
        self._measured.refused(refusal.status, code, *self._head_begun)
        self._reads.forget_head()
        if self._answering():
            self.close()  # after the answers to those before it
            return
        self.end_with(raw_error(refusal.status, code, message))
        self.close()

    def _answering(self) -> bool:
        return self._request_in_progress or bool(self._messages)

    def _look_after_reader(self) -> None:
        """Start the timer that asks whether the client has read anything since."""
        if self.transport is not None:
            size_bytes = self.transport.get_write_buffer_size()
            self._stalled_timer = self._loop.call_later(self._measured.limits.client_idle_s, self._stalled, size_bytes)

    def _stalled(self, before_bytes: int) -> None:
        if self.transport is None:
            return
        if self.transport.get_write_buffer_size() < before_bytes:
            self._look_after_reader()
            return
        if self.upstream is not None:
            self.upstream.cut(("rejected", "client_too_slow"))
        self.transport.abort()


class _InPlace:
    """An event loop for aiohttp that runs each request in its connection's task, and not in a task of its own.

    aiohttp makes a task for each request because of context variables, which nothing here uses. The task takes a
    fifteenth of a request's time. From Python 3.12 on, aiohttp's tasks begin at once, which takes less.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.time = loop.time
        self.call_later = loop.call_later
        self.call_at = loop.call_at
        self.create_future = loop.create_future

    def create_task(self, handling: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        return handling

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class MeasuredServer(Server):
    """Makes a MeasuredProtocol for each connection.

    `refused(status, why, received_ns, started_at_unix_us)` is called for each request that never reaches the handler.
    """

    def __init__(
        self,
        handler: Callable[[Any], Awaitable[web.StreamResponse]],
        refused: Refused,
        limits: ProxyConfig | None = None,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,  # a client that leaves cancels its request
            access_log=None,
            auto_decompress=False,  # a compressed request body passes as it is
            keepalive_timeout=75.0,
            max_line_size=64 * 1024,
            max_field_size=64 * 1024,
            max_headers=128,
            lingering_time=2.0,
        )
        self.refused = refused
        self.limits = limits or ProxyConfig()
        self.max_connections = sys.maxsize  # as many as the limit on open files lets serve
        self.surplus_connections = 0  # beyond these; they are told that there are too many
        self.accept: Callable[[bool], None] = lambda _accept: None  # whether more connections are to be accepted
        self._open = 0
        self._full = False
        self._logged_s = -_LOG_AGAIN_S

    def __call__(self) -> RequestHandler:
        return MeasuredProtocol(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Called by aiohttp, as is connection_lost, once a connection."""
        super().connection_made(handler, transport)
        self._open += 1
        if self._open > self.max_connections:
            self._make_room(handler)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._open -= 1
        if self._full and self._open <= self.max_connections:
            self._full = False
            self.accept(True)

    def _make_room(self, newest: RequestHandler) -> None:
        for connection in self.connections:  # the oldest first
            if isinstance(connection, MeasuredProtocol) and connection.rests:
                connection.force_close()  # aiohttp's close() would leave it open until its keep-alive ends (3.14.5)
                break
        else:
            if isinstance(newest, MeasuredProtocol):
                newest.surplus = True
            now_s = time.monotonic()
            if now_s - self._logged_s >= _LOG_AGAIN_S:
                self._logged_s = now_s
                _LOG.warning(
                    "%d connections are all that the limit on open files (ulimit -n) lets serve; further requests "
                    "get 503",
                    self.max_connections,
                )
        if not self._full and self._open >= self.max_connections + self.surplus_connections:
            self._full = True
            self.accept(False)


class Relayed(web.StreamResponse):
    """A response that the relay has already written. It only tells aiohttp whether the connection is kept."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, _request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, _data: Any = b"") -> None:
        return None


KEEP = Relayed(keep_alive=True)
CLOSE = Relayed(keep_alive=False)
