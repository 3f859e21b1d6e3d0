"""Databases in memory: each within the limits of memory, and ended by the signals that end its command."""

import duckdb

from .interrupts import opened
from .limits import memory_limit


def in_memory(most_bytes: int | None = None, **settings: str) -> duckdb.DuckDBPyConnection:
    """An empty database that takes at most `most_bytes` of memory, or the default if that is less.

    `settings` are DuckDB's own, by their names.
    """
    return opened(duckdb.connect(config={"memory_limit": memory_limit(most_bytes), **settings}))
