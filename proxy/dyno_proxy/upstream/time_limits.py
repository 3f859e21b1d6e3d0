"""Keeps an endpoint's time limits, with one timer for each exchange. Without limits there is no timer."""

import asyncio
import time
from typing import Final

from dyno_proxy.config.schema import TimeoutsConfig
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.outcomes import TimedOut

from .relay import UpstreamConnection

_NS: Final = 1_000_000_000


def has_limits(timeouts: TimeoutsConfig) -> bool:
    """Whether there is anything to watch."""
    return timeouts.first_byte_s is not None or timeouts.idle_s is not None or timeouts.total_s is not None


class TimeLimits:
    """Watches one exchange until `stop()`, and cuts it off when a limit has passed.

    The timer isn't moved at each read. When it fires, it looks how long the silence has lasted, and waits for the rest.
    """

    def __init__(self, timeouts: TimeoutsConfig, connection: UpstreamConnection, exchange: Exchange) -> None:
        self._timeouts = timeouts
        self._connection = connection
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def stop(self) -> None:
        """The exchange has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now_ns = time.monotonic_ns()
        limits = self._limits(now_ns)
        if not limits:
            return  # the only limit was that of the first byte, which came
        next_ns, error_type = min(limits)
        if next_ns <= now_ns:
            self._connection.cut(("upstream_timeout", error_type))
        else:
            self._timer = self._loop.call_later((next_ns - now_ns) / _NS + 0.001, self._look)

    def _limits(self, now_ns: int) -> list[tuple[int, TimedOut]]:
        """For each limit: (when it passes, in ns of the monotonic clock; the error.type that this would be)."""
        timeouts, connection, exchange = self._timeouts, self._connection, self._exchange
        limits: list[tuple[int, TimedOut]] = []
        if timeouts.total_s is not None:
            limits.append((exchange.received_ns + int(timeouts.total_s * _NS), "total_timeout"))
        if timeouts.first_byte_s is not None and not connection.responded:
            # The upstream owes nothing until the body's last byte is sent.
            sent_ns = now_ns
            if exchange.body_received_ns is not None and exchange.sent_ns is not None:
                sent_ns = max(exchange.body_received_ns, exchange.sent_ns)
            limits.append((sent_ns + int(timeouts.first_byte_s * _NS), "first_byte_timeout"))
        if timeouts.idle_s is not None:
            # While the client doesn't read, we don't read from the upstream either: that silence isn't the upstream's.
            silent_since_ns = now_ns
            if connection.responded and connection.paused_ns is None:
                silent_since_ns = connection.last_read_ns
            limits.append((silent_since_ns + int(timeouts.idle_s * _NS), "idle_timeout"))
        return limits
