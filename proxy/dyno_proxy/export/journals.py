"""Follows the journals of a spans folder: each row once, and the rows of a writer in the order of their numbers.

    WRITER-1.jsonl  ──▶ rows ──┐
    WRITER-500.jsonl ─▶ rows ──┴──▶ in order; a missing number is looked for before it counts as lost

A journal that wasn't read to its end may have become Parquet meanwhile. Parquet is read by the analysis program
(stored.py); here only the names of its files are looked at. They say which rows they hold, but for merged files.
"""

import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from .state import Item

_JOURNAL: Final = re.compile(r"([A-Za-z0-9_]+)-(\d{12})\.jsonl")
_PARQUET: Final = re.compile(r"(?:\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_)?([A-Za-z0-9_]+)-(\d{12})-(\d{12})\.parquet")
_BEGAN: Final = re.compile(r".+_\d+_(\d{8}T\d{12})Z")  # of a writer's name: journal.py makes it
# Files of these hold nothing to send: what was imported is somebody else's, and seeds have no rows.
_OTHERS: Final = ("import_", "seed")
_MERGED: Final = "merged_"
_READ_BYTES: Final = 1_000_000
_LONGEST_BYTES: Final = 64_000_000  # a line has 15 MB at most
_EMPTIED_BYTES: Final = 200  # of a journal whose rows have moved to Parquet: one line without a span
_LIST_AGAIN_S: Final = 30.0
_UNSURE_S: Final = 1.0  # after a change of the folder another one may have the same time
_RESTED_S: Final = 7200.0  # a writer begins another journal after half an hour
_SKEW_S: Final = 60.0  # between the clock of a file server and ours


class Stored(NamedTuple):
    """A row, its place, and its length as a line."""

    item: Item
    row: dict[str, Any]
    size_bytes: int


class Parquet(NamedTuple):
    """What a Parquet file's name says."""

    name: str
    writer: str
    first: int
    last: int

    @property
    def is_merged(self) -> bool:
        """Whether only the file itself says which rows it holds."""
        return self.writer.startswith(_MERGED)


@dataclass
class _Journal:
    first: int
    name: str
    offset: int = 0
    ended: bool = False  # nothing more will come


