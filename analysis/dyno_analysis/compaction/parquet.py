"""Writes Parquet span files: under a temporary name, then by a rename, each with what it holds in its footer."""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

import duckdb

from dyno_analysis.atomic_file import OURS, Draft, drafted, replacing, replacing_path
from dyno_analysis.database import in_memory
from dyno_analysis.file_modes import OWN_FOLDER, Access, access_like
from dyno_analysis.spans import file_names
from dyno_analysis.spans.counted import Source
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.folder import NOTHING
from dyno_analysis.spans.footer import EXPIRED, HELD_KEY, KEPT_FROM_KEY, REPLACED, ROWLESS_KEY, VERSION_KEY
from dyno_analysis.spans.held_rows import Held, as_text
from dyno_analysis.spans.readable import SCHEMA_VERSION
from dyno_analysis.spans.reading import MOVED_COLUMN, reading
from dyno_analysis.spans.sql_text import as_glob, quoted

# DuckDB's default. For each group of rows the file has every column's least and greatest value.
_ROWS_OF_A_GROUP: Final = 122_880
_MEMORY_BYTES: Final = 1_000_000_000

Looked = TypeVar("Looked")


def stored_rows(sources: Sequence[Source], writer: str | None = None) -> tuple[str, str]:
    """What must run before, and a query for the sources' rows as Parquet span files hold them, each with its writer.

    Where the sources' names don't say it, `writer` is the writer of all rows.
    """
    read = reading(sources, NOTHING, "dyno_stored", bounded=True)
    of_name = writer_in_name("filename") if writer is None else quoted(writer)
    return read.lists, (
        f"{read.sql} SELECT * EXCLUDE (filename, writer), coalesce(writer, {of_name}) AS writer "  # noqa: S608  # paths are quoted
        "FROM (FROM stored UNION ALL BY NAME SELECT CAST(NULL AS VARCHAR) AS writer WHERE false)"
    )


def quiet(**settings: str) -> duckdb.DuckDBPyConnection:
    """A database in memory that doesn't take much of the machine, for what a compaction does by the way."""
    connection = in_memory(_MEMORY_BYTES, threads="1", **settings)
    connection.execute("SET enable_progress_bar = false")
    return connection


def writer_in_name(column: str) -> str:
    """SQL for the writer that the name of a file says, which is a path in this column. Not for merged files."""
    return f"regexp_extract({column}, '(?:{file_names.PREFIX})?([A-Za-z0-9_]+)-\\d{{12}}[^/]*$', 1)"


def write_parquet(
    folder: Path,
    held: Held,
    rows: tuple[str, str],
    access: Access,
    ready: Callable[[], object],
    kept_from_us: int | None = None,
) -> Iterator[Path]:
    """Write the rows to a file that says it holds `held`, in two steps: the temporary file, then the rename.

    `ready` is called just before the rename, and prevents it by raising. Gives the file's path after each step.
    """
    with drafted(folder, access) as draft:
        file = _write(draft, held, rows, kept_from_us)
        yield folder / file.name
        ready()
        draft.name = file.name
    yield folder / file.name


def rewrite(path: Path, held: Held, rows: tuple[str, str], kept_from_us: int) -> int:
    """Replace a Parquet file by those of its rows that didn't expire; returns how many those are.

    It keeps its name, and says that it holds what it held, so that none of the files that it replaced counts again.
    """
    with replacing_path(path, access_like(path)) as temporary:
        return _copy(temporary, rows, {**_said(held), KEPT_FROM_KEY: str(kept_from_us)}, contents_of)[0]


def empty_expired(path: Path, held: Held, kept_from_us: int) -> None:
    """Replace a file whose rows all expired by one without rows that still counts for them."""
    rows = (
        f"SET VARIABLE dyno_emptied = {quoted(as_glob(str(path)))};",
        "FROM read_parquet(getvariable('dyno_emptied'))",
    )
    with replacing_path(path, access_like(path)) as temporary:
        said = {**_said(held), KEPT_FROM_KEY: str(kept_from_us), ROWLESS_KEY: EXPIRED}
        _copy(temporary, (rows[0], f"{rows[1]} WHERE false"), said, _nothing)


def empty_replaced(path: Path) -> None:
    """Replace a file that no longer counts by one without rows.

    It has another column than all others: who listed the folder long before, and reads it, gets an error and no zero.
    """
    with replacing(path, access_like(path)) as file:
        file.write(_replaced_bytes())


@cache
def _replaced_bytes() -> bytes:
    with tempfile.TemporaryDirectory(prefix="dyno-compact-") as folder:
        path = Path(folder) / "replaced.parquet"
        rows = ("", f"SELECT 0 AS {MOVED_COLUMN} WHERE false")
        _copy(path, rows, {VERSION_KEY: "1", ROWLESS_KEY: REPLACED}, _nothing)
        return path.read_bytes()


def _write(draft: Draft, held: Held, rows: tuple[str, str], kept_from_us: int | None) -> SpanFile:
    said = _said(held)
    if kept_from_us is not None:
        said[KEPT_FROM_KEY] = str(kept_from_us)
    count, contents = _copy(draft.path, rows, said, contents_of)
    if len(held) == 1:
        ((writer, ranges),) = held.items()
        if len(ranges) == 1:
            return SpanFile(writer, *ranges[0], contents)
    return file_names.merged(said[HELD_KEY], count, contents)


def _said(held: Held) -> dict[str, str]:
    return {VERSION_KEY: str(SCHEMA_VERSION), HELD_KEY: as_text(held)}


def contents_of(path: Path, connection: duckdb.DuckDBPyConnection) -> tuple[int, file_names.Contents]:
    """How many rows the file has, and what its name says of them."""
    ((count, start_us, end_us, endpoints, runs),) = connection.execute(
        "SELECT count(*), epoch_us(min(started_at)), epoch_us(max(started_at)), "
        "list(DISTINCT endpoint) FILTER (endpoint IS NOT NULL), list(DISTINCT run_id) FILTER (run_id IS NOT NULL) "
        "FROM read_parquet(?)",
        [as_glob(str(path))],
    ).fetchall()
    return count, file_names.contents(start_us or 0, end_us or 0, endpoints or (), runs or ())


def _nothing(_: Path, __: duckdb.DuckDBPyConnection) -> None:
    return None


def _copy(
    target: Path,
    rows: tuple[str, str],
    said: dict[str, str],
    look: Callable[[Path, duckdb.DuckDBPyConnection], Looked],
) -> Looked:
    """Write the query's rows to the file, in order of time; then look at it by the same connection."""
    spill = target.with_name(f".{secrets.token_hex(4)}.{OURS}.spill")
    before, query = rows
    metadata = ", ".join(f"{key}: {quoted(value)}" for key, value in said.items())
    order = "" if MOVED_COLUMN in query else " ORDER BY started_at, endpoint"
    try:
        spill.mkdir(OWN_FOLDER)
        with quiet(temp_directory=str(spill)) as writer:
            writer.execute("SET TimeZone = 'UTC'")
            if before:
                writer.execute(before)
            writer.execute(
                f"COPY (FROM ({query}){order}) TO {quoted(str(target))} (FORMAT parquet, USE_TMP_FILE false, "
                f"COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS_OF_A_GROUP}, KV_METADATA {{{metadata}}})"
            )
            return look(target, writer)
    finally:
        shutil.rmtree(spill, ignore_errors=True)
