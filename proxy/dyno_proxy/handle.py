"""One request from its head to its record: route, credentials, connection, request body, the wait for the relay."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import HttpVersion11, web

from .context import read_baggage, read_traceparent
from .endpoints import Endpoint
from .errors import RefusedError, UpstreamError, connect_fault, error_response
from .exchange import KEPT_REQUEST_BYTES, Exchange
from .headers import HeadError, request_head
from .keys import ClientKeys
from .lag import LoopLag
from .relay import UpstreamConnection
from .routes import Route, route
from .server import CLOSE, KEEP, MeasuredProtocol
from .telemetry import Telemetry

_LOG = logging.getLogger("dyno.proxy")

OwnPage = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_FOR_CLIENTS = ("/endpoints",)  # own pages that ask for a client key where there are any

_IDS = random.Random()  # noqa: S311 - ids need to be unique, not unguessable; the system seeds it


class Handler:
    """Called by the server for each request; started and recorded exactly once each."""

    def __init__(
        self,
        endpoints: dict[str, Endpoint],
        telemetry: Telemetry,
        lag: LoopLag,
        own_pages: dict[str, OwnPage],
        keys: ClientKeys | None,
    ) -> None:
        self._endpoints = endpoints
        self._telemetry = telemetry
        self._lag = lag
        self._own_pages = {"/readyz": self._ready, **own_pages}
        self._keys = keys
        self._active = 0
        self._drained: asyncio.Event | None = None  # set while draining

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = cast(MeasuredProtocol, request.protocol)  # the only kind that MeasuredServer makes
        received_ns, started_at_unix_us = protocol.take_stamp()
        target = request.raw_path
        path = target.partition("?")[0]
        page = self._own_pages.get(path)
        if page is not None:
            return await self._own_page(page, path, request)

        exchange = Exchange(received_ns, started_at_unix_us, request.method, path)
        where = route(target)
        endpoint = None if where is None else self._endpoints.get(where.endpoint)
        _identify(exchange, request, endpoint, where)
        self._telemetry.started(exchange.endpoint)
        self._active += 1
        try:
            return await self._serve(request, protocol, exchange, endpoint, where)
        except RefusedError as refusal:
            exchange.broken = ("rejected", refusal.code)
            exchange.status = refusal.status
            if protocol.upstream is not None and protocol.upstream.head_written:
                protocol.upstream.reset_client()
                return CLOSE
            response = error_response(refusal.status, refusal.code, str(refusal))
            if refusal.status == 503:
                response.headers["Retry-After"] = "1"
            if refusal.status == 503 or not request.content.is_eof():
                response.force_close()
            return response
        except asyncio.CancelledError:
            gone = protocol.transport is None or protocol.transport.is_closing()
            exchange.broken = ("client_cancelled", "client_cancelled") if gone else ("truncated", "proxy_shutdown")
            raise
        except Exception as error:
            # Our own fault, counted like any other end. After raw writes aiohttp must not hear of it: it would write
            # a 500 into the stream.
            exchange.broken = ("rejected", f"proxy_{type(error).__name__}")
            if protocol.upstream is None or not protocol.upstream.head_written:
                raise
            _LOG.exception("the relay failed in the middle of a response")
            protocol.upstream.reset_client()
            return CLOSE
        finally:
            self._active -= 1
            if self._drained is not None and not self._active:
                self._drained.set()
            protocol.upstream = protocol.receiving = None
            self._telemetry.record(exchange.finish(time.monotonic_ns(), self._lag.worst_us()))

    async def _own_page(self, page: OwnPage, path: str, request: web.BaseRequest) -> web.StreamResponse:
        if self._keys is not None and path in _FOR_CLIENTS:
            try:
                self._keys.check(request.headers.get("Authorization"))
            except RefusedError as refusal:
                return error_response(refusal.status, refusal.code, str(refusal))
        return await page(request)

    async def _ready(self, _request: web.BaseRequest) -> web.StreamResponse:
        if self._drained is not None:
            return web.Response(status=503, text="draining\n")
        return web.Response(text="ready\n")

    async def drain(self, limit_s: float) -> None:
        """Refuse new requests from now on, and wait until the running ones are through, `limit_s` at most."""
        self._drained = asyncio.Event()
        if self._active:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), limit_s)

    def refused(self, status: int, why: str, received_ns: int, started_at_unix_us: int) -> None:
        """A request that aiohttp's parser refused: it makes a row as any other."""
        exchange = Exchange(received_ns, started_at_unix_us, "", "")
        exchange.trace_id, exchange.span_id = _IDS.getrandbits(128), _IDS.getrandbits(64)
        exchange.broken = ("rejected", why)
        exchange.status = status
        self._telemetry.started(None)
        self._telemetry.record(exchange.finish(time.monotonic_ns(), self._lag.worst_us()))

    async def _serve(
        self,
        request: web.BaseRequest,
        protocol: MeasuredProtocol,
        exchange: Exchange,
        endpoint: Endpoint | None,
        where: Route | None,
    ) -> web.StreamResponse:
        if self._drained is not None:
            raise RefusedError(503, "draining", "the proxy is shutting down")
        if self._keys is not None:
            self._keys.check(request.headers.get("Authorization"))
        if where is None:
            raise RefusedError(404, "unknown_path", "no such path; requests go to /{endpoint}/v1/…")
        if endpoint is None:
            known = ", ".join(self._endpoints)
            raise RefusedError(
                404, "unknown_endpoint", f"no endpoint '{where.endpoint}' is configured; there is: {known}"
            )
        authorization = None if endpoint.token is None else await endpoint.token.authorization()
        chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
        try:
            head = request_head(
                request.method,
                endpoint.path + where.rest + where.query,
                endpoint.host_header,
                request.raw_headers,
                authorization=authorization,
                forward_authorization=self._keys is None,  # a client's key for us is none for the endpoint
                traceparent=_traceparent(exchange) if endpoint.propagate else None,
                chunked=chunked,
            )
        except HeadError as error:
            raise RefusedError(400, "malformed_head", str(error)) from error

        upload = Upload(request, protocol, exchange, chunked=chunked)
        upload.take_whole()
        try:
            connection = await self._exchange(upload, head, endpoint)
        except UpstreamError as error:
            exchange.broken = (error.fault.outcome, error.fault.error_type)
            return error_response(error.fault.status, error.fault.error_type, f"endpoint '{endpoint.name}': {error}")
        if endpoint.token is not None and exchange.status == 401:
            endpoint.token.expire()
        if connection.head_written:
            if exchange.broken is not None and connection.unframed:
                connection.reset_client()
            return CLOSE if connection.client_close or exchange.broken is not None else KEEP
        error_type = exchange.broken[1] if exchange.broken is not None else "no_response"
        return error_response(502, error_type, f"endpoint '{endpoint.name}': {error_type.replace('_', ' ')}")

    async def _exchange(self, upload: "Upload", head: bytes, endpoint: Endpoint) -> UpstreamConnection:
        """Send the request and wait for the response's end. Raises UpstreamError where no connection could be had."""
        exchange = upload.exchange
        connection = endpoint.pool.resting()
        exchange.connection_reused = connection is not None
        while True:
            if connection is None:
                connection = await _connect(endpoint)
            exchange.connected_ns = time.monotonic_ns()
            try:
                await upload.send(connection, head)
            except BaseException:
                connection.release()
                connection.abort()
                raise
            endpoint.pool.put_back(connection)
            stale = exchange.connection_reused and not connection.responded and exchange.broken is not None
            if not (stale and upload.replayable):
                return connection
            # The endpoint closed the resting connection just as we took it, and has seen nothing or thrown it away.
            exchange.connection_reused = False
            exchange.broken = None
            connection = None


