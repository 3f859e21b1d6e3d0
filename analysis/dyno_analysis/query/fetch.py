"""Run the tables of sql/ and hand their rows over as the classes of row_types.py."""

from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

import duckdb
import numpy as np
from numpy.typing import NDArray

from dyno_analysis.spans.folder import execute
from dyno_analysis.spans.sql_text import sql_text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def fetch(connection: duckdb.DuckDBPyConnection, table: str, row: type[Row]) -> list[Row]:
    """The rows of `sql/{table}.sql`; its columns and the fields of `row` must agree by name, or it is a TypeError."""
    cursor = execute(connection, sql_text(table))
    names = [column[0] for column in cursor.description or ()]
    expected = [column.name for column in fields(row)]
    if names != expected:
        raise TypeError(f"{table}.sql and {row.__name__} differ: {names} and {expected}")
    return [row(*values) for values in cursor.fetchall()]


def fetch_columns(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, NDArray[np.generic]]:
    """The result's columns as arrays, for tables with a row a request or a prompt; NULL becomes NaN."""
    columns = execute(connection, sql).fetchnumpy()
    return {
        name: column.filled(np.nan) if isinstance(column, np.ma.MaskedArray) else column
        for name, column in columns.items()
    }


def keep(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Hold the rows of `sql/{table}.sql` in a table of that name, since they are asked for more than once."""
    execute(connection, f"CREATE OR REPLACE TEMP TABLE {table} AS\n{sql_text(table)}")


def define(connection: duckdb.DuckDBPyConnection, view: str) -> None:
    """Create the view of `sql/{view}.sql`."""
    connection.execute(sql_text(view))
