"""`dyno export --otlp`: sends rows that come on standard input, once, and says what became of them."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from dyno_proxy.file_modes import Access
from dyno_proxy.metrics.otlp_figures import REFUSED
from dyno_proxy.telemetry.otlp_settings import OtlpSettings

from .delivery import Answer, Delivered, Kind
from .journals import Stored
from .spans import Spans
from .state import State, locked
from .stored import split_line
from .waits import Waits

_TRIES: Final = 4
_SAVED_S: Final = 1.0
_LOCK_S: Final = 0.05
_SAID_AFTER_S: Final = 2.0

_log = logging.getLogger(__name__)


class _Counts(NamedTuple):
    sent: int = 0
    before: int = 0
    unsampled: int = 0
    imported: int = 0
    refused: int = 0


def send_lines(
    folder: Path,
    spans: Spans,
    deliver: Callable[[list[ReadableSpan]], Delivered],
    settings: OtlpSettings,
    access: Access,
    *,
    again: bool,
) -> int:
    """Send the rows of standard input that weren't sent before; with `again`, all. Returns the exit code."""
    state = State(folder, time.time_ns() // 1000, access)
    with _lock(folder, access):
        state.reload()
        counts, failed = _send_all(_rows(), state, spans, deliver, settings.batch, again=again)
        state.save()
    parts = [
        f"{counts.sent:,} spans sent",
        f"{counts.before:,} were sent before",
        f"{counts.unsampled:,} aren't sampled",
        f"{counts.imported:,} were imported, and aren't sent",
        f"{counts.refused:,} were refused",
    ]
    print(", ".join([parts[0], parts[1], *(part for part in parts[2:] if not part.startswith("0 "))]), flush=True)
    if failed is not None:
        print(f"dyno export: the rest isn't sent: '{settings.url}': {failed.text}", file=sys.stderr)
    return 1 if failed is not None or counts.refused else 0


class _lock:  # noqa: N801  # a `with` block, as `locked`
    """The folder's lock, once other exporters have given it back: they hold it for moments."""

    def __init__(self, folder: Path, access: Access) -> None:
        self._folder, self._access = folder, access

    def __enter__(self) -> None:
        begun_s, said = time.monotonic(), False
        while True:
            self._held = locked(self._folder, self._access)
            if self._held.__enter__():
                return
            self._held.__exit__(None, None, None)
            if not said and time.monotonic() - begun_s > _SAID_AFTER_S:
                said = True
                _log.warning("another export works in '%s'; this one waits", self._folder)
            time.sleep(_LOCK_S)

    def __exit__(self, *error: object) -> None:
        self._held.__exit__(None, None, None)


def _rows() -> Iterator[Stored]:
    for line in sys.stdin.buffer:
        if (stored := split_line(line)) is not None:
            yield stored


def _send_all(
    rows: Iterator[Stored],
    state: State,
    spans: Spans,
    deliver: Callable[[list[ReadableSpan]], Delivered],
    batch: int,
    *,
    again: bool,
) -> tuple[_Counts, Answer | None]:
    counts, saved_s = _Counts(), time.monotonic()
    while read := list(islice(rows, batch)):
        to_send: list[Stored] = []
        for stored in read:
            if stored.row.get("imported_from") is not None:
                counts = counts._replace(imported=counts.imported + 1)
            elif not again and state.is_done(stored.item):
                counts = counts._replace(before=counts.before + 1)
            elif not spans.is_sampled(stored.row):
                counts = counts._replace(unsampled=counts.unsampled + 1)
                state.done(stored.item)
            else:
                to_send.append(stored)
        while to_send:
            delivered, failed = _delivered([spans.span(each.row) for each in to_send], deliver)
            refused = delivered.taken.count(False)
            for stored, taken in zip(to_send, delivered.taken, strict=False):
                if taken:
                    state.done(stored.item)
            to_send = to_send[len(delivered.taken) :]
            sent = len(delivered.taken) - refused - delivered.rejected
            counts = counts._replace(sent=counts.sent + sent, refused=counts.refused + refused + delivered.rejected)
            state.figures.sent += sent
            if refused + delivered.rejected:
                state.drop(REFUSED, refused + delivered.rejected)
            if failed is not None:
                return counts, failed
        if time.monotonic() - saved_s > _SAVED_S:
            state.save()
            saved_s = time.monotonic()
    return counts, None


def _delivered(
    spans: list[ReadableSpan], deliver: Callable[[list[ReadableSpan]], Delivered]
) -> tuple[Delivered, Answer | None]:
    """Try some times, if there is hope. The second is why it isn't sent in the end."""
    waits = Waits()
    for number in range(1, _TRIES + 1):
        delivered = deliver(spans)
        if delivered.stopped is None or delivered.taken:
            return delivered, None
        if delivered.stopped.kind is not Kind.AGAIN or number == _TRIES:
            break
        waits.failed(time.monotonic(), least_s=min(delivered.stopped.retry_after_s, 5.0))
        time.sleep(waits.pause_s(time.monotonic()))
    return delivered, delivered.stopped