@dataclass
class Journals:
    """The rows of a folder's journals. `read_to`: each writer's last number that was handed out. For one thread."""

    folder: Path
    read_to: dict[str, int] = field(default_factory=dict)
    parquet: list[Parquet] = field(default_factory=list)
    examined: set[str] = field(default_factory=set)  # Parquet files whose rows were handed out, or are none
    _journals: dict[str, list[_Journal]] = field(default_factory=dict)
    _listed_s: float = -1e9  # monotonic
    _folder_ns: int = 0  # when the folder had last changed
    _turn: int = 0

    def look(self, *, now: bool = False) -> None:
        """List the folder if something has changed in it. Raises OSError. `now`: in any case."""
        found = self.folder.stat()
        listed_s = time.monotonic()
        settled = time.time() - found.st_mtime > _UNSURE_S
        if not now and found.st_mtime_ns == self._folder_ns and listed_s - self._listed_s < _LIST_AGAIN_S:
            return
        self._folder_ns = found.st_mtime_ns if settled else 0
        self._listed_s = listed_s
        names = os.listdir(self.folder)  # noqa: PTH208  # there may be thousands
        self.parquet = [each for name in names if (each := parquet_of(name)) is not None]
        self.examined &= set(names)
        known = {journal.name: journal for each in self._journals.values() for journal in each}
        self._journals = {}
        for name in sorted(names):
            match = _JOURNAL.fullmatch(name)
            if match is not None and not name.startswith(_OTHERS):
                journal = known.get(name) or _Journal(int(match[2]), name)
                self._journals.setdefault(match[1], []).append(journal)

    def forget(self) -> None:
        """Begin anew, as the folder is another one. What was handed out stays so."""
        self._journals, self.parquet, self.examined, self._folder_ns = {}, [], set(), 0

    def read(self, rows: int, from_us: int) -> Iterator[Stored]:
        """The next rows, `rows` at most. Raises OSError where the folder can't be listed.

        `from_us`: a journal that wasn't written since then, by a writer that isn't known, is left out.
        """
        self.look()
        writers = list(self._journals)
        self._turn = (self._turn + 1) % max(1, len(writers))
        for writer in writers[self._turn :] + writers[: self._turn]:
            for stored in self._of_writer(writer, rows, from_us):
                rows -= 1
                yield stored
                if rows <= 0:
                    return

    def take(self, stored: Stored) -> bool:
        """Note that a row from elsewhere is handed out. False where it was handed out before."""
        writer, seq, _ = stored.item
        if seq <= self.read_to.get(writer, 0):
            return False
        self.read_to[writer] = seq
        return True

    def _of_writer(self, writer: str, rows: int, from_us: int) -> Iterator[Stored]:
        journals = self._journals[writer]
        for journal, later in zip(journals, [*journals[1:], None], strict=True):
            if journal.ended:
                continue
            if later is not None and later.first - 1 <= self.read_to.get(writer, 0):
                journal.ended = True
                continue
            path = self.folder / journal.name
            try:
                size_bytes, written_s = (found := path.stat()).st_size, found.st_mtime
            except FileNotFoundError:
                self._folder_ns = 0
                return  # its rows are in Parquet, or were deleted: what follows has to wait until that is known
            if writer not in self.read_to and began_us(writer) < from_us and written_s + _SKEW_S < from_us / 1e6:
                journal.ended = True
                continue
            if size_bytes < journal.offset:
                journal.ended = True  # it was emptied
                continue
            for stored in self._of_journal(journal, path):
                seq = stored.item.seq
                if seq <= self.read_to.get(writer, 0):
                    continue
                if self._may_be_elsewhere(writer, seq):
                    journal.offset -= stored.size_bytes
                    return
                self.read_to[writer] = seq
                yield stored
                rows -= 1
                if rows <= 0:
                    return
            if (later is not None or time.time() - written_s > _RESTED_S) and size_bytes <= journal.offset:
                journal.ended = _size(path) <= journal.offset

    def _of_journal(self, journal: _Journal, path: Path) -> Iterator[Stored]:
        """Its whole rows from the offset on, which is behind a row when that is yielded."""
        size_bytes = _READ_BYTES
        with path.open("rb") as file:
            while True:
                file.seek(journal.offset)
                data = file.read(size_bytes)
                begin = 0
                while (end := data.find(b"\n", begin)) >= 0:
                    line = data[begin : end + 1]
                    begin = end + 1
                    journal.offset += len(line)
                    if (stored := stored_of(journal.name.rpartition("-")[0], line)) is not None:
                        yield stored
                if len(data) < size_bytes:
                    # A line that lacks only its newline is a row.
                    if begin < len(data) and (stored := stored_of(journal.name.rpartition("-")[0], data[begin:])):
                        journal.offset += stored.size_bytes
                        yield stored
                    return
                size_bytes = _READ_BYTES if begin else min(size_bytes * 4, _LONGEST_BYTES)
                if not begin and len(data) == _LONGEST_BYTES:
                    return

    def _may_be_elsewhere(self, writer: str, seq: int) -> bool:
        """Whether rows of the writer before this one, which weren't handed out, may be in Parquet."""
        known = self.read_to.get(writer)
        if known is None or seq <= known + 1:
            return False
        self.look(now=True)
        return any(
            each.name not in self.examined
            and (each.is_merged or (each.writer == writer and each.first < seq and each.last > known))
            for each in self.parquet
        )

    def unread_parquet(self, from_us: int) -> list[Parquet]:
        """The Parquet files that hold rows which weren't handed out and are in no journal; of merged ones, perhaps."""
        return [each for each in self.parquet if each.name not in self.examined and self._is_unread(each, from_us)]

    def _is_unread(self, file: Parquet, from_us: int) -> bool:
        known = self.read_to.get(file.writer)
        if known is None or file.is_merged:
            try:
                recent = (self.folder / file.name).stat().st_mtime + _SKEW_S >= from_us / 1e6
            except FileNotFoundError:
                recent = False
            if not recent:
                self.examined.add(file.name)
                return False
        if file.is_merged:
            return True
        if known is not None and file.last <= known:
            self.examined.add(file.name)
            return False
        return not self._has_journal(file.writer, max(file.first, (known or 0) + 1))

    def _has_journal(self, writer: str, seq: int) -> bool:
        """Whether a journal is there that held this row, and wasn't emptied."""
        holding = [each for each in self._journals.get(writer, ()) if each.first <= seq]
        try:
            return bool(holding) and (self.folder / holding[-1].name).stat().st_size > _EMPTIED_BYTES
        except FileNotFoundError:
            self._folder_ns = 0
            return False

    def left(self, from_us: int) -> int:
        """How many rows weren't handed out, as far as journals say it. They count as handed out then."""
        return sum(1 for _ in self.read(2**31, from_us))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def parquet_of(name: str) -> Parquet | None:
    """What the name of a Parquet file with rows of requests says."""
    match = _PARQUET.fullmatch(name)
    if match is None or match[1].startswith(_OTHERS):
        return None
    return Parquet(name, match[1], int(match[2]), int(match[3]))


def began_us(writer: str) -> int:
    """When the writer began, in Unix µs, by its name; 0 where that doesn't say it."""
    match = _BEGAN.fullmatch(writer)
    if match is None:
        return 0
    try:
        began = datetime.strptime(match[1], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return int(began.timestamp() * 1e6)


def stored_of(writer: str, line: bytes) -> Stored | None:
    """A line as a row; None where it isn't whole, or has no span."""
    body, _, checksum = line.removesuffix(b"\n").rpartition(b',"crc32":')
    if not checksum.endswith(b"}") or not checksum[:-1].isdigit() or int(checksum[:-1]) != zlib.crc32(body):
        return None
    try:
        row = orjson.loads(body + b"}")
    except orjson.JSONDecodeError:
        return None
    if not _is_row(row):
        return None
    ended_us = row["started_at_us"] + (row.get("duration_us") or 0)
    return Stored(Item(writer, row["seq"], ended_us), row, len(line))


def _is_row(row: Mapping[str, Any]) -> bool:
    return row.get("span_id") is not None and isinstance(row.get("seq"), int) and "started_at_us" in row
