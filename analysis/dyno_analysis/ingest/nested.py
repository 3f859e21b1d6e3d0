"""Finds staged rows that are the same call to a model as another row, or no request after all.

What the import hears of spans is written to a file beside the staged rows. DuckDB then finds the traces with several
requests, and one trace after another is looked at, so memory doesn't grow with the file.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson

from dyno_analysis.spans.folder import execute
from dyno_analysis.spans.sql_text import as_glob, quoted, replaced, sql_text

from .otlp.nesting import Said, left_out

_WRITE_BYTES: Final = 1 << 20
_FETCHED: Final = 1000


@dataclass
class Nested:
    """`tell` it of each span of a file; then `find` the rows to leave out. `path` is a file of its own."""

    path: Path
    _lines: bytearray = field(default_factory=bytearray)
    _others: bool = False  # whether a request was told of that isn't Dyno's own

    def tell(self, trace_id: str, said: Said) -> None:
        values = {name: value for name, value in asdict(said).items() if value}
        self._others |= said.request and not said.settled
        flags = dict.fromkeys(("request", "settled", "usage", "server", "weak"), False)
        self._lines += orjson.dumps({"trace_id": trace_id, **flags, **values}) + b"\n"
        if len(self._lines) > _WRITE_BYTES:
            self._write()

    def find(self, connection: duckdb.DuckDBPyConnection, parts: list[Path]) -> tuple[set[int], set[int]]:
        """The numbers of the staged rows that are nested in another row's call, and of those that are no requests."""
        nested: set[int] = set()
        none: set[int] = set()
        if not self._others:
            return nested, none
        self._write()
        files = ", ".join(quoted(as_glob(str(part))) for part in parts)
        query = replaced(sql_text("nested_spans"), "'staged/*.jsonl'", f"[{files}]")
        query = replaced(query, "'staged/told'", quoted(as_glob(str(self.path))))
        for _, rows in groupby(_fetched(execute(connection, query)), key=lambda row: row[0]):
            found = left_out(list({row[1]: Said(row[1], *row[2:]) for row in rows}.values()))
            nested |= found[0]
            none |= found[1]
        return nested, none

    def _write(self) -> None:
        with self.path.open("ab") as file:
            file.write(self._lines)
        self._lines.clear()


def _fetched(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(_FETCHED):
        yield from rows
