"""What the import makes of another tool's file: a run with its record, rows, prompts and answers. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dyno_analysis.runs.record import SCHEMA, RunJson


@dataclass(frozen=True)
class Ingested:
    """`spans` are journal rows without their run's id; prompts and answers have the columns of runs/folder.py.

    `differences` says, a line each, where the file defines a figure otherwise than Dyno does. Where `started_known` is
    false, all requests bear the time of the file.
    """

    kind: str
    run_id: str
    record: RunJson
    spans: list[dict[str, Any]]
    prompts: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    started_known: bool
    differences: tuple[str, ...] = ()


def record(
    *,
    kind: str,
    file_name: str,
    digest: str,
    run_id: str,
    started_at: datetime,
    finished_at: datetime | None,
    method: str,
    parameters: dict[str, Any],
    endpoint: str,
    model: str | None,
    prompts: int,
    published: dict[str, Any],
    differences: tuple[str, ...],
) -> RunJson:
    """run.json of a run that another tool made on one endpoint."""
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        "workload": "imported",
        "method": method,
        "parameters": {name: value for name, value in parameters.items() if value is not None},
        "started_at": rfc3339(started_at),
        "finished_at": None if finished_at is None else rfc3339(finished_at),
        "interrupted": False,
        "prompt_set": {"name": None, "count": prompts},
        "endpoints": {endpoint: {"model": model}},
        "imported_from": file_name,
        "imported_kind": kind,
        "imported_sha256": digest,
        "definitions": list(differences),
        "published": {endpoint: published},
    }


def rfc3339(moment: datetime) -> str:
    """A time in UTC."""
    return moment.isoformat().replace("+00:00", "Z")


def number(value: object) -> float | None:
    """A finite number that span files can hold; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**62:
        return None
    return value


def whole(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)
