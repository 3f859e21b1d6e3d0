"""A line for each request that has ended, for `dyno proxy --log-requests`."""

import re
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Final, TextIO

from dyno_proxy.exchange.record import Record

_PERIOD_S: Final = 0.1
_WAITING_LINES: Final = 10_000  # more than a terminal shows; further ones are counted and left out
# A path or a model's name may hold any character, and a terminal would obey those.
_NOT_SHOWN: Final = re.compile(r"[^\x21-\x7e]")


def request_line(record: Record) -> str:
    """What a person wants to know of a request, in the order of time, route, result and cost."""
    ended_at = datetime.fromtimestamp((record.started_at_unix_us + record.duration_us) / 1e6, UTC)
    words = [
        f"{ended_at:%Y-%m-%dT%H:%M:%S}.{ended_at.microsecond // 1000:03}Z",
        _shown(record.endpoint),
        _shown(record.method),
        _shown(record.path),
        _shown(record.model),
        "-" if record.status is None else str(record.status),
        record.outcome if record.error_type is None else f"{record.outcome}/{_shown(record.error_type)}",
        f"{record.duration_us / 1e6:.3f} s",
    ]
    if record.first_token_us is not None:
        words.append(f"ttft {record.first_token_us / 1e6:.3f} s")
    if record.usage_source == "server":
        words.append(f"tokens {_shown(record.input_tokens)} in {_shown(record.output_tokens)} out")
    if record.client is not None:
        words.append(f"client {record.client}")
    return " ".join(words)


class RequestLog:
    """Prints the lines. A thread does it, so that a terminal or a pipe that takes none holds nobody up."""

    def __init__(self, to: TextIO = sys.stdout) -> None:
        self._to = to
        self._lines: deque[str] = deque()
        self._left_out = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dyno-request-log", daemon=True)
        self._thread.start()

    def add(self, record: Record) -> None:
        """Print the request's line soon."""
        if len(self._lines) < _WAITING_LINES:
            self._lines.append(request_line(record))
        else:
            self._left_out += 1

    def close(self, timeout_s: float = 1.0) -> None:
        """Print what waits, but give up where nobody takes it."""
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending.wait(_PERIOD_S):
            self._print()
        self._print()

    def _print(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        left_out, self._left_out = self._left_out, 0
        if left_out:
            lines.append(f"dyno proxy: {left_out} more requests ended; their lines are left out")
        if lines:
            try:
                self._to.write("\n".join([*lines, ""]))
                self._to.flush()
            except OSError:
                self._left_out += len(lines)  # nobody reads any longer; the spans have it all


def _shown(value: object) -> str:
    """A word of the line; `-` for what isn't known."""
    return "-" if value is None else _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(value))
