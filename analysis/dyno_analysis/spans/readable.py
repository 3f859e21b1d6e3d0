"""Finds the span files that can't be read, and says why. Only the first or last bytes of a file are looked at."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from .footer import BrokenError, Footer, read_footer

# The format's version, of a journal's lines and of Parquet files. Since 2 the latter say which rows they hold.
SCHEMA_VERSION: Final = 2

# The name in the one row of a journal that was emptied after its rows had moved to another file. The row has no span.
EMPTIED: Final = "emptied"
_EMPTIED_BYTES: Final = 200

_TOO_NEW: Final = "was written by a later Dyno (format {}); read it with that version"


@dataclass(frozen=True)
class Problem:
    """Why a file can't be read: the rest of a sentence that begins with `it`. `gone`: it was removed meanwhile."""

    text: str
    gone: bool = False


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
    if int(footer.version) > SCHEMA_VERSION:
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


def journal_problem(path: Path) -> Problem | None:
    """Why the journal can't be read; None if it can."""
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
