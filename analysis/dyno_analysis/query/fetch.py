"""Runs the tables of sql/ and returns their rows as the classes of row_types.py."""

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
    """The rows of `sql/{table}.sql`. TypeError if its columns aren't the fields of `row`, by name and order."""
    cursor = execute(connection, sql_text(table))
    names = [column[0] for column in cursor.description or ()]
    expected = [column.name for column in fields(row)]
    if names != expected:
        raise TypeError(f"{table}.sql and {row.__name__} differ: {names} and {expected}")
    return [row(*values) for values in cursor.fetchall()]


def fetch_columns(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, NDArray[np.generic]]:
    """The result's columns as arrays, for tables with one row per request or prompt; NULL becomes NaN."""
    columns = execute(connection, sql).fetchnumpy()
    return {
        name: column.filled(np.nan) if isinstance(column, np.ma.MaskedArray) else column
        for name, column in columns.items()
    }


def keep(connection: duckdb.DuckDBPyConnection, table: str, condition: str = "true") -> None:
    """Store the rows of `sql/{table}.sql` that fulfil the condition in a temporary table of that name."""
    query = sql_text(table).rstrip().removesuffix(";")
    execute(connection, f"CREATE OR REPLACE TEMP TABLE {table} AS FROM (\n{query}\n) WHERE {condition}")


def define(connection: duckdb.DuckDBPyConnection, view: str) -> None:
    """Create the view of `sql/{view}.sql`."""
    connection.execute(sql_text(view))
