"""Finds the span files that can't be read, and says why. Only the first or last bytes of a file are looked at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import orjson

from .sql_text import as_glob

SCHEMA_VERSION: Final = 1
# The key under which a Parquet span file names its format.
PARQUET_SCHEMA_KEY: Final = "dyno_spans"

_TOO_NEW: Final = "was written by a later Dyno (format {}); read it with that version"


def unreadable(paths: Sequence[Path]) -> dict[Path, str]:
    """The files that can't be read, each with the reason: the rest of a sentence that begins with `it`."""
    problems: dict[Path, str] = {}
    parquet = [path for path in paths if path.suffix == ".parquet"]
    problems |= {path: why for path in paths if path not in parquet and (why := _of_journal(path))}
    try:
        versions = _versions([str(path) for path in parquet])
        problems |= {path: why for path in parquet if (why := _of_version(versions.get(str(path))))}
    except duckdb.Error:
        # One of them is broken, but the error doesn't say which: look at each.
        problems |= {path: why for path in parquet if (why := _of_parquet(path))}
    return problems


def _of_journal(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        return f"can't be read: {error.strerror}; correct that, or move the file elsewhere"
    try:
        version = orjson.loads(line).get("v", 0)
    except (orjson.JSONDecodeError, AttributeError):
        return None  # the line is empty or cut off, and the reader makes no row of it
    return _TOO_NEW.format(version) if isinstance(version, int) and version > SCHEMA_VERSION else None


def _of_parquet(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
        return _of_version(_versions([str(path)]).get(str(path)))
    except OSError as error:
        return f"can't be read: {error.strerror}; correct that, or move the file elsewhere"
    except duckdb.Error:
        return "is broken: a Parquet file's end is missing; remove it, or restore it from a backup"


def _of_version(version: str | None) -> str | None:
    if version is None or not version.isdecimal():
        return "is a Parquet file that isn't Dyno's; move it elsewhere"
    return _TOO_NEW.format(version) if int(version) > SCHEMA_VERSION else None


def _versions(paths: Sequence[str]) -> dict[str, str]:
    if not paths:
        return {}
    with duckdb.connect() as connection:
        found = connection.execute(
            "SELECT file_name, decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = ?",
            [[as_glob(path) for path in paths], PARQUET_SCHEMA_KEY],
        ).fetchall()
    return dict(found)
