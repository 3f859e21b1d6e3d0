"""Imported training runs: `spans/training/ID.jsonl`, a run each, and the views `training` and `training_steps`."""

import os
from collections.abc import Sequence
from pathlib import Path

import duckdb

from .folder import execute
from .sql_text import as_glob, quoted, sql_text

# Where training.sql reads from, as a person pastes it.
PASTED_FILES = "'spans/training/*.jsonl'"


def training_files(spans: Path) -> list[Path]:
    return sorted((spans.resolve() / "training").glob("[!.]*.jsonl"))


def define_training(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Create the views `training` and `training_steps` over these files; without any they have no rows."""
    for statement in training_sql(files):
        execute(connection, statement)


def training_sql(files: Sequence[Path]) -> list[str]:
    listed = ", ".join(quoted(as_glob(str(path))) for path in files) or quoted(os.devnull)
    return [sql_text("training").replace(PASTED_FILES, f"[{listed}]"), sql_text("training_steps")]
