"""The span files' journal: JSON lines with a checksum each, appended in whole batches.

    spans/WRITER-FIRST.jsonl        WRITER: host, pid, start; FIRST: the first line's sequence number, 12 digits

A line is `{…,"crc32":N}`: N is zlib.crc32 of the line's bytes before `,"crc32":`. One process writes a file, with one
`write` a batch and then fdatasync, so a kill or a power cut tears at most the last batch's tail. A disk that is slow to
sync gets the next batches meanwhile (journal_file.py). A writer never uses a sequence number twice. What can't be
written is counted and given up: the next batch tries a new file.
`dyno compact` turns a full journal into Parquet (compaction.py starts it). A writer holds a lock on its file (flock).
The lock ends when the process ends, however that happens, and processes in other containers see it too. Some file
systems have no locks. There, `dyno compact` leaves a journal that may be another machine's alone for an hour, and makes
it read-only before converting it. The writer looks before each batch: where its file was made read-only, or hasn't been
written for long, or isn't what its path names any more (place.py), it goes on in a new one.
"""

import contextlib
import errno
import itertools
import logging
import os
import re
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from dyno_proxy.exchange.record import Record
from dyno_proxy.file_modes import PRIVATE, Access

from .journal_file import JournalFile, Syncing
from .place import Place, plant_seeds
from .span import TEXT_CHARACTERS, mended_text, record_row_json, record_span, scope, span_row
from .spare import SpareDescriptor

JOURNAL_BYTES: Final = 19_000_000  # then a new file begins, so that little memory is needed to convert one to Parquet
LINE_BYTES: Final = 15_000_000  # DuckDB's read_json gives up a whole file at a line of 16 MB

# A sync takes some ms. Where it takes longer, spans are written meanwhile, and a power cut may lose the newest.
_PATIENCE_S: Final = 1.0
_END_PATIENCE_S: Final = 2.0  # when the journal is closed
_TRIES: Final = 3  # to begin a journal in a folder that somebody removes
_LOOK_S: Final = 0.2  # how often who waits for any sync looks whether it may

_KEPT_ITEMS: Final = 64  # so many items of a list or the map are kept in a row that is too long for a line

# Why a span was dropped
DISK: Final = "disk"
NOT_STORABLE: Final = "not_storable"

_NOT_STORABLE: Final = (TypeError, ValueError, AttributeError, OverflowError)

_log = logging.getLogger(__name__)


class SetupError(Exception):
    """Telemetry can't begin as configured. The message is one line for the user."""


def check_folder(folder: Path, access: Access = PRIVATE) -> None:
    """Make the spans folder if it isn't there, and try to write in it. Raises SetupError."""
    try:
        access.make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            access.settle(file.fileno())
            file.write(b"\n")
        plant_seeds(folder, access)
    except OSError as error:
        reason = "is a file" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise SetupError(f"spans folder '{folder}' can't be written: {reason}; name another with --spans") from error


def writer_name(host: str, pid: int, started_at: datetime) -> str:
    """The writer's part of its files' names. It is never the same for two writers, and no writer has to ask others."""
    return re.sub(r"[^A-Za-z0-9_]", "_", f"{host}_{pid}_{started_at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}")


def journal_line(row: dict[str, object]) -> bytes:
    """The row as a line. What JSON can't hold is mended, and a row too long for a line loses its longest parts."""
    try:
        body = orjson.dumps(row)
    except TypeError:
        row = {column: _mended(value) for column, value in row.items()}
        body = orjson.dumps(row)
    if len(body) > LINE_BYTES:
        body = orjson.dumps(_shortened(row))
    return _with_checksum(body)


def record_line(record: Record, seq: int, *, chunk_times: bool = True) -> bytes:
    """The line of the record's span, also without the times of its chunks. Raises what `journal_line` does."""
    body = record_row_json(record, seq, chunk_times=chunk_times)
    if body is not None and len(body) <= LINE_BYTES:
        return _with_checksum(body)
    # A row holds neither resource nor scope, so any will do.
    span = record_span(record, resource=Resource.get_empty(), scope=scope(""), sampled=False)
    row = span_row(span, seq)
    if not chunk_times:
        row.pop("chunk_offsets_us", None)
    return journal_line(row)


def _with_checksum(body: bytes) -> bytes:
    body = body[:-1]
    return b'%b,"crc32":%d}\n' % (body, zlib.crc32(body))


