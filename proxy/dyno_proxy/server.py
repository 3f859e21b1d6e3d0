"""aiohttp's server, bent in one place: everything here leans on what aiohttp doesn't promise to keep.

`tests/contract/test_aiohttp.py` holds each assumption; pyproject.toml pins the minor version.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from .relay import UpstreamConnection

Refused = Callable[[int, str, int, int], None]


class MeasuredProtocol(RequestHandler):
    """One client connection: stamps each request's head as it is parsed, and ties back-pressure to the upstream."""

    __slots__ = ("_refused", "_stamps", "last_read_ns", "receiving", "upstream")

    def __init__(self, manager: "MeasuredServer", **options: Any) -> None:
        super().__init__(manager, **options)
        self._refused = manager.refused
        self._stamps: deque[tuple[int, int]] = deque()  # of the requests parsed and not yet handled
        self.last_read_ns = 0
        self.upstream: UpstreamConnection | None = None
        self.receiving: StreamReader | None = None  # the body that is being read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if sys.version_info < (3, 12):
            self._loop = _InPlace(self._loop)  # type: ignore[assignment]  # it has all that a loop has

    def resume_reading(self, resume_parser: bool = True) -> None:
        # aiohttp calls it after each piece of a body that is read, and has its parser look for nothing.
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        now_ns = self.last_read_ns = time.monotonic_ns()
        before = self._request_count
        super().data_received(data)
        for _ in range(self._request_count - before):
            self._stamps.append((now_ns, time.time_ns() // 1000))
            if self.receiving is not None and not self.receiving.is_eof():
                # Another message in the middle of a body is the parser's word for a malformed one; it tells only the
                # connection, and who reads the body would wait for ever.
                self.receiving.set_exception(web.RequestPayloadError("malformed body"))

    def take_stamp(self) -> tuple[int, int]:
        """When the next request was received: monotonic ns, and the wall clock's anchor in Unix µs."""
        return self._stamps.popleft()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.upstream is not None:
            self.upstream.pause_upstream()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.upstream is not None:
            self.upstream.resume_upstream()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp refuses before a handler sees it (malformed requests) is counted, and answered briefly."""
        if self.upstream is not None or exc is None or status >= 500:
            return super().handle_error(request, status, exc, message)
        self._refused(status, type(exc).__name__, *self.take_stamp())
        response = web.Response(status=status, text=f"{status}: the request is malformed\n")
        response.force_close()
        return response


class _InPlace:
    """The event loop, as a connection's task has it: a request runs in that task, and not in one of its own.

    aiohttp makes one a request for its context variables' sake, which nobody here has; it takes a fifteenth of all.
    From Python 3.12 on its tasks begin at once, which takes less.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.time = loop.time
        self.call_at = loop.call_at
        self.create_future = loop.create_future

    def create_task(self, handling: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        return handling

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class MeasuredServer(Server):
    """Makes MeasuredProtocols. `refused(status, why, received_ns, started_at_unix_us)` hears of malformed requests."""

    def __init__(self, handler: Callable[[Any], Awaitable[web.StreamResponse]], refused: Refused) -> None:
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

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        # aiohttp's parser (3.14) keeps a chunked request's last trailer, and puts it among the headers of the next
        # request on the connection, which may be another user's where a balancer stands in front: there is no next one.
        if message.chunked:
            message = message._replace(should_close=True)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)

    def __call__(self) -> RequestHandler:
        return MeasuredProtocol(self, loop=self._loop, **self._kwargs)


class Relayed(web.StreamResponse):
    """A response that the relay has written already: aiohttp hears only what becomes of the connection."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, _request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, _data: Any = b"") -> None:
        return None


KEEP = Relayed(keep_alive=True)
CLOSE = Relayed(keep_alive=False)
