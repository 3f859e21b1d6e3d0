"""Reads the runs' files beside the span files: `runs/RUN_ID/run.json`, prompts.parquet and answers.parquet."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from dyno_analysis.errors import InputError
from dyno_analysis.spans.folder import execute
from dyno_analysis.spans.sql_text import as_glob, quoted

from .record import RunRecord, unreadable_schema

# What the driver and `dyno import` write beside run.json.
PROMPT_COLUMNS = (
    ("prompt_id", "VARCHAR"),
    ("title", "VARCHAR"),
    ("domain", "VARCHAR"),
    ("context", "VARCHAR"),
    ("question", "VARCHAR"),
    ("prompt", "VARCHAR"),
    ("reference_answers", "VARCHAR[]"),
)
ANSWER_COLUMNS = (
    ("trace_id", "VARCHAR"),
    ("endpoint", "VARCHAR"),
    ("prompt_id", "VARCHAR"),
    ("repeat", "INTEGER"),
    ("warmup", "BOOLEAN"),
    ("answer", "VARCHAR"),
    ("reasoning", "VARCHAR"),
    ("finish_reason", "VARCHAR"),
    ("error", "VARCHAR"),
    ("status", "INTEGER"),
    ("client_ttft_s", "DOUBLE"),
    ("client_latency_s", "DOUBLE"),
    ("sent_at_us", "BIGINT"),
)


def read_run(spans: Path, run_id: str) -> RunRecord | None:
    """The record of a run; None if the run has none, though it may have spans.

    Raises InputError for one that can't be read, or that a newer Dyno wrote.
    """
    folder = spans / "runs" / run_id
    path = folder / "run.json"
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' can't be read: {error}; move the folder away to report without it") from error
    if not isinstance(values, dict):
        raise InputError(f"'{path}' must hold a JSON object; move the folder away to report without it")
    if (why := unreadable_schema(values)) is not None:
        raise InputError(f"'{path}' {why}, or move the folder away to report without it")
    return RunRecord(run_id, folder, values)


def known_runs(connection: duckdb.DuckDBPyConnection, spans: Path, view: str = "spans") -> dict[str, float]:
    """Every run: its id -> its start (Unix seconds). Runs come from the view, and from records without spans."""
    found = execute(
        connection, f"FROM {view} SELECT run_id, epoch(min(started_at)) WHERE run_id IS NOT NULL GROUP BY run_id"
    )
    runs = {str(run_id): float(start) for run_id, start in found.fetchall()}
    for path in sorted((spans / "runs").glob("[!.]*/run.json")):
        runs.setdefault(path.parent.name, path.stat().st_mtime)
    return runs


def newest(runs: Mapping[str, float]) -> str | None:
    return max(runs, key=lambda run_id: (runs[run_id], run_id)) if runs else None


def check_known(asked: list[str], runs: Mapping[str, float], spans: object) -> None:
    """Raise InputError for a run that doesn't exist, and name the nearest one. `spans`: their folder."""
    for run_id in asked:
        if run_id in runs:
            continue
        near = difflib.get_close_matches(run_id, runs, n=1) or ([last] if (last := newest(runs)) else [])
        hint = f"; did you mean '{near[0]}'?" if near else "; no run is stored there"
        raise InputError(f"no run '{run_id}' in '{spans}'{hint}")


def define_answers(connection: duckdb.DuckDBPyConnection, records: Sequence[RunRecord]) -> None:
    """Create the views `answers` and `prompts` over the runs' Parquet files. Without files they have no rows."""
    for view, columns in (("answers", ANSWER_COLUMNS), ("prompts", PROMPT_COLUMNS)):
        names = ", ".join(name for name, _ in columns)
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns)
        parts = [f"SELECT CAST(NULL AS VARCHAR) AS run_id, {empty} WHERE false"]
        for record in records:
            path = record.folder / f"{view}.parquet"
            if path.is_file():
                source = f"read_parquet({quoted(as_glob(str(path)))})"
                parts.append(f"FROM {source} SELECT {quoted(record.run_id)} AS run_id, {names}")
                _check(connection, path, parts[-1])
        connection.execute(f"CREATE OR REPLACE VIEW {view} AS {' UNION ALL '.join(parts)}")


def _check(connection: duckdb.DuckDBPyConnection, path: Path, select: str) -> None:
    try:
        connection.execute(f"FROM ({select}) SELECT count(*)")
    except duckdb.Error as error:
        raise InputError(f"'{path}' can't be read: {error}; move it away to report without it") from error