class Upload:
    """The request's way to the upstream: read from the client, kept for the span, written on."""

    def __init__(
        self, request: web.BaseRequest, protocol: MeasuredProtocol, exchange: Exchange, *, chunked: bool
    ) -> None:
        self.exchange = exchange
        self._content = request.content
        self._protocol = protocol
        self._chunked = chunked
        self._http10 = request.version < HttpVersion11
        self._close = not request.keep_alive
        self._expects = request.headers.get("Expect", "").lower() == "100-continue"

    @property
    def replayable(self) -> bool:
        """The whole body is here."""
        return self.exchange.body_received_ns is not None and self.exchange.request_bytes <= KEPT_REQUEST_BYTES

    def take_whole(self) -> None:
        """Take the body where it is here already, as it mostly is: before a connection is had, which may fail."""
        if self._content.is_eof():
            self._take(self._content.read_nowait())
            self.exchange.body_received_ns = max(self.exchange.received_ns, self._protocol.last_read_ns)

    async def send(self, connection: UpstreamConnection, head: bytes) -> None:
        """Write the request, and wait until its response has ended."""
        client, transport = self._protocol.transport, connection.transport
        if client is None or transport is None:
            raise asyncio.CancelledError  # the client left while we connected
        exchange = self.exchange
        connection.begin(exchange, client, http10=self._http10, close=self._close)
        self._protocol.upstream = connection
        if self._protocol.writing_paused:
            connection.pause_upstream()

        first = b""
        if exchange.body_received_ns is not None:
            first = b"".join(self._framed(piece) for piece in exchange.request_body) + self._end()
        elif self._expects and not self._http10:
            client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Before the call: on loopback the kernel may run the receiver first, and come back a millisecond later.
        exchange.sent_ns = time.monotonic_ns()
        transport.write(head + first)
        if exchange.body_received_ns is None:
            await self._stream(connection, transport)
        await connection.ended
        if exchange.body_received_ns is None:
            # It answered before it had heard us out, and would take the next request for the rest of this one.
            connection.reusable = False

    async def _stream(self, connection: UpstreamConnection, transport: asyncio.Transport) -> None:
        """The rest of the body as it comes; ends early where the response does."""
        ended = connection.ended
        self._protocol.receiving = self._content
        while not ended.done():
            reading = asyncio.ensure_future(self._content.readany())
            try:
                await asyncio.wait((reading, ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not reading.done():
                    reading.cancel()
            if not reading.done() or reading.cancelled():
                return
            try:
                piece = reading.result()
            except web.RequestPayloadError as error:
                raise RefusedError(400, "malformed_body", "the request's body is malformed") from error
            except ConnectionError as error:
                raise asyncio.CancelledError from error  # the client left; its cancellation is on the way too
            if piece:
                transport.write(self._framed(self._take(piece)))
                await connection.drain()
            if self._content.at_eof():
                self.exchange.body_received_ns = self._protocol.last_read_ns
                transport.write(self._end())
                return

    def _take(self, piece: bytes) -> bytes:
        exchange = self.exchange
        exchange.request_bytes += len(piece)
        if piece and exchange.request_bytes <= KEPT_REQUEST_BYTES:
            exchange.request_body.append(piece)
        return piece

    def _framed(self, piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked and piece else piece

    def _end(self) -> bytes:
        return b"0\r\n\r\n" if self._chunked else b""


async def _connect(endpoint: Endpoint) -> UpstreamConnection:
    try:
        return await endpoint.pool.connect()
    except Exception as error:
        fault = connect_fault(error)
        if fault is None:
            raise
        where = f"{endpoint.host}:{endpoint.port}"
        raise UpstreamError(fault, f"{fault.error_type.replace('_', ' ')} at {where}") from error


def _identify(exchange: Exchange, request: web.BaseRequest, endpoint: Endpoint | None, where: Route | None) -> None:
    """Who asks for what: the trace that the request belongs to, its tags, its endpoint."""
    headers = request.headers
    parent = read_traceparent(headers.get("traceparent"))
    if parent is not None:
        exchange.trace_id, exchange.parent_span_id, exchange.sampled = parent
        exchange.tracestate = headers.get("tracestate")
    else:
        exchange.trace_id = _IDS.getrandbits(128)
    exchange.span_id = _IDS.getrandbits(64)
    if "baggage" in headers:
        exchange.baggage = read_baggage(headers.getall("baggage"))
    if where is not None:
        exchange.operation = where.operation
        exchange.readable = where.readable
    if endpoint is not None:
        exchange.endpoint = endpoint.name
        exchange.provider = endpoint.provider
        exchange.server_address = endpoint.host
        exchange.server_port = endpoint.port


def _traceparent(exchange: Exchange) -> bytes:
    return b"00-%032x-%016x-%02x" % (exchange.trace_id, exchange.span_id, exchange.sampled is not False)
