"""Makes a DuckDB connection with the view `spans` over a spans folder. Nothing here writes to the folder."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

import duckdb

from dyno_analysis import temporary
from dyno_analysis.controls import visible
from dyno_analysis.database import in_memory
from dyno_analysis.errors import InputError

from .counted import Source
from .entries import folder_problem
from .file_names import SpanFile
from .footer import REPLACED
from .journal_lines import bad_lines, copy_without
from .listing import list_folder
from .readable import Problem, footer_of, found_broken, is_emptied, journal_problem
from .reading import reading
from .sql_text import as_glob, quoted, replaced, sql_part, sql_text

# An empty file, which is read if a folder has no journal.
NOTHING = Path(os.devnull)

# What our own SQL raises over any files. Everything else comes of a file that is broken inside, or of values in it that
# nothing can be computed with.
_NOT_OF_FILES: Final = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
    duckdb.InterruptException,
)

Done = TypeVar("Done")


@dataclass
class _Careful:
    """How journals are read since a statement failed in this process."""

    bounded: bool = False


_careful: Final = _Careful()

# What was said already, within `said_once`.
_said: Final[list[set[str]]] = []
# Copies of journals without the lines that DuckDB fails at, by the journal and its size and time.
_copies: Final[dict[tuple[Path, int, int], Path]] = {}


class UnreadableError(InputError):
    """A statement failed, and a broken span file may be why. `without_broken` runs it again without that file.

    With `of_values`, an odd number may be why, that of a user's or one in a journal.
    """

    def __init__(self, message: str, *, of_values: bool = False) -> None:
        super().__init__(message)
        self.of_values = of_values


def connect(folder: Path, files: Sequence[Source] | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database with the view `spans` over the folder's files, or over `files` if they are given.

    Raises InputError if the folder doesn't exist or can't be read.
    """
    connection = in_memory(
        # The wheel has all that we need, so no query may make DuckDB fetch an extension.
        autoinstall_known_extensions="false",
        autoload_known_extensions="false",
        temp_directory=_spill_folder(),
    )
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


def execute(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] = ()
) -> duckdb.DuckDBPyConnection:
    """Run SQL of our own over the files; UnreadableError if one of them can't be read."""
    try:
        return connection.execute(sql, list(parameters)) if parameters else connection.execute(sql)
    except _NOT_OF_FILES:
        raise
    except duckdb.OutOfMemoryException as error:
        raise InputError(f"the memory that DuckDB may take isn't enough: {error}") from error
    except duckdb.Error as error:
        raise UnreadableError(f"a span file can't be read: {error}") from error


def without_broken(spans: Path, work: Callable[[], Done]) -> Done:
    """Do the work, which lists the folder itself. If a file turns out to be broken, say so, and do it again without it.

    Only then are the files read whole. Files that the broken one replaced count again, if they are still there.
    """
    with said_once():
        while True:
            try:
                return work()
            except UnreadableError as error:
                if not leave_out_broken(spans, error):
                    raise


def be_careful() -> None:
    """From now on, numbers of journals that no request can have are unknown: nothing computed with them fails."""
    _careful.bounded = True


def leave_out_broken(spans: Path, error: UnreadableError) -> bool:
    """Whether it may help to try again. From now on, numbers that no request can have are unknown. If that was so
    already, all span files are read whole, and those that can't be are left out from now on.
    """
    if not _careful.bounded:
        be_careful()
        return True
    found = False
    sources = [
        (view, source)
        for folder, view in ((spans, "spans"), (collected_folder(spans), "collected_spans"))
        if folder.is_dir() and not folder_problem(folder, spans)
        for source in (_in_lines(each, folder) for each in _listed(folder, {}))
    ]
    for everything in (True,) if error.of_values else (False, True):
        for view, source in sources:
            if error.of_values and source.counted.file.last is not None:
                continue
            if (why := _broken(view, source, derived=everything)) is not None:
                found_broken[source.path.resolve()] = why
                found = True
        if found:
            break
    return found