class JournalExporter(SpanExporter):
    """Writes spans to journals in a folder; any thread may call it.

    It calls `written(count)` and `dropped(reason, count)`, so that each span is counted once. A user may make the lines
    itself, with sequence numbers by `next_seq`. It hands them to `write` in their order, and never calls `export`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        written: Callable[[int], None],
        dropped: Callable[[str, int], None],
        journal_bytes: int = JOURNAL_BYTES,
        filled: Callable[[], None] | None = None,
        moved: Callable[[], None] | None = None,
        access: Access = PRIVATE,
        patience_s: float | None = _PATIENCE_S,
    ) -> None:
        """`filled()` is called when a journal is full and another one has begun.

        `moved()` is called when the folder's path names another folder, and a journal has begun there.
        `patience_s`: how long a write waits for the disk to sync; None: as long as it takes.
        """
        self._filled = filled
        self._moved = moved
        self._folder = folder
        self._place = Place(folder, access)
        self._access = access
        self._written = written
        self._dropped = dropped
        self._journal_bytes = journal_bytes
        self._writer = writer_name(socket.gethostname(), os.getpid(), datetime.now(UTC))
        self._lock = threading.Lock()
        self._seqs = itertools.count(1)
        self._syncing = Syncing()
        self._patience_s = patience_s
        self._hurried = threading.Event()
        self._slow = False  # the last sync took too long, so nobody waits for the next ones
        self._journal: JournalFile | None = None
        self._closing: list[JournalFile] = []  # earlier ones that are still being synced
        self._spare = SpareDescriptor()  # connections may have taken all others
        self._failing = 0  # spans lost since writing last worked

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans. They are on disk when this returns SUCCESS, unless that takes longer than `patience_s`.

        A span that can't be stored costs no other.
        """
        with self._lock:
            stored = True
            batch = bytearray()
            count = first_seq = 0
            for span in spans:
                seq = self.next_seq()
                line = self.span_line(span, seq)
                if line is None:
                    stored = False
                    continue
                if batch and len(batch) + len(line) > self._journal_bytes:
                    stored &= self._append(batch, first_seq, count)
                    batch, count = bytearray(), 0
                if not batch:
                    first_seq = seq
                batch += line
                count += 1
            if batch:
                stored &= self._append(batch, first_seq, count)
            return SpanExportResult.SUCCESS if stored else SpanExportResult.FAILURE

    def next_seq(self) -> int:
        """A sequence number that no other line of this writer has."""
        return next(self._seqs)

    def line(self, record: Record, seq: int, *, chunk_times: bool = True) -> bytes | None:
        """The line of the record's span, for `write`. None where it can't be stored: then it is counted as dropped."""
        try:
            return record_line(record, seq, chunk_times=chunk_times)
        except _NOT_STORABLE as error:
            self._refuse(error)
            return None

    def span_line(self, span: ReadableSpan, seq: int) -> bytes | None:
        """The same for any span."""
        try:
            return journal_line(span_row(span, seq))
        except _NOT_STORABLE as error:
            self._refuse(error)
            return None

    def write(self, lines: bytes | bytearray, first_seq: int, count: int) -> bool:
        """Write `count` lines, in the order of their numbers from `first_seq` on. Returns whether they are on disk.

        Where the disk takes longer than `patience_s`, it returns True, and they are counted later. After `hurry` it
        returns False, if they aren't on disk yet.
        """
        with self._lock:
            return self._append(lines, first_seq, count)

    def settle(self) -> None:
        """Count the spans that a slow disk has synced since, or hasn't."""
        with self._lock:
            self._settle_all()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002  # nothing is held back
        return True

    def hurry(self) -> None:
        """From now on wait for no sync, as the process is about to end. Any thread may call."""
        self._hurried.set()

    def shutdown(self) -> None:
        """Close the journal. A slow disk is waited for, but not for long: the system goes on without this process."""
        with self._lock:
            self._finish()
            end_s = time.monotonic() + _END_PATIENCE_S
            while self._closing and self._closing[0].wait(max(0.0, end_s - time.monotonic())):
                self._settle_all()
            for journal in self._closing:
                _log.warning("'%s' isn't synced yet, as the disk is slow; its spans are written", journal.path)
                self._written(journal.pending)
            self._closing = []
            self._syncing.end()
            self._spare.close()

    @property
    def writer(self) -> str:
        """The writer's part of its files' names."""
        return self._writer

    def _refuse(self, error: Exception) -> None:
        _log.warning("a span can't be stored: %s", error)
        self._dropped(NOT_STORABLE, 1)

    def _append(self, lines: bytes | bytearray, first_seq: int, count: int) -> bool:
        self._settle_all()
        try:
            journal = self._with_room(len(lines), first_seq)
            journal.append(lines, count)
        except OSError as error:
            # After a failed write nobody knows what a file holds beyond its last good batch: a new one begins.
            if self._journal is not None:
                self._journal.cut()
                self._finish()
            self._fail(error, count)
            return False
        while journal.pending:
            if not self._wait(journal):
                return self._patience_s is not None  # who wants spans on disk is told that they may not be
            if not self._settle(journal):
                return False
        return True

    def _with_room(self, size_bytes: int, first_seq: int) -> JournalFile:
        journal = self._journal
        full = journal is not None and journal.size_bytes + size_bytes > self._journal_bytes
        ours = journal is not None and journal.is_ours()
        named = journal is None or journal.is_named()
        if journal is not None and not full and ours and named:
            return journal
        self._finish()
        self._journal = self._begin(self._folder / f"{self._writer}-{first_seq:012}.jsonl")
        if self._place.begun():
            if self._moved is not None:
                self._moved()
        elif ours and not named and journal is not None:
            _log.warning("'%s' was renamed or removed; spans go on in '%s'", journal.path, self._journal.path)
            self._place.plant()  # who removed the journal may have removed all files
        if full and self._filled is not None:
            self._filled()
        return self._journal

    def _begin(self, path: Path) -> JournalFile:
        """A new journal. Its folder is made if it is missing."""
        for _ in range(_TRIES):
            self._place.prepare(patient=not self._failing)
            with contextlib.suppress(FileNotFoundError):  # the folder is being removed just now
                return self._spare.opening(lambda: JournalFile(path, self._access, self._syncing))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def _finish(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None and journal.pending:
            self._closing.append(journal)
        elif journal is not None:
            journal.close()

    def _settle_all(self) -> None:
        for journal in self._closing[:]:
            if self._settle(journal) and not journal.pending:
                self._closing.remove(journal)
                journal.close()
        if self._journal is not None:
            self._settle(self._journal)
        self._slow = self._slow and bool(self._closing or (self._journal is not None and self._journal.pending))

    def _settle(self, journal: JournalFile) -> bool:
        """Count what is on disk. False where the journal's last spans are lost: then it is closed."""
        try:
            synced = journal.synced()
        except OSError as error:
            # After a failed sync, too, nobody knows what the file holds.
            lost = journal.take_back()
            journal.close()
            if journal is self._journal:
                self._journal = None
            else:
                self._closing.remove(journal)
            self._fail(error, lost)
            return False
        if synced and self._failing:
            _log.warning("spans are written again, to '%s'; %d were lost meanwhile", journal.path, self._failing)
            self._failing = 0
        if synced:
            self._written(synced)
        return True

    def _wait(self, journal: JournalFile) -> bool:
        """Wait for the disk as long as is allowed; False if it takes longer."""
        if self._patience_s is None:
            while not (ended := journal.wait(_LOOK_S)) and not self._hurried.is_set():
                pass
            return ended
        if journal.wait(0.0 if self._slow else self._patience_s):
            return True
        if not self._slow:
            _log.warning(
                "the disk takes more than %g s to sync '%s'; spans are written all the same, but a power cut would "
                "lose the newest",
                self._patience_s,
                journal.path,
            )
        self._slow = True
        return False

    def _fail(self, error: OSError, count: int) -> None:
        if not self._failing:
            _log.error(
                "spans can't be written to '%s': %s. Traffic goes on; they are lost, and counted in "
                "dyno_spans_dropped_total, until writing works again",
                self._folder,
                error.strerror or error,
            )
        self._failing += count
        self._dropped(DISK, count)


def _mended(value: object) -> object:
    if isinstance(value, str):
        return mended_text(value)
    if isinstance(value, list | tuple):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {mended_text(str(key)): _mended(item) for key, item in value.items()}
    return value


def _shortened(row: dict[str, object]) -> dict[str, object]:
    """The row with shortened texts, with few items of its lists and its map, and without chunk times."""
    short: dict[str, object] = {}
    for column, value in row.items():
        if isinstance(value, str):
            short[column] = value[:TEXT_CHARACTERS]
        elif isinstance(value, dict):
            items = list(value.items())[:_KEPT_ITEMS]
            short[column] = {key[:TEXT_CHARACTERS]: text[:TEXT_CHARACTERS] for key, text in items}
        elif isinstance(value, list | tuple):
            texts = [item[:TEXT_CHARACTERS] for item in value[:_KEPT_ITEMS] if isinstance(item, str)]
            if texts:
                short[column] = texts
        else:
            short[column] = value
    return short
