"""Imported training runs, one per file `spans/training/ID.jsonl`, as the views `training` and `training_steps`."""

import os
from collections.abc import Sequence
from pathlib import Path

import duckdb

from .entries import entry_problem, folder_problem
from .folder import NOTHING, execute, tell_left_out
from .journal_lines import bad_lines
from .sql_text import as_glob, quoted, replaced, sql_text

# The files that training.sql reads, as written there.
_PASTED_FILES = "'spans/training/*.jsonl'"


def training_files(spans: Path) -> list[Path]:
    """The files of a spans folder's training runs, sorted by name; none if nothing was imported.

    What is no regular file, leads out of the folder, or has a line that is too long for DuckDB, is left out, and
    standard error says so.
    """
    folder = spans / "training"
    problems: dict[Path, str] = {}
    found = []
    if (problem := folder_problem(folder, spans)) is not None:
        problems[folder] = problem
    elif folder.is_dir():
        resolved = folder.resolve()
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _is_run(entry.name):
                    continue
                why = entry_problem(entry, _is_run) or _unreadable(folder / entry.name)
                if why is None:
                    found.append(resolved / entry.name)
                else:
                    problems[folder / entry.name] = why
    tell_left_out(problems)
    return sorted(found)


def _is_run(name: str) -> bool:
    return name.endswith(".jsonl") and name[0] != "."


def _unreadable(path: Path) -> str | None:
    try:
        bad = bad_lines(path)
    except OSError as error:
        return f"can't be read: {error.strerror}; correct that, or move it elsewhere"
    return "is broken: it has a line that is too long; import the log again" if bad.long else None


def define_training(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Create the views `training` and `training_steps` over these files. Without files they have no rows."""
    for statement in training_sql(files):
        execute(connection, statement)


def training_sql(files: Sequence[Path], nothing: Path = NOTHING) -> list[str]:
    """The SQL statements of the two views; `nothing` is an empty file, which is read if there are no others."""
    listed = ", ".join(quoted(as_glob(str(path))) for path in files or [nothing])
    return [replaced(sql_text("training"), _PASTED_FILES, f"[{listed}]"), sql_text("training_steps")]
