"""One request, from its head to its record: its route, its credentials, its body, and the wait for the response."""

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import cast

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from multidict import istr

from dyno_proxy.config.schema import ProxyConfig
from dyno_proxy.errors import RefusedError, UpstreamError, in_words
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.exchange.kept import SHORT_BYTES
from dyno_proxy.exchange.route import API, BESIDE, CLIMBS, Route, route
from dyno_proxy.exchange.trace_context import read_baggage, read_traceparent
from dyno_proxy.http.content_coding import content_codings
from dyno_proxy.http.heads import HeadError, request_head
from dyno_proxy.metrics.gc_pauses import GcPauses
from dyno_proxy.metrics.loop_lag import LoopLag
from dyno_proxy.outcomes import Ending, OtherName, Refusal
from dyno_proxy.readers import may_ask_usage, provider_of
from dyno_proxy.rewrite.request_body import asking_usage
from dyno_proxy.telemetry.telemetry import Telemetry
from dyno_proxy.upstream.endpoint import Endpoint
from dyno_proxy.upstream.relay import UpstreamConnection
from dyno_proxy.upstream.retries import attempt

from .access import Access, guarded
from .answers import error_response, raw_error
from .bracket import Bracket, Requests
from .connection import CLOSE, KEEP, MeasuredProtocol
from .cors import is_preflight, preflight_answer
from .deferred import EndedRequests
from .mirror import Mirror
from .pages import Pages
from .upload import Upload

_LOG = logging.getLogger("dyno.proxy")

_VERSIONS = (HttpVersion11, HttpVersion10)
# An istr is found faster than a str, whose lower case would be made each time.
_TRACEPARENT = istr("traceparent")
_BAGGAGE = istr("baggage")
_USER_AGENT = istr("user-agent")
_CONTENT_ENCODING = istr("content-encoding")
_LABEL_CHARACTERS = 256  # of a header that is kept

_IDS = random.Random()  # noqa: S311 - ids need to be unique, not unguessable; the system seeds it


