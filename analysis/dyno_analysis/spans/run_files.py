"""What runs keep beside the span files, as the views `prices`, `prompts` and `answers`, and the function `cost`.

These are `runs/RUN_ID/run.json`, `prompts.parquet` and `answers.parquet`.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.database import in_memory

from .folder import execute
from .sql_text import as_glob, quoted, replaced, sql_part, sql_text

# Each view's file of SQL, and the files of a run that it reads.
KINDS: Final[Mapping[str, str]] = {
    "prices": "run.json",
    "run_prompts": "prompts.parquet",
    "run_answers": "answers.parquet",
}
_READ_BY: Final = ("prices", "cost", "prompts", "answers")

RunFiles = Mapping[str, Sequence[Path]]


def run_files(spans: Path, statement: str | None = None) -> RunFiles:
    """The files of a spans folder's runs, by kind and sorted by run; those that can't be read are named and left out.

    None are listed if the statement asks for none of the views: each would have to be opened.
    """
    if statement is not None and not any(view in statement.lower() for view in _READ_BY):
        return {}
    folder = spans.resolve()
    return {kind: _readable(kind, spans, sorted(_inside(folder, name))) for kind, name in KINDS.items()}


def define_runs(connection: duckdb.DuckDBPyConnection, files: RunFiles) -> None:
    """Create the views and the function over these files. Without files the views have no rows."""
    for statement in runs_sql(files):
        execute(connection, statement)


def runs_sql(files: RunFiles) -> list[str]:
    """The SQL statements of the views and of the function."""
    return [*(view_sql(kind, files.get(kind, ())) for kind in KINDS), sql_text("cost", "macros")]


def view_sql(kind: str, files: Sequence[Path]) -> str:
    """The SQL of one of the views, over these files."""
    listed = ", ".join(quoted(as_glob(str(path))) for path in files)
    pattern = quoted(f"spans/runs/*/{KINDS[kind]}")
    branch = replaced(sql_part(kind, "files"), pattern, f"[{listed}]") if files else ""
    return "".join([sql_part(kind, "view"), branch, sql_part(kind, "rows")])


def _inside(folder: Path, name: str) -> Iterable[Path]:
    """The runs' files of this name. A link that leads out of the spans folder isn't followed."""
    for path in folder.glob(f"runs/[!.]*/{name}"):
        if path.resolve().is_relative_to(folder):
            yield path
        else:
            print(f"dyno: '{path}' is left out: it is a link out of the spans folder", file=sys.stderr)


def _readable(kind: str, spans: Path, files: Sequence[Path]) -> Sequence[Path]:
    if not files or _problem(kind, files) is None:
        return files
    found = []
    for path in files:
        if problem := _problem(kind, [path]):
            named = spans / path.relative_to(spans.resolve())
            print(f"dyno: '{named}' is left out: it can't be read: {problem}", file=sys.stderr)
        else:
            found.append(path)
    return found


def _problem(kind: str, files: Sequence[Path]) -> str | None:
    """Why the view over these files can't be defined; None if it can."""
    with in_memory() as connection:
        try:
            connection.execute(view_sql(kind, files))
        except duckdb.Error as error:
            return str(error).splitlines()[0]
    return None
