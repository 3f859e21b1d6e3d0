"""Which requests a report is about, as a condition on the view `spans`."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from .folder import execute
from .sql_text import quoted

# With all their attributes and chunk times: some 300 MB.
HELD_REQUESTS = 100_000


@dataclass(frozen=True)
class Selection:
    """Which requests a report is about; times are Unix microseconds, `until` excluded.

    Without a run it is all traffic, less requests of no GenAI operation (a list of models, say), which compare with
    nothing. `mirrored`: of these, the requests that a mirror copied, and the copies.
    """

    runs: Sequence[str] = ()
    endpoints: Sequence[str] = ()
    since_us: int | None = None
    until_us: int | None = None
    mirrored: bool = False


def select(connection: duckdb.DuckDBPyConnection, selection: Selection) -> None:
    """Let `spans` mean the selected requests alone; the whole stays as `all_spans`.

    `traffic` has those that aren't mirrored too, whether they are selected or not. A run is read once and held in a
    table, unless it is larger than HELD_REQUESTS; all traffic may be larger than memory, so it stays a view.
    """
    connection.execute("ALTER VIEW spans RENAME TO all_spans")
    condition = _condition(selection)
    kind = "VIEW"
    if selection.runs:
        (n,) = execute(connection, f"FROM all_spans SELECT count(*) WHERE {condition}").fetchall()[0]
        kind = "TABLE" if n <= HELD_REQUESTS else "VIEW"
    execute(connection, f"CREATE {kind} traffic AS FROM all_spans WHERE {condition}")
    of_mirrors = " WHERE mirror IS NOT NULL" if selection.mirrored else ""
    execute(connection, f"CREATE VIEW spans AS FROM traffic{of_mirrors}")


def conditions(selection: Selection) -> list[str]:
    """The selection as SQL over the view `spans`; all of them hold."""
    parts = []
    if selection.runs:
        parts.append(f"run_id IN ({', '.join(map(quoted, selection.runs))})")
    if selection.endpoints:
        parts.append(f"endpoint IN ({', '.join(map(quoted, selection.endpoints))})")
    if selection.since_us is not None:
        parts.append(f"started_at >= make_timestamptz({selection.since_us})")
    if selection.until_us is not None:
        parts.append(f"started_at < make_timestamptz({selection.until_us})")
    return parts


def _condition(selection: Selection) -> str:
    return " AND ".join([*([] if selection.runs else ["operation IS NOT NULL"]), *conditions(selection)])
