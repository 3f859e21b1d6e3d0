"""The proxy's central promise: every request that begins is recorded exactly once, with one outcome.

    with Bracket(requests, exchange, client):   # counted as started
        …                                      # returns, is refused, fails, is cancelled
                                               # recorded: `exchange.broken` says what ended it early

Whatever ends the block passes on to the caller, who answers the client. A request of a client, a copy for a mirror and
a request that aiohttp's parser refused all pass through here.
"""

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from dyno_proxy.errors import RefusedError, UpstreamError
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.metrics.gc_pauses import GcPauses
from dyno_proxy.metrics.loop_lag import LoopLag
from dyno_proxy.outcomes import OtherName

from .deferred import EndedRequests


class Client(Protocol):
    """The client's connection, as far as the bracket looks at it."""

    @property
    def transport(self) -> asyncio.Transport | None: ...


class Requests:
    """The requests of one kind. `started` hears of each one at its begin, `ended` at its end."""

    def __init__(
        self, started: Callable[[Exchange], None], ended: EndedRequests, lag: LoopLag, gc_pauses: GcPauses
    ) -> None:
        self.active = 0
        self.cutting = False  # what is cancelled from now on is cancelled by us
        self.started = started
        self.ended = ended
        self.lag = lag
        self.gc_pauses = gc_pauses
        self.idle: asyncio.Event | None = None  # set as soon as none is active, where somebody waits for that

    async def wait_idle(self, limit_s: float) -> None:
        """Wait until none is active, `limit_s` at most."""
        self.idle = asyncio.Event()
        if self.active:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.idle.wait(), limit_s)


class Bracket:
    """A `with` statement's, around one request. A class: contextlib's generators take several times as long."""

    __slots__ = ("_client", "_exchange", "_gc_before_ns", "_requests")

    def __init__(self, requests: Requests, exchange: Exchange, client: Client | None = None) -> None:
        """`client`: None for a request that has no client to leave it."""
        self._requests = requests
        self._exchange = exchange
        self._client = client

    def __enter__(self) -> None:
        requests = self._requests
        self._gc_before_ns = requests.gc_pauses.total_ns
        requests.started(self._exchange)
        requests.active += 1

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        requests = self._requests
        if error is not None:
            self._note(error)
        requests.active -= 1
        if requests.idle is not None and not requests.active:
            requests.idle.set()
        gc_pause_us = (requests.gc_pauses.total_ns - self._gc_before_ns) // 1000
        requests.ended.add(self._exchange, requests.lag.worst_us(), gc_pause_us)

    def _note(self, error: BaseException) -> None:
        """What the exception says of the request's end."""
        exchange = self._exchange
        if isinstance(error, RefusedError):
            exchange.broken = ("rejected", error.code)
            exchange.status = error.status
        elif isinstance(error, UpstreamError):
            exchange.broken = error.ending
        elif isinstance(error, Exception):
            exchange.broken = ("rejected", OtherName(f"proxy_{type(error).__name__}"))  # a fault of our own
        elif isinstance(error, asyncio.CancelledError) and exchange.broken is None and not exchange.complete:
            # Neither cut off by us before, nor answered to the end: then a client may leave as it likes.
            left = self._client_has_left()
            exchange.broken = ("client_cancelled", "client_cancelled") if left else ("truncated", "proxy_shutdown")

    def _client_has_left(self) -> bool:
        if self._client is None or self._requests.cutting:
            return False
        transport = self._client.transport
        return transport is None or transport.is_closing()
