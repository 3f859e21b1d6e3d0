"""Stores the runs of a training log beside the spans, in `training/ID.jsonl`."""

from collections.abc import Sequence
from pathlib import Path

import orjson

from dyno_analysis.atomic_file import replacing
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import access_in
from dyno_analysis.spans.entries import folder_problem

from .formats.cerebras_training import Run
from .staged import unwritable


def store_training(runs: Sequence[Run], spans: Path) -> int:
    """Store the runs that aren't stored yet, or whose stored form is shorter; returns how many those were."""
    folder = spans / "training"
    if (why := folder_problem(folder, spans)) is not None:
        raise InputError(f"'{folder}' {why}")
    stored = 0
    try:
        access = access_in(spans)
        access.make_folder(folder)
        for run in runs:
            path = folder / f"{run['training_id']}.jsonl"
            if _says_as_much(path, run):
                continue
            with replacing(path, access) as file:
                file.write(orjson.dumps(run) + b"\n")
            stored += 1
    except OSError as error:
        raise unwritable(spans, error) from error
    return stored


def _says_as_much(path: Path, run: Run) -> bool:
    try:
        stored = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return False
    return (len(stored["steps"]), "samples" in stored) >= (len(run["steps"]), "samples" in run)
