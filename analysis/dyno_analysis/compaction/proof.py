"""Proves that all rows of files that no longer count are in the files that replaced them, which must be read whole."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.folder import read_whole
from dyno_analysis.spans.footer import REPLACED
from dyno_analysis.spans.readable import Problem, footer_of
from dyno_analysis.spans.sql_text import as_glob

from . import convert
from .parquet import quiet, writer_in_name

# So many files are compared at once.
_FILES: Final = 2_000

Contained = Callable[[str], AbstractContextManager[None]]


def proven(
    folder: Path,
    replaced: Mapping[SpanFile, Sequence[SpanFile]],
    contained: Contained,
    problem: Callable[[str], None],
) -> set[SpanFile]:
    """Those of the files whose rows are all in the files that replaced them, which were read whole.

    An error with a file is passed to `contained`, which gets the file's name; `problem` hears of rows that are missing.
    """
    by = {other for others in replaced.values() for other in others}
    whole = {file for file in by if _is_whole(folder / file.name, contained)}
    found: set[SpanFile] = set()
    with quiet() as connection:
        for by_these, files in _together(replaced, whole).items():
            with contained(by_these[0].name):
                _load_there(connection, folder, by_these)
                for at in range(0, len(files), _FILES):
                    some = files[at : at + _FILES]
                    missing = _missing(connection, folder, some, contained)
                    found |= {file for file in some if missing.get(file) == 0}
                    for file, rows in missing.items():
                        if rows:
                            where = f"'{folder / file.name}' is left alone"
                            problem(f"{where}: {rows} of its rows are in no file that counts for them")
    return found


def _together(
    replaced: Mapping[SpanFile, Sequence[SpanFile]], whole: set[SpanFile]
) -> dict[tuple[SpanFile, ...], list[SpanFile]]:
    """The files by what replaced them, so that this is read once for all of them."""
    found: dict[tuple[SpanFile, ...], list[SpanFile]] = {}
    for file, others in replaced.items():
        if sound := tuple(sorted((each for each in others if each in whole), key=lambda each: each.name)):
            found.setdefault(sound, []).append(file)
    return found


def _is_whole(path: Path, contained: Contained) -> bool:
    """Whether every value of the Parquet file can be read."""
    footer = footer_of(path)
    if isinstance(footer, Problem) or footer.rowless == REPLACED:
        return False
    with contained(path.name), quiet() as connection:
        read_whole(connection, path)
        return True
    return False


def _load_there(connection: duckdb.DuckDBPyConnection, folder: Path, by: Sequence[SpanFile]) -> None:
    """Make the tables `there`, the rows of these files, and `kept`, from when on their rows weren't deleted."""
    connection.execute("CREATE OR REPLACE TEMP TABLE there (writer VARCHAR, seq BIGINT)")
    kept_from_us = []
    for file in by:
        footer = footer_of(folder / file.name)
        if isinstance(footer, Problem):
            raise convert.ReplacedError(f"{file.name}: another 'dyno compact' has replaced it")
        kept_from_us += [footer.kept_from_us] if footer.kept_from_us is not None else []
    _insert(connection, "there", "SELECT writer, seq", [folder / file.name for file in by])
    connection.execute("CREATE OR REPLACE TEMP TABLE kept AS SELECT ? AS from_us", [max(kept_from_us, default=None)])


def _missing(
    connection: duckdb.DuckDBPyConnection, folder: Path, files: Sequence[SpanFile], contained: Contained
) -> dict[SpanFile, int]:
    """How many rows each file has that aren't `there`, but for those that expired; without unreadable files."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE own (name VARCHAR, writer VARCHAR, seq BIGINT, started_at_us BIGINT)"
    )
    looked_at = []
    for file in files:
        with contained(file.name):
            if file.last is None:
                _insert_journal(connection, folder / file.name, file.writer)
            else:
                columns = "SELECT parse_filename(filename), writer, seq, epoch_us(started_at)"
                _insert(connection, "own", columns, [folder / file.name])
            looked_at.append(file)
    missing = connection.execute(
        "SELECT name, count(*) FROM own WHERE NOT EXISTS (FROM there WHERE writer = own.writer AND seq = own.seq) "
        "AND (started_at_us >= (SELECT from_us FROM kept) OR (SELECT from_us FROM kept) IS NULL) GROUP BY name"
    ).fetchall()
    counts = dict(missing)
    return {file: counts.get(file.name, 0) for file in looked_at}


def _insert(connection: duckdb.DuckDBPyConnection, table: str, select: str, paths: Sequence[Path]) -> None:
    """Insert rows of Parquet files. Files of the first format have one writer, who stands in their name alone."""
    for path in paths:
        rows = "(FROM read_parquet(?, filename = true) UNION ALL BY NAME SELECT NULL::VARCHAR AS writer WHERE false)"
        named = f"(FROM {rows} SELECT * REPLACE (coalesce(writer, {writer_in_name('filename')}) AS writer))"
        connection.execute(f"INSERT INTO {table} {select} FROM {named}", [as_glob(str(path))])


def _insert_journal(connection: duckdb.DuckDBPyConnection, path: Path, writer: str) -> None:
    with path.open("rb") as lines:
        rows = [
            (row["seq"], started_at_us if isinstance(started_at_us := row.get("started_at_us"), int) else None)
            for line in lines
            if (row := convert.check_version(path, line)) is not None
            and row.get("span_id") is not None
            and convert.may_be_stored(line, row)
        ]
    if rows:
        seqs, started = (list(column) for column in zip(*rows, strict=True))
        connection.execute(
            "INSERT INTO own SELECT ?, ?, unnest(?::BIGINT[]), unnest(?::BIGINT[])", [path.name, writer, seqs, started]
        )
