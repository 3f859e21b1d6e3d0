"""aiohttp's server, changed in one place: everything here leans on what aiohttp doesn't promise to keep.

leanings.py lists each assumption, and says why the server is aiohttp's all the same.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

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

from .answers import error_response, raw_error

Refused = Callable[[int, Refusal | OtherName, int, int], None]


class _MalformedBodyError(web.RequestPayloadError, TimeoutError):
    """A TimeoutError as well: aiohttp waits for the rest of a body, and would log any other exception as unhandled."""


class MeasuredProtocol(RequestHandler):
    """One client connection. It stamps each request's head as it is parsed, and passes back-pressure upstream."""

    __slots__ = (
        *("_body", "_head_begun", "_head_timer", "_measured", "_reads", "_stalled_timer", "_stamps"),
        *("last_read_ns", "long_read", "receiving", "upstream"),
    )

    def __init__(self, manager: "MeasuredServer", **options: Any) -> None:
        super().__init__(manager, **options)
        self._measured = manager
        self._stamps: deque[tuple[int, int, bool]] = deque()  # of the requests parsed and not yet handled
        self._body: StreamReader = EMPTY_PAYLOAD  # of the last request parsed: once it is at its end, a head may begin
        self._reads = RequestReads()
        self._head_begun = (0, 0)  # the stamp of a head that isn't whole yet
        self._head_timer: asyncio.TimerHandle | None = None
        self._stalled_timer: asyncio.TimerHandle | None = None
        self.last_read_ns = 0
        self.long_read = False  # the last stamp taken is of a head that may be longer than one may be
        self.upstream: UpstreamConnection | None = None
        self.receiving: StreamReader | None = None  # the body that is being read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._measured.limits.head_timeout_s, self._head_late)
        if sys.version_info < (3, 12):
            self._loop = _InPlace(self._loop)  # type: ignore[assignment]  # it has all that a loop has

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp calls this after each piece of a body that is read, and its parser then looks at nothing.
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._head_timer, self._stalled_timer):
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
        super().data_received(data)
        count = self._request_count - before
        if not count:
            if in_head:
                self._go_on_with_head(data, now_ns)
            else:
                self._go_on_with_body(data)
            return
        long_read, alone = self._reads.requests(data, count, self._measured.limits.max_head_bytes)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        for at in range(-count, 0):
            message, payload = self._messages[at]
            self._body = payload
            self._stamps.append((now_ns, time.time_ns() // 1000, long_read))
            if isinstance(message, _ErrInfo):
                # In the middle of a body this means that the body is malformed, but its reader isn't told. Tell it.
                if not in_head and not body.is_eof():
                    body.set_exception(_MalformedBodyError("malformed body"))
                return
            if message.chunked or message.upgrade:
                self._messages[at] = (self._strict(message, data if alone else None), payload)
                return  # what else was parsed is behind the connection's last request
        if alone and payload.is_eof() and (rest := self._reads.behind(data, payload.total_bytes)):
            self._go_on_with_head(rest, now_ns)

    def take_stamp(self) -> tuple[int, int]:
        """When the next request was received: monotonic ns, and the wall clock's anchor in Unix µs."""
        received_ns, started_at_unix_us, self.long_read = self._stamps.popleft()
        return received_ns, started_at_unix_us

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
        """Count and answer a malformed request, which no handler sees."""
        if self.upstream is not None or exc is None or status >= 500:
            return super().handle_error(request, status, exc, message)
        if isinstance(exc, RefusedError):
            self._measured.refused(exc.status, exc.code, *self.take_stamp())
            refusal = error_response(exc.status, exc.code, str(exc))
            refusal.force_close()
            return refusal
        if isinstance(exc, LineTooLong):
            status = 431
        self._measured.refused(status, OtherName(type(exc).__name__), *self.take_stamp())
        response = web.Response(status=status, text=f"{status}: the request is malformed\n")
        response.force_close()
        return response

    def _strict(self, message: RawRequestMessage, data: bytes | None) -> RawRequestMessage | _ErrInfo:
        """Be as strict as RFC 9112 where aiohttp isn't. `data`: the read, if this message is the only one in it.

        aiohttp (3.14) keeps a chunked request's last trailer, and puts it among the headers of the connection's next
        request. Behind a balancer that may be another user's. So there is no next request. aiohttp also skips the bytes
        behind a request for an upgrade in the same read, and would then take the rest of them for a request.
        """
        if message.method == "CONNECT":
            return _refusal("the proxy makes no tunnels")
        if not message.chunked:
            if self._upgraded:  # nobody here opens a web socket: the next bytes are a request
                self._upgraded = False
                self._parser.set_upgraded(False)  # type: ignore[union-attr]  # it has just parsed
                self._message_tail = b""
            if data is None or not self._body.is_eof() or self._reads.behind(data, self._body.total_bytes):
                return message._replace(should_close=True)
            return message
        codings = [value.lower() for name, value in message.raw_headers if name.lower() == b"transfer-encoding"]
        if codings != [b"chunked"] or message.version < HttpVersion11:
            return _refusal("a transfer coding other than chunked, or one in HTTP/1.0")
        return message._replace(should_close=True)

    def _go_on_with_head(self, data: bytes, now_ns: int) -> None:
        """A read, or its rest, that didn't complete the head that it belongs to."""
        if self._force_close or self._close:
            return  # the connection is closing: nobody parses these bytes
        if self._reads.head(data):
            self._head_begun = (now_ns, time.time_ns() // 1000)
            if self._head_timer is not None:
                self._head_timer.cancel()
            self._head_timer = self._loop.call_later(self._measured.limits.head_timeout_s, self._head_late)
        if self._reads.head_bytes > self._measured.limits.max_head_bytes:
            self._refuse_head("head_too_long", "the request's head is too long")

    def _go_on_with_body(self, data: bytes) -> None:
        """Refuse endless chunk extensions and trailers: they hold no data, and the parser doesn't limit their sum."""
        body = self._body
        held_back = self._reading_paused or self._buffer_paused
        bearable = self._reads.body(data, body.total_bytes, self._measured.limits.max_head_bytes, held_back=held_back)
        if not bearable and not self._close:
            body.set_exception(_MalformedBodyError("chunk extensions or trailers are too long"))
            self.close()  # after the request is answered; until then no more bytes are parsed

    def _head_late(self) -> None:
        self._head_timer = None
        if not self._reads.head_bytes:
            if self.transport is not None:
                self.transport.close()  # the client sent nothing, so there is nothing to answer
        elif self._answering():
            self._head_timer = self._loop.call_later(self._measured.limits.head_timeout_s, self._head_late)
        else:
            self._refuse_head("head_timeout", "the request's head didn't come in time")

    def _refuse_head(self, code: Refusal, message: str) -> None:
        refusal = RefusedError(code, message)
        self._measured.refused(refusal.status, code, *self._head_begun)
        self._reads.head_bytes = 0
        if self._answering():
            self.close()  # after the answers to the requests before it
            return
        if self.transport is not None:
            self.transport.write(raw_error(refusal.status, code, message))
        self.force_close()

    def _answering(self) -> bool:
        return self._request_in_progress or bool(self._messages)

    def _look_after_reader(self) -> None:
        """Look after `client_idle_s` whether the client has read anything."""
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
    """The event loop as a connection sees it: a request runs in the connection's task, not in one of its own.

    aiohttp makes a task for each request because of context variables, which nothing here uses. That takes a fifteenth
    of a request's time. From Python 3.12 on its tasks begin at once, which costs less.
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
    """Makes MeasuredProtocols. Calls `refused(status, why, received_ns, started_at_unix_us)` for malformed requests."""

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

    def __call__(self) -> RequestHandler:
        return MeasuredProtocol(self, loop=self._loop, **self._kwargs)


def _refusal(message: str) -> _ErrInfo:
    return _ErrInfo(400, RefusedError("malformed_head", message), message)


class Relayed(web.StreamResponse):
    """Stands for a response that the relay has written. It tells aiohttp only whether the connection stays open."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, _request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, _data: Any = b"") -> None:
        return None


KEEP = Relayed(keep_alive=True)
CLOSE = Relayed(keep_alive=False)
