"""Says in the log when an endpoint goes down and when it is back: one line each."""

import logging
from typing import Final

from dyno_proxy.exchange.record import Record

# One such request may have met a fault of its own, so several in a row are asked for. In all other cases nobody listens
# at the endpoint's address, or the way there is closed.
_UNSURE: Final = ("connection_closed", "connection_reset", "upstream_protocol_error")
_UNSURE_IN_A_ROW: Final = 3

_LOG: Final = logging.getLogger("dyno.proxy")


class EndpointWatch:
    """Looks at each request that has ended."""

    def __init__(self) -> None:
        self._down: dict[str, int] = {}  # since when, in Unix µs
        self._unsure: dict[str, int] = {}  # failures since the endpoint last answered

    def see(self, record: Record) -> None:
        """A request has ended."""
        endpoint = record.endpoint
        if endpoint is None:
            return
        if record.headers_us is not None:
            if self._down or self._unsure:
                self._answered(endpoint, record.started_at_unix_us + record.headers_us)
        elif record.outcome == "upstream_unreachable" or record.error_type == "connect_timeout":
            self._failed(endpoint, record)

    def _failed(self, endpoint: str, record: Record) -> None:
        if endpoint in self._down:
            return
        if record.error_type in _UNSURE:
            self._unsure[endpoint] = self._unsure.get(endpoint, 0) + 1
            if self._unsure[endpoint] < _UNSURE_IN_A_ROW:
                return
        self._down[endpoint] = record.started_at_unix_us + record.duration_us
        why = (record.error_type or record.outcome).replace("_", " ")
        _LOG.warning("endpoint '%s' is down: %s (%s:%s)", endpoint, why, record.server_address, record.server_port)

    def _answered(self, endpoint: str, at_unix_us: int) -> None:
        self._unsure.pop(endpoint, None)
        since_unix_us = self._down.get(endpoint)
        if since_unix_us is not None and at_unix_us > since_unix_us:  # an older request's answer says nothing
            del self._down[endpoint]
            _LOG.warning("endpoint '%s' is back, after %.1f s", endpoint, (at_unix_us - since_unix_us) / 1e6)
