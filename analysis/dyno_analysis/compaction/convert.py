"""A finished journal becomes Parquet, and small Parquet files become large ones, while others write and read.

    seal the journal ──▶ check each line ──▶ .NAME.PID.tmp ──sync, rename──▶ WRITER-FIRST-LAST.parquet

A kill between any two steps leaves every row where it counted before, or where it counts now (spans/file_names.py).
"""

import json
import shutil
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.atomic_file import OURS, replacing, replacing_path
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.folder import stored_sql
from dyno_analysis.spans.readable import PARQUET_SCHEMA_KEY, SCHEMA_VERSION
from dyno_analysis.spans.sql_text import quoted

# DuckDB's own size for a group of rows, within which it knows each column's least and greatest value.
_ROWS_OF_A_GROUP: Final = 122_880
_MEMORY: Final = "1GB"
_WARM_S: Final = 10.0  # so lately written that a batch may be on its way
_SEALED_S: Final = 0.5  # and then is there


@dataclass
class Converted:
    """What became of a journal; `rejected` are line numbers of which `why` says what is wrong."""

    rows: int = 0
    torn: bool = False
    rejected: list[int] = field(default_factory=list)
    path: Path | None = None


class GrownError(Exception):
    """Its writer lives after all, and has appended to the journal while it was converted. The message is one line."""


class FutureError(Exception):
    """A file of a later version of Dyno. The message is one line for the user."""


def convert(folder: Path, journal: SpanFile) -> Converted:
    """The whole way of one journal; OSError and duckdb.Error where it can't be gone, and nothing is lost then."""
    *_, last = steps(folder, journal)
    return last


def steps(folder: Path, journal: SpanFile) -> Iterator[Converted]:
    """The same, step by step, for tests that end between two of them."""
    path = folder / journal.name
    seal(path)
    yield (done := Converted())
    checked = folder / f".{journal.name}.{OURS}.checked"
    try:
        last, size_bytes = _check(path, checked, done)
        yield done
        if done.rejected:
            _set_aside(path, done)
            yield done
        if last is None:
            _check_size(path, size_bytes)
            # Not a row in it: nobody misses the file.
            path.unlink()
            yield done
            return
        target = folder / SpanFile(journal.writer, journal.first, last).name
        for _ in _written(target, stored_sql([checked]), lambda: _check_size(path, size_bytes)):
            yield done
        done.path = target
        yield done
    finally:
        checked.unlink(missing_ok=True)


def merge(folder: Path, files: Sequence[SpanFile]) -> Path:
    """Neighbouring Parquet files of one writer as one; returns its path."""
    last = max(file.last or 0 for file in files)
    target = folder / SpanFile(files[0].writer, files[0].first, last).name
    for _ in _written(target, stored_sql([folder / file.name for file in files])):
        pass
    return target


def empty_parquet(path: Path) -> None:
    """A Parquet span file without a row takes the place of the one there."""
    for _ in _written(path, stored_sql([]) + " WHERE false"):
        pass


def seal(path: Path) -> None:
    """Tell the writer to begin another file: it looks at its journal's mode before each batch."""
    found = path.stat()
    if found.st_mode & stat.S_IWUSR:
        path.chmod(stat.S_IMODE(found.st_mode) & ~0o222)
        if time.time() - found.st_mtime < _WARM_S:
            time.sleep(_SEALED_S)


def _check_size(path: Path, size_bytes: int) -> None:
    """A batch may have been on its way when the file was sealed. Raises GrownError, and nothing is lost then."""
    if path.stat().st_size != size_bytes:
        raise GrownError(f"'{path}' is still written to; a later run converts it")


def _check(path: Path, checked: Path, done: Converted) -> tuple[int | None, int]:
    """Copy the lines whose checksum holds; returns the greatest sequence number, None without a line, and the bytes."""
    last: int | None = None
    size_bytes = 0
    with path.open("rb") as lines, checked.open("wb") as kept:
        for number, line in enumerate(lines, start=1):
            size_bytes += len(line)
            row = whole_row(line)
            if row is None:
                if line.endswith(b"\n"):
                    done.rejected.append(number)
                else:
                    done.torn = True
                continue
            if row.get("v", 0) > SCHEMA_VERSION:
                raise FutureError(f"'{path}' is of a later Dyno (format {row['v']}); it stays as it is")
            last = max(last or 0, row["seq"])
            kept.write(line.removesuffix(b"\n") + b"\n")
            done.rows += 1
    return last, size_bytes


def whole_row(line: bytes) -> "dict[str, int] | None":
    """A journal's line as a row, if its checksum holds. One that lacks its newline alone is whole, as to any reader."""
    body, found, checksum = line.removesuffix(b"\n").rpartition(b',"crc32":')
    if not found or not checksum.endswith(b"}"):
        return None
    digits = checksum[:-1]
    if not digits.isdigit() or int(digits) != zlib.crc32(body):
        return None
    try:
        row = json.loads(body + b"}")
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("seq"), int) else None


def _set_aside(path: Path, done: Converted) -> None:
    """The lines that are no rows, beside the journal, for a person to look at."""
    wanted = set(done.rejected)
    with path.open("rb") as lines, replacing(path.with_suffix(".rejected")) as kept:
        kept.writelines(line for number, line in enumerate(lines, start=1) if number in wanted)


def _written(target: Path, query: str, ready: Callable[[], None] = lambda: None) -> Iterator[None]:
    """`ready` may raise, just before the file takes its name."""
    spill = target.with_name(f".{target.name}.{OURS}.spill")
    with replacing_path(target) as temporary:
        try:
            with duckdb.connect(config={"memory_limit": _MEMORY, "threads": 1, "temp_directory": str(spill)}) as writer:
                writer.execute("SET enable_progress_bar = false")
                writer.execute("SET TimeZone = 'UTC'")
                writer.execute(
                    f"COPY ({query} ORDER BY started_at, endpoint) TO {quoted(str(temporary))} "
                    f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS_OF_A_GROUP}, "
                    f"KV_METADATA {{{PARQUET_SCHEMA_KEY}: '{SCHEMA_VERSION}'}})"
                )
        finally:
            shutil.rmtree(spill, ignore_errors=True)
        yield
        ready()
    yield
