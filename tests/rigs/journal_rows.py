"""The rows of a folder's journals, read as docs/spans.md describes the format, without any code of Dyno."""

import json
import zlib
from pathlib import Path
from typing import Any, Final

import duckdb

from dyno_proxy.telemetry.span import COLUMNS

DUCKDB_TYPES: Final = {  # of the format's types
    "string": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "string[]": "VARCHAR[]",
    "int[]": "BIGINT[]",
    "map": "MAP(VARCHAR, VARCHAR)",
}


def stored(folder: Path) -> list[dict[str, Any]]:
    """All rows by file and line, where nobody writes any more: each line is whole, and its checksum holds."""
    return [row for path in sorted(folder.glob("*.jsonl")) for row in map(parsed, path.read_bytes().splitlines())]


def rows_so_far(folder: Path) -> list[dict[str, Any]]:
    """The rows that a running writer has finished, in the order in which their requests began.

    A write may be going on, so the bytes behind the last line's end aren't a row yet. A journal's own order is nearly
    that of the ends, which says little: a busy proxy may begin a client's next request before it ends the last one.
    """
    whole = (path.read_bytes().rpartition(b"\n")[0] for path in sorted(folder.glob("*.jsonl")))
    rows = [parsed(line) for lines in whole for line in lines.splitlines()]
    return sorted(rows, key=lambda row: int(row["started_at_us"]))


def parsed(line: bytes) -> dict[str, Any]:
    """A journal's line, without its checksum."""
    body, _, checksum = line.rpartition(b',"crc32":')
    assert checksum == b"%d}" % zlib.crc32(body), line
    row: dict[str, Any] = json.loads(line)
    assert list(row)[-1] == "crc32"
    del row["crc32"]
    return row


def by_duckdb(*paths: Path) -> list[dict[str, Any]]:
    """The rows as a plain DuckDB reads them, with explicit columns. An incomplete line is ignored."""
    columns = ", ".join(f"{column}: '{DUCKDB_TYPES[kind]}'" for column, kind in COLUMNS)
    files = ", ".join(f"'{path}'" for path in paths)
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT * FROM read_json([{files}], format = 'newline_delimited', columns = {{{columns}}},"  # noqa: S608
            " ignore_errors = true) WHERE span_id IS NOT NULL ORDER BY seq"
        )
        names = [column[0] for column in rows.description or []]
        return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
