"""Finds the span files that can't be read, and says why. Only the first or last bytes of a file are looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from .columns import ATTRIBUTE_COLUMNS, OWN_COLUMNS
from .footer import REPLACED, BrokenError, Footer, column_kinds, read_footer
from .journal_lines import LINE_BYTES

# The format's version, of a journal's lines and of Parquet files. Since 2 the latter say which rows they hold.
SCHEMA_VERSION: Final = 2

# The name in the one row of a journal that was emptied after its rows had moved to another file. The row has no span.
EMPTIED: Final = "emptied"
_EMPTIED_BYTES: Final = 200

_TOO_NEW: Final = "was written by a later Dyno (format {}); read it with that version"


# What a column of each type is in a Parquet file, in the words of `column_kinds`.
_KINDS: Final = {
    "int": "int",
    "float": "float",
    "bool": "bool",
    "string": "text",
    "string[]": "text[]",
    "int[]": "int[]",
    "map": "map",
}
_COLUMN_KINDS: Final = {
    **{name: _KINDS[kind] for name, kind in OWN_COLUMNS if name != "started_at_us"},
    **{name: _KINDS[kind] for _, name, kind in ATTRIBUTE_COLUMNS},
    "started_at": "time",
    "writer": "text",
}
_NEEDED: Final = ("v", "seq", "trace_id", "span_id", "started_at")

# The files that turned out to be broken when they were read whole, by what their links lead to, and why. See
# folder.without_broken.
found_broken: Final[dict[Path, str]] = {}


@dataclass(frozen=True)
class Problem:
    """Why a file can't be read: the rest of a sentence that begins with `it`. `gone`: it was removed meanwhile."""

    text: str
    gone: bool = False


def footer_of(path: Path) -> Footer | Problem:
    """What a Parquet file says of itself, or why it can't be read."""
    if broken := _known_as_broken(path):
        return broken
    try:
        footer = read_footer(path)
        other = None if footer.rowless == REPLACED else _other_column(column_kinds(footer.columns))
    except BrokenError as error:
        return Problem(str(error))
    except FileNotFoundError:
        return Problem("is gone; run the command again", gone=True)
    except OSError as error:
        return Problem(f"can't be read: {error.strerror}; correct that, or move the file elsewhere")
    if int(footer.version) > SCHEMA_VERSION:
        return Problem(_TOO_NEW.format(footer.version))
    return footer if other is None else Problem(other)


def _other_column(kinds: Mapping[str, str]) -> str | None:
    """What is wrong with a file's columns: one bad type would stop every query over all files."""
    for name in _NEEDED:
        if name not in kinds:
            return f"is broken: it lacks the column '{name}'; remove it, or restore it from a backup"
    for name, kind in kinds.items():
        wanted = _COLUMN_KINDS.get(name, kind)
        if kind != wanted:
            return f"is broken: its column '{name}' is {kind} and must be {wanted}; remove it, or restore it"
    return None


def _known_as_broken(path: Path) -> Problem | None:
    why = found_broken.get(path.resolve()) if found_broken else None
    return None if why is None else Problem(why)


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
    if broken := _known_as_broken(path):
        return broken
    try:
        with path.open("rb") as file:
            line = file.readline(LINE_BYTES)
    except OSError as error:
        return Problem(f"can't be read: {error.strerror}; correct that, or move the file elsewhere")
    try:
        version = orjson.loads(line).get("v", 0)
    except (orjson.JSONDecodeError, AttributeError):
        return None  # the line is empty or cut off, and the reader makes no row of it
    return Problem(_TOO_NEW.format(version)) if isinstance(version, int) and version > SCHEMA_VERSION else None
