"""From the collector's event loop to its journals: bodies wait in a bounded queue, one thread reads and writes them.

    offer ──body──▶ queue ──▶ decompress, decode ──▶ lines ──▶ journals, synced ──▶ the sender's future

A sender gets its answer once its spans are on disk, and not before. A sender that had no answer in time sends the same
spans again. For a while they are known by their ids, and not stored twice.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dyno_proxy.file_modes import PRIVATE, Access
from dyno_proxy.telemetry.journal import JournalExporter, check_folder
from dyno_proxy.telemetry.place import plant_seeds

from .otlp import BadMessageError, Received, plain_body, read_spans

COLLECTED: Final = "collected"  # the sub-folder of spans that aren't a Dyno proxy's requests
QUEUE_BYTES: Final = 64_000_000
PLAIN_BYTES: Final = 64_000_000  # of one decompressed body
REMEMBERED: Final = 50_000  # spans whose ids are kept: some 10 MB
_TOGETHER: Final = 64  # bodies that share a write and its sync
_SEGMENT_BYTES: Final = 4_000_000  # of one write

# What became of a span
WRITTEN: Final = "written"
REJECTED: Final = "rejected"
REPEATED: Final = "repeated"

_log = logging.getLogger(__name__)


class FullError(Exception):
    """The queue has no room for this body now."""


class UnwrittenError(Exception):
    """The spans can't be written to the disk now."""


class Body(NamedTuple):
    """A request's body as it came."""

    data: bytes
    content_type: str
    encoding: str  # one of ENCODINGS


class Taken(NamedTuple):
    """What became of a body's spans: all but `rejected` are on disk."""

    rejected: int
    reason: str  # why the first of these was rejected; otherwise what the sender should know, or nothing


