"""What a person's own questions find beside `spans`: macros, `chunks`, `runs`, `pairs`, `minutes`, `training`."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from .load import Selection, conditions, connect, span_files, spans_sql, sql_text
from .training_files import define_training, training_files, training_sql

_OVER_SPANS = ("chunks", "runs", "pairs", "minutes")


def connect_views(spans: Path, files: Sequence[Path], chosen: Selection | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database with all views over these files; `chosen` narrows `spans`, and with it the others.

    The condition goes down to the readers: of Parquet files in which nothing can match, no row is read.
    """
    connection = connect(spans, files)
    for statement in _narrowed(chosen):
        connection.execute(statement)
    for statement in _views():
        connection.execute(statement)
    define_training(connection, training_files(spans))
    return connection


def views_sql(spans: Path) -> str:
    """The same as SQL for another DuckDB, over the files that are there now."""
    files = span_files(spans)
    statements = [sql_text("duckdb", "engines"), spans_sql(files), *_views(), *training_sql(training_files(spans))]
    return "\n".join(["SET TimeZone = 'UTC';", *statements])


def _views() -> list[str]:
    return [sql_text("figures", "macros"), *(sql_text(name) for name in _OVER_SPANS)]


def _narrowed(chosen: Selection | None) -> list[str]:
    parts = [] if chosen is None else conditions(chosen)
    if not parts:
        return []
    return [
        "ALTER VIEW spans RENAME TO all_spans",
        f"CREATE VIEW spans AS FROM all_spans WHERE {' AND '.join(parts)}",
    ]
