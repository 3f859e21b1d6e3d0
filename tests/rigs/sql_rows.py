"""The rows of a query or of a table in sql/, as a test compares them: each a dictionary by column."""

from pathlib import Path
from typing import Any

import duckdb

from dyno_analysis.query import fetch
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.sql_text import sql_text


def rows_of(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """The query's rows."""
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def table(folder: Path, name: str, *views: str) -> list[dict[str, Any]]:
    """The rows of a table over the folder's spans."""
    with span_folder.connect(folder) as connection:
        for view in views:
            fetch.define(connection, view)
        return rows_of(connection, sql_text(name))
