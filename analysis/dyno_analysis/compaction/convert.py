"""Turns a finished journal into Parquet, and joins small Parquet files, while others write and read.

    seal the journal ──▶ check each line ──▶ .NAME.PID.tmp ──sync, rename──▶ WRITER-FIRST-LAST.parquet

If the process is killed between two steps, each row still counts exactly once: in the old file, or in the new one
(spans/file_names.py).
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

from dyno_analysis import interrupts
from dyno_analysis.atomic_file import OURS, replacing, replacing_path
from dyno_analysis.file_modes import OWN_FOLDER, PRIVATE, Access, access_like
from dyno_analysis.spans.file_names import SpanFile, sort_out
from dyno_analysis.spans.folder import stored_sql
from dyno_analysis.spans.readable import PARQUET_SCHEMA_KEY, SCHEMA_VERSION
from dyno_analysis.spans.sql_text import quoted

# DuckDB's default. For each group of rows the file has every column's least and greatest value.
_ROWS_OF_A_GROUP: Final = 122_880
_MEMORY: Final = "1GB"
# A batch may still be on its way into a journal that was written to within _WARM_S. It has come after _SEALED_S.
_WARM_S: Final = 10.0
_SEALED_S: Final = 0.5


@dataclass
class Converted:
    """What became of a journal: `rows` were kept, the lines with the numbers `rejected` were not.

    `torn`: its last line was cut off. `path` is the Parquet file; None if the journal had no row.
    """

    rows: int = 0
    torn: bool = False
    rejected: list[int] = field(default_factory=list)
    path: Path | None = None


class GrownError(Exception):
    """The journal's writer lives after all: it appended to it during the conversion. The message is one line."""


class ReplacedError(Exception):
    """Another compaction has replaced a file meanwhile, and its rows count there. The message is one line."""


class FutureError(Exception):
    """The file was written by a later version of Dyno. The message is one line for the user."""


def convert(folder: Path, journal: SpanFile) -> Converted:
    """Turn one journal into Parquet.

    Raises GrownError, ReplacedError, FutureError, OSError or duckdb.Error if that isn't possible; nothing is lost then.
    """
    *_, last = steps(folder, journal)
    return last


def steps(folder: Path, journal: SpanFile) -> Iterator[Converted]:
    """As `convert`, step by step, for tests that stop between two steps."""
    path = folder / journal.name
    seal(path)
    yield (done := Converted())
    checked = folder / f".{journal.name}.{OURS}.checked"
    PRIVATE.create(checked)
    try:
        last, size_bytes = _check(path, checked, done)
        yield done
        if done.rejected:
            _set_aside(path, done)
            yield done
        if last is None:
            _check_size(path, size_bytes)
            # The journal has no row, so it isn't needed.
            path.unlink()
            yield done
            return
        target = folder / SpanFile(journal.writer, journal.first, last).name
        access = access_like(path)
        for _ in _written(target, access, stored_sql([checked]), lambda: _check_size(path, size_bytes)):
            yield done
        done.path = target
        yield done
    finally:
        checked.unlink(missing_ok=True)


def merge(folder: Path, files: Sequence[SpanFile]) -> Path:
    """Join neighbouring Parquet files of one writer into one; returns its path. Raises as `convert` does."""
    last = max(file.last or 0 for file in files)
    target = folder / SpanFile(files[0].writer, files[0].first, last).name
    paths = [folder / file.name for file in files]
    for _ in _written(target, access_like(*paths), stored_sql(paths), lambda: _check_counting(folder, files)):
        pass
    return target


def empty_parquet(path: Path) -> None:
    """Replace the file by a Parquet span file without rows."""
    for _ in _written(path, access_like(path), stored_sql([]) + " WHERE false"):
        pass


def seal(path: Path, rest_s: float = _SEALED_S) -> None:
    """Tell the writer to begin another journal, by removing write permission: it checks that before each batch.

    A batch that is on its way has `rest_s` to come.
    """
    found = path.stat()
    if found.st_mode & stat.S_IWUSR:
        path.chmod(stat.S_IMODE(found.st_mode) & ~0o222)
        if time.time() - found.st_mtime < _WARM_S:
            time.sleep(rest_s)


def _check_counting(folder: Path, files: Sequence[SpanFile]) -> None:
    """Raise ReplacedError if one of the files no longer counts. Then it may have been emptied before it was read."""
    of_writer = f"{files[0].writer}-"
    counting, _ = sort_out(path.name for path in folder.iterdir() if path.name.startswith(of_writer))
    for file in files:
        if file not in counting:
            raise ReplacedError(f"{file.name}: another 'dyno compact' has replaced it")


def _check_size(path: Path, size_bytes: int) -> None:
    """Raise GrownError if the journal has grown since it was read: a batch was on its way when it was sealed.

    Raise ReplacedError if it was emptied: another compaction had converted it long ago.
    """
    found_bytes = path.stat().st_size
    if found_bytes < size_bytes:
        raise ReplacedError(f"{path.name}: another 'dyno compact' has replaced it")
    if found_bytes > size_bytes:
        raise GrownError(f"'{path}' is still being written to; a later run will convert it")


def _check(path: Path, checked: Path, done: Converted) -> tuple[int | None, int]:
    """Copy the lines with a valid checksum. Returns the last sequence number (None without a line), and bytes read."""
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
                raise FutureError(f"'{path}' was written by a later Dyno (format {row['v']}); it stays as it is")
            last = max(last or 0, row["seq"])
            kept.write(line.removesuffix(b"\n") + b"\n")
            done.rows += 1
    return last, size_bytes


def whole_row(line: bytes) -> "dict[str, int] | None":
    """A journal's line as a row; None if its checksum is wrong. A line that lacks only its newline is valid."""
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
    """Write the rejected lines to a file beside the journal, for a person to look at."""
    wanted = set(done.rejected)
    with path.open("rb") as lines, replacing(path.with_suffix(".rejected"), access_like(path)) as kept:
        kept.writelines(line for number, line in enumerate(lines, start=1) if number in wanted)


def _written(target: Path, access: Access, query: str, ready: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Write the query's rows to `target`, in two steps: the temporary file, then the rename.

    `ready` is called just before the rename, and prevents it by raising.
    """
    spill = target.with_name(f".{target.name}.{OURS}.spill")
    with replacing_path(target, access) as temporary:
        try:
            spill.mkdir(OWN_FOLDER)
            with interrupts.opened(
                duckdb.connect(config={"memory_limit": _MEMORY, "threads": 1, "temp_directory": str(spill)})
            ) as writer:
                writer.execute("SET enable_progress_bar = false")
                writer.execute("SET TimeZone = 'UTC'")
                writer.execute(
                    f"COPY ({query} ORDER BY started_at, endpoint) TO {quoted(str(temporary))} "
                    f"(FORMAT parquet, USE_TMP_FILE false, COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS_OF_A_GROUP}, "
                    f"KV_METADATA {{{PARQUET_SCHEMA_KEY}: '{SCHEMA_VERSION}'}})"
                )
        finally:
            shutil.rmtree(spill, ignore_errors=True)
        yield
        ready()
    yield