class Handler:
    """What aiohttp's server calls for each request of one listener. Each is started once and recorded once."""

    def __init__(
        self,
        endpoints: dict[str, Endpoint],
        telemetry: Telemetry,
        lag: LoopLag,
        pages: Pages,
        access: Access | None = None,
        limits: ProxyConfig | None = None,
        gc_pauses: GcPauses | None = None,
        mirrored: Callable[[str, str], None] = lambda _endpoint, _result: None,
        named_user: Callable[[str], str] | None = None,
    ) -> None:
        """`named_user`: what is kept of a user's name; None: nothing is."""
        self._pages = pages
        self._named_user = named_user
        gc_pauses = gc_pauses or GcPauses()
        self._ended = EndedRequests(telemetry.record)
        self._requests = Requests(telemetry.started, self._ended, lag, gc_pauses)
        self._mirror = Mirror(Requests(telemetry.started, self._ended, lag, gc_pauses), mirrored)
        self.replace(endpoints, access or Access(), limits or ProxyConfig())

    def replace(self, endpoints: dict[str, Endpoint], access: Access, limits: ProxyConfig) -> None:
        """Take another configuration for requests from now on. Running ones keep theirs."""
        self._endpoints = endpoints
        self._access = access
        self._limits = limits
        self._guarded = guarded(endpoints) if access.own_user_alone else frozenset()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = cast(MeasuredProtocol, request.protocol)  # the only kind that MeasuredServer makes
        received_ns, started_at_unix_us = protocol.take_stamp()
        target = request.raw_path
        # A target of another form may hold a user's name and a password.
        path = target.partition("?")[0] if target.startswith("/") else ""
        access = self._access
        if access.cors is not None:
            protocol.page_headers = access.cors.headers_for(request.headers)
            if protocol.page_headers is not None and is_preflight(request):
                return preflight_answer(request, protocol.page_headers)
        page = self._pages.by_path.get(path)
        if page is not None:
            return _readable(protocol, await self._pages.answer(page, path, request, access))

        exchange = Exchange(received_ns, started_at_unix_us, request.method, path)
        where = route(target)
        endpoint = None if where is None else self._endpoints.get(where.endpoint)
        exchange.named_user = self._named_user
        _identify(exchange, request, endpoint, where)
        exchange.client_address = protocol.client_address
        try:
            with Bracket(self._requests, exchange, protocol):
                return await self._serve(request, protocol, exchange, endpoint, where)
        except RefusedError as refusal:
            return _refused(request, protocol, refusal)
        except UpstreamError as error:
            return _readable(protocol, _unanswered(error.ending, f"endpoint '{exchange.endpoint}': {error}"))
        except Exception:
            # Bytes of the response were written. aiohttp must not see the exception: it would write a 500 behind them.
            if protocol.upstream is None or not protocol.upstream.head_written:
                raise
            _LOG.exception("the relay failed in the middle of a response")
            protocol.upstream.reset_client()
            return CLOSE
        finally:
            protocol.upstream = protocol.receiving = protocol.page_headers = None

    async def drain(self, limit_s: float) -> None:
        """Refuse new requests from now on, and wait until the running ones are through, `limit_s` at most."""
        self._pages.draining = True
        await self._requests.wait_idle(limit_s)

    def finish_ended(self, *, all_of_them: bool = False) -> None:
        """Record at once what has ended. `all_of_them`: also what takes long to read."""
        if all_of_them:
            self._ended.finish_all()
        else:
            self._ended.finish()

    def cut(self) -> None:
        """Requests that are cancelled from now on are cut off by us, not left by their clients."""
        self._requests.cutting = True

    async def close_mirror(self) -> None:
        """Send no copies from now on, and cut off those under way. Before telemetry closes."""
        await self._mirror.close()

    def refused(self, status: int, why: Refusal | OtherName, received_ns: int, started_at_unix_us: int) -> None:
        """Record a request that aiohttp's parser refused. It has a row like any other."""
        exchange = Exchange(received_ns, started_at_unix_us, "", "")
        exchange.trace_id, exchange.span_id = _IDS.getrandbits(128), _IDS.getrandbits(64)
        with Bracket(self._requests, exchange):
            exchange.broken = ("rejected", why)
            exchange.status = status

    async def _serve(
        self,
        request: web.BaseRequest,
        protocol: MeasuredProtocol,
        exchange: Exchange,
        named: Endpoint | None,
        where: Route | None,
    ) -> web.StreamResponse:
        where, endpoint = self._admit(request, protocol, exchange, where, named)
        authorization = None if endpoint.token is None else await endpoint.token.authorization()
        chunked = "chunked" in request.headers.get(hdrs.TRANSFER_ENCODING, "").lower()
        upload = Upload(
            request,
            protocol,
            exchange,
            chunked=chunked,
            max_bytes=self._limits.max_body_bytes if exchange.operation is not None else None,
            idle_s=self._limits.client_idle_s,
        )
        upload.take_whole()
        asking = endpoint.usage_asking
        if asking is not None and may_ask_usage(where.rest) and request.method == "POST":
            exchange.usage_asking = asking
            if asking.asks:
                await _ask_for_usage(upload)
        mirror = endpoint.config.mirror
        other = None if mirror is None else self._endpoints.get(mirror.to)  # None if a reload has just removed it
        if other is not None and exchange.operation is not None and request.method == "POST":
            upload.sent = partial(self._mirror.offer, exchange, endpoint, other, request.raw_headers, where.rest)
        head = self._head(request, exchange, endpoint, where, chunked, upload.replaced, authorization)
        connection = await attempt(
            endpoint,
            exchange,
            partial(upload.send, head=head, timeouts=endpoint.config.timeouts),
            replayable=lambda: upload.replayable,
            retries=endpoint.config.retries,
        )
        if endpoint.token is not None and authorization is not None and exchange.status == 401:
            endpoint.token.expire(authorization)
        return _ending(request, exchange, connection, protocol)

    def _admit(
        self,
        request: web.BaseRequest,
        protocol: MeasuredProtocol,
        exchange: Exchange,
        where: Route | None,
        endpoint: Endpoint | None,
    ) -> tuple[Route, Endpoint]:
        """Where the request goes. Raises RefusedError where it may not pass, or leads to no endpoint."""
        if self._pages.draining:
            raise RefusedError("draining", "the proxy is shutting down")
        if protocol.surplus:
            raise RefusedError("too_many_connections", "the proxy has as many connections as it may; try again")
        if self._requests.active > self._limits.max_requests:
            raise RefusedError("too_many_requests", "the proxy has as many requests as it may; try again")
        if request.version not in _VERSIONS:
            raise RefusedError("http_version", "the proxy speaks HTTP/1.0 and HTTP/1.1")
        if protocol.head_too_long:
            raise RefusedError("head_too_long", "the request's head is too long")
        exchange.client = self._access.check(request.headers)
        if where is None:
            raise RefusedError("unknown_path", "no such path; requests go to /{endpoint}/v1/…")
        if where.kind == CLIMBS:
            raise RefusedError("unknown_path", "the path may lead out of the endpoint's url")
        if endpoint is None:
            known = ", ".join(self._endpoints)
            raise RefusedError("unknown_endpoint", f"no endpoint '{where.endpoint}'; configured endpoints: {known}")
        if endpoint.name in self._guarded:
            self._access.check_user(protocol)
        return where, endpoint

    def _head(
        self,
        request: web.BaseRequest,
        exchange: Exchange,
        endpoint: Endpoint,
        where: Route,
        chunked: bool,
        replaced: bytes | None,
        authorization: bytes | None,
    ) -> bytes:
        """The request's head for the endpoint. Raises RefusedError for one that can't be sent on."""
        prefix = endpoint.target_prefix if where.kind == API else _prefix(endpoint, where)
        target = prefix + where.rest or "/"
        exchange.endpoint_path = target[endpoint.before_path_characters :]
        try:
            return request_head(
                request.method,
                target + where.query,
                endpoint.host_header,
                request.raw_headers,
                authorization=authorization,
                # With client keys, the client's Authorization is for this proxy alone.
                forward_authorization=self._access.keys is None,
                traceparent=_traceparent(exchange) if endpoint.propagate else None,
                chunked=chunked,
                proxy_authorization=endpoint.proxy_authorization,
                replaced_bytes=None if replaced is None else len(replaced),
            )
        except HeadError as error:
            raise RefusedError("malformed_head", str(error)) from error


