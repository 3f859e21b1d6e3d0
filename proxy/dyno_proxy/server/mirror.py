"""Sends a share of the clients' requests once more, to another endpoint, whose answers are measured and dropped.

    client ──▶ request ──▶ endpoint ──▶ answer ──▶ client
                  └ once it is sent: offer ─ by share, within max_requests ──▶ copy ──▶ another endpoint ──▶ nowhere

The original never waits for its copy, and no fault of the copy reaches it. A copy is the proxy's own request: it has a
trace of its own and few of the client's headers. It is sent once. It goes on when the original's client leaves, since
cutting it off would keep the other endpoint's slow answers out of its figures.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec

from dyno_proxy.config.schema import TimeoutsConfig
from dyno_proxy.errors import RefusedError, UpstreamError
from dyno_proxy.exchange.budget import ALL
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.http.heads import RawHeaders, connection_options
from dyno_proxy.readers import may_ask_usage, provider_of
from dyno_proxy.rewrite.request_body import asking_usage, with_model
from dyno_proxy.upstream.endpoint import Endpoint
from dyno_proxy.upstream.relay import UpstreamConnection
from dyno_proxy.upstream.retries import attempt
from dyno_proxy.upstream.time_limits import TimeLimits

from .bracket import Bracket, Requests

COPY_LIMIT_S: Final = 600.0  # for a whole copy, if its endpoint has no total_s: no client waits for it and gives up

# What becomes of a request that was chosen.
SENT: Final = "sent"
LIMIT: Final = "limit"  # max_requests copies were under way
NOT_JSON: Final = "not_json"  # the body isn't JSON with a model to replace
FAILED: Final = "failed"  # no connection, no token, or a fault of ours

# The client trusted one endpoint with its headers, and a copy goes to another. A header's name doesn't tell whether it
# holds a secret. So only those pass that say how to read the body and the answer. The query doesn't pass either.
_PASSED_ON: Final = frozenset(
    b"accept accept-encoding accept-language content-type user-agent"
    b" anthropic-beta anthropic-version openai-beta".split()
)
_PROMPT_ID: Final = "dyno.prompt.id"
_ORIGINALS_OWN: Final = ("dyno.due_at_unix_us", "dyno.send_lag_s")  # of its sending, not of the copy's
_LOG_AGAIN_S: Final = 60.0

_LOG: Final = logging.getLogger("dyno.proxy")


class Mirror:
    """Makes all copies of one proxy. Calls `mirrored(endpoint, result)` once for each request that was chosen."""

    def __init__(self, requests: Requests, mirrored: Callable[[str, str], None]) -> None:
        self._requests = requests
        self._mirrored = mirrored
        self._random = random.Random()  # noqa: S311 - a share, and ids that need to be unique; the system seeds it
        self._under_way: dict[str, int] = {}  # by the originals' endpoint
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._logged_s: dict[str, float] = {}

    def offer(
        self, original: Exchange, endpoint: Endpoint, other: Endpoint, headers: RawHeaders, rest: str, body: bytes
    ) -> None:
        """Send a copy of the request to `other`, if it is among the share and within the limit of `endpoint`.

        Called once a request, after its last byte was handed to `endpoint`; `headers`, `rest` (its path after /v1) and
        `body` are the client's own. Never raises, and leaves the work to a task.
        """
        config = endpoint.config.mirror
        if config is None or self._closed or self._random.random() >= config.share:
            return
        try:
            if self._under_way.get(endpoint.name, 0) >= config.max_requests:
                self._mirrored(endpoint.name, LIMIT)
                return
            self._begin(endpoint.name, self._copy(original, endpoint.name, other, headers, rest, body))
        except Exception as error:  # noqa: BLE001  # whatever failed, it must not reach the original
            self._log(type(error).__name__, "a copy could not be made", error)

    async def close(self) -> None:
        """Make no copies from now on. Those under way are cut off, and recorded as such."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, name: str, copying: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(copying)
        self._tasks.add(task)
        self._under_way[name] = self._under_way.get(name, 0) + 1
        task.add_done_callback(partial(self._over, name))

    def _over(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._under_way[name] -= 1

    async def _copy(
        self, original: Exchange, name: str, other: Endpoint, headers: RawHeaders, rest: str, body: bytes
    ) -> None:
        result = FAILED
        kept_bytes = 2 * len(body)  # the original's body, which may be long, and the copy's
        if not ALL.take(kept_bytes):
            self._mirrored(name, LIMIT)
            return
        try:
            edited, asked = await _edited(original, other, rest, body)
            if edited is None:
                result = NOT_JSON
                return
            exchange = self._exchange(original, other, rest)
            exchange.usage_asked = asked
            del body
            try:
                await self._measured(exchange, other, headers, rest, edited)
            finally:
                if exchange.sent_ns is not None:
                    result = SENT
        except Exception as error:  # noqa: BLE001  # a copy's fault ends with the copy
            self._log(f"{name}: {type(error).__name__}", f"a copy of a request to '{name}' failed", error)
        finally:
            ALL.give_back(kept_bytes)
            self._mirrored(name, result)

    def _exchange(self, original: Exchange, other: Endpoint, rest: str) -> Exchange:
        """The copy's exchange. Copy and original are marked, and get the same prompt id, by which reports pair them."""
        now_ns = time.monotonic_ns()
        exchange = Exchange(now_ns, time.time_ns() // 1000, original.method, f"/{other.name}/v1{rest}")
        exchange.body_received_ns = now_ns
        exchange.trace_id, exchange.span_id = self._random.getrandbits(128), self._random.getrandbits(64)
        exchange.operation, exchange.reader = original.operation, original.reader
        exchange.endpoint, exchange.provider = other.name, other.provider or provider_of(original.reader)
        exchange.server_address, exchange.server_port = other.host, other.port
        exchange.endpoint_path = other.path + rest
        exchange.named_user, exchange.usage_asking = original.named_user, other.usage_asking
        exchange.hides_reasoning = other.config.hidden_reasoning
        original.mirror, exchange.mirror = "original", "copy"
        exchange.mirror_trace_id = f"{original.trace_id:032x}"
        exchange.mirror_span_id = f"{original.span_id:016x}"
        original.baggage.setdefault(_PROMPT_ID, exchange.mirror_span_id)
        exchange.baggage = {tag: value for tag, value in original.baggage.items() if tag not in _ORIGINALS_OWN}
        return exchange

    async def _measured(self, exchange: Exchange, other: Endpoint, headers: RawHeaders, rest: str, body: bytes) -> None:
        try:
            with Bracket(self._requests, exchange):
                exchange.take_request(body)
                authorization = None if other.token is None else await other.token.authorization()
                await _send(exchange, _head(exchange, other, headers, rest, len(body), authorization), body, other)
                if other.token is not None and authorization is not None and exchange.status == 401:
                    other.token.expire(authorization)
        except RefusedError as refusal:
            self._log(f"{other.name}: {refusal.code}", f"no copies to '{other.name}': {refusal}")
        except UpstreamError as error:
            self._log(f"{other.name}: {error.ending[1]}", f"no copies to '{other.name}': {error}")

    def _log(self, kind: str, message: str, error: Exception | None = None) -> None:
        """Log each kind once a minute: for a dead endpoint there would be a line for every copy."""
        now_s = time.monotonic()
        if now_s - self._logged_s.get(kind, -_LOG_AGAIN_S) >= _LOG_AGAIN_S:
            self._logged_s[kind] = now_s
            _LOG.warning("mirror: %s", message, exc_info=error)


async def _edited(original: Exchange, other: Endpoint, rest: str, body: bytes) -> tuple[bytes | None, bool | None]:
    """The copy's body, and True if it asks for usage by our doing; None where it can't be made."""
    while not original.request_read:  # noqa: ASYNC110  # it takes some turns of the loop
        await asyncio.sleep(0)
    known = original.request_members
    asks = other.usage_asking is not None and other.usage_asking.asks and may_ask_usage(rest)
    asking = asking_usage(body, known) if asks else None
    if asking is None:
        return with_model(body, other.config.model or "", known), None
    if known is not None:
        options_at = max((start for key, start, _ in known if key == "stream_options"), default=len(body))
        longer = len(asking) - len(body)
        known = [(key, start + longer * (start > options_at), end + longer * (start > options_at))
                 for key, start, end in known]  # fmt: skip
    edited = with_model(asking, other.config.model or "", known)
    return edited, None if edited is None else True


class _Nowhere(asyncio.Transport):
    """Stands where the relay writes to a client. What is written is dropped, and writing never has to wait."""

    def write(self, data: object) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass


async def _send(exchange: Exchange, head: bytes, body: bytes, other: Endpoint) -> None:
    """Send it once, and wait for the end of the response. Raises UpstreamError where no connection could be had."""
    timeouts = msgspec.structs.replace(other.config.timeouts, total_s=other.config.timeouts.total_s or COPY_LIMIT_S)
    send = partial(_send_on, exchange=exchange, request=(head, body), timeouts=timeouts)
    await attempt(other, exchange, send, replayable=lambda: True, retries=0)


async def _send_on(
    connection: UpstreamConnection, exchange: Exchange, request: tuple[bytes, bytes], timeouts: TimeoutsConfig
) -> None:
    connection.begin(exchange, _Nowhere(), http10=False, close=False)
    exchange.sent_ns = time.monotonic_ns()
    if connection.transport is not None and not connection.transport.is_closing():  # else the exchange ends at once
        connection.transport.writelines(request)
    limits = TimeLimits(timeouts, connection, exchange)
    try:
        await connection.ended
    finally:
        limits.stop()


def _head(
    exchange: Exchange, other: Endpoint, headers: RawHeaders, rest: str, body_bytes: int, authorization: bytes | None
) -> bytes:
    """The copy's head: its endpoint's own credentials, our tags, and the headers of the client that may pass."""
    passed_on = _PASSED_ON - connection_options(headers)
    target = f"{other.target_prefix}{rest}".encode("utf-8", "surrogateescape")
    lines = [b"%b %b HTTP/1.1" % (exchange.method.encode(), target), b"Host: " + other.host_header]
    lines += [name + b": " + value for name, value in headers if name.lower() in passed_on]
    if authorization is not None:
        lines.append(b"Authorization: " + authorization)
    if other.proxy_authorization is not None:
        lines.append(b"Proxy-Authorization: " + other.proxy_authorization)
    if other.propagate:
        lines.append(b"traceparent: 00-%032x-%016x-01" % (exchange.trace_id, exchange.span_id))
    lines += [b"baggage: " + _baggage(exchange), b"Content-Length: %d" % body_bytes]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _baggage(exchange: Exchange) -> bytes:
    tags = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in exchange.baggage.items()
        if name.startswith("dyno.")  # the users' sessions are none of the second provider's business
    }
    return ",".join(f"{name}={quote(value, safe='', errors='replace')}" for name, value in tags.items()).encode("ascii")
