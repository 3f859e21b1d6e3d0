"""Adds rows to a spans folder: they are written to a staging folder in it, then those that are new are moved in.

    rows ──▶ .import-XXXX/WRITER-FIRST.jsonl, … ──which (trace id, span id) are new?──▶ WRITER-FIRST.jsonl, …

Two rows are the same if their trace and span ids are. Each journal appears whole, by a rename; if an import is killed
between two renames, importing again completes it. Memory doesn't grow with the file: DuckDB compares the ids, and
spills to disk.
"""

import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import duckdb

from dyno_analysis import interrupts
from dyno_analysis.atomic_file import replacing, sync_folder
from dyno_analysis.compaction.retention import parse_keep
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import OWN_FOLDER, access_in
from dyno_analysis.folder_lock import held
from dyno_analysis.limits import memory_limit
from dyno_analysis.spans.folder import connect, execute
from dyno_analysis.spans.kept import noted
from dyno_analysis.spans.sql_text import as_glob, quoted, replaced, sql_text

from .journal import journal_line
from .nested import Nested

JOURNAL_BYTES: Final = 19_000_000  # as the proxy's, so that a journal becomes Parquet in little memory
LINE_BYTES: Final = 15_000_000  # DuckDB's read_json fails for the whole file at a line of 16 MB

# The files that known_spans.sql reads, as written there.
_STAGED_FILES: Final = "'staged/*.jsonl'"

_TEXT_CHARACTERS: Final = 4096
_MEMORY_BYTES: Final = 512_000_000


@dataclass(frozen=True)
class Staged:
    """How many rows of an import are new to the folder, and how many aren't: the folder, or the import, has them.

    `nested` rows are the same call to a model as another row, and `none` are no requests, as their trace shows.
    """

    new: int
    known: int
    nested: int = 0
    none: int = 0


