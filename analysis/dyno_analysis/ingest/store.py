"""Writes what was imported into a spans folder: first a run's folder, then its rows, each whole or not at all."""

import json
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from dyno_analysis import interrupts
from dyno_analysis.database import in_memory
from dyno_analysis.file_modes import OWN_FOLDER, Access, access_in
from dyno_analysis.runs.folder import ANSWER_COLUMNS, PROMPT_COLUMNS
from dyno_analysis.spans.sql_text import as_glob, quoted

from .otlp.rows import OtlpRows
from .run import Ingested
from .staged import Staged, StagedSpans, unwritable


def store(ingested: Ingested, spans: Path) -> str | None:
    """Store an imported file's run; returns its id, or None if the same content is already stored."""
    runs = spans / "runs"
    with StagedSpans(spans) as staged:
        run_id = _run_id(ingested, runs)
        staged.add({**span, "run_id": run_id} for span in ingested.spans)
        if not staged.compare().new and (ingested.spans or (runs / run_id).exists()):
            return None
        try:
            # Only its rows make a run count. If the import is killed before they are in, the next one writes all again.
            _write_run(ingested, runs, run_id, access_in(spans))
        except OSError as error:
            raise unwritable(spans, error) from error
        staged.let_in()
    return run_id


def store_rows(rows: OtlpRows, spans: Path) -> Staged:
    """Store rows that belong to no run, one for each call to a model; returns how many were new."""
    with StagedSpans(spans) as staged:
        rows.told = staged.nested.tell
        staged.add(rows)
        counted = staged.compare()
        staged.let_in()
    return counted


def _run_id(ingested: Ingested, runs: Path) -> str:
    run_id = ingested.run_id
    if _digest(runs / run_id) not in (None, ingested.record["imported_sha256"]):
        # The id is taken by the run of another file, which has the same time.
        run_id = f"{run_id}_{ingested.record['imported_sha256'][:4]}"
    return run_id


def _write_run(ingested: Ingested, runs: Path, run_id: str, access: Access) -> None:
    access.make_folder(runs)
    building = interrupts.temporary(runs / f".{run_id}.{secrets.token_hex(4)}")
    building.mkdir(OWN_FOLDER)
    try:
        record = {**ingested.record, "run_id": run_id}
        (building / "run.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _write_parquet(building / "prompts.parquet", PROMPT_COLUMNS, ingested.prompts)
        _write_parquet(building / "answers.parquet", ANSWER_COLUMNS, ingested.answers)
        for path in building.iterdir():
            access.settle(path)
        access.settle_folder(building)
        shutil.rmtree(runs / run_id, ignore_errors=True)
        building.rename(runs / run_id)
    finally:
        shutil.rmtree(building, ignore_errors=True)
        interrupts.kept(building)


def _digest(folder: Path) -> str | None:
    """SHA-256 of the file that the run's folder was imported from; None without a folder, '' for a run of our own."""
    try:
        record = json.loads((folder / "run.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return ""
    return str(record.get("imported_sha256", "")) if isinstance(record, dict) else ""


def _write_parquet(path: Path, columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[str, Any]]) -> None:
    lines = path.with_suffix(".jsonl")
    lines.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    types = ", ".join(f"{name}: {quoted(kind)}" for name, kind in columns)
    source = f"read_json({quoted(as_glob(str(lines)))}, format = 'newline_delimited', columns = {{{types}}})"
    with in_memory() as connection:
        connection.execute(f"COPY (FROM {source}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)")
    lines.unlink()
