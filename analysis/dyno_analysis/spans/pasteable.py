"""The SQL of every view and function over a spans folder, for a person to paste into another DuckDB.

Where it can, a view names the folder by a pattern, so that it sees files that come later too. DuckDB refuses a pattern
that no file matches; a view whose files aren't there yet lists those that are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .folder import collected_folder
from .run_files import KINDS, run_files, view_sql
from .sql_text import as_glob, quoted, replaced, sql_text
from .training import training_files, training_sql
from .views import MACROS_BEFORE, OVER_SPANS, Files, list_files, reading_sql

_HEAD: Final = """\
-- The views and functions of `dyno sql` over {folder}, in the order in which they need each other.
-- Paste all of it, or a view with those that its comment names. docs/sql.md says what a row of each is.
SET TimeZone = 'UTC';
"""


def pasteable(spans: Path) -> Iterator[str]:
    """The script in pieces, each view's under a line with its name. InputError if the folder can't be read."""
    folder = spans.resolve()
    files = list_files(spans, None, "")
    yield _HEAD.format(folder=quoted(str(folder)))
    for name in MACROS_BEFORE:
        yield _titled(f"functions: {name}", sql_text(*name.split("/")[::-1]))
    yield _titled("spans", _over_folder("spans", folder, files))
    for name in (*OVER_SPANS, "lost"):
        yield _titled(name, sql_text(name))
    yield _titled("collected_spans", _over_folder("collected_spans", collected_folder(folder), files))
    for name in ("server_spans", "request_phases"):
        yield _titled(name, sql_text(name))
    yield _titled("functions: trace", sql_text("trace", "macros"))
    for kind, text in zip(("training", "training_steps"), training_sql(training_files(spans)), strict=True):
        yield _titled(kind, text)
    of_runs = run_files(spans)
    for kind in KINDS:
        over_folder = replaced(sql_text(kind), "'spans/runs/", _prefix(folder / "runs"))
        yield _titled(kind.removeprefix("run_"), over_folder if of_runs[kind] else view_sql(kind, ()))
    yield _titled("functions: cost", sql_text("cost", "macros"))


def _titled(title: str, sql: str) -> str:
    return f"\n-- == {title} ==\n{sql.rstrip()}\n"


def _over_folder(name: str, folder: Path, files: Files) -> str:
    """The view's text with the folder's name, or with lists of files if the folder lacks a kind of them."""
    if not all(any(folder.glob(f"[!.]*{suffix}")) for suffix in (".jsonl", ".parquet")):
        return reading_sql(name, files)
    pasted = "'spans/collected/" if name == "collected_spans" else "'spans/"
    return replaced(sql_text(name), pasted, _prefix(folder), times=4)


def _prefix(folder: Path) -> str:
    """The folder as the beginning of a pattern in a literal."""
    return quoted(as_glob(str(folder)) + "/").removesuffix("'")
