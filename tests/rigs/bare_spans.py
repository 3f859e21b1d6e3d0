"""A view of sql/ over a bare table of a few columns, for the many small cases of a property: no folder, no files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import duckdb

from dyno_analysis.spans.sql_text import sql_text

# The columns that views over requests read, with their types.
COLUMNS: Final[Mapping[str, str]] = {
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "run_id": "VARCHAR",
    "prompt_id": "VARCHAR",
    "repeat": "INTEGER",
    "endpoint": "VARCHAR",
    "model": "VARCHAR",
    "operation": "VARCHAR",
    "outcome": "VARCHAR",
    "warmup": "BOOLEAN",
    "simulated": "BOOLEAN",
    "failed": "BOOLEAN",
    "start_us": "BIGINT",
    "latency_s": "DOUBLE",
    "ttft_s": "DOUBLE",
    "tpot_s": "DOUBLE",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "overhead_us": "BIGINT",
    "overhead_end_us": "BIGINT",
    "first_token_us": "BIGINT",
    "last_token_us": "BIGINT",
    "chunk_offsets_us": "BIGINT[]",
    "writer": "VARCHAR",
    "seq": "BIGINT",
}
_USUAL: Final = {"operation": "chat", "outcome": "ok", "warmup": False, "failed": False, "latency_s": 1.0}


def over(rows: Iterable[Mapping[str, Any]], views: Sequence[str]) -> duckdb.DuckDBPyConnection:
    """A database with these rows as `spans`, and the views; `macros/NAME` are functions. Rows have keys of COLUMNS."""
    connection = duckdb.connect(config={"threads": "1"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE TABLE stored ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
    values = [[{**_USUAL, **row}.get(name) for name in COLUMNS] for row in rows]
    if values:
        marks = ", ".join(f"?::{kind}" for kind in COLUMNS.values())
        connection.executemany(f"INSERT INTO stored VALUES ({marks})", values)  # noqa: S608
    connection.execute(
        "CREATE VIEW spans AS SELECT * EXCLUDE (start_us), make_timestamptz(start_us) AS started_at, "
        "make_timestamptz(start_us + CAST(round(latency_s * 1e6) AS BIGINT)) AS ended_at FROM stored"
    )
    for view in views:
        folder, _, name = view.rpartition("/")
        connection.execute(sql_text(name, folder or "sql"))
    return connection
