"""Writes the report's files: `report.md` and the raw results, each whole or not at all."""

import json
from collections.abc import Mapping, Sequence
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
    return write_files(folder, {"report.md": markdown(comparison, name), name: json_text(document) + "\n"})


def write_load_report(
    found: Sequence[UnderLoad], tables: Sequence[Table], curves: dict[str, Any], folder: Path
) -> list[Path]:
    """Write `report.md` over all loads and `load_curves.json`; each load's own report lies in a folder beside them."""
    return write_files(
        folder, {"report.md": load_markdown(found, tables), "load_curves.json": json_text(curves) + "\n"}
    )


def write_files(folder: Path, contents: Mapping[str, str]) -> list[Path]:
    """Write each text under its name, whole or not at all; returns their paths. InputError if one can't be written."""
    try:
        access_in(folder).make_folder(folder)
        for name, text in contents.items():
            with replacing(folder / name) as file:
                # Half a surrogate pair (run.json can hold one) is written as JSON escapes it.
                file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise InputError(
            f"can't write to '{error.filename or folder}': {error.strerror}; choose another --out"
        ) from error
    return [folder / name for name in contents]


def json_text(document: dict[str, Any]) -> str:
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