class Intake:
    """Takes bodies on the event loop, by `offer`. Its thread calls `counted(what, spans)` for what became of spans."""

    def __init__(
        self,
        folder: Path,
        *,
        counted: Callable[[str, int], None],
        dropped: Callable[[str, int], None],
        filled: Callable[[], None],
        queue_bytes: int = QUEUE_BYTES,
        access: Access = PRIVATE,
    ) -> None:
        """Make the folders and start the thread. Raises SetupError where a folder can't be written."""
        self._counted = counted
        self._places = (folder, folder / COLLECTED)
        self._access = access
        self._journals: dict[bool, JournalExporter] = {}  # True: of requests; False: of other spans
        for is_request, place in zip((True, False), self._places, strict=True):
            check_folder(place, access)
            self._journals[is_request] = JournalExporter(
                place,
                written=lambda _count: None,
                dropped=dropped,
                filled=filled,
                moved=self._settle_in,
                access=access,
                patience_s=None,
            )
        self._loop = asyncio.get_running_loop()
        self._queue_bytes = queue_bytes
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Body, asyncio.Future[Taken]]] = deque()
        self._waiting_bytes = 0
        self._stopping = False
        self._known: dict[bytes, None] = {}  # ids of spans on disk, the oldest first
        self._thread = threading.Thread(target=self._run, name="dyno-intake", daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """The bytes of bodies that aren't on disk yet, as they were sent."""
        return self._waiting_bytes

    def offer(self, body: Body) -> "asyncio.Future[Taken]":
        """Returns a future that is done once the spans are on disk, or raises BadMessageError or UnwrittenError.

        Raises FullError where the queue has no room.
        """
        with self._changed:
            # An empty queue takes any body, whose length has a limit of its own.
            if self._stopping or (self._waiting and self._waiting_bytes + len(body.data) > self._queue_bytes):
                raise FullError
            taken: asyncio.Future[Taken] = self._loop.create_future()
            self._waiting.append((body, taken))
            self._waiting_bytes += len(body.data)
            self._changed.notify()
        return taken

    def close(self) -> None:
        """Write what waits, and end the thread. Not to be called on the event loop, which the thread still needs.

        It waits for no slow disk: a sender that has no answer yet is told to send its spans again.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify()
        for journal in self._journals.values():
            journal.hurry()
        self._thread.join()

    # The thread

    def _run(self) -> None:
        while bodies := self._next():
            try:
                self._take(bodies)
            except Exception as error:  # noqa: BLE001  # whatever failed, its senders are told, and the next are served
                _log.exception("spans that were received can't be stored")
                for _, taken in bodies:
                    self._tell(taken, error)
            with self._changed:
                self._waiting_bytes -= sum(len(body.data) for body, _ in bodies)
        for journal in self._journals.values():
            journal.shutdown()

    def _settle_in(self) -> None:
        """One of the folders was renamed or replaced, perhaps both: have them both there, so that both can be read."""
        for place in self._places:
            try:
                self._access.make_folder(place)
                plant_seeds(place, self._access)
            except OSError as error:
                _log.warning("'%s' can't be prepared: %s", place, error.strerror or error)

    def _next(self) -> "list[tuple[Body, asyncio.Future[Taken]]]":
        """The bodies to write together; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]

    def _take(self, bodies: "list[tuple[Body, asyncio.Future[Taken]]]") -> None:
        read: list[tuple[asyncio.Future[Taken], Taken]] = []
        spans: list[Received] = []
        for body, taken in bodies:
            try:
                found, warning = _spans_of(body)
            except BadMessageError as error:
                self._tell(taken, error)
                continue
            rejected = [why for why in found if isinstance(why, str)]
            spans += [each for each in found if not isinstance(each, str)]
            self._counted(REJECTED, len(rejected))
            read.append((taken, Taken(len(rejected), rejected[0] if rejected else warning)))
        stored = self._store(spans)
        for taken, outcome in read:
            self._tell(taken, outcome if stored else UnwrittenError())

    def _store(self, spans: Iterable[Received]) -> bool:
        """Write spans that aren't known yet to their journals. False where the disk didn't take all."""
        fresh: dict[bytes, Received] = {}
        repeated = 0
        for each in spans:
            if each.ids in self._known or each.ids in fresh:
                repeated += 1
            else:
                fresh[each.ids] = each
        self._counted(REPEATED, repeated)
        stored = True
        for is_request, journal in self._journals.items():
            stored &= self._write(journal, [each for each in fresh.values() if each.is_request is is_request])
        return stored

    def _write(self, journal: JournalExporter, spans: Sequence[Received]) -> bool:
        stored = True
        lines = bytearray()
        ids: list[bytes] = []
        first_seq = 0
        for position, each in enumerate(spans, start=1):
            seq = journal.next_seq()
            line = journal.span_line(each.span, seq)
            if line is not None:  # else it counts as dropped, since another try wouldn't store it either
                first_seq = first_seq if ids else seq
                lines += line
                ids.append(each.ids)
            if ids and (position == len(spans) or len(lines) >= _SEGMENT_BYTES):
                if journal.write(lines, first_seq, len(ids)):
                    self._counted(WRITTEN, len(ids))
                    self._remember(ids)
                else:
                    stored = False
                lines, ids = bytearray(), []
        return stored

    def _remember(self, keys: Iterable[bytes]) -> None:
        self._known.update(dict.fromkeys(keys))
        for _ in range(len(self._known) - REMEMBERED):
            del self._known[next(iter(self._known))]

    def _tell(self, taken: "asyncio.Future[Taken]", outcome: Taken | Exception) -> None:
        def tell() -> None:
            if taken.cancelled():
                return  # the sender has left
            if isinstance(outcome, Exception):
                taken.set_exception(outcome)
            else:
                taken.set_result(outcome)

        self._loop.call_soon_threadsafe(tell)


def _spans_of(body: Body) -> tuple[list[Received | str], str]:
    return read_spans(plain_body(body.data, body.encoding, PLAIN_BYTES), body.content_type)
