"""Requests that have ended are recorded a few at a time.

The client already has its response. Recording several requests in a row takes a third less time than recording each one
between two others, because code and data are still in the processor's caches. At most EACH requests wait, and for 10 ms
at most, so that no read waits for long and the span is on disk in time. Large requests and streams don't wait: to
record one of them takes longer than to record several others.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.exchange.record import Record

EACH: Final = 8  # 0.3 ms of the event loop's time
WAIT_S: Final = 0.01
LARGE_BYTES: Final = 64 * 1024

_LOG: Final = logging.getLogger("dyno.proxy")


class _Ended(NamedTuple):
    exchange: Exchange
    now_ns: int
    loop_lag_us: int
    gc_pause_us: int


class EndedRequests:
    """The requests that wait. `record` is called once for each, on the event loop that all of them run on."""

    def __init__(self, record: Callable[[Record], None]) -> None:
        self._record = record
        self._waiting: list[_Ended] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exchange: Exchange, loop_lag_us: int, gc_pause_us: int) -> None:
        """The exchange ends now. Never raises: aiohttp would write a 500 behind the response that the client has."""
        ended = _Ended(exchange, time.monotonic_ns(), loop_lag_us, gc_pause_us)
        if exchange.streamed or exchange.request_bytes + exchange.response_bytes > LARGE_BYTES:
            self._finish(ended)
            return
        self._waiting.append(ended)
        if len(self._waiting) >= EACH:
            self.finish()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self.finish)

    def finish(self) -> None:
        """Record all that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        for ended in waiting:
            self._finish(ended)

    def _finish(self, ended: _Ended) -> None:
        try:
            self._record(_finished(*ended))
        except Exception:  # noqa: BLE001  # the other requests still get their rows, and aiohttp must not see it
            _LOG.exception("a request has no row")


def _finished(exchange: Exchange, now_ns: int, loop_lag_us: int, gc_pause_us: int) -> Record:
    try:
        return exchange.finish(now_ns, loop_lag_us, gc_pause_us)
    except Exception as error:  # noqa: BLE001  # whatever went wrong, the request gets a row
        _LOG.exception("a response could not be read; its span has less")
        exchange.give_up(f"proxy_{type(error).__name__}")
        return exchange.finish(now_ns, loop_lag_us, gc_pause_us)
