"""Imported training runs, one per file `spans/training/ID.jsonl`, as the views `training` and `training_steps`."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from .folder import NOTHING, execute
from .sql_text import as_glob, quoted, replaced, sql_text

# The files that training.sql reads, as written there.
_PASTED_FILES = "'spans/training/*.jsonl'"


def training_files(spans: Path) -> list[Path]:
    """The files of a spans folder's training runs, sorted by name; none if nothing was imported."""
    return sorted((spans.resolve() / "training").glob("[!.]*.jsonl"))


def define_training(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Create the views `training` and `training_steps` over these files. Without files they have no rows."""
    for statement in training_sql(files):
        execute(connection, statement)


def training_sql(files: Sequence[Path], nothing: Path = NOTHING) -> list[str]:
    """The SQL statements of the two views; `nothing` is an empty file, which is read if there are no others."""
    listed = ", ".join(quoted(as_glob(str(path))) for path in files or [nothing])
    return [replaced(sql_text("training"), _PASTED_FILES, f"[{listed}]"), sql_text("training_steps")]
