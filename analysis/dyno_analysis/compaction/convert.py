"""Turns a finished journal into Parquet, and joins small Parquet files, while others write and read.

    seal the journal ──▶ check each line ──▶ .XXXX.PID.tmp ──sync, rename──▶ the Parquet file (spans/file_names.py)

If the process is killed between two steps, each row still counts exactly once: in the old file, or in the new one
(spans/held_rows.py).
"""

import json
import stat
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb

from dyno_analysis.atomic_file import OURS, replacing
from dyno_analysis.file_modes import PRIVATE, access_like
from dyno_analysis.spans.columns import ATTRIBUTE_COLUMNS, OWN_COLUMNS
from dyno_analysis.spans.counted import Counted, Source
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.footer import Footer
from dyno_analysis.spans.held_rows import NOTHING_HELD, Held, Range, one_range, together, without
from dyno_analysis.spans.journal_lines import FIRST_US, LAST_US, LINE_BYTES
from dyno_analysis.spans.listing import list_folder
from dyno_analysis.spans.readable import SCHEMA_VERSION, footer_of

from .parquet import stored_rows, write_parquet

# A batch may still be on its way into a journal that was written to within _WARM_S. It has come after _SEALED_S.
_WARM_S: Final = 10.0
_SEALED_S: Final = 0.5

# Sequence numbers have twelve digits in files' names.
_COUNT_END: Final = 10**12

_KNOWN_COLUMNS: Final = {*(name for name, _ in OWN_COLUMNS), *(name for _, name, _ in ATTRIBUTE_COLUMNS), "crc32"}


@dataclass
class Converted:
    """What became of a journal: `rows` were kept, the lines with the numbers `rejected` were not.

    `torn`: its last line was cut off. `path` is the Parquet file; None if the journal had no row of its own.
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


def convert(folder: Path, journal: SpanFile, elsewhere: Held = NOTHING_HELD) -> Converted:
    """Turn one journal into Parquet, but for the rows that are `elsewhere` in the folder.

    Raises GrownError, ReplacedError, FutureError, OSError or duckdb.Error if that isn't possible; nothing is lost then.
    """
    *_, last = steps(folder, journal, elsewhere)
    return last


def steps(folder: Path, journal: SpanFile, elsewhere: Held = NOTHING_HELD) -> Iterator[Converted]:
    """As `convert`, step by step, for tests that stop between two steps."""
    path = folder / journal.name
    # Before it is sealed: whoever can't read a journal whole leaves it as it is.
    with path.open("rb") as lines:
        check_version(path, next(lines, b""))
    seal(path)
    yield (done := Converted())
    checked = folder / f".{journal.name}.{OURS}.checked"
    PRIVATE.create(checked)
    try:
        last, size_bytes = _check(path, checked, elsewhere.get(journal.writer, ()), done)
        yield done
        if done.rejected:
            _set_aside(path, done)
            yield done
        if last is None:
            _check_size(path, size_bytes)
            if not elsewhere:  # else it hides nothing, and goes when its readers have gone
                path.unlink()
            yield done
            return
        held = without(one_range(journal.writer, journal.first, last), elsewhere)
        source = Source(Counted(checked, journal))
        for done.path in write_parquet(
            folder,
            held,
            stored_rows([source], journal.writer),
            access_like(path),
            lambda: _check_size(path, size_bytes),
        ):
            yield done
    except (OSError, duckdb.Error) as error:
        if checked.exists():
            raise
        raise ReplacedError(f"{journal.name}: another 'dyno compact' has taken the folder over") from error
    finally:
        checked.unlink(missing_ok=True)


def merge(folder: Path, files: Sequence[Source]) -> Path:
    """Join Parquet files into one; returns its path. Raises as `convert` does."""
    held = together(_counting_rows(folder, files))
    kept_from = [footer.kept_from_us for file in files if isinstance(footer := footer_of(file.path), Footer)]
    *_, made = write_parquet(
        folder,
        held,
        stored_rows(files),
        access_like(*(file.path for file in files)),
        lambda: _counting_rows(folder, files),
        max((us for us in kept_from if us is not None), default=None),
    )
    return made


def seal(path: Path, rest_s: float = _SEALED_S) -> None:
    """Tell the writer to begin another journal, by removing write permission: it checks that before each batch.

    A batch that is on its way has `rest_s` to come.
    """
    found = path.stat()
    if found.st_mode & stat.S_IWUSR:
        path.chmod(stat.S_IMODE(found.st_mode) & ~0o222)
        if time.time() - found.st_mtime < _WARM_S:
            time.sleep(rest_s)


def whole_row(line: bytes) -> "dict[str, Any] | None":
    """A journal's line as a row; None if its checksum is wrong. A line that lacks only its newline is valid."""
    body, found, found_sum = line.removesuffix(b"\n").rpartition(b',"crc32":')
    if not found or not found_sum.endswith(b"}"):
        return None
    digits = found_sum[:-1]
    if not digits.isdigit() or len(digits) > 10 or int(digits) != checksum(body):
        return None
    try:
        row = json.loads(body + b"}")
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not _is_count(row.get("seq")) or not _is_count(row.get("v", 0)):
        return None
    return row


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < _COUNT_END


