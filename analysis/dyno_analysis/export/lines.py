"""Reads stored rows as they are stored, and writes them as lines of a journal.

spans/*.parquet, *.jsonl ──▶ DuckDB: which rows, in which order ──▶ {"v":2,"seq":…,…,"crc32":…}
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb

from dyno_analysis.compaction.parquet import stored_rows
from dyno_analysis.errors import InputError
from dyno_analysis.ingest.journal import journal_line
from dyno_analysis.spans import file_names, folder
from dyno_analysis.spans.counted import Source
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.selection import Selection, conditions

_ROWS_AT_ONCE: Final = 1000
_MEMORY: Final = "1GB"
# A file's name says when its requests started; of one that started a day before, the end may count.
_LONGEST_US: Final = 86_400_000_000


@dataclass(frozen=True)
class After:
    """Where a reader of the folder has come to: each known writer's last number, and from when rows of others count."""

    from_us: int = 0
    writers: dict[str, int] = field(default_factory=dict)

    def may_be_in(self, file: SpanFile) -> bool:
        """False if no row beyond can be in the file, by its name."""
        if file_names.is_import(file.writer):
            return False
        if file.is_merged or file.writer not in self.writers:
            return file.contents is None or file.contents.may_start_from(self.from_us - _LONGEST_US)
        return file.last is None or file.last > self.writers[file.writer]


def read_after(path: Path) -> After:
    """The file `{"from_us": …, "writers": {"WRITER": SEQ}}`. Raises InputError."""
    try:
        said = json.loads(path.read_bytes())
        return After(int(said["from_us"]), {str(writer): int(seq) for writer, seq in said["writers"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' must be a file with from_us and writers: {error}") from error


def rows_after(spans: Path, after: After) -> Iterator[tuple[str, dict[str, Any]]]:
    """Writer and row of each row beyond, by writer and number. Imported rows aren't among them."""
    files = folder.sources(spans, after.may_be_in)
    with _connected(spans) as connection:
        connection.execute('CREATE TEMP TABLE known (writer VARCHAR, "to" BIGINT)')
        if after.writers:
            writers, numbers = list(after.writers), list(after.writers.values())
            connection.execute("INSERT INTO known SELECT unnest(?), unnest(?)", [writers, numbers])
        beyond = (
            'LEFT JOIN known USING (writer) WHERE imported_from IS NULL AND CASE WHEN "to" IS NULL '
            f'THEN epoch_us(started_at) + coalesce(duration_us, 0) >= {after.from_us} ELSE seq > "to" END '
            "ORDER BY writer, seq"
        )
        yield from _rows(connection, files, beyond, 'EXCLUDE ("to")')


def chosen_rows(spans: Path, chosen: Selection) -> Iterator[tuple[str, dict[str, Any]]]:
    """Writer and row of each chosen request, by writer and number."""
    files = folder.sources(spans, chosen.may_be_in)
    condition = " AND ".join(conditions(chosen)) or "true"
    with _connected(spans) as connection:
        yield from _rows(connection, files, f"WHERE {condition} ORDER BY writer, seq")


def to_pass_on(spans: Path, chosen: Selection) -> Iterator[bytes]:
    """The chosen requests as lines of one journal: in the order of their start, with numbers from 1."""
    files = folder.sources(spans, chosen.may_be_in)
    condition = " AND ".join(conditions(chosen)) or "true"
    with _connected(spans) as connection:
        rows = _rows(connection, files, f"WHERE {condition} ORDER BY started_at, writer, seq")
        for number, (_, row) in enumerate(rows, start=1):
            yield journal_line(row | {"seq": number})


def with_writer(rows: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[bytes]:
    """The rows as lines, each with its writer before it."""
    for writer, row in rows:
        yield writer.encode() + b" " + journal_line(row)


def _connected(spans: Path) -> duckdb.DuckDBPyConnection:
    connection = folder.connect(spans, [])
    connection.execute(f"SET memory_limit = '{_MEMORY}'")
    return connection


def _rows(
    connection: duckdb.DuckDBPyConnection, files: Sequence[Source], rest: str, without: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    if not files:
        return
    before, query = stored_rows(files)
    connection.execute(before)
    found = folder.execute(
        connection,
        f"SELECT * {without} REPLACE (epoch_us(started_at) AS started_at) FROM ({query}) {rest}",  # noqa: S608
    )
    names = [column[0] for column in found.description or ()]
    while rows := found.fetchmany(_ROWS_AT_ONCE):
        for values in rows:
            row = {name: value for name, value in zip(names, values, strict=True) if value is not None}
            row["started_at_us"] = row.pop("started_at")
            writer = row.pop("writer")
            row.pop("crc32", None)
            yield writer, row
