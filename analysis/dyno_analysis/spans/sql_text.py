"""SQL from the package's files, whole or by named parts, and texts and paths as SQL takes them.

A file's line `-- part: NAME` begins a part, which ends where the next one begins. To DuckDB such a line is a comment,
so the whole file stays one that a person can paste.
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
    """The text with `new` in place of `old`; LookupError unless `old` stands in it exactly `times` times."""
    if (found := text.count(old)) != times:
        raise LookupError(f"{old!r} stands {found} times in the SQL, not {times}: {text[:80]!r} …")
    return text.replace(old, new)


def quoted(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def as_glob(path: str) -> str:
    """A path as DuckDB's readers take it: they read patterns, and a folder's own brackets must stand for themselves."""
    return re.sub(r"[\[*?]", r"[\g<0>]", path)
