"""The views and macros, beside `spans`, that users can query.

Over `spans`: `chunks`, `runs`, `pairs`, `minutes`. Over collected spans: `collected_spans`, `server_spans`,
`request_phases`. Over imported training logs: `training`, `training_steps`. docs/sql.md says what a row of each is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from .folder import NOTHING, collected_files, collected_sql, connect, execute, span_files, spans_sql
from .selection import Selection, conditions
from .sql_text import replaced, sql_text
from .training import define_training, training_files, training_sql

_OVER_SPANS = ("chunks", "runs", "pairs", "minutes")
# Creating a view opens every Parquet file. With this cache, all views together open each file once.
_CACHE = "SET parquet_metadata_cache = true;"
# How request_phases.sql reads all requests of a trace, including those that a selection leaves out of `spans`.
_EVERY_REQUEST = "FROM spans AS every"


@dataclass(frozen=True)
class Files:
    """All files that the views read, of each kind. They are listed once."""

    spans: Sequence[Path]
    collected: Sequence[Path]
    training: Sequence[Path]

    def all(self) -> list[Path]:
        """The files of all three kinds."""
        return [*self.spans, *self.collected, *self.training]


def list_files(spans: Path) -> Files:
    """The files of a spans folder. Raises InputError if the folder doesn't exist or can't be read."""
    return Files(span_files(spans), collected_files(spans), training_files(spans))


def connect_views(spans: Path, files: Files, chosen: Selection | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database with all views over these files. `chosen` limits `spans`, and the views over it.

    DuckDB applies the condition in its readers, so it reads no row of a Parquet file in which nothing can match.
    Collected spans have neither endpoint nor run, so `collected_spans` and `server_spans` aren't limited.
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


def views_sql(files: Files, nothing: Path) -> str:
    """All views over these files as SQL for another DuckDB; `nothing` is an empty file that it can read."""
    statements = [sql_text("duckdb", "engines"), spans_sql(files.spans, nothing), *_views()]
    statements += [*collected_views(files.collected, nothing=nothing), *training_sql(files.training, nothing)]
    return "\n".join(["SET TimeZone = 'UTC';", _CACHE, *statements])


def collected_views(files: Sequence[Path], every_request: str = "spans", nothing: Path = NOTHING) -> list[str]:
    """The SQL of the views over collected spans; `every_request` names the view with all requests of a trace."""
    phases = replaced(sql_text("request_phases"), _EVERY_REQUEST, f"FROM {every_request} AS every")
    return [collected_sql(files, nothing), sql_text("server_spans"), phases, sql_text("trace", "macros")]


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
