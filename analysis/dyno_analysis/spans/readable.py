"""Finds the span files that can't be read, and says why. Only the first or last bytes of a file are looked at."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from .footer import VERSION_KEY, BrokenError, Footer, read_footer

# The formats' versions: of a journal's lines, and of Parquet files, which have known since 2 what they hold.
SCHEMA_VERSION: Final = 2
PARQUET_VERSION: Final = 2
FIRST_WITH_FOOTER: Final = 2
# The key under which a Parquet span file names its format.
PARQUET_SCHEMA_KEY: Final = VERSION_KEY

# The name in the one row of a journal that was emptied after its rows had moved to another file. The row has no span.
EMPTIED: Final = "emptied"
_EMPTIED_BYTES: Final = 200

_TOO_NEW: Final = "was written by a later Dyno (format {}); read it with that version"


@dataclass(frozen=True)
class Problem:
    """Why a file can't be read: the rest of a sentence that begins with `it`. `gone`: it was removed meanwhile."""

    text: str
    gone: bool = False


def unreadable(paths: Iterable[Path]) -> dict[Path, str]:
    """The files that can't be read, each with the reason: the rest of a sentence that begins with `it`."""
    problems: dict[Path, str] = {}
    for path in paths:
        found = footer_of(path) if path.suffix == ".parquet" else _of_journal(path)
        if isinstance(found, Problem):
            problems[path] = found.text
    return problems


def footer_of(path: Path) -> Footer | Problem:
    """What a Parquet file says of itself, or why it can't be read."""
    try:
        footer = read_footer(path)
    except BrokenError as error:
        return Problem(str(error))
    except FileNotFoundError:
        return Problem("is gone; run the command again", gone=True)
    except OSError as error:
        return Problem(f"can't be read: {error.strerror}; correct that, or move the file elsewhere")
    if int(footer.version) > PARQUET_VERSION:
        return Problem(_TOO_NEW.format(footer.version))
    return footer


def is_emptied(journal: Path) -> bool:
    """Whether the journal's rows moved to another file, wherever that is now."""
    with journal.open("rb") as file:
        line = file.readline(_EMPTIED_BYTES)
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False  # a row of a span is longer
    return isinstance(row, dict) and row.get("name") == EMPTIED and "span_id" not in row


def _of_journal(path: Path) -> Problem | None:
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError as error:
        return Problem(f"can't be read: {error.strerror}; correct that, or move the file elsewhere")
    try:
        version = orjson.loads(line).get("v", 0)
    except (orjson.JSONDecodeError, AttributeError):
        return None  # the line is empty or cut off, and the reader makes no row of it
    return Problem(_TOO_NEW.format(version)) if isinstance(version, int) and version > SCHEMA_VERSION else None