def _prefix(endpoint: Endpoint, where: Route) -> str:
    """What stands before the route's rest at the endpoint, where that isn't its url.

    Raises RefusedError where the route leads nowhere.
    """
    if where.kind == BESIDE:
        if endpoint.origin_prefix is None:
            name = endpoint.name
            raise RefusedError(
                "unknown_path", f"endpoint '{name}' serves /v1 alone; endpoints.{name}.origin opens more"
            )
        return endpoint.origin_prefix
    # A url at the server's root has no /v1 of its own, and its client adds one.
    return endpoint.target_prefix if endpoint.path else f"{endpoint.target_prefix}/v1"


def _refused(request: web.BaseRequest, protocol: MeasuredProtocol, refusal: RefusedError) -> web.StreamResponse:
    """The answer to a refused request. If the client has part of another answer already, its connection is reset."""
    if protocol.upstream is not None and protocol.upstream.head_written:
        protocol.upstream.reset_client()
        return CLOSE
    # A head that two servers may read differently ends the connection: they may differ on what follows, too.
    if refusal.status == 503 or refusal.code == "malformed_head" or not request.content.is_eof():
        headers = dict(protocol.page_headers or {})
        if refusal.status == 503:
            headers["Retry-After"] = "1"
        return protocol.end_with(raw_error(refusal.status, refusal.code, str(refusal), headers))
    return _readable(protocol, error_response(refusal.status, refusal.code, str(refusal)))


def _ending(
    request: web.BaseRequest, exchange: Exchange, connection: UpstreamConnection, protocol: MeasuredProtocol
) -> web.StreamResponse:
    """What aiohttp gets once the exchange is over: a response that is written already, or an error of ours."""
    if connection.head_written:
        if exchange.broken is not None and connection.unframed:
            connection.reset_client()
        if not (connection.client_close or exchange.broken is not None):
            return KEEP
        # Where the client still sends, closing at once would reset the connection under the answer.
        return CLOSE if request.content.is_eof() else protocol.end_with()
    ending = exchange.broken or ("truncated", "no_response")
    return _readable(protocol, _unanswered(ending, f"endpoint '{exchange.endpoint}': {in_words(ending)}"))


def _unanswered(ending: Ending, message: str) -> web.Response:
    """What the client gets where the endpoint gave no answer."""
    outcome, error_type = ending
    return error_response(504 if outcome == "upstream_timeout" else 502, error_type or outcome, message)


def _readable(protocol: MeasuredProtocol, response: web.StreamResponse) -> web.StreamResponse:
    """An answer of ours, with the headers that let a web page read it, if it may."""
    if protocol.page_headers is not None and isinstance(response, web.Response):
        response.headers.update(protocol.page_headers)
    return response


async def _ask_for_usage(upload: Upload) -> None:
    """Ask the endpoint for the stream's usage, if the client didn't."""
    await upload.wait_whole()
    asking = asking_usage(upload.body, upload.exchange.request_members) if upload.replayable else None
    if asking is not None and (len(asking) <= SHORT_BYTES or upload.exchange.keep(len(asking))):
        upload.replaced = asking
        upload.exchange.usage_asked = True


def _identify(exchange: Exchange, request: web.BaseRequest, endpoint: Endpoint | None, where: Route | None) -> None:
    """Note the trace that the request belongs to, its tags and its endpoint."""
    headers = request.headers
    parent = read_traceparent(headers.get(_TRACEPARENT))
    if parent is not None and len(headers.getall(_TRACEPARENT)) == 1:  # of two, neither can be trusted
        exchange.trace_id, exchange.parent_span_id, exchange.sampled = parent
        exchange.tracestate = ",".join(headers.getall("tracestate", ())) or None
    else:
        exchange.trace_id = _IDS.getrandbits(128)
    exchange.span_id = _IDS.getrandbits(64)
    if _BAGGAGE in headers:
        exchange.baggage = read_baggage(headers.getall(_BAGGAGE))
    agent = headers.get(_USER_AGENT)
    if agent:
        exchange.user_agent = agent[:_LABEL_CHARACTERS]
    if _CONTENT_ENCODING in headers:
        exchange.request_codings = content_codings(
            ",".join(headers.getall(_CONTENT_ENCODING)).encode("latin-1", "replace")
        )
    if where is not None:
        exchange.operation = where.operation
        exchange.reader = where.reader
        exchange.provider = provider_of(where.reader)
    if endpoint is not None:
        exchange.endpoint = endpoint.name
        if endpoint.provider is not None:
            exchange.provider = endpoint.provider
        exchange.hides_reasoning = endpoint.config.hidden_reasoning
        exchange.server_address = endpoint.host
        exchange.server_port = endpoint.port


def _traceparent(exchange: Exchange) -> bytes:
    return b"00-%032x-%016x-%02x" % (exchange.trace_id, exchange.span_id, exchange.sampled is not False)
