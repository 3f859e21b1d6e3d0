"""`dyno export --otlp`: sends rows that come on standard input, once, and says what became of them."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from dyno_proxy.file_modes import Access
from dyno_proxy.metrics.otlp_figures import REFUSED
from dyno_proxy.telemetry.otlp_settings import OtlpSettings

from .delivery import Answer, Delivered, Kind
from .journals import Stored
from .spans import Spans
from .state import Item, State, locked
from .stored import split_line
from .waits import Waits

_TRIES: Final = 4
_SAVED_S: Final = 1.0
_LOCK_S: Final = 0.05
_SAID_AFTER_S: Final = 2.0

_log = logging.getLogger(__name__)


# What became of a row, as the last line says it
_SENT: Final = "sent"
_BEFORE: Final = "were sent before"
_UNSAMPLED: Final = "aren't sampled"
_IMPORTED: Final = "were imported, and aren't sent"
_REFUSED: Final = "were refused"


def send_lines(
    folder: Path,
    spans: Spans,
    deliver: Callable[[list[ReadableSpan]], Delivered],
    settings: OtlpSettings,
    access: Access,
    *,
    again: bool,
) -> int:
    """Send the rows of standard input that weren't sent before; with `again`, all. Returns the exit code.

    Raises Broken, and OSError where the state can't be written.
    """
    state = State(folder, time.time_ns() // 1000, access)
    sending = _Sending(state, spans, deliver, again=again)
    with _alone(folder, access):
        state.reload()
        try:
            failed = sending.send(_rows(), settings.batch)
        finally:
            state.save()
    counts = sending.counts
    rest = [f"{counts[what]:,} {what}" for what in (_UNSAMPLED, _IMPORTED, _REFUSED) if counts[what]]
    print(", ".join([f"{counts[_SENT]:,} spans sent", f"{counts[_BEFORE]:,} {_BEFORE}", *rest]), flush=True)
    if failed is not None:
        print(f"dyno export: the rest isn't sent: '{settings.url}': {failed.text}", file=sys.stderr)
    return 1 if failed is not None or counts[_REFUSED] else 0


@contextmanager
def _alone(folder: Path, access: Access) -> Iterator[None]:
    """Hold the folder's lock, once other exporters have given it back: they hold it for moments."""
    begun_s, said = time.monotonic(), False
    while True:
        with locked(folder, access) as held:
            if held:
                yield
                return
        if not said and time.monotonic() - begun_s > _SAID_AFTER_S:
            said = True
            _log.warning("another export works in '%s'; this one waits", folder)
        time.sleep(_LOCK_S)


def _rows() -> Iterator[Stored]:
    for line in sys.stdin.buffer:
        if (stored := split_line(line)) is not None:
            yield stored


class _Sending:
    """What became of the rows so far, in `counts`."""

    def __init__(
        self, state: State, spans: Spans, deliver: Callable[[list[ReadableSpan]], Delivered], *, again: bool
    ) -> None:
        self._state = state
        self._spans = spans
        self._deliver = deliver
        self._again = again
        self.counts: Counter[str] = Counter()

    def send(self, rows: Iterator[Stored], batch: int) -> Answer | None:
        """Send them. Returns why the rest isn't sent; None where all is."""
        saved_s = time.monotonic()
        while read := list(islice(rows, batch)):
            failed = self._send([each for stored in read if (each := self._judged(stored)) is not None])
            if failed is not None:
                return failed
            if time.monotonic() - saved_s > _SAVED_S:
                self._state.save()
                saved_s = time.monotonic()
        return None

    def _judged(self, stored: Stored) -> tuple[Item, ReadableSpan] | None:
        """The row's span; None where it isn't to be sent."""
        item, row, _ = stored
        if row.get("imported_from") is not None:
            self.counts[_IMPORTED] += 1
        elif not self._again and self._state.is_done(item):
            self.counts[_BEFORE] += 1
        else:
            try:
                if self._spans.is_sampled(row):
                    return item, self._spans.span(row)
            except (KeyError, ValueError, TypeError, AttributeError) as error:
                _log.warning("row %d of '%s' is no span of Dyno's and isn't sent: %r", item.seq, item.writer, error)
                self.counts[_REFUSED] += 1
                return None
            self.counts[_UNSAMPLED] += 1
            self._state.done(item)
        return None

    def _send(self, batch: list[tuple[Item, ReadableSpan]]) -> Answer | None:
        while batch:
            delivered, failed = _delivered([span for _, span in batch], self._deliver)
            for (item, _), taken in zip(batch, delivered.taken, strict=False):
                if taken:
                    self._state.done(item)
            batch = batch[len(delivered.taken) :]
            refused = delivered.taken.count(False) + delivered.rejected
            sent = delivered.taken.count(True) - delivered.rejected
            self.counts.update({_SENT: sent, _REFUSED: refused})
            self._state.figures.sent += sent
            if refused:
                self._state.drop(REFUSED, refused)
            if failed is not None:
                return failed
        return None


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
