"""`dyno compact` in the test's process as at any moment, journals for it, and the view that a person pastes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from dyno_analysis.compaction import convert, leftovers
from dyno_analysis.compaction.compaction import STALE_S, Compaction
from dyno_analysis.compaction.retention import Keep
from dyno_analysis.spans.file_names import parse
from dyno_analysis.spans.sql_text import sql_text
from dyno_proxy.file_modes import PRIVATE
from dyno_proxy.telemetry.place import plant_seeds


def compacted(folder: Path, after_s: float = 0.0, keep: Keep | None = None, dry: bool = False) -> list[str]:
    """Compact as if it were so many seconds later; returns the problems."""
    problems: list[str] = []
    if not dry:
        leftovers.clear(folder)
    now = datetime.now(UTC) + timedelta(seconds=after_s)
    compaction = Compaction(folder, now, lambda _: None, problems.append, dry)
    compaction.convert()
    if keep is not None:
        compaction.expire(keep)
    compaction.merge(keep)
    compaction.clean()
    return problems


def rested(journal: Path) -> Path:
    """The journal, which looks as if it hadn't been written to for long."""
    then_s = datetime.now(UTC).timestamp() - STALE_S - 60
    os.utime(journal, (then_s, then_s))
    return journal


def as_parquet(journal: Path) -> Path:
    """The Parquet file that this Dyno makes of the journal, which is removed."""
    file = parse(journal.name)
    assert file is not None
    made = convert.convert(journal.parent, file).path
    assert made is not None
    journal.unlink()
    return made


@contextmanager
def pasted(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A plain DuckDB with spans.sql as a person pastes it, over the folder with a proxy's seed files."""
    plant_seeds(folder, PRIVATE)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(sql_text("spans").replace("'spans/", f"'{folder}/"))
        yield connection
