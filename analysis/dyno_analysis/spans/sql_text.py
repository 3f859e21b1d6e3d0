"""SQL from the package's files, and texts and paths as SQL takes them."""

import re
from importlib import resources


def sql_text(name: str, folder: str = "sql") -> str:
    return (resources.files("dyno_analysis") / folder / f"{name}.sql").read_text(encoding="utf-8")


def quoted(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def as_glob(path: str) -> str:
    """A path as DuckDB's readers take it: they read patterns, and a folder's own brackets must stand for themselves."""
    return re.sub(r"[\[*?]", r"[\g<0>]", path)
