"""Reads the package's SQL files, whole or by named parts, and writes texts and paths as SQL.

A file's line `-- part: NAME` begins a part, which ends where the next one begins. For DuckDB such a line is a comment,
so a person can still paste the whole file.
"""

import re
from importlib import resources

_PART = re.compile(r"^-- part: (\w+)\n", re.MULTILINE)


def sql_text(name: str, folder: str = "sql") -> str:
    """The whole text of `FOLDER/NAME.sql` in this package."""
    return (resources.files("dyno_analysis") / folder / f"{name}.sql").read_text(encoding="utf-8")


def sql_part(name: str, part: str, folder: str = "sql") -> str:
    """One named part of `FOLDER/NAME.sql`; LookupError unless the file has exactly one part of that name."""
    _, *named = _PART.split(sql_text(name, folder))
    found = [text for title, text in zip(named[::2], named[1::2], strict=True) if title == part]
    if len(found) != 1:
        raise LookupError(f"{folder}/{name}.sql has {len(found)} parts named '{part}', not one")
    return found[0]


def replaced(text: str, old: str, new: str, times: int = 1) -> str:
    """The text with `new` instead of `old`; LookupError unless it contains `old` exactly `times` times."""
    if (found := text.count(old)) != times:
        raise LookupError(f"{old!r} occurs {found} times in the SQL, not {times}: {text[:80]!r} …")
    return text.replace(old, new)


def quoted(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def as_glob(path: str) -> str:
    """A path for DuckDB's readers. They take a pattern, so the path's own brackets and wildcards are escaped."""
    return re.sub(r"[\[*?]", r"[\g<0>]", path)
