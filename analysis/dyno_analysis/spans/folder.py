"""Makes a DuckDB connection with the view `spans` over a spans folder. Nothing here writes to the folder."""

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import duckdb

from dyno_analysis import interrupts, temporary
from dyno_analysis.errors import InputError

from .counted import Source
from .file_names import SpanFile
from .footer import REPLACED
from .listing import list_folder
from .readable import Problem, footer_of, is_emptied, journal_problem
from .reading import reading
from .sql_text import as_glob, quoted, replaced, sql_part, sql_text

# An empty file, which is read if a folder has no journal.
NOTHING = Path(os.devnull)


def connect(folder: Path, files: Sequence[Source] | None = None) -> duckdb.DuckDBPyConnection:
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
    define_spans(connection, sources(folder) if files is None else files)
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
    return [source.path for source in sources(folder)]


def sources(folder: Path, wanted: Callable[[SpanFile], bool] = lambda _: True) -> list[Source]:
    """The same, with what is needed to read them. Files that aren't wanted aren't opened.

    InputError if the folder doesn't exist or can't be listed.
    """
    listing = list_folder(folder)
    problems = dict(listing.problems)
    found = []
    for counted in listing.counting:
        if not wanted(counted.file):
            continue
        # Messages name the folder as the user does, not by what its links lead to.
        named = folder / counted.file.name
        if counted.file.last is None:
            if why := journal_problem(counted.path):
                problems[named] = why.text
            elif not is_emptied(counted.path):
                found.append(Source(counted))
            continue
        footer = footer_of(counted.path)
        if isinstance(footer, Problem):
            problems[named] = footer.text
        elif footer.rowless == REPLACED:
            problems[named] = "was emptied, as its rows moved to another file, and that isn't here; restore it"
        else:
            found.append(Source(counted, footer.columns))
    for path, problem in sorted(problems.items()):
        print(f"dyno: '{path}' is left out: it {problem}", file=sys.stderr)
    return found


def collected_folder(spans: Path) -> Path:
    """The folder of the spans of other programs, which `dyno collect` received. It may not exist."""
    return spans / "collected"


def collected_sources(spans: Path) -> list[Source]:
    """As `sources`, for the collected spans; none if nothing was collected."""
    folder = collected_folder(spans)
    return sources(folder) if folder.is_dir() else []


def define_spans(connection: duckdb.DuckDBPyConnection, files: Sequence[Source], view: str = "spans") -> None:
    """Create the view `spans`, or one of another name with the same columns, over these files."""
    execute(connection, _over_files("spans", files, NOTHING, view))


def spans_sql(files: Sequence[Source], nothing: Path = NOTHING) -> str:
    """spans.sql with explicit lists of files instead of the folder; `nothing` is an empty file."""
    return _over_files("spans", files, nothing, "spans")


def collected_sql(files: Sequence[Source], nothing: Path = NOTHING) -> str:
    """As `spans_sql`, for collected_spans.sql."""
    return _over_files("collected_spans", files, nothing, "collected_spans")


def _over_files(text: str, files: Sequence[Source], nothing: Path, view: str) -> str:
    read = reading(files, nothing, f"dyno_{view}")
    header = replaced(sql_part(text, "view"), f"VIEW {text} AS", f"VIEW {view} AS")
    return "".join([read.lists, header, read.sql, sql_part(text, "derived")])


def first_broken(paths: Sequence[Path]) -> Path | None:
    """The first of these Parquet files that can't be read whole; None if all can. It reads all of them."""
    with interrupts.opened(duckdb.connect()) as connection:
        for path in paths:
            if path.suffix == ".parquet":
                try:
                    read_whole(connection, path)
                except duckdb.Error:
                    return path
    return None


def read_whole(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Read every value of a Parquet file. Raises duckdb.Error if one of them can't be read."""
    query = "SELECT bit_xor(hash(stored)) FROM read_parquet(?) AS stored"
    connection.execute(query, [as_glob(str(path))]).fetchall()


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
