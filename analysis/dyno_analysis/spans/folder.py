"""From a spans folder to a DuckDB connection with the view `spans`; nothing here writes to the folder."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb

from dyno_analysis.errors import InputError

from . import file_names as span_file_names
from .readable import unreadable
from .sql_text import as_glob, quoted, replaced, sql_part, sql_text

# An empty file, read where a folder has no journal.
NOTHING = Path(os.devnull)


def connect(folder: Path, files: Sequence[Path] | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database with the view `spans` over the folder's files, or over those already listed.

    Raises InputError for a folder that isn't there or can't be read.
    """
    connection = duckdb.connect(
        ":memory:",
        config={
            # Everything needed is inside the wheel: nothing is fetched, whatever a query says.
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "temp_directory": str(Path(tempfile.gettempdir()) / f"dyno-duckdb-{os.getpid()}"),
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    # DuckDB draws its bar of slow queries on standard output, into a pipe too.
    connection.execute(f"SET enable_progress_bar = {str(sys.stdout.isatty()).lower()}")
    connection.execute(sql_text("duckdb", "engines"))
    execute(connection, spans_sql(span_files(folder) if files is None else files))
    return connection


def execute(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyConnection:
    """Run SQL of our own over the files; InputError where one of them can't be read."""
    try:
        return connection.execute(sql)
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise InputError(f"a span file can't be read: {error}") from error


def span_files(folder: Path) -> list[Path]:
    """The folder's span files that count, listed once, so that every table of a report sees the same ones.

    What looks like one and can't be read is left out, and standard error says so.
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
    """Where the spans of others lie, which `dyno collect` received; it may not exist."""
    return spans / "collected"


def collected_files(spans: Path) -> list[Path]:
    """As `span_files`, of the collected spans; none where nothing was collected."""
    folder = collected_folder(spans)
    return span_files(folder) if folder.is_dir() else []


def spans_sql(files: Sequence[Path], nothing: Path = NOTHING) -> str:
    """spans.sql with explicit lists of files in place of the folder; `nothing` is an empty file."""
    return _over_files("spans", files, nothing)


def collected_sql(files: Sequence[Path], nothing: Path = NOTHING) -> str:
    """As `spans_sql`, of collected_spans.sql."""
    return _over_files("collected_spans", files, nothing)


def stored_sql(files: Sequence[Path]) -> str:
    """A query for the files' rows as Parquet span files hold them."""
    return f"{_stored(files, NOTHING)}\nSELECT * EXCLUDE (filename) FROM stored"


def _over_files(view: str, files: Sequence[Path], nothing: Path) -> str:
    return "".join([sql_part(view, "view"), _stored(files, nothing), sql_part(view, "derived")])


def _stored(files: Sequence[Path], nothing: Path) -> str:
    """`WITH … stored AS (…)`: these files' rows. Collected spans are read as requests are, so both views begin so."""
    parquet = [path for path in files if path.suffix == ".parquet"]
    # Without a file the columns still stand: DuckDB reads an empty one.
    journals = [path for path in files if path not in parquet] or [nothing]
    reading = "WITH " + replaced(sql_part("spans", "journal"), "'spans/*.jsonl'", _list(journals))
    if not parquet:
        return f"{reading}stored AS (FROM journal)\n"
    reading += replaced(sql_part("spans", "parquet"), "'spans/*.parquet'", _list(parquet))
    return f"{reading}stored AS (FROM journal UNION ALL BY NAME FROM parquet)\n"


def lock(connection: duckdb.DuckDBPyConnection, readable: Sequence[Path], writable: Path | None = None) -> None:
    """From here on the connection reaches the named files and nothing else, and no setting can be changed."""
    connection.execute(lock_sql(readable, writable))
    connection.execute("SET lock_configuration = true")


def lock_sql(readable: Sequence[Path], writable: Path | None = None) -> str:
    """The first half as SQL: DuckDB lets nobody take these two settings back."""
    # A path with brackets is checked twice: as the pattern it is read by, and as the file that was found.
    allowed = {os.devnull, *map(str, readable), *(as_glob(str(path)) for path in readable)}
    if writable is not None:
        allowed.add(str(writable.resolve()))
    return f"SET allowed_paths = [{', '.join(map(quoted, sorted(allowed)))}];\nSET enable_external_access = false;\n"


def _list(paths: Sequence[Path]) -> str:
    return f"[{', '.join(quoted(as_glob(str(path))) for path in paths)}]"