def may_be_stored(line: bytes, row: Mapping[str, Any]) -> bool:
    """Whether readers make a row of the line: it isn't too long for them, and its time is one."""
    started_at_us = row.get("started_at_us")
    has_a_time = not isinstance(started_at_us, int) or FIRST_US <= started_at_us <= LAST_US
    return has_a_time and len(line) <= LINE_BYTES


def checksum(body: bytes) -> int:
    """The checksum of a line's bytes before `,"crc32":`."""
    return zlib.crc32(body)


def check_version(path: Path, line: bytes) -> dict[str, Any] | None:
    """A journal's line as a row, as `whole_row` does; FutureError if a later Dyno wrote it, as a part would be lost."""
    row = whole_row(line)
    if row is None:
        return None
    if row.get("v", 0) > SCHEMA_VERSION:
        raise FutureError(f"'{path}' was written by a later Dyno (format {row['v']}); it stays as it is")
    if unknown := next((name for name in row if name not in _KNOWN_COLUMNS), None):
        raise FutureError(f"'{path}' was written by a later Dyno (it has the column '{unknown}'); it stays as it is")
    return row


def _counting_rows(folder: Path, files: Sequence[Source]) -> list[Held]:
    """The rows of each file that count there.

    Raises ReplacedError if one of the files no longer counts as it did: it may have been emptied before it was read.
    """
    writers = {file.counted.file.writer for file in files}
    alone = len(writers) == 1 and not any(file.counted.file.is_merged for file in files)
    only = writers.pop() if alone else None
    listing = list_folder(folder, only)
    counting = {counted.file: counted.elsewhere for counted in listing.counting}
    for file in files:
        if counting.get(file.counted.file) != file.counted.elsewhere:
            raise ReplacedError(f"{file.path.name}: another 'dyno compact' has replaced it")
    return [without(listing.held[file.counted.file], file.counted.elsewhere) for file in files]


def _check_size(path: Path, size_bytes: int) -> None:
    """Raise GrownError if the journal has grown since it was read: a batch was on its way when it was sealed.

    Raise ReplacedError if it was emptied: another compaction had converted it long ago.
    """
    found_bytes = path.stat().st_size
    if found_bytes < size_bytes:
        raise ReplacedError(f"{path.name}: another 'dyno compact' has replaced it")
    if found_bytes > size_bytes:
        raise GrownError(f"'{path}' is still being written to; a later run will convert it")


def _check(path: Path, checked: Path, elsewhere: Sequence[Range], done: Converted) -> tuple[int | None, int]:
    """Copy the lines with a valid checksum. Returns the last sequence number (None without a line), and bytes read."""
    last: int | None = None
    size_bytes = 0
    with path.open("rb") as lines, checked.open("wb") as kept:
        for number, line in enumerate(lines, start=1):
            size_bytes += len(line)
            row = check_version(path, line)
            if row is None or not may_be_stored(line, row):
                # A line that a killed writer has begun is text, as far as it goes.
                if row is None and not line.endswith(b"\n") and len(line) <= LINE_BYTES and b"\0" not in line:
                    done.torn = True
                else:
                    done.rejected.append(number)
                continue
            if row.get("span_id") is None or any(first <= row["seq"] <= end for first, end in elsewhere):
                continue
            last = max(last or 0, row["seq"])
            kept.write(line.removesuffix(b"\n") + b"\n")
            done.rows += 1
    return last, size_bytes


def _set_aside(path: Path, done: Converted) -> None:
    """Write the rejected lines to a file beside the journal, for a person to look at."""
    wanted = set(done.rejected)
    with path.open("rb") as lines, replacing(path.with_suffix(".rejected"), access_like(path)) as kept:
        kept.writelines(line for number, line in enumerate(lines, start=1) if number in wanted)
