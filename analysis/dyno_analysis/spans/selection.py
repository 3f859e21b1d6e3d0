"""Which requests a report is about, as a condition on the view `spans`."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from .counted import Source
from .file_names import SpanFile, endpoint_mark, run_mark
from .folder import define_spans, execute
from .offered_load import OfferedLoad
from .sql_text import quoted

# So many requests, with all their attributes and chunk times, take some 300 MB of memory.
HELD_REQUESTS = 100_000


@dataclass(frozen=True)
class Selection:
    """Which requests a report is about. Times are Unix microseconds; `until_us` itself is excluded.

    Without a run these are all requests, except those without a GenAI operation (a list of models, say), which can't
    be compared. With `mirrored` they are only the requests that a mirror copied, and the copies.
    """

    runs: Sequence[str] = ()
    endpoints: Sequence[str] = ()
    since_us: int | None = None
    until_us: int | None = None
    mirrored: bool = False
    load: OfferedLoad | None = None  # None: any
    superseded: Sequence[str] = ()  # trace ids that a resumed run asked again, so they aren't selected

    def may_be_in(self, file: SpanFile) -> bool:
        """False if no selected request can be in the file, by its name. A journal's name doesn't say it."""
        said = file.contents
        if said is None:
            return True
        return (
            (self.since_us is None or said.may_start_from(self.since_us))
            and (self.until_us is None or said.may_start_before(self.until_us))
            and (not self.endpoints or any(said.may_hold(endpoint_mark(name)) for name in self.endpoints))
            and (not self.runs or any(said.may_hold(run_mark(run_id)) for run_id in self.runs))
        )


def select(connection: duckdb.DuckDBPyConnection, selection: Selection, files: Sequence[Source] | None = None) -> None:
    """Redefine `spans` as the selected requests; `all_spans` has all of them.

    With the folder's `files`, those in which no selected request can be aren't read.
    `traffic` has the selected requests before `mirrored` is applied. A run is read once and held in a table, unless it
    is larger than HELD_REQUESTS. All traffic may be larger than memory, so it stays a view.
    """
    connection.execute("ALTER VIEW spans RENAME TO all_spans")
    source = "all_spans"
    if files is not None:
        chosen = [each for each in files if selection.may_be_in(each.counted.file)]
        if len(chosen) < len(files):
            source = "spans_of_chosen_files"
            define_spans(connection, chosen, source)
    condition = _condition(selection)
    kind = "VIEW"
    if selection.runs:
        (n,) = execute(connection, f"FROM {source} SELECT count(*) WHERE {condition}").fetchall()[0]
        kind = "TABLE" if n <= HELD_REQUESTS else "VIEW"
    execute(connection, f"CREATE {kind} traffic AS FROM {source} WHERE {condition}")
    of_mirrors = " WHERE mirror IS NOT NULL" if selection.mirrored else ""
    execute(connection, f"CREATE VIEW spans AS FROM traffic{of_mirrors}")


def conditions(selection: Selection) -> list[str]:
    """The selection's conditions in SQL over the view `spans`. A selected request fulfils all of them."""
    parts = []
    if selection.runs:
        parts.append(f"run_id IN ({', '.join(map(quoted, selection.runs))})")
    if selection.endpoints:
        parts.append(f"endpoint IN ({', '.join(map(quoted, selection.endpoints))})")
    if selection.superseded:
        parts.append(f"coalesce(trace_id, '') NOT IN ({', '.join(map(quoted, selection.superseded))})")
    if selection.since_us is not None:
        parts.append(f"started_at >= make_timestamptz({selection.since_us})")
    if selection.until_us is not None:
        parts.append(f"started_at < make_timestamptz({selection.until_us})")
    if selection.load is not None and selection.load.concurrency is not None:
        parts.append(f"load_concurrency = {selection.load.concurrency}")
    if selection.load is not None and selection.load.rate_per_s is not None:
        parts.append(f"load_rate_per_s = {selection.load.rate_per_s!r}")
    return parts


def _condition(selection: Selection) -> str:
    return " AND ".join([*([] if selection.runs else ["operation IS NOT NULL"]), *conditions(selection)])
