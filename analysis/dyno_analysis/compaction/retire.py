"""Empties and later removes the files that no longer count, once what replaced them has been read whole.

A reader that listed the folder before may still read such a file. After GRACE_S it is emptied: a pasted view that
reaches it later finds no rows, and a reader with a list of its own, who would miss them, gets an error. After REMOVED_S
the file is removed.
"""

import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Final

import orjson

from dyno_analysis.atomic_file import replacing
from dyno_analysis.file_modes import access_like
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.footer import REPLACED
from dyno_analysis.spans.held_rows import Held, one_range
from dyno_analysis.spans.listing import Listing
from dyno_analysis.spans.readable import EMPTIED, Problem, footer_of, is_emptied
from dyno_analysis.spans.sql_text import as_glob

from . import convert
from .parquet import empty_replaced, quiet
from .proof import Contained, proven

GRACE_S: Final = 600.0
REMOVED_S: Final = 86_400.0

# No Parquet file with rows is so small, as it has an entry for each column of each group of rows.
_ROWLESS_BYTES: Final = 8192


def retire(listing: Listing, now: datetime, contained: Contained, problem: Callable[[str], None]) -> None:
    """Empty and remove what no longer counts.

    An error with a file is passed to `contained`, which gets the file's name; `problem` hears of rows that would go.
    """
    folder = listing.folder
    ages_s = _ages_s(folder, now)
    due: dict[SpanFile, list[SpanFile]] = {}
    for file, by in _replacements(listing).items():
        # A file that was emptied, and whose rows have expired since or are elsewhere by another name, has none.
        since = by or ([] if listing.held[file] else [file])
        if since and min(ages_s.get(other.name, 0.0) for other in since) > GRACE_S:
            due[file] = since
    full = [file for file in due if _has_rows(folder / file.name)]
    sound = proven(folder, {file: due[file] for file in full}, contained, problem)
    for file, by in due.items():
        with contained(file.name):
            if file in full and file not in sound:
                continue
            if min(ages_s.get(other.name, 0.0) for other in by) > REMOVED_S:
                (folder / file.name).unlink()
            elif file in full:
                _empty(folder / file.name, file)
    _remove_rowless(listing, ages_s, contained)


def _ages_s(folder: Path, now: datetime) -> dict[str, float]:
    """The age of each file, by the file server's clock alone where `now` is its time."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found[entry.name] = now.timestamp() - entry.stat(follow_symlinks=False).st_mtime
            except FileNotFoundError:
                continue  # another compaction has removed it
    return found


def _replacements(listing: Listing) -> dict[SpanFile, list[SpanFile]]:
    """For each file that doesn't count, those that count for its rows: who lists them doesn't list the file."""
    index = _Index(listing)
    found = {}
    for file in listing.covered:
        rows = listing.held[file] or one_range(file.writer, file.first, file.last or file.first)
        found[file] = [each for each in index.near(rows) if each != file]
    return found


class _Index:
    """The Parquet files that count, by the rows that they hold."""

    def __init__(self, listing: Listing) -> None:
        ranges: dict[str, list[tuple[int, int, SpanFile]]] = {}
        for counted in listing.counting:
            if counted.file.last is not None:
                for writer, of_writer in listing.held[counted.file].items():
                    ranges.setdefault(writer, []).extend((first, last, counted.file) for first, last in of_writer)
        self._ranges = {writer: sorted(each, key=lambda one: one[:2]) for writer, each in ranges.items()}
        self._reached = {
            writer: list(accumulate((last for _, last, _ in each), max)) for writer, each in self._ranges.items()
        }

    def near(self, rows: Held) -> list[SpanFile]:
        """The files that hold any of these rows."""
        found: dict[SpanFile, None] = {}
        for writer, of_writer in rows.items():
            ranges, reached = self._ranges.get(writer, []), self._reached.get(writer, [])
            for low, high in of_writer:
                at = bisect_right(ranges, high, key=lambda one: one[0]) - 1
                while at >= 0 and reached[at] >= low:
                    if ranges[at][1] >= low:
                        found[ranges[at][2]] = None
                    at -= 1
        return list(found)


def _has_rows(path: Path) -> bool:
    """Whether the file hasn't been emptied yet."""
    try:
        if path.suffix == ".jsonl":
            return bool(path.stat().st_size) and not is_emptied(path)
        if path.stat().st_size > _ROWLESS_BYTES:
            return True
    except FileNotFoundError:
        return False
    footer = footer_of(path)
    return isinstance(footer, Problem) or footer.rowless != REPLACED


def _empty(path: Path, file: SpanFile) -> None:
    if file.last is not None:
        empty_replaced(path)
        return
    with replacing(path, access_like(path)) as emptied:
        emptied.write(emptied_line(file.first))
    path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)  # sealed, as it was: it is nobody's to convert


def emptied_line(first: int) -> bytes:
    """The one line of a journal whose rows are in another file. For a reader it is no row, as it has no span."""
    body = orjson.dumps({"v": 1, "seq": first, "name": EMPTIED})[:-1]
    return b'%b,"crc32":%d}\n' % (body, convert.checksum(body))


def _remove_rowless(listing: Listing, ages_s: Mapping[str, float], contained: Contained) -> None:
    """Remove files without rows that count, once nothing would count again without them."""
    hiding = _hiding(listing)
    for counted in listing.counting:
        name = counted.file.name
        if counted.file.last is None or ages_s.get(name, 0.0) <= REMOVED_S or counted.file in hiding:
            continue
        with contained(name):
            if counted.path.stat().st_size <= _ROWLESS_BYTES and not _row_count(counted.path):
                (listing.folder / name).unlink()


def _hiding(listing: Listing) -> set[SpanFile]:
    """The files that hold rows of a file that doesn't count."""
    covered: set[str] = set()
    for file in listing.covered:
        covered.update(listing.held[file] or (file.writer,))
    return {
        counted.file for counted in listing.counting if any(writer in covered for writer in listing.held[counted.file])
    }


def _row_count(path: Path) -> int:
    with quiet() as connection:
        ((rows,),) = connection.execute(
            "SELECT num_rows FROM parquet_file_metadata(?)", [as_glob(str(path))]
        ).fetchall()
    return int(rows)
