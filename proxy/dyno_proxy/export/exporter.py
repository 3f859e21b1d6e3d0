"""Sends the rows of a spans folder, in the order of each writer's numbers, and remembers how far it is.

    rows ──▶ waiting ──▶ judge: the past, sent before, too old, not sampled, or a span ──▶ batch ──▶ endpoint
                                                                                              │ accepted
                                              .dyno.otlp.json ◀── how far each writer is ◀────┘

Rows wait in the files; here only the next ones do. Each round holds the folder's lock, so several exporters take
turns. What was accepted just before a kill may be sent again, with the same ids.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from dyno_proxy.file_modes import Access
from dyno_proxy.metrics.otlp_figures import NOT_STORED, REFUSED, TOO_OLD

from .delivery import Answer, Delivered, Kind
from .journals import Journals, Parquet, Stored, began_us
from .spans import Spans
from .state import Item, State, locked
from .stored import Asked
from .waits import Waits

_BATCH_BYTES: Final = 2_000_000  # of lines: receivers take 4 MB and more
_WAITING_BYTES: Final = 32_000_000
_ROUND_S: Final = 1.0  # then the state is saved, and others get the lock
_LOG_AGAIN_S: Final = 60.0
_ASK_AGAIN_S: Final = 60.0

_log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """`batch`: spans sent at once; `waiting`: rows read ahead; `delay_s`: how long a span waits for others."""

    batch: int
    waiting: int
    delay_s: float
    keep_s: float | None  # older rows aren't sent


class _Judged(NamedTuple):
    stored: Stored
    span: ReadableSpan | None  # to send
    dropped: str | None = None  # why it isn't sent, and counts as lost
    done: bool = False  # it needn't be sent
    unsampled: bool = False


class Exporter:
    """One folder's export. For one thread."""

    def __init__(
        self,
        folder: Path,
        spans: Spans,
        deliver: Callable[[list[ReadableSpan]], Delivered],
        limits: Limits,
        *,
        from_us: int,
        access: Access,
        where: str,
    ) -> None:
        """`from_us`: where this is the folder's first export, earlier rows are the past. `where`: for the log."""
        self._folder = folder
        self._spans = spans
        self._deliver = deliver
        self._limits = limits
        self._access = access
        self._where = where
        self._state = State(folder, from_us, access)
        self._journals = Journals(folder)
        self._waiting: deque[Stored] = deque()
        self._waiting_bytes = 0
        self._since_s: float | None = None  # when the first of those that wait was read
        self._asked: Asked | None = None
        self._asked_rows: Iterator[Stored] = iter(())
        self._asked_of: list[Parquet] = []
        self._cannot_ask = False
        self._ask_from_s = 0.0  # monotonic
        self._waits = Waits()
        self._tried = False  # anything was sent, or tried to
        self._failing: Answer | None = None
        self._said: dict[str, float] = {}
        self._identity: tuple[int, int] | None = None

    @property
    def failing(self) -> bool:
        """Whether the last try to send failed."""
        return self._failing is not None

    def round(self, *, final: bool = False) -> bool:
        """Read, send what is due, save. Returns whether there may be more to do at once.

        `final`: spans don't wait for others, nor for the end of a pause. Raises OSError where the folder is away.
        """
        self._follow_folder()
        if not final and self._waits.pause_s(time.monotonic()) > 0:
            return False
        self._fill()
        if not self._waiting or not (final or self._is_due()):
            return False
        with locked(self._folder, self._access) as held:
            if not held:
                return False
            self._state.reload()
            for writer, to in self._state.writers.items():
                if to > self._journals.read_to.get(writer, 0):
                    self._journals.read_to[writer] = to
            end_s = time.monotonic() + _ROUND_S
            try:
                while self._step(final=final) and time.monotonic() < end_s:
                    self._fill()
                if not self.failing:
                    self._fill()  # what waits now is the lag
            finally:
                self._save()
        return not self.failing and (bool(self._waiting) or self._asked is not None)

    def left(self) -> int:
        """How many rows weren't sent, as far as the journals say it."""
        return len(self._waiting) + self._journals.left(self._state.figures.from_us)

    def close(self) -> None:
        """Ask for nothing more."""
        if self._asked is not None:
            self._asked.close()
            self._asked = None

    # Reading

    def _follow_folder(self) -> None:
        found = self._folder.stat()
        identity = (found.st_dev, found.st_ino)
        if self._identity not in (None, identity):
            self._journals.forget()
            self._waiting.clear()
            self._waiting_bytes, self._since_s = 0, None
            self.close()
            self._journals.read_to.update(self._state.writers)
        self._identity = identity
        if not self._journals.read_to:
            self._state.reload()
            self._journals.read_to.update(self._state.writers)

    def _fill(self) -> None:
        """Read on, as far as there is room."""
        self._journals.look()
        if self._cannot_ask:
            self._journals.examined |= {each.name for each in self._journals.parquet}
        elif self._asked is None and not self.failing and time.monotonic() >= self._ask_from_s:
            self._ask()
        for stored in self._next():
            self._waiting.append(stored)
            self._waiting_bytes += stored.size_bytes
            if self._since_s is None:
                self._since_s = time.monotonic()
            if not self._room():
                break

    def _room(self) -> int:
        return 0 if self._waiting_bytes > _WAITING_BYTES else self._limits.waiting - len(self._waiting)

    def _next(self) -> Iterator[Stored]:
        if self._room() <= 0:
            return
        if self._asked is not None:
            for stored in self._asked_rows:
                if self._journals.take(stored):
                    yield stored
            self._heard(self._asked)
            return
        yield from self._journals.read(self._room(), self._state.figures.from_us)

    def _ask(self) -> None:
        """Where Parquet files hold rows that weren't read, have them printed."""
        from_us = self._state.figures.from_us
        unread = self._journals.unread_parquet(from_us)
        if not unread:
            return
        self._journals.look(now=True)
        self._asked_of = list(self._journals.parquet)
        self._asked = Asked(self._folder, self._journals.read_to, from_us)
        self._asked_rows = self._asked.rows()

    def _heard(self, asked: Asked) -> None:
        """The program has ended. What it didn't print of known writers is nowhere any more."""
        asked.close()
        self._asked = None
        if not asked.whole and not asked.missing:
            self._ask_from_s = time.monotonic() + _ASK_AGAIN_S
            return
        self._cannot_ask = asked.missing
        self._journals.examined |= {each.name for each in self._asked_of}
        if asked.whole:
            for each in self._asked_of:
                known = self._journals.read_to.get(each.writer)
                if known is not None and known < each.last:
                    self._waiting.append(Stored(Item(each.writer, each.last, 0), {}, 0))
                    self._journals.read_to[each.writer] = each.last

    # Sending

    def _is_due(self) -> bool:
        # The first span doesn't wait: if the endpoint refuses it, the log says so at once.
        if not self._tried or len(self._waiting) >= self._limits.batch or self._waiting_bytes >= _BATCH_BYTES:
            return True
        return self._since_s is not None and time.monotonic() - self._since_s >= self._limits.delay_s

    def _step(self, *, final: bool) -> bool:
        """Send one batch. Returns whether another one may follow now."""
        batch = self._batch()
        spans = [each.span for each in batch if each.span is not None]
        if not spans:
            self._apply(batch, [], 0)
            return bool(batch) and bool(self._waiting)
        delivered, self._tried = self._deliver(spans), True
        self._apply(batch, delivered.taken, delivered.rejected)
        self._note(delivered, len(spans))
        if delivered.stopped is not None:
            return False
        return bool(self._waiting) and (final or self._is_due())

    def _batch(self) -> list[_Judged]:
        batch: list[_Judged] = []
        spans = size_bytes = 0
        now_us = time.time_ns() // 1000
        for stored in self._waiting:
            judged = self._judge(stored, now_us)
            if judged.span is not None:
                spans += 1
                size_bytes += stored.size_bytes
                if spans > 1 and size_bytes > _BATCH_BYTES:
                    break
            batch.append(judged)
            if spans == self._limits.batch:
                break
        return batch

    def _judge(self, stored: Stored, now_us: int) -> _Judged:
        item, row = stored.item, stored.row
        keep_s = self._limits.keep_s
        if not row:
            return _Judged(stored, None, NOT_STORED)
        if item.seq <= self._state.writers.get(item.writer, 0) or self._state.is_done(item):
            return _Judged(stored, None)
        if row.get("imported_from") is not None or self._state.is_past(item, began_us(item.writer)):
            return _Judged(stored, None)
        if keep_s is not None and item.ended_us < now_us - keep_s * 1e6:
            return _Judged(stored, None, TOO_OLD)
        try:
            if not self._spans.is_sampled(row):
                return _Judged(stored, None, done=True, unsampled=True)
            return _Judged(stored, self._spans.span(row))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            self._say(REFUSED, "a row of '%s' is no span of Dyno's and isn't sent: %r", item.writer, error)
            return _Judged(stored, None, REFUSED)

    def _apply(self, batch: list[_Judged], taken: list[bool], rejected: int) -> None:
        """Note what became of the batch, up to the first span that has to be sent again."""
        state, results = self._state, iter(taken)
        state.figures.sent += sum(taken) - rejected
        if rejected:
            state.drop(REFUSED, rejected)
        for judged in batch:
            item = judged.stored.item
            was_taken = None
            if judged.span is not None and (was_taken := next(results, None)) is None:
                break
            self._waiting.popleft()
            self._waiting_bytes -= judged.stored.size_bytes
            if item.seq <= state.writers.get(item.writer, 0):
                continue  # another exporter has looked at it meanwhile
            missing = state.looked_at(item, 0 if began_us(item.writer) >= state.figures.from_us else item.seq - 1)
            if missing:
                self._say(NOT_STORED, "%d spans of '%s' aren't in the span files and aren't sent", missing, item.writer)
            if was_taken or judged.done:
                state.done(item)
            if judged.unsampled:
                state.figures.unsampled += 1
            if was_taken is False:
                state.drop(REFUSED)
            if judged.dropped is not None:
                state.drop(judged.dropped)
            if judged.dropped == TOO_OLD:
                self._say(
                    TOO_OLD, "spans have waited longer than [otlp] keep and aren't sent any more; they are counted"
                )
        self._since_s = time.monotonic() if self._waiting else None

    def _note(self, delivered: Delivered, count: int) -> None:
        """Say in the log when it begins to fail, why, and when it works again."""
        now_s = time.monotonic()
        refused = delivered.taken.count(False) + delivered.rejected
        if refused:
            self._say(
                REFUSED,
                "'%s' refused %d of %d spans; they are counted, and not sent again",
                self._where,
                refused,
                count,
            )
        answer = delivered.stopped
        if answer is None:
            if self._failing is not None:
                _log.warning("OTLP: '%s' takes spans again", self._where)
            self._failing = None
            self._waits.worked()
            return
        self.close()  # what it printed further is printed again
        self._waits.failed(now_s, slow=answer.kind is not Kind.AGAIN, least_s=answer.retry_after_s)
        if self._failing is None or self._failing[:2] != answer[:2]:
            _log.warning(
                "OTLP: '%s' %s: %s. Spans wait in the span files, and are sent later",
                self._where,
                "doesn't take spans now" if answer.kind is Kind.AGAIN else "refuses spans",
                answer.text,
            )
        self._failing = answer

    def _say(self, kind: str, text: str, *values: Any) -> None:
        """Log it, once a minute of a kind."""
        now_s = time.monotonic()
        if now_s >= self._said.get(kind, 0.0):
            self._said[kind] = now_s + _LOG_AGAIN_S
            _log.warning(f"OTLP: {text}", *values)  # our own text

    def _save(self) -> None:
        oldest = next((each for each in self._waiting if each.row), None)
        self._state.figures.oldest_us = None if oldest is None else oldest.item.ended_us
        try:
            self._state.save()
        except OSError as error:
            self._say("save", "'%s' can't be written: %s; after a restart spans may be sent again", self._folder, error)
