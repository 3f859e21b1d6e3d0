"""Writes the report's files: `report.md` and the raw results, each whole or not at all."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from dyno_analysis import times
from dyno_analysis.atomic_file import replacing
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import access_in
from dyno_analysis.query.fetch import fetch
from dyno_analysis.query.row_types import ResultRow
from dyno_analysis.render.table import Table

from .by_load import UnderLoad
from .comparison import Comparison
from .markdown import load_markdown, markdown
from .results_json import finite, results_document, results_name


def write_report(
    connection: duckdb.DuckDBPyConnection, comparison: Comparison, folder: Path, now: datetime
) -> list[Path]:
    """Write both files; returns their paths. The raw results are named by the run's time, or by `now` without a run.

    So a second report of a run replaces the first. InputError if a file can't be written.
    """
    at = _time(comparison) or now
    name = results_name(comparison, at)
    document = results_document(comparison, fetch(connection, "results", ResultRow), at)
    contents = {
        folder / "report.md": markdown(comparison, name),
        folder / name: _json(document) + "\n",
    }
    try:
        access_in(folder).make_folder(folder)
        for path, text in contents.items():
            with replacing(path) as file:
                # Half a surrogate pair (run.json can hold one) is written as JSON escapes it.
                file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(
            f"can't write to '{error.filename or folder}': {error.strerror}; choose another --out"
        ) from error
    return list(contents)


def write_load_report(found: Sequence[UnderLoad], tables: Sequence[Table], folder: Path) -> Path:
    """Write `report.md` over all loads, whose own reports lie in folders beside it; returns its path."""
    path = folder / "report.md"
    try:
        access_in(folder).make_folder(folder)
        with replacing(path) as file:
            file.write(load_markdown(found, tables).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(f"can't write to '{path}': {error.strerror}; choose another --out") from error
    return path


def _json(document: dict[str, Any]) -> str:
    """The document as JSON, which has no NaN and no infinity: they are null."""
    try:
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(finite(document), indent=2, ensure_ascii=False, allow_nan=False)


def _time(comparison: Comparison) -> datetime | None:
    record = comparison.record
    text = (record.finished_at or record.started_at) if record else None
    if text is None:
        return None
    try:
        return times.parse(text)
    except ValueError as error:
        raise InputError(
            f"run.json of run {record.run_id if record else ''}: its finish or start must be a time, not '{text}'"
        ) from error
