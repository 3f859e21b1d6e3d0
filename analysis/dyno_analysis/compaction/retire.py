"""Empties and later removes the files that no longer count, once what replaced them has been read whole.

A reader that listed the folder before may still read such a file. After GRACE_S it is emptied: a pasted view that
reaches it later finds no rows, and a reader with a list of its own, who would miss them, gets an error. After REMOVED_S
the file is removed.
"""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Final

import duckdb
import orjson

from dyno_analysis import interrupts
from dyno_analysis.atomic_file import replacing
from dyno_analysis.file_modes import access_like
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.footer import REPLACED
from dyno_analysis.spans.held_rows import without
from dyno_analysis.spans.listing import Listing
from dyno_analysis.spans.readable import EMPTIED, PARQUET_VERSION, Problem, footer_of, is_emptied
from dyno_analysis.spans.sql_text import as_glob

from . import convert
from .parquet import empty_replaced

GRACE_S: Final = 600.0
REMOVED_S: Final = 86_400.0

# No Parquet file with rows is so small, as it has an entry for each column of each group of rows.
_ROWLESS_BYTES: Final = 8192
_MEMORY: Final = "1GB"

Contained = Callable[[str], AbstractContextManager[None]]


def glob(path: Path) -> str:
    """The path for DuckDB's readers."""
    return as_glob(str(path))


def retire(listing: Listing, now: datetime, contained: Contained, problem: Callable[[str], None]) -> None:
    """Empty and remove what no longer counts.

    An error with a file is passed to `contained`, which gets the file's name; `problem` hears of rows that would go.
    """
    folder = listing.folder
    ages_s = _ages_s(folder, now)
    due: dict[SpanFile, list[SpanFile]] = {}
    for file, by in _replacements(listing).items():
        # The first file that replaced this one: since it is there, no reader has listed this one.
        # A journal that was emptied, and whose rows have expired since, has none.
        since = by or ([] if listing.held[file] else [file])
        if max((ages_s.get(other.name, 0.0) for other in since), default=0.0) > GRACE_S:
            due[file] = since
    full = [file for file in due if _has_rows(folder / file.name)]
    proven = _proven(folder, {file: due[file] for file in full}, contained, problem)
    for file, by in due.items():
        with contained(file.name):
            if file in full and file not in proven:
                continue
            if max(ages_s.get(other.name, 0.0) for other in by) > REMOVED_S:
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
    """For each file that doesn't count, the Parquet files that hold all its rows; else those that share some."""
    holders: dict[str, list[SpanFile]] = {}
    for file, held in listing.held.items():
        if file.last is not None:
            for writer in held:
                holders.setdefault(writer, []).append(file)
    counting = {counted.file for counted in listing.counting}
    found = {}
    for file in listing.covered:
        rows = listing.held[file]
        near = {each for writer in rows or (file.writer,) for each in holders.get(writer, ()) if each != file}
        whole = [each for each in near if not without(rows, listing.held[each])]
        # Two files may hold the same rows; the one that counts is the other's replacement, and not the reverse.
        whole = [each for each in whole if each in counting or without(listing.held[each], rows)]
        found[file] = whole or [each for each in near if each in counting]
    return found


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


def _proven(
    folder: Path,
    replaced: Mapping[SpanFile, Sequence[SpanFile]],
    contained: Contained,
    problem: Callable[[str], None],
) -> set[SpanFile]:
    """Those of the files whose rows are all in the files that replaced them, which were read whole."""
    by = {other for others in replaced.values() for other in others}
    whole = {file for file in by if _read_whole(folder / file.name, contained)}
    proven: set[SpanFile] = set()
    with _connected() as connection:
        connection.execute("SET enable_progress_bar = false")
        for by_these, files in _together(replaced, whole).items():
            with contained(files[0].name):
                _load_rows(connection, folder, by_these)
                for file in files:
                    with contained(file.name):
                        if missing := _missing(connection, folder, file):
                            problem(
                                f"'{folder / file.name}' is left alone: {missing} of its rows are in no file that "
                                "counts for them"
                            )
                        else:
                            proven.add(file)
    return proven


