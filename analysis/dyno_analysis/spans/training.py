"""Imported training runs: `spans/training/ID.jsonl`, a run each, and the views `training` and `training_steps`."""

import os
from collections.abc import Sequence
from pathlib import Path

import duckdb
import orjson

from dyno_analysis.atomic_file import replacing
from dyno_analysis.ingest.formats.cerebras_training import Run
from dyno_analysis.ingest.staged import unwritable

from .folder import execute
from .sql_text import as_glob, quoted, sql_text

# Where training.sql reads from, as a person pastes it.
PASTED_FILES = "'spans/training/*.jsonl'"


def store_training(runs: Sequence[Run], spans: Path) -> int:
    """Store the runs that aren't there, or are there in a shorter form; returns how many those were."""
    folder = spans / "training"
    stored = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for run in runs:
            path = folder / f"{run['training_id']}.jsonl"
            if _says_as_much(path, run):
                continue
            with replacing(path) as file:
                file.write(orjson.dumps(run) + b"\n")
            stored += 1
    except OSError as error:
        raise unwritable(spans, error) from error
    return stored


def training_files(spans: Path) -> list[Path]:
    return sorted((spans.resolve() / "training").glob("[!.]*.jsonl"))


def define_training(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Create the views `training` and `training_steps` over these files; without any they have no rows."""
    for statement in training_sql(files):
        execute(connection, statement)


def training_sql(files: Sequence[Path]) -> list[str]:
    listed = ", ".join(quoted(as_glob(str(path))) for path in files) or quoted(os.devnull)
    return [sql_text("training").replace(PASTED_FILES, f"[{listed}]"), sql_text("training_steps")]


def _says_as_much(path: Path, run: Run) -> bool:
    try:
        stored = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return False
    return (len(stored["steps"]), "samples" in stored) >= (len(run["steps"]), "samples" in run)
