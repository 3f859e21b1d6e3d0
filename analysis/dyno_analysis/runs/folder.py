"""Reads the runs' files beside the span files: `runs/RUN_ID/run.json`, prompts.parquet and answers.parquet."""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from dyno_analysis import times
from dyno_analysis.errors import InputError
from dyno_analysis.spans.entries import leads_out
from dyno_analysis.spans.folder import execute, tell_left_out
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
    ("tokens", "BIGINT"),
    ("conversation", "VARCHAR"),
    ("turn", "INTEGER"),
)
# Runs of an older Dyno have none of these.
_NEWER_COLUMNS: Final = ("tokens", "conversation", "turn")
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

_SKEW_S: Final = 300.0  # between machines that keep their time


def read_run(spans: Path, run_id: str) -> RunRecord | None:
    """The record of a run; None if the run has none, though it may have spans.

    Raises InputError for one that can't be read, or that a newer Dyno wrote.
    """
    folder = spans / "runs" / run_id
    path = folder / "run.json"
    if leads_out(path, spans):
        tell_left_out({path: "leads out of the spans folder by a link; put the run itself there, or remove the link"})
        return None
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


class Known(NamedTuple):
    """A run that a folder or a store knows."""

    started_s: float  # Unix time: by its spans, or else by its record
    has_spans: bool


class Newest(NamedTuple):
    """The run that is meant where none is named; None if there is none."""

    run_id: str | None
    passed_over: list[str]  # a line for each kind of newer runs that aren't meant: why


def known_runs(connection: duckdb.DuckDBPyConnection, spans: Path) -> dict[str, Known]:
    """Every run by its id. Runs come from the spans, and from records without spans."""
    found = execute(
        connection, "FROM spans SELECT run_id, epoch(min(started_at)) WHERE run_id IS NOT NULL GROUP BY run_id"
    )
    # The start of a run is unknown if no row of it says when it began.
    runs = {str(run_id): Known(float(start or 0.0), has_spans=True) for run_id, start in found.fetchall()}
    for path in sorted((spans / "runs").glob("[!.]*/run.json")):
        if path.parent.name not in runs:
            runs[path.parent.name] = Known(_recorded_start_s(path), has_spans=False)
    return runs


def newest(runs: Mapping[str, Known], now_s: float) -> Newest:
    """The newest run with spans that has begun by now. `now_s`: Unix time.

    A start in the future is of a host whose clock is ahead, and says nothing about the order. Such a run, and one
    without spans, is only meant where there is no other.
    """
    latest_first = sorted(runs, key=lambda run_id: (runs[run_id].started_s, run_id), reverse=True)
    with_spans = [run_id for run_id in latest_first if runs[run_id].has_spans]
    begun = [run_id for run_id in with_spans if runs[run_id].started_s <= now_s + _SKEW_S]
    chosen = next(iter((*begun, *with_spans, *latest_first)), None)
    newer = [] if chosen is None else latest_first[: latest_first.index(chosen)]
    passed_over: list[str] = []
    for ids, why in (
        ([run_id for run_id in newer if not runs[run_id].has_spans], "without results"),
        ([run_id for run_id in newer if runs[run_id].has_spans], "whose start is in the future (a clock is ahead)"),
    ):
        if ids:
            more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
            passed_over.append(f"run {chosen} is reported; passed over, {why}: {ids[0]}{more}")
    return Newest(chosen, passed_over)


def check_known(asked: list[str], runs: Mapping[str, Known], spans: object) -> None:
    """Raise InputError for a run that doesn't exist, and name the nearest one. `spans`: their folder."""
    for run_id in asked:
        if run_id in runs:
            continue
        near = next(iter(difflib.get_close_matches(run_id, runs, n=1)), newest(runs, math.inf).run_id)
        hint = "; no run is stored there" if near is None else f"; did you mean '{near}'?"
        raise InputError(f"no run '{run_id}' in '{spans}'{hint}")


def _recorded_start_s(path: Path) -> float:
    """When a run began by its record, or else when the record was written."""
    try:
        return times.parse(json.loads(path.read_bytes())["started_at"]).timestamp()
    except (OSError, ValueError, TypeError, KeyError, OverflowError):  # `read_run` says what is wrong with it
        return path.stat().st_mtime


def define_answers(connection: duckdb.DuckDBPyConnection, records: Sequence[RunRecord]) -> None:
    """Create the views `answers` and `prompts` over the runs' Parquet files. Without files they have no rows."""
    for view, columns in (("answers", ANSWER_COLUMNS), ("prompts", PROMPT_COLUMNS)):
        names = ", ".join(name for name, _ in columns)
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns)
        parts = [f"SELECT CAST(NULL AS VARCHAR) AS run_id, {empty} WHERE false"]
        for record in records:
            path = record.folder / f"{view}.parquet"
            if path.is_file() and path.resolve().is_relative_to(record.folder.resolve()):
                source = f"read_parquet({quoted(as_glob(str(path)))})"
                newer = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns if name in _NEWER_COLUMNS)
                if newer:
                    source = f"(SELECT {newer} WHERE false UNION ALL BY NAME FROM {source})"  # noqa: S608 - our names
                parts.append(f"FROM {source} SELECT {quoted(record.run_id)} AS run_id, {names}")
                _check(connection, path, parts[-1])
        connection.execute(f"CREATE OR REPLACE VIEW {view} AS {' UNION ALL '.join(parts)}")


def _check(connection: duckdb.DuckDBPyConnection, path: Path, select: str) -> None:
    try:
        connection.execute(f"FROM ({select}) SELECT count(*)")
    except duckdb.Error as error:
        raise InputError(f"'{path}' can't be read: {error}; move it away to report without it") from error