def _broken(view: str, source: Source, *, derived: bool) -> str | None:
    """Why a file can't be read whole, or with `derived` what a view makes of it; None if it can."""
    with in_memory() as connection:
        try:
            connection.execute(sql_text("duckdb", "engines"))
            if derived:
                connection.execute(_over_files(view, [source], NOTHING, view))
                connection.execute(f"SELECT bit_xor(hash(COLUMNS(* EXCLUDE (attributes)))) FROM {view}").fetchall()  # noqa: S608
                if view == "spans":
                    connection.execute(sql_text("chunks"))
                    connection.execute("SELECT bit_xor(hash(chunks)) FROM chunks").fetchall()
                return None
            read = reading([source], NOTHING, "dyno_whole")
            connection.execute(read.lists)
            connection.execute(f"{read.sql} SELECT bit_xor(hash(stored)) FROM stored").fetchall()  # noqa: S608  # paths are quoted
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            why = str(error).splitlines()[0]
            return f"is broken ({why}); restore it from a backup, or move it elsewhere"
    return None


def span_files(folder: Path) -> list[Path]:
    """The folder's span files that count. They are listed once, so that every table of a report sees the same ones.

    A file that can't be read, or isn't named as ours are, is left out, and standard error says so.
    """
    return [source.path for source in sources(folder)]


def sources(folder: Path, wanted: Callable[[SpanFile], bool] = lambda _: True) -> list[Source]:
    """The same, with what is needed to read them. Files that aren't wanted aren't opened.

    InputError if the folder doesn't exist or can't be listed.
    """
    problems: dict[Path, str] = {}
    found = _listed(folder, problems, wanted)
    tell_left_out(problems)
    return [_in_lines(source, folder) for source in found]


def tell_left_out(problems: Mapping[Path, str]) -> None:
    """Say on standard error which files are left out, and why."""
    for path, problem in sorted(problems.items()):
        _say(f"'{path}' is left out: it {problem}")


def _say(text: str) -> None:
    if _said:
        if text in _said[-1]:
            return
        _said[-1].add(text)
    print(f"dyno: {visible(' '.join(text.split()))}", file=sys.stderr)


@contextmanager
def said_once() -> Iterator[None]:
    """Until the block ends, what is wrong with a file is said once, however often its folder is listed."""
    _said.append(_said[-1] if _said else set())
    try:
        yield
    finally:
        _said.pop()


def _listed(
    folder: Path, problems: dict[Path, str], wanted: Callable[[SpanFile], bool] = lambda _: True
) -> list[Source]:
    """The folder's span files that count and can be read, and in `problems` those that can't."""
    listing = list_folder(folder)
    problems |= listing.problems
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
    return found


def _in_lines(journal: Source, folder: Path) -> Source:
    """The journal; or, if DuckDB would fail at a line of it, a copy without that. Standard error says what is left out.

    The copy lives as long as this process. A Parquet file stays what it is.
    """
    if journal.counted.file.last is not None:
        return journal
    try:
        bad = bad_lines(journal.path)
        for sentence in bad.said(folder / journal.path.name):
            _say(sentence)
        if not bad.long:
            return journal
        found = journal.path.stat()
        copied = (journal.path, found.st_size, found.st_mtime_ns)
        if copied not in _copies:
            copy = Path(temporary.make_folder("dyno-duckdb-"), journal.path.name)
            with copy.open("wb") as file:
                copy_without(journal.path, bad.long, file)
            _copies[copied] = copy
    except (OSError, ValueError):  # ValueError: it was emptied at this moment
        return journal  # reading it will say why
    return replace(journal, counted=replace(journal.counted, path=_copies[copied]))


def collected_folder(spans: Path) -> Path:
    """The folder of the spans of other programs, which `dyno collect` received. It may not exist."""
    return spans / "collected"


def collected_sources(spans: Path) -> list[Source]:
    """As `sources`, for the collected spans; none if nothing was collected."""
    folder = collected_folder(spans)
    if problem := folder_problem(folder, spans):
        tell_left_out({folder: problem})
        return []
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
    read = reading(files, nothing, f"dyno_{view}", bounded=_careful.bounded)
    header = replaced(sql_part(text, "view"), f"VIEW {text} AS", f"VIEW {view} AS")
    return "".join([read.lists, header, read.sql, sql_part(text, "derived")])


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
