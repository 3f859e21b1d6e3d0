"""What the log says of a sender that speaks something else than OTLP over HTTP/1.1: one line, and not for each try."""

import logging
import time
from typing import Final

AGAIN_S: Final = 60.0  # how long a kind of fault isn't logged again for the same sender
_KINDS: Final = 1_000  # that are remembered

_HTTP2: Final = (
    "%s speaks HTTP/2, as gRPC exporters do; this port takes OTLP over HTTP/1.1: "
    "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf there"
)


class OneLine(logging.Filter):
    """For the logger of aiohttp's server, which logs a sender's malformed request with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged; one that a sender has caused becomes a line without a traceback."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not type(error).__module__.startswith("aiohttp."):
            return True
        sender = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "a sender"
        fault = str(error)
        is_http2 = "PRI" in fault
        record.exc_info = record.exc_text = None
        if is_http2:
            record.msg, record.args = _HTTP2, (sender,)
        else:
            record.msg, record.args = "%s sent what isn't HTTP/1.1: %s", (sender, " ".join(fault.split())[:200])
        return self._is_new((sender, "HTTP/2" if is_http2 else type(error).__name__))

    def _is_new(self, kind: tuple[str, str]) -> bool:
        now_s = time.monotonic()
        if now_s - self._logged_s.get(kind, -AGAIN_S) < AGAIN_S:
            return False
        if len(self._logged_s) >= _KINDS:
            self._logged_s.clear()
        self._logged_s[kind] = now_s
        return True