def _together(
    replaced: Mapping[SpanFile, Sequence[SpanFile]], whole: set[SpanFile]
) -> dict[tuple[SpanFile, ...], list[SpanFile]]:
    """The files by what replaced them, so that this is read once for all of them."""
    found: dict[tuple[SpanFile, ...], list[SpanFile]] = {}
    for file, others in replaced.items():
        if sound := tuple(sorted((each for each in others if each in whole), key=lambda each: each.name)):
            found.setdefault(sound, []).append(file)
    return found


def _read_whole(path: Path, contained: Contained) -> bool:
    """Whether every value of the Parquet file can be read."""
    footer = footer_of(path)
    if isinstance(footer, Problem) or footer.rowless == REPLACED or int(footer.version) > PARQUET_VERSION:
        return False
    with contained(path.name), _connected() as connection:
        connection.execute("SELECT bit_xor(hash(stored)) FROM read_parquet(?) AS stored", [glob(path)]).fetchall()
        return True
    return False


def _load_rows(connection: duckdb.DuckDBPyConnection, folder: Path, by: Sequence[SpanFile]) -> None:
    """Make the tables `there`, the rows of these files, and `kept`, from when on their rows weren't deleted."""
    connection.execute("CREATE OR REPLACE TEMP TABLE there (writer VARCHAR, seq BIGINT)")
    kept_from_us = []
    for file in by:
        footer = footer_of(folder / file.name)
        if isinstance(footer, Problem):
            raise convert.ReplacedError(f"{file.name}: another 'dyno compact' has replaced it")
        kept_from_us += [footer.kept_from_us] if footer.kept_from_us is not None else []
        # Files of the first format have one writer, and don't repeat it in each row.
        writer = "writer" if file.is_merged else f"'{file.writer}'"
        connection.execute(f"INSERT INTO there SELECT {writer}, seq FROM read_parquet(?)", [glob(folder / file.name)])  # noqa: S608  # a name of letters and digits
    connection.execute("CREATE OR REPLACE TEMP TABLE kept AS SELECT ? AS from_us", [max(kept_from_us, default=None)])


def _missing(connection: duckdb.DuckDBPyConnection, folder: Path, file: SpanFile) -> int:
    """How many rows the file has that aren't `there`, but for those that expired there."""
    connection.execute("CREATE OR REPLACE TEMP TABLE own (writer VARCHAR, seq BIGINT, started_at_us BIGINT)")
    path = folder / file.name
    if file.last is None:
        with path.open("rb") as lines:
            rows = [
                (file.writer, row["seq"], row.get("started_at_us"))
                for line in lines
                if (row := convert.check_version(path, line)) is not None and row.get("span_id") is not None
            ]
        if rows:
            columns = list(zip(*rows, strict=True))
            connection.execute(
                "INSERT INTO own SELECT unnest(?::VARCHAR[]), unnest(?::BIGINT[]), unnest(?::BIGINT[])",
                [list(column) for column in columns],
            )
    else:
        writer = "writer" if file.is_merged else f"'{file.writer}'"
        connection.execute(
            f"INSERT INTO own SELECT {writer}, seq, epoch_us(started_at) FROM read_parquet(?)",  # noqa: S608  # as above
            [glob(path)],
        )
    ((missing,),) = connection.execute(
        "SELECT count(*) FROM own WHERE NOT EXISTS (FROM there WHERE writer = own.writer AND seq = own.seq) "
        "AND (started_at_us >= (SELECT from_us FROM kept) OR (SELECT from_us FROM kept) IS NULL)"
    ).fetchall()
    return int(missing)


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


def _connected() -> duckdb.DuckDBPyConnection:
    return interrupts.opened(duckdb.connect(config={"memory_limit": _MEMORY, "threads": 1}))


def _row_count(path: Path) -> int:
    with _connected() as connection:
        ((rows,),) = connection.execute("SELECT num_rows FROM parquet_file_metadata(?)", [glob(path)]).fetchall()
    return int(rows)
