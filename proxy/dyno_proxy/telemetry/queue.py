"""The queue of spans' lines from the event loop to telemetry's thread, bounded in number and bytes.

Lines are joined as they come, so that the thread finds a few long texts and not thousands of short ones. Beside a busy
event loop, walking over thousands would cost the thread more than making them did.
"""

import threading
import time
from collections.abc import Sequence
from typing import Final

from dyno_proxy.exchange.record import Record

SEGMENT_BYTES: Final = 4_000_000  # lines of about this size go into one write
KEPT_SHARE: Final = 4  # this part of the bytes is for lines alone; records with many chunk times may take the others
CHUNK_BYTES: Final = 40  # memory that a chunk's time takes in a record that isn't a line yet


class Segment:
    """Lines that are written together; or one record whose line is still to be made."""

    __slots__ = ("count", "data", "first_seq", "late")

    def __init__(self, first_seq: int, late: Record | None = None) -> None:
        self.first_seq = first_seq
        self.count = 0
        self.data = bytearray()
        self.late = late


class SpanQueue:
    """One thread puts lines in, another takes them out. Any thread may call `lag_s`."""

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._lock = threading.Lock()  # held only to append a line or to swap the list
        self._segments: list[Segment] = []
        self._max_chunk_bytes = max_bytes - max_bytes // KEPT_SHARE
        self._bytes = 0  # of lines
        self._chunk_bytes = 0  # of records whose lines are still to be made
        # Each count has one writer: one thread writes `put`, the other `done`.
        self.put = self.done = 0
        # When the oldest line in the queue was put there, and the oldest of those that are being written: monotonic ns.
        self._since_ns: int | None = None
        self._taken_since_ns: int | None = None

    @property
    def full(self) -> bool:
        """Whether no more is taken. An empty queue takes any line, however long it is."""
        for_lines = self._max_bytes - min(self._chunk_bytes, self._max_chunk_bytes)
        return self.put - self.done >= self._max_records or self._bytes >= for_lines

    def has_room_for(self, chunks: int) -> bool:
        """Whether a record with so many chunk times may wait. An empty queue takes any."""
        size_bytes = self._bytes + self._chunk_bytes
        return not size_bytes or size_bytes + chunks * CHUNK_BYTES <= self._max_chunk_bytes

    def add(self, seq: int, line: bytes) -> None:
        """A span's line."""
        with self._lock:
            segment = self._segments[-1] if self._segments else None
            if segment is None or segment.late is not None or len(segment.data) > SEGMENT_BYTES:
                segment = self._begin(Segment(seq))
            segment.data += line
            segment.count += 1
            self._bytes += len(line)
            self.put += 1

    def add_late(self, seq: int, record: Record) -> None:
        """A span whose line is still to be made."""
        with self._lock:
            self._begin(Segment(seq, record)).count = 1
            self._chunk_bytes += len(record.chunk_offsets_us) * CHUNK_BYTES
            self.put += 1

    def take(self) -> Sequence[Segment]:
        """Take everything that waits, in its order."""
        with self._lock:
            segments, self._segments = self._segments, []
            self._taken_since_ns, self._since_ns = self._since_ns, None
            self._bytes = self._chunk_bytes = 0
        return segments

    def finished(self, segment: Segment) -> None:
        """Tell that a segment is on disk, or given up."""
        self.done += segment.count

    def rest(self) -> None:
        """Tell that all that was taken is finished."""
        self._taken_since_ns = None

    def lag_s(self) -> float:
        """How long the oldest span has waited that isn't on disk yet; 0 without one."""
        since_ns = self._taken_since_ns or self._since_ns
        if since_ns is None or self.done >= self.put:
            return 0.0
        return (time.monotonic_ns() - since_ns) / 1e9

    def _begin(self, segment: Segment) -> Segment:
        if self._since_ns is None:
            self._since_ns = time.monotonic_ns()
        self._segments.append(segment)
        return segment
