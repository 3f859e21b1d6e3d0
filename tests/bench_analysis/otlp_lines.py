"""The same generated requests as OTLP JSON lines, as the Collector's file exporter writes them: 500 spans a line."""

from pathlib import Path
from typing import Final

import duckdb

from dyno_proxy.attributes import ATTRIBUTES

from .spans import rows_sql

_SPANS_OF_A_LINE: Final = 500
_STORED: Final = [a for a in ATTRIBUTES if a.column is not None and a.type in ("string", "int", "bool")]


def write(folder: Path, n: int) -> None:
    """n spans in one file; NULLs are left out, as the exporter does."""
    folder.mkdir()
    attributes = ", ".join(
        f"CASE WHEN {a.column} IS NOT NULL THEN json_object('key', '{a.name}', 'value', {_value(a.type, a.column)}) END"
        for a in _STORED
        if a.column is not None
    )
    span = f"""json_object(
        'traceId', trace_id, 'spanId', span_id, 'name', name, 'kind', 3,
        'startTimeUnixNano', CAST(started_at_us * 1000 AS VARCHAR),
        'endTimeUnixNano', CAST((started_at_us + duration_us) * 1000 AS VARCHAR),
        'attributes', list_filter([{attributes}], lambda a: a IS NOT NULL),
        'status', json_object())"""
    lines = f"""
        SELECT json_array(json_object('resource', json_object(), 'scopeSpans', json_array(json_object(
            'scope', json_object('name', 'dyno.proxy'), 'spans', list({span}))))) AS "resourceSpans"
        FROM ({{rows}}) GROUP BY seq // {_SPANS_OF_A_LINE}"""  # noqa: S608
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        for first in range(0, n, 100_000):
            query = lines.format(rows=rows_sql(first, min(first + 100_000, n)))
            path = folder / f"traces-{first:012d}.jsonl"
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT json)")


def _value(kind: str, column: str) -> str:
    name = {"string": "stringValue", "int": "intValue", "bool": "boolValue"}[kind]
    return f"json_object('{name}', {column if kind != 'int' else f'CAST({column} AS VARCHAR)'})"
