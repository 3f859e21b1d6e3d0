"""The views and macros, beside `spans`, that users can query.

Over `spans`: `chunks`, `runs`, `pairs`, `minutes`, `minutes_all`, `token_minutes`, `concurrency`, `spans_loaded`,
`gaps`, `lost`. Over collected spans: `collected_spans`, `server_spans`, `request_phases`. Over imported training logs:
`training`, `training_steps`. Over what runs keep: `prompts`, `answers`, `prices`. docs/sql.md says what a row is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from .counted import Source
from .folder import NOTHING, collected_sources, collected_sql, connect, define_spans, execute, sources, spans_sql
from .run_files import RunFiles, define_runs, run_files, runs_sql
from .selection import Selection, conditions
from .sql_text import replaced, sql_text
from .training import define_training, training_files, training_sql

MACROS_BEFORE = ("engines/duckdb", "macros/figures")
# Each after those that it reads.
OVER_SPANS = (
    "chunks",
    "runs",
    "pairs",
    "minutes",
    "minutes_all",
    "token_minutes",
    "concurrency",
    "spans_loaded",
    "gaps",
)
# Whoever asks twice needn't wait twice until the footers of thousands of files are read.
_CACHE = "SET parquet_metadata_cache = true;"
# These read requests that weren't chosen, too.
_BEYOND_CHOSEN = ("request_phases", "lost", "all_spans")
# How request_phases.sql and lost.sql read all requests, including those that a selection leaves out of `spans`.
EVERY_REQUEST = "FROM spans AS every"


@dataclass(frozen=True)
class Files:
    """All files that the views read, of each kind. They are listed once.

    `spans` are those that may have chosen requests, and `every` are all with requests. `every` is the same as `spans`
    where nothing was chosen, or where all requests of a trace aren't asked for.
    """

    spans: Sequence[Source]
    every: Sequence[Source]
    collected: Sequence[Source]
    training: Sequence[Path]
    runs: RunFiles

    def all(self) -> list[Path]:
        """The files of all kinds."""
        spans = self.spans if self.every is self.spans else {source.path: source for source in self.every}.values()
        of_runs = (path for files in self.runs.values() for path in files)
        return [*(source.path for source in (*spans, *self.collected)), *self.training, *of_runs]


def list_files(spans: Path, chosen: Selection | None = None, statement: str | None = None) -> Files:
    """The files of a spans folder. Raises InputError if the folder doesn't exist or can't be read.

    A file in which no chosen request can be is opened only if the statement asks for other requests too.
    """
    limited = chosen is not None and bool(conditions(chosen))
    if not limited or statement is None or any(view in statement.lower() for view in _BEYOND_CHOSEN):
        every = sources(spans)
        found = [source for source in every if chosen.may_be_in(source.counted.file)] if chosen else every
    else:
        every = found = sources(spans, chosen.may_be_in if chosen else lambda _: True)
    return Files(found, every, collected_sources(spans), training_files(spans), run_files(spans, statement))


def connect_views(spans: Path, files: Files, chosen: Selection | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database with all views over these files. `chosen` limits `spans`, and the views over it.

    DuckDB applies the condition in its readers, so it reads no row of a Parquet file in which nothing can match.
    Collected spans have neither endpoint nor run, so `collected_spans` and `server_spans` aren't limited.
    """
    connection = connect(spans, files.every)
    connection.execute(_CACHE)
    narrowed = [] if chosen is None else conditions(chosen)
    if narrowed:
        connection.execute("ALTER VIEW spans RENAME TO all_spans")
        source = "all_spans"
        if files.every is not files.spans and len(files.spans) < len(files.every):
            source = "spans_of_chosen_files"
            define_spans(connection, files.spans, source)
        connection.execute(f"CREATE VIEW spans AS FROM {source} WHERE {' AND '.join(narrowed)}")
    every_request = "all_spans" if narrowed else "spans"
    for statement in _views(every_request):
        connection.execute(statement)
    for statement in collected_views(files.collected, every_request):
        execute(connection, statement)
    define_training(connection, files.training)
    define_runs(connection, files.runs)
    return connection


def views_sql(files: Files, nothing: Path) -> str:
    """All views over these files as SQL for another DuckDB; `nothing` is an empty file that it can read."""
    statements = [sql_text("duckdb", "engines"), spans_sql(files.spans, nothing), *_views()]
    statements += [*collected_views(files.collected, nothing=nothing), *training_sql(files.training, nothing)]
    statements += runs_sql(files.runs)
    return "\n".join(["SET TimeZone = 'UTC';", _CACHE, *statements])


def collected_views(files: Sequence[Source], every_request: str = "spans", nothing: Path = NOTHING) -> list[str]:
    """The SQL of the views over collected spans; `every_request` names the view with all requests of a trace."""
    phases = replaced(sql_text("request_phases"), EVERY_REQUEST, f"FROM {every_request} AS every", times=2)
    return [collected_sql(files, nothing), sql_text("server_spans"), phases, sql_text("trace", "macros")]


def reading_sql(name: str, files: Files) -> str:
    """The SQL of `spans` or of `collected_spans` over these very files."""
    return collected_sql(files.collected) if name == "collected_spans" else spans_sql(files.every)


def _views(every_request: str = "spans") -> list[str]:
    lost = replaced(sql_text("lost"), EVERY_REQUEST, f"FROM {every_request} AS every", times=2)
    over_spans = [sql_text(name) for name in OVER_SPANS]
    return [sql_text("figures", "macros"), *over_spans, lost]
