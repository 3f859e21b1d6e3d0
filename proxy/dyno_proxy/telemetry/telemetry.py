"""Records finished requests without holding up traffic: a bounded queue, and one thread that writes.

    event loop ──started, record──▶ counts, histograms, the span's line, at once
                     └──▶ queue ──▶ thread, every 200 ms ──▶ journal
                        (full: dropped, counted)

A span's line and its figures are made on the event loop. That takes 10 µs; in a thread, which has to get the GIL from
a busy loop, it takes some 40. Only a long stream's line takes longer, and is left to the thread.
No failure here may reach traffic: an exception ends in `_Contained`, counted and logged, and the thread goes on.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

import msgspec

from dyno_proxy.exchange.record import Record
from dyno_proxy.file_modes import PRIVATE, Access
from dyno_proxy.metrics.metrics import Metrics

from .endpoint_watch import EndpointWatch
from .journal import DISK, JournalExporter, check_folder
from .left_behind import take_all
from .open_requests import Begun, Kept
from .queue import Segment, SpanQueue
from .request_log import RequestLog

QUEUE_RECORDS: Final = 20_000
QUEUE_BYTES: Final = 64_000_000  # of lines that wait
LONG_CHUNKS: Final = 500  # a stream of more is the thread's work: 50 µs
PERIOD_S: Final = 0.2  # a span is on disk 250 ms after its end, the write included
_LEAST_REST_S: Final = 0.02  # where a write takes longer than the period
_PAUSE_S: Final = 0.0001  # after each piece of work the thread yields the GIL to the event loop for so long
_LOG_AGAIN_S: Final = 60.0

# Why a span was dropped, beside the journal's reasons.
QUEUE_FULL: Final = "queue_full"
CLOSED: Final = "closed"
INTERNAL_ERROR: Final = "internal_error"
KILLED: Final = "killed"  # recorded by a process that was killed before they were on disk


_log = logging.getLogger(__name__)


class Telemetry:
    """Takes a record for each request. `started` and `record` belong on one thread, the event loop's."""

    def __init__(
        self,
        spans_dir: Path,
        metrics: Metrics,
        *,
        queue_records: int = QUEUE_RECORDS,
        filled: Callable[[], None] | None = None,
        watch: EndpointWatch | None = None,
        request_log: RequestLog | None = None,
        access: Access = PRIVATE,
    ) -> None:
        """Makes the folder, starts the thread. Raises SetupError for a folder that can't be used.

        `filled()` hears, in the thread, that a journal is full. `watch` and `request_log` hear of
        requests that have ended, on the loop.
        """
        check_folder(spans_dir, access)
        self._watch = watch or EndpointWatch()
        self._request_log = request_log
        self._metrics = metrics
        self._journal = JournalExporter(
            spans_dir,
            written=self._count_written,
            dropped=self._count_dropped,
            filled=filled,
            access=access,
        )
        self.lost = 0  # spans that have no row, in this process's time
        self._losing = threading.Lock()
        self._kept = Kept(spans_dir, self._journal.writer)
        self._requests = self._kept.requests

        self._queue = SpanQueue(queue_records, QUEUE_BYTES)
        self._on_loop = _Contained(self._count_dropped)
        self._in_thread = _Contained(self._count_dropped)
        self._around_thread = _Contained(self._count_dropped)
        self._wake = threading.Event()
        self._emptied = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="dyno-telemetry", daemon=True)
        self._count_left(spans_dir)
        self._thread.start()

    def started(self, request: Begun) -> None:
        """A request has come in."""
        try:
            self._requests.started(request)
            self._metrics.started(request.endpoint)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not reach traffic
            self._on_loop.catch(error, 0)

    def record(self, record: Record) -> None:
        """A request is over: count its figures, and queue its line or count it as dropped. Takes some 10 µs."""
        lost = 1
        try:
            self._requests.ended(record)
            self._metrics.finished(record)
            if record.headers_us is None or self._watch.troubled:
                self._watch.see(record)
            if self._request_log is not None:
                self._request_log.add(record)
            if self._stopping:
                self._count_dropped(CLOSED, 1)
            elif self._queue.full:
                self._count_dropped(QUEUE_FULL, 1)
            else:
                seq, chunks = self._journal.next_seq(), len(record.chunk_offsets_us)
                has_room = not chunks or self._queue.has_room_for(chunks)
                if chunks > LONG_CHUNKS and has_room:
                    self._queue.add_late(seq, record)
                    return
                line = self._journal.line(record, seq, chunk_times=has_room)
                if not has_room:  # its row has no chunk times, and the histograms don't get them either
                    record = msgspec.structs.replace(record, chunk_offsets_us=())
                if line is not None:
                    self._queue.add(seq, line)
            lost = 0  # the span is safe or counted, whatever becomes of its figures
            self._metrics.observe(record)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not reach traffic
            self._on_loop.catch(error, lost)

    def lag_s(self) -> float:
        """How long the oldest span has waited that isn't on disk yet; 0 without one. Any thread may ask."""
        return self._queue.lag_s()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until the spans recorded before are on disk or given up. False if it takes longer.

        It blocks, so the event loop must not call it.
        """
        goal = self._queue.put
        with self._emptied:
            self._wake.set()
            return self._emptied.wait_for(lambda: self._queue.done >= goal, timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write all spans to disk, and end the thread. False if that takes longer.

        It blocks, so the event loop must not call it.
        """
        if self._stopping:
            return not self._thread.is_alive()
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)
        ended = not self._thread.is_alive()
        left = self._queue.put - self._queue.done
        if not ended:
            _log.error("%d spans could not be written within %g s", left, timeout_s)
        elif left:
            self._count_dropped(CLOSED, left)  # recorded after the thread's last look
        if ended:
            self._kept.remove()
        return ended

    def _count_written(self, count: int) -> None:
        self._metrics.spans_written(count)
        self._requests.written(count)

    def _count_dropped(self, reason: str, count: int) -> None:
        with self._losing:
            self.lost += count
            self._requests.lost(self.lost)
        if reason == DISK:
            self._requests.given_up(count)
        self._metrics.spans_dropped(reason, count)

    def _count_left(self, spans_dir: Path) -> None:
        """Count what proxies before this one had open when they were killed, as if it had begun and ended now."""
        for left in take_all(spans_dir):
            for record in left.lost:
                self.started(record)
                self.record(record)
            if left.unwritten:
                self._metrics.spans_dropped(KILLED, left.unwritten)
            if left.lost or left.unwritten:
                _log.warning("%s", left.in_words(f"process {left.pid} was killed"))

    # The thread

    def _run(self) -> None:
        rest_s = PERIOD_S
        while not self._stopping:
            self._wake.wait(rest_s)
            self._wake.clear()
            begun_s = time.monotonic()
            with self._around_thread.losing(0):
                self._empty_queue()
                self._kept.save()
            # From one beginning to the next: what comes while a batch is written waits no longer than the others.
            rest_s = max(_LEAST_REST_S, PERIOD_S - (time.monotonic() - begun_s))
        with self._around_thread.losing(0):
            self._empty_queue()
        with self._around_thread.losing(0):
            self._journal.shutdown()

    def _empty_queue(self) -> None:
        """Write what waits now. What comes meanwhile is written the next time."""
        for segment in self._queue.take():
            try:
                self._write(segment)
            finally:
                self._queue.finished(segment)
        self._journal.settle()
        self._queue.rest()
        with self._emptied:
            self._emptied.notify_all()

    def _write(self, segment: Segment) -> None:
        line = None if segment.late is None else self._late_line(segment.late, segment.first_seq)
        data = segment.data if line is None else line
        if data:
            with self._in_thread.losing(segment.count):
                self._requests.writing(segment.first_seq, segment.count)
                self._journal.write(data, segment.first_seq, segment.count)

    def _late_line(self, record: Record, seq: int) -> bytes | None:
        """Make a long stream's line, and count its figures. None where the line can't be stored."""
        line, lost = None, 1
        try:
            line = self._journal.line(record, seq)
            lost = 0
            self._metrics.observe(record)
        except Exception as error:  # noqa: BLE001  # one record's fault must not cost the others
            self._in_thread.catch(error, lost)
        time.sleep(_PAUSE_S)
        return line


class _Contained:
    """The one place where telemetry's exceptions end: counted as lost spans, logged once a minute a kind."""

    def __init__(self, dropped: Callable[[str, int], None]) -> None:
        self._dropped = dropped
        self._lost = 0
        self._quiet_until_s: dict[type[Exception], float] = {}

    def losing(self, spans: int) -> "_Contained":
        """A `with` block whose failure costs this many spans."""
        self._lost = spans
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False  # none; or SystemExit and the like, which end the thread, as they mean to
        self.catch(error, self._lost)
        return True

    def catch(self, error: Exception, lost: int) -> None:
        """Count and log an exception; as the `with` block does, but half a µs faster."""
        if lost:
            self._dropped(INTERNAL_ERROR, lost)
        now_s = time.monotonic()
        kind = type(error)
        if now_s >= self._quiet_until_s.get(kind, 0.0):
            self._quiet_until_s[kind] = now_s + _LOG_AGAIN_S
            _log.error("telemetry failed; traffic goes on, %d spans are lost", lost, exc_info=error)