class StagedSpans:
    """`with StagedSpans(folder) as staged: staged.add(rows); staged.compare(); staged.let_in()`

    One import at a time: another one waits until the block ends. InputError if the folder can't be written to.
    """

    def __init__(self, spans: Path) -> None:
        self._spans = spans
        self._writer = f"import_{secrets.token_hex(8)}"
        self._count = 0
        self._oldest_us = float("inf")
        self._parts: list[Path] = []
        self._stack = ExitStack()

    def __enter__(self) -> "StagedSpans":
        try:
            self._access = access_in(self._spans)
            self._access.make_folder(self._spans)
            self._hold = self._stack.enter_context(held(self._spans, wait=True, waiting=self._say_waiting))
            for left in self._spans.glob(".import-*"):
                shutil.rmtree(left, ignore_errors=True)  # an import that was killed has left it
            self._staging = interrupts.temporary(self._spans / f".import-{secrets.token_hex(8)}")
            self._staging.mkdir(OWN_FOLDER)
            self._stack.callback(shutil.rmtree, self._staging, ignore_errors=True)
            self.nested = Nested(self._staging / "told")
        except OSError as error:
            self._stack.close()
            raise unwritable(self._spans, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the rows to the staging folder, numbered in their order."""
        lines = self._lines(rows)
        try:
            line = next(lines, None)
            while line is not None:
                path = self._staging / f"{self._writer}-{self._count:012d}.jsonl"
                self._access.create(path)
                with path.open("wb") as file:
                    size = 0
                    while line is not None and (not size or size + len(line) <= JOURNAL_BYTES):
                        file.write(line)
                        size += len(line)
                        line = next(lines, None)
                    file.flush()
                    os.fsync(file.fileno())
                self._access.settle(path)
                self._parts.append(path)
        except OSError as error:
            raise unwritable(self._spans, error) from error

    def compare(self) -> Staged:
        """Drop the staged rows that the folder has already, and those that were staged twice."""
        if not self._parts:
            return Staged(0, 0)
        parts, self._parts = self._parts, []
        known, left_out = 0, (0, 0)
        with connect(self._spans) as connection:
            connection.execute(
                f"SET memory_limit = '{memory_limit(_MEMORY_BYTES)}'; SET temp_directory = {quoted(str(self._staging))}"
            )
            _find_known(connection, parts)
            nested, none = self.nested.find(connection, parts)
            left_out = len(nested), len(none)
            ends = [*map(_first, parts[1:]), self._count + 1]
            for part, end in zip(parts, ends, strict=True):
                found = connection.execute("SELECT seq FROM known WHERE seq >= ? AND seq < ?", [_first(part), end])
                drop = {seq for (seq,) in found.fetchall()}
                known += len(drop)
                drop |= {seq for seq in nested | none if _first(part) <= seq < end}
                if len(drop) < end - _first(part):
                    self._parts.append(_without(part, drop))
        return Staged(self._count - known - sum(left_out), known, *left_out)

    def let_in(self) -> None:
        """Move the staged journals into the folder."""
        if self._hold is not None and not self._hold.kept():
            raise InputError(f"another import has taken '{self._spans}' over, as this one didn't go on; import again")
        try:
            with interrupts.undisturbed():
                for part in self._parts:
                    part.replace(self._spans / part.name)
                sync_folder(self._spans)
        except OSError as error:
            raise unwritable(self._spans, error) from error
        if self._parts:
            self._warn()
        self._parts = []

    def _say_waiting(self) -> None:
        print(
            f"dyno import: waits for another 'dyno compact' or 'dyno import' that works in '{self._spans}'",
            file=sys.stderr,
            flush=True,
        )

    def _warn(self) -> None:
        """Say it where what was imported is older than what the folder keeps."""
        if (text := noted(self._spans)) is None:
            return
        keep = parse_keep(text)
        if keep.age is None:
            why = f"at most {text}, and the oldest requests go first"
        elif self._oldest_us < (time.time() - keep.age.total_seconds()) * 1e6:
            why = f"only {text}: the older requests of this import go with the next compaction"
        else:
            return
        print(f"dyno import: '{self._spans}' keeps {why}; import into another --spans to keep all", file=sys.stderr)

    def _lines(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
        for row in rows:
            self._count += 1
            self._oldest_us = min(self._oldest_us, row.get("started_at_us", self._oldest_us))
            yield _line({**row, "seq": self._count})


def unwritable(spans: Path, error: OSError) -> InputError:
    """The error for a spans folder that can't be written to."""
    return InputError(f"can't write to '{spans}': {error.strerror}; choose another --spans")


def _find_known(connection: duckdb.DuckDBPyConnection, parts: list[Path]) -> None:
    """Make the table `known`: the sequence numbers of the staged rows that must be dropped."""
    files = ", ".join(quoted(as_glob(str(part))) for part in parts)
    query = replaced(sql_text("known_spans"), _STAGED_FILES, f"[{files}]")
    execute(connection, f"CREATE TEMP TABLE known AS {query}")


def _first(part: Path) -> int:
    return int(part.stem.rpartition("-")[2])


def _without(part: Path, drop: set[int]) -> Path:
    """The journal without these rows, renamed for its first row's sequence number."""
    if not drop:
        return part
    first = None
    with part.open("rb") as lines, replacing(part) as kept:
        for seq, line in enumerate(lines, start=_first(part)):
            if seq not in drop:
                kept.write(line)
                first = seq if first is None else first
    renamed = part.with_name(f"{part.stem.rpartition('-')[0]}-{first:012d}.jsonl")
    return part.rename(renamed)


def _line(row: Mapping[str, Any]) -> bytes:
    """The row's line. If it is longer than LINE_BYTES, texts are cut; then attributes and chunk times are left out."""
    line = journal_line(row)
    if len(line) <= LINE_BYTES:
        return line
    shortened = {key: value[:_TEXT_CHARACTERS] if isinstance(value, str) else value for key, value in row.items()}
    attributes = {name: text[:_TEXT_CHARACTERS] for name, text in row["attributes"].items()}
    line = journal_line({**shortened, "attributes": attributes})
    if len(line) <= LINE_BYTES:
        return line
    return journal_line({**shortened, "attributes": {}, "chunk_offsets_us": None})
