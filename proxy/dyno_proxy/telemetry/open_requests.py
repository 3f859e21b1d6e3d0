"""Notes which requests a process has open where a kill can't erase it, so that others can count them afterwards.

    event loop ──started, ended──▶ counts in shared memory (a store each) ──┐
    telemetry's thread, 5 x a second ──▶ a slot for each request that is ───┴──▶ copied to spans/.open-WRITER
                                         still open, the spans written, "alive"

The memory is a file in /dev/shm, which outlives its process and waits for no disk: its counts are exact to the last
request. The copy in the spans folder is up to 250 ms old. It outlives the machine's and the container's end, and tells
by its name that there is something to count. Both are locked while their process lives, and removed at an orderly end.
left_behind.py reads them.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import stat
import struct
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from dyno_proxy.exchange.record import Record
from dyno_proxy.outcomes import OUTCOMES

from .place import names

PREFIX: Final = ".open-"

# The layout: head, names, counts of each name as an endpoint, slots. Numbers have 64 bits.
VERSION, SEEN_AT_US, WRITTEN, DROPPED, WRITING_SEQ, NAMES_BYTES, NAMES, SLOTS_USED = range(8)  # places in the head
NAMES_AT: Final = 512
COUNTS_AT: Final = 64 * 1024
MAX_NAMES: Final = 1024
COUNTS_EACH: Final = 16  # the first one is of started requests, the others are of outcomes
SLOTS_AT: Final = COUNTS_AT + MAX_NAMES * COUNTS_EACH * 8
SLOT_BYTES: Final = 64
MAX_SLOTS: Final = 4096
SIZE: Final = SLOTS_AT + MAX_SLOTS * SLOT_BYTES
FORMAT: Final = 1
# trace, span, parent's span (0: none), start in Unix µs; names' numbers: endpoint, operation, method; 1: open
SLOT: Final = struct.Struct("<16sQQqHHHB")
OPEN_AT: Final = SLOT.size - 1
OUTCOME_AT: Final[Mapping[str, int]] = {outcome: 1 + position for position, outcome in enumerate(OUTCOMES)}

_METHODS: Final = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))  # others are clients' texts
_FORGOTTEN_S: Final = 7 * 86_400.0  # memory of a dead process whose spans folder no proxy has used since
_COPY_AGAIN_S: Final = 600.0  # even if nothing has changed: left_behind.py takes a file that rests for an hour for dead

_log = logging.getLogger(__name__)


class Begun(Protocol):
    """A request, as far as it is known when it begins."""

    trace_id: int
    span_id: int
    parent_span_id: int | None
    started_at_unix_us: int
    endpoint: str | None
    operation: str | None
    method: str


class OpenRequests:
    """One process's notes. The event loop calls `started` and `ended`, telemetry's thread everything else.

    `lost` may be called by both, one at a time.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._numbers = memoryview(memory).cast("q")
        self._numbers[VERSION] = FORMAT
        self._names: dict[str, int] = {}  # their numbers
        self._counts: dict[str | None, int] = {}  # where the counts of an endpoint begin
        self._new: dict[int, Begun] = {}  # by span id: began since the thread's last look
        self._slots: dict[int, int] = {}  # by span id: of those that were open then
        self._free = list(range(MAX_SLOTS - 1, -1, -1))
        self._unsettled: deque[tuple[int, int]] = deque()  # batches that aren't on disk yet: (first seq, spans)
        self._naming = threading.Lock()  # both threads may have a new name

    def started(self, request: Begun) -> None:
        """A request begins."""
        at = self._counts.get(request.endpoint)
        if at is None:
            at = self._counts_of(request.endpoint)
        self._numbers[at] += 1
        self._new[request.span_id] = request

    def ended(self, record: Record) -> None:
        """A request has ended. `record` has the span id and the endpoint that it had when it began."""
        at = self._counts.get(record.endpoint)
        if at is None:
            at = self._counts_of(record.endpoint)
        self._numbers[at + OUTCOME_AT[record.outcome]] += 1
        if self._new.pop(record.span_id, None) is None:
            self._leave(record.span_id)

    def lost(self, spans: int) -> None:
        """So many spans were dropped so far."""
        self._numbers[DROPPED] = spans

    def writing(self, first_seq: int, count: int) -> None:
        """So many lines are about to be written; `first_seq` is the first one's sequence number."""
        self._unsettled.append((first_seq, count))
        self._note_unsettled()

    def written(self, count: int) -> None:
        """So many more spans, those that have been written for longest, are on disk."""
        self._numbers[WRITTEN] += count
        self.given_up(count)

    def given_up(self, count: int) -> None:
        """The same of spans that the disk didn't take, which are counted by `lost`."""
        while self._unsettled and count > 0:
            first_seq, waiting = self._unsettled.popleft()
            if waiting > count:
                self._unsettled.appendleft((first_seq, waiting - count))
            count -= waiting
        self._note_unsettled()

    def note(self, now_us: int) -> None:
        """Give each request that is still open a slot, and say that the process lives. `now_us`: Unix µs."""
        for span_id, request in list(self._new.items()):
            if self._free:
                slot = self._free.pop()
                self._write_slot(slot, request)
                self._slots[span_id] = slot
                # The loop takes a request out of `_new` first. So it finds the slot, or we see that the request ended.
                if self._new.pop(span_id, None) is None:
                    self._leave(span_id)
        self._numbers[SEEN_AT_US] = now_us

    def used(self) -> list[tuple[int, bytes]]:
        """The parts that are in use, as (place, bytes)."""
        numbers, memory = self._numbers, self._memory
        counts = numbers[NAMES] * COUNTS_EACH * 8
        slots = numbers[SLOTS_USED] * SLOT_BYTES
        return [
            (SLOTS_AT, memory[SLOTS_AT : SLOTS_AT + slots]),
            (COUNTS_AT, memory[COUNTS_AT : COUNTS_AT + counts]),
            (0, memory[: NAMES_AT + numbers[NAMES_BYTES]]),
        ]

    def _note_unsettled(self) -> None:
        self._numbers[WRITING_SEQ] = self._unsettled[0][0] if self._unsettled else 0

    def _leave(self, span_id: int) -> None:
        slot = self._slots.pop(span_id, None)
        if slot is not None:
            self._memory[SLOTS_AT + slot * SLOT_BYTES + OPEN_AT] = 0
            self._free.append(slot)

    def _write_slot(self, slot: int, request: Begun) -> None:
        method = request.method if request.method in _METHODS else ""
        names = [self._number_of(name or "") for name in (request.endpoint, request.operation, method)]
        SLOT.pack_into(
            self._memory,
            SLOTS_AT + slot * SLOT_BYTES,
            request.trace_id.to_bytes(16, "big"),
            request.span_id,
            request.parent_span_id or 0,
            request.started_at_unix_us,
            *names,
            1,  # last, so that a kill in the middle leaves no half slot
        )
        self._numbers[SLOTS_USED] = max(self._numbers[SLOTS_USED], slot + 1)

    def _counts_of(self, endpoint: str | None) -> int:
        at = self._counts[endpoint] = COUNTS_AT // 8 + self._number_of(endpoint or "") * COUNTS_EACH
        return at

    def _number_of(self, name: str) -> int:
        """The name's number. Names for which there is no room share one number, under which nothing is read."""
        with self._naming:
            known = self._names.get(name)
            if known is not None:
                return known
            text = name.encode() + b"\n"
            begin, number = NAMES_AT + self._numbers[NAMES_BYTES], self._numbers[NAMES]
            if number >= MAX_NAMES - 1 or begin + len(text) > COUNTS_AT:
                return MAX_NAMES - 1
            self._memory[begin : begin + len(text)] = text
            self._numbers[NAMES_BYTES] += len(text)
            self._numbers[NAMES] = number + 1
            self._names[name] = number
            return number


