"""What a person's own questions find beside `spans`: macros, `chunks`, `runs`, `pairs`, `minutes`, `training`, and the
collected spans: `collected_spans`, `server_spans`, `request_phases`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from .folder import collected_files, collected_sql, connect, execute, span_files, spans_sql
from .selection import Selection, conditions
from .sql_text import sql_text
from .training import define_training, training_files, training_sql

_OVER_SPANS = ("chunks", "runs", "pairs", "minutes")
# Each view that is made opens every Parquet file: once is enough.
_CACHE = "SET parquet_metadata_cache = true;"
# How request_phases.sql names all requests of a trace, also those that a selection leaves out of `spans`.
_EVERY_REQUEST = "FROM spans AS every"


@dataclass(frozen=True)
class Files:
    """All that the views read, listed once."""

    spans: Sequence[Path]
    collected: Sequence[Path]
    training: Sequence[Path]

    def all(self) -> list[Path]:
        return [*self.spans, *self.collected, *self.training]


def list_files(spans: Path) -> Files:
    """InputError for a folder that isn't there or can't be read."""
    return Files(span_files(spans), collected_files(spans), training_files(spans))


def connect_views(spans: Path, files: Files, chosen: Selection | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database with all views over these files; `chosen` narrows `spans`, and with it the others.

    The condition goes down to the readers: of Parquet files in which nothing can match, no row is read. Collected spans
    have neither endpoint nor run, so `collected_spans` and `server_spans` stay whole.
    """
    connection = connect(spans, files.spans)
    connection.execute(_CACHE)
    narrowed = _narrowed(chosen)
    for statement in narrowed:
        connection.execute(statement)
    for statement in _views():
        connection.execute(statement)
    for statement in collected_views(files.collected, "all_spans" if narrowed else "spans"):
        execute(connection, statement)
    define_training(connection, files.training)
    return connection


def views_sql(files: Files) -> str:
    """The same as SQL for another DuckDB."""
    statements = [sql_text("duckdb", "engines"), spans_sql(files.spans), *_views()]
    statements += [*collected_views(files.collected), *training_sql(files.training)]
    return "\n".join(["SET TimeZone = 'UTC';", _CACHE, *statements])


def collected_views(files: Sequence[Path], every_request: str = "spans") -> list[str]:
    """The views over collected spans; `every_request` names what has all requests of a trace."""
    phases = sql_text("request_phases").replace(_EVERY_REQUEST, f"FROM {every_request} AS every")
    return [collected_sql(files), sql_text("server_spans"), phases, sql_text("trace", "macros")]


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
