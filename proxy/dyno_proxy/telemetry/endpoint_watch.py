"""Says in the log when an endpoint goes down and when it is back: one line each, however many workers there are."""

import logging
from pathlib import Path
from typing import Final

from dyno_proxy.exchange.record import Record

# One such request may have met a fault of its own, so several in a row are asked for. In all other cases nobody listens
# at the endpoint's address, or the way there is closed.
_UNSURE: Final = ("connection_closed", "connection_reset", "upstream_protocol_error")
_UNSURE_IN_A_ROW: Final = 3

_LOG: Final = logging.getLogger("dyno.proxy")


class EndpointWatch:
    """Looks at each request that has ended."""

    def __init__(self, shared: Path | None = None) -> None:
        """`shared`: a folder of all workers, in which they see who has said it."""
        self._shared = shared
        self._down: dict[str, int] = {}  # since when, in Unix µs
        self._unsure: dict[str, int] = {}  # failures since the endpoint last answered
        self.troubled = False  # whether an endpoint is down, or perhaps so; otherwise an answer says nothing new

    def see(self, record: Record) -> None:
        """A request has ended."""
        endpoint = record.endpoint
        if endpoint is None:
            return
        if record.headers_us is not None:
            if self.troubled:
                self._answered(endpoint, record.started_at_unix_us + record.headers_us)
        elif record.outcome == "upstream_unreachable" or record.error_type == "connect_timeout":
            self._failed(endpoint, record)
        self.troubled = bool(self._down or self._unsure)

    def _failed(self, endpoint: str, record: Record) -> None:
        if self._is_said(endpoint):
            self._down.setdefault(endpoint, record.started_at_unix_us + record.duration_us)
            return
        if record.error_type in _UNSURE:
            self._unsure[endpoint] = self._unsure.get(endpoint, 0) + 1
            if self._unsure[endpoint] < _UNSURE_IN_A_ROW:
                return
        if not self._may_say_down(endpoint):
            return
        self._down[endpoint] = record.started_at_unix_us + record.duration_us
        why = (record.error_type or record.outcome).replace("_", " ")
        _LOG.warning("endpoint '%s' is down: %s (%s:%s)", endpoint, why, record.server_address, record.server_port)

    def _answered(self, endpoint: str, at_unix_us: int) -> None:
        self._unsure.pop(endpoint, None)
        since_unix_us = self._down.get(endpoint)
        if since_unix_us is not None and at_unix_us > since_unix_us:  # an older request's answer says nothing
            del self._down[endpoint]
            if self._may_say_back(endpoint):
                _LOG.warning("endpoint '%s' is back, after %.1f s", endpoint, (at_unix_us - since_unix_us) / 1e6)

    def _is_said(self, endpoint: str) -> bool:
        return endpoint in self._down if self._shared is None else self._mark(self._shared, endpoint).exists()

    def _may_say_down(self, endpoint: str) -> bool:
        """Whether no other worker has said it."""
        if self._shared is not None:
            try:
                self._mark(self._shared, endpoint).touch(exist_ok=False)
            except FileExistsError:
                return False
            except OSError as error:
                _LOG.debug("no mark for endpoint '%s': %s", endpoint, error)
        return True

    def _may_say_back(self, endpoint: str) -> bool:
        if self._shared is not None:
            try:
                self._mark(self._shared, endpoint).unlink()
            except FileNotFoundError:
                return False
            except OSError as error:
                _LOG.debug("the mark of endpoint '%s' stays: %s", endpoint, error)
        return True

    @staticmethod
    def _mark(shared: Path, endpoint: str) -> Path:
        return shared / f"down-{endpoint}"
