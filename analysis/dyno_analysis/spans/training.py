"""Imported training runs: `spans/training/ID.jsonl`, a run each, and the views `training` and `training_steps`."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from .folder import NOTHING, execute
from .sql_text import as_glob, quoted, replaced, sql_text

# Where training.sql reads from, as a person pastes it.
_PASTED_FILES = "'spans/training/*.jsonl'"


def training_files(spans: Path) -> list[Path]:
    """The files of a spans folder's training runs, by name; none where nothing was imported."""
    return sorted((spans.resolve() / "training").glob("[!.]*.jsonl"))


def define_training(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Create the views `training` and `training_steps` over these files; without any they have no rows."""
    for statement in training_sql(files):
        execute(connection, statement)


def training_sql(files: Sequence[Path], nothing: Path = NOTHING) -> list[str]:
    """The views' statements; `nothing` is an empty file, read where there are no others."""
    listed = ", ".join(quoted(as_glob(str(path))) for path in files or [nothing])
    return [replaced(sql_text("training"), _PASTED_FILES, f"[{listed}]"), sql_text("training_steps")]
