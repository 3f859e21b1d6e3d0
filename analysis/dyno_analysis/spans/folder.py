"""Makes a DuckDB connection with the view `spans` over a spans folder. Nothing here writes to the folder."""

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import duckdb

from dyno_analysis import interrupts, temporary
from dyno_analysis.errors import InputError

from . import file_names as span_file_names
from .readable import unreadable
from .sql_text import as_glob, quoted, replaced, sql_part, sql_text

# An empty file, which is read if a folder has no journal.
NOTHING = Path(os.devnull)


def connect(folder: Path, files: Sequence[Path] | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database with the view `spans` over the folder's files, or over `files` if they are given.

    Raises InputError if the folder doesn't exist or can't be read.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            # The wheel has all that we need, so no query may make DuckDB fetch an extension.
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": _spill_folder(),
        },
    )
    interrupts.opened(connection)
    connection.execute("SET TimeZone = 'UTC'")
    # DuckDB prints its progress bar to standard output, even if that is a pipe.
    connection.execute(f"SET enable_progress_bar = {str(sys.stdout.isatty()).lower()}")
    connection.execute(sql_text("duckdb", "engines"))
    execute(connection, spans_sql(span_files(folder) if files is None else files))
    return connection


@cache
def _spill_folder() -> str:
    """A folder of this process for what doesn't fit into memory; rows are in it, so it is the user's alone."""
    return str(temporary.make_folder("dyno-duckdb-"))


def execute(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyConnection:
    """Run SQL of our own over the files; InputError if one of them can't be read."""
    try:
        return connection.execute(sql)
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise InputError(f"a span file can't be read: {error}") from error


def span_files(folder: Path) -> list[Path]:
    """The folder's span files that count. They are listed once, so that every table of a report sees the same ones.

    A file that can't be read, or isn't named as ours are, is left out, and standard error says so.
    """
    try:
        names = [path.name for path in folder.resolve().iterdir()]
    except FileNotFoundError as error:
        raise InputError(f"the spans folder '{folder}' doesn't exist; name one with --spans DIR") from error
    except OSError as error:
        raise InputError(f"the spans folder '{folder}' can't be listed: {error.strerror}") from error
    counting, covered = span_file_names.sort_out(names)
    ours = {*span_file_names.SEEDS, *(file.name for file in (*counting, *covered))}
    strangers = [name for name in names if name.endswith(".parquet") and name[0] != "." and name not in ours]
    problems = {folder / name: "isn't named as Dyno's span files are; move it elsewhere" for name in strangers}
    problems |= unreadable([folder / file.name for file in counting])
    for path, problem in problems.items():
        print(f"dyno: '{path}' is left out: it {problem}", file=sys.stderr)
    return [path for file in counting if (path := folder.resolve() / file.name) and folder / file.name not in problems]


def collected_folder(spans: Path) -> Path:
    """The folder of the spans of other programs, which `dyno collect` received. It may not exist."""
    return spans / "collected"


def collected_files(spans: Path) -> list[Path]:
    """As `span_files`, for the collected spans; none if nothing was collected."""
    folder = collected_folder(spans)
    return span_files(folder) if folder.is_dir() else []


def spans_sql(files: Sequence[Path], nothing: Path = NOTHING) -> str:
    """spans.sql with explicit lists of files instead of the folder; `nothing` is an empty file."""
    return _over_files("spans", files, nothing)


def collected_sql(files: Sequence[Path], nothing: Path = NOTHING) -> str:
    """As `spans_sql`, for collected_spans.sql."""
    return _over_files("collected_spans", files, nothing)


def stored_sql(files: Sequence[Path]) -> str:
    """A query for the files' rows as Parquet span files hold them."""
    return f"{_stored(files, NOTHING)}\nSELECT * EXCLUDE (filename) FROM stored"


def _over_files(view: str, files: Sequence[Path], nothing: Path) -> str:
    return "".join([sql_part(view, "view"), _stored(files, nothing), sql_part(view, "derived")])


def _stored(files: Sequence[Path], nothing: Path) -> str:
    """`WITH … stored AS (…)`: these files' rows. Both views begin with it, since both kinds of files are read alike."""
    parquet = [path for path in files if path.suffix == ".parquet"]
    # Without a journal an empty file is read, so that the columns exist.
    journals = [path for path in files if path not in parquet] or [nothing]
    reading = "WITH " + replaced(sql_part("spans", "journal"), "'spans/*.jsonl'", _list(journals))
    if not parquet:
        return f"{reading}stored AS (FROM journal)\n"
    reading += replaced(sql_part("spans", "parquet"), "'spans/*.parquet'", _list(parquet))
    return f"{reading}stored AS (FROM journal UNION ALL BY NAME FROM parquet)\n"


def lock(connection: duckdb.DuckDBPyConnection, readable: Sequence[Path], writable: Path | None = None) -> None:
    """Restrict the connection: from now on it can use only the named files, and no setting can be changed."""
    connection.execute(lock_sql(readable, writable))
    connection.execute("SET lock_configuration = true")


def lock_sql(readable: Sequence[Path], writable: Path | None = None) -> str:
    """The SQL that restricts a connection to these files. DuckDB doesn't allow these two settings to be undone."""
    # DuckDB checks a path with brackets twice: as the pattern to read, and as the file found. So both are allowed.
    allowed = {os.devnull, *map(str, readable), *(as_glob(str(path)) for path in readable)}
    if writable is not None:
        allowed.add(str(writable.resolve()))
    return f"SET allowed_paths = [{', '.join(map(quoted, sorted(allowed)))}];\nSET enable_external_access = false;\n"


def _list(paths: Sequence[Path]) -> str:
    return f"[{', '.join(quoted(as_glob(str(path))) for path in paths)}]"
