"""Write imported spans into a spans folder: the run's folder first, the journal last, each whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import orjson

from .errors import InputError
from .ingest import Ingested
from .journal import journal_lines
from .load import as_glob, quoted
from .runs import ANSWER_COLUMNS, PROMPT_COLUMNS
from .whole_file import replacing


def store(ingested: Ingested, spans: Path) -> str | None:
    """Store an imported file; returns its run's id, or None where the same content is there already."""
    digest = ingested.record["imported_sha256"]
    journal = spans / f"import_{digest[:16]}-000000000001.jsonl"
    if journal.exists():
        return None
    try:
        run_id = _write_run(ingested, spans / "runs")
        # The journal makes the rows count; whatever is cut short before it is written again by the next import.
        with replacing(journal) as file:
            file.write(journal_lines({**span, "run_id": run_id} for span in ingested.spans))
    except OSError as error:
        raise InputError(f"can't write to '{spans}': {error.strerror}; choose another --spans") from error
    return run_id


def _write_run(ingested: Ingested, runs: Path) -> str:
    runs.mkdir(parents=True, exist_ok=True)
    run_id = ingested.run_id
    if _digest(runs / run_id) not in (None, ingested.record["imported_sha256"]):
        # Another file of the same second.
        run_id = f"{run_id}_{ingested.record['imported_sha256'][:4]}"
    building = Path(tempfile.mkdtemp(prefix=f".{run_id}.", dir=runs))
    try:
        building.chmod(0o777 & ~_umask())
        record = {**ingested.record, "run_id": run_id}
        (building / "run.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _write_parquet(building / "prompts.parquet", PROMPT_COLUMNS, ingested.prompts)
        _write_parquet(building / "answers.parquet", ANSWER_COLUMNS, ingested.answers)
        shutil.rmtree(runs / run_id, ignore_errors=True)
        building.rename(runs / run_id)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return run_id


def _digest(folder: Path) -> str | None:
    """Of the file that a run's folder was imported from; None without a folder, '' for a run of our own."""
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
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM {source}) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)")
    lines.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