class Kept:
    """The files of `requests`: the memory's own, and the copy in the spans folder. Each may be missing."""

    def __init__(self, folder: Path, writer: str) -> None:
        """Never raises: where a file can't be made, less is known after a kill."""
        self._memory_path = memory_path(writer)
        self._path = folder / f"{PREFIX}{writer}"
        self._held: list[int] = []  # descriptors, whose locks end with the process
        self._copied: list[tuple[int, bytes]] = []
        self._copied_s = 0.0
        self.requests = OpenRequests(self._in_memory())
        _forget_old(self._memory_path.parent)
        self._writable = False
        self._elsewhere = False  # the path names another folder, and the copy isn't there yet
        self._warned = False
        self._copy = self._begin_copy()  # only to be read, until there is something to write

    def save(self) -> None:
        """Bring the copy up to date. In telemetry's thread, five times a second."""
        now_s = time.monotonic()
        self.requests.note(time.time_ns() // 1000)
        used = self.requests.used()
        # An idle proxy asks no file server; what it has open is noted, and others can wait until there is more.
        if not self._elsewhere and self._copy is not None and not _same(used, self._copied):
            self._elsewhere = not names(self._path, self._copy)
        if self._elsewhere and self._path.parent.is_dir():
            self._follow()
        if not self._writable:
            self._writable = bool(used[1][1]) and self._open_copy()
        if (
            not self._writable
            or self._copy is None
            or (_same(used, self._copied) and now_s - self._copied_s < _COPY_AGAIN_S)
        ):
            return
        try:
            for place, content in used:
                os.pwrite(self._copy, content, place)
        except OSError as error:
            _log.debug("'%s' can't be written: %s", self._path, error)
        self._copied, self._copied_s = used, now_s

    def remove(self) -> None:
        """Nothing is open any more, and all is written or counted."""
        if self._copy is not None and not names(self._path, self._copy):
            self._forget_copy(self._copy)
        for path in (self._path, self._memory_path):
            with contextlib.suppress(OSError):
                path.unlink()
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()
        self._copy = None

    def _follow(self) -> None:
        """The folder was renamed, replaced or removed: begin a copy in the one that the path names now."""
        if self._copy is not None:
            self._forget_copy(self._copy)
            self._held.remove(self._copy)
            os.close(self._copy)
        self._writable, self._copied = False, []
        self._copy = self._begin_copy()
        self._elsewhere = self._copy is None  # the next time it may work

    def _forget_copy(self, copy: int) -> None:
        """What is counted here must not be counted once more where the copy's folder is now."""
        if self._writable:  # else there is nothing in it
            with contextlib.suppress(OSError):
                os.ftruncate(copy, 0)

    def _in_memory(self) -> mmap.mmap:
        try:
            descriptor = _locked(self._memory_path)
            # Written and not only given a size: a page that a full /dev/shm can't give later would end the process.
            os.pwrite(descriptor, bytes(SIZE), 0)
            memory = mmap.mmap(descriptor, SIZE)
        except OSError as error:
            _log.debug("no '%s': %s", self._memory_path, error)
            with contextlib.suppress(OSError):
                self._memory_path.unlink()
            return mmap.mmap(-1, SIZE)
        self._held.append(descriptor)
        return memory

    def _begin_copy(self) -> int | None:
        # Under another name until it is locked: without a lock it would be taken for a dead process's.
        begun = self._path.with_name(f"{self._path.name}.tmp")
        try:
            descriptor = _locked(begun, os.O_RDONLY)
            self._held.append(descriptor)
            begun.replace(self._path)
        except OSError as error:
            if not self._warned:
                _log.warning(
                    "'%s' can't be made: %s. Requests that a kill cuts off may go uncounted", self._path, error.strerror
                )
            self._warned = True
            return None
        return descriptor

    def _open_copy(self) -> bool:
        """Open the copy for writing. A proxy without a request leaves its disk free to be remounted read-only."""
        if self._copy is None:
            return False
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            _log.debug("'%s' can't be opened: %s", self._path, error)
            return False
        self._held.remove(self._copy)
        os.close(self._copy)  # with its lock, which would stand in the way of the new one
        self._copy = descriptor
        self._held.append(descriptor)
        _lock(descriptor, self._path)
        return True


def memory_path(writer: str) -> Path:
    """Where the memory of this writer is: in a folder that belongs to this user alone."""
    return _memory_folder() / writer


def _memory_folder() -> Path:
    """A folder in memory, or else for temporary files. Whoever opens a file in it has to find it to be our own."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    place = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    folder = place / f"dyno-open-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return folder if ours else Path("/nonexistent")


def _locked(path: Path, mode: int = os.O_RDWR) -> int:
    """A new file of this user's, locked until its descriptor is closed. Returns the descriptor."""
    descriptor = os.open(path, mode | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    _lock(descriptor, path)
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        _log.debug("'%s' can't be locked: %s", path, error)


def _forget_old(folder: Path) -> None:
    """Remove what nobody will count any more. A living process writes its memory five times a second."""
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        _log.debug("'%s' can't be listed: %s", folder, error)
        return
    for path in paths:
        try:
            if time.time() - path.lstat().st_mtime > _FORGOTTEN_S:
                path.unlink()
        except OSError as error:  # its own process ended and removed it, most often
            _log.debug("'%s' can't be cleared: %s", path, error)


def _same(used: list[tuple[int, bytes]], copied: list[tuple[int, bytes]]) -> bool:
    """Whether nothing has changed but the time in the head."""
    if len(used) != len(copied):
        return False
    head_from = (SEEN_AT_US + 1) * 8
    return used[:-1] == copied[:-1] and used[-1][1][head_from:] == copied[-1][1][head_from:]
