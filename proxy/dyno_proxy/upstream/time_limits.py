"""An endpoint's time limits, kept on one timer an exchange; without a limit there is no timer."""

import asyncio
import time
from typing import Final

from dyno_proxy.config.schema import TimeoutsConfig
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.outcomes import TimedOut

from .relay import UpstreamConnection

_NS: Final = 1_000_000_000


def has_limits(timeouts: TimeoutsConfig) -> bool:
    return timeouts.first_byte_s is not None or timeouts.idle_s is not None or timeouts.total_s is not None


class TimeLimits:
    """Watches one exchange on its connection until `stop()`; cuts it where a limit has passed.

    The timer isn't moved at each read: when it rings it looks how long the silence is, and waits for the rest.
    """

    def __init__(self, timeouts: TimeoutsConfig, connection: UpstreamConnection, exchange: Exchange) -> None:
        self._timeouts = timeouts
        self._connection = connection
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now_ns = time.monotonic_ns()
        limits = self._limits(now_ns)
        if not limits:
            return  # the first byte's was the only one, and it came
        next_ns, error_type = min(limits)
        if next_ns <= now_ns:
            self._connection.cut(("upstream_timeout", error_type))
        else:
            self._timer = self._loop.call_later((next_ns - now_ns) / _NS + 0.001, self._look)

    def _limits(self, now_ns: int) -> list[tuple[int, TimedOut]]:
        """(when it passes on the monotonic clock in ns, the error.type it would be) of each limit."""
        timeouts, connection, exchange = self._timeouts, self._connection, self._exchange
        limits: list[tuple[int, TimedOut]] = []
        if timeouts.total_s is not None:
            limits.append((exchange.received_ns + int(timeouts.total_s * _NS), "total_timeout"))
        if timeouts.first_byte_s is not None and not connection.responded:
            # Before the last byte of the body is sent, the upstream owes nothing.
            sent_ns = now_ns
            if exchange.body_received_ns is not None and exchange.sent_ns is not None:
                sent_ns = max(exchange.body_received_ns, exchange.sent_ns)
            limits.append((sent_ns + int(timeouts.first_byte_s * _NS), "first_byte_timeout"))
        if timeouts.idle_s is not None:
            # While the client doesn't read, the upstream is held back: its silence is none of its own.
            silent_since_ns = now_ns
            if connection.responded and connection.paused_ns is None:
                silent_since_ns = connection.last_read_ns
            limits.append((silent_since_ns + int(timeouts.idle_s * _NS), "idle_timeout"))
        return limits
