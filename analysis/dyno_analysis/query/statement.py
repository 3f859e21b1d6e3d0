"""Runs a user's SQL statement read-only over the spans. It is checked and wrapped, and an error becomes one line."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from dyno_analysis.errors import InputError
from dyno_analysis.spans.folder import UnreadableError, lock
from dyno_analysis.spans.sql_text import quoted

from .hints import hint

ROWS_AT_ONCE = 10_000
_EXPLAIN = re.compile(r"\s*EXPLAIN\b(\s+ANALYZE\b)?", re.IGNORECASE)
# How messages begin that a file's content may cause, or a value in one.
_OF_FILES = ("Invalid", "IO", "Serialization", "Internal", "INTERNAL", "FATAL", "TProtocol", "{")
_OF_VALUES = ("Conversion", "Out of Range")
_ERRORS_WITH_PLACES = "SET errors_as_json = true"
_READS = (duckdb.StatementType.SELECT, duckdb.StatementType.MULTI)  # MULTI: what PIVOT becomes


def lock_for_statements(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Lock a connection on which many statements will run: `Statement(…, locked=True)`."""
    connection.execute(_ERRORS_WITH_PLACES)
    lock(connection, files)


class Statement:
    """A statement that only reads. Its methods run it.

    InputError for any other statement, and for one that fails, with DuckDB's message and position; UnreadableError if
    that may be a broken file's doing, and no row was given yet.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, text: str, files: Sequence[Path] | None, *, locked: bool = False
    ) -> None:
        """`files` are all that the statement may read. None allows any statement; one that isn't a query runs here.

        `locked`: `lock_for_statements` has locked the connection already, for many statements.
        """
        self._connection = connection
        self._files = files
        self._text = text
        self._locked = locked
        if not locked:
            connection.execute(_ERRORS_WITH_PLACES)
        statement = self._only_one(text)
        self._explain = ""
        if statement.type == duckdb.StatementType.EXPLAIN and (explain := _EXPLAIN.match(statement.query)):
            self._explain = explain.group()
            statement = self._only_one(statement.query[explain.end() :])
        if files is None and statement.type not in _READS:
            self._text = text = self._carry_out(statement)
            statement = self._only_one(text)
        if statement.type not in _READS:
            what = str(statement.type).rpartition(".")[2]
            allowed = "only SELECT, EXPLAIN, DESCRIBE, SUMMARIZE and SHOW are"
            raise InputError(f"{what} isn't allowed; {allowed}, unless you add --allow-writes")
        self._query = self._without_end(statement.query)

    def rows(self) -> tuple[list[str], Iterator[list[str | None]]]:
        """The column names, and the rows with each value as DuckDB's text for it; NULL is None."""
        self._lock()
        if self._explain:
            cursor = self._execute(f"{self._explain} FROM (\n", "")
            return ["plan"], iter([[str(row[1])] for row in cursor.fetchall()])
        cursor = self._execute("SELECT CAST(COLUMNS(*) AS VARCHAR) FROM (\n", "")
        return [column[0] for column in cursor.description or ()], self._fetch(cursor)

    def json_rows(self) -> Iterator[str]:
        """Each row as a JSON object."""
        self._refuse_explain("json")
        self._lock()
        cursor = self._execute("SELECT CAST(to_json(the_row) AS VARCHAR) FROM (\n", " AS the_row")
        return (row[0] for row in self._fetch(cursor))

    def write_parquet(self, path: Path) -> None:
        """Write the rows to the file at `path`, with DuckDB's types."""
        self._refuse_explain("parquet")
        self._lock(writable=path)
        self._execute(
            "COPY (SELECT * FROM (\n", f") TO {quoted(str(path.resolve()))} (FORMAT parquet, USE_TMP_FILE false)"
        )

    def arrow(self) -> Any:
        """The rows as a pyarrow RecordBatchReader."""
        self._refuse_explain("arrow")
        self._lock()
        try:
            return self._connection.sql(f"SELECT * FROM (\n{self._query}\n)").to_arrow_reader()  # noqa: S608  # theirs
        except duckdb.Error as error:
            raise InputError(_message(error, self._text, 0)) from error

    def _lock(self, writable: Path | None = None) -> None:
        if self._files is not None and not self._locked:
            lock(self._connection, self._files, writable)

    def _carry_out(self, statement: duckdb.Statement) -> str:
        """Run a statement that isn't a query; returns a query that gives its result: COPY's count, say."""
        try:
            result = self._connection.execute(statement)
            rows = result.fetchall() if result.description else []
        except duckdb.Error as error:
            raise InputError(_message(error, self._text, 0)) from error
        return (
            f"SELECT {int(rows[0][0])} AS count" if rows and isinstance(rows[0][0], int) else "SELECT 'done' AS result"
        )

    def _only_one(self, text: str) -> duckdb.Statement:
        try:
            statements = self._connection.extract_statements(text)
        except duckdb.Error as error:
            raise InputError(_message(error, text, 0)) from error
        if len(statements) != 1:
            raise InputError(f"{len(statements) or 'no'} statements are given; 'dyno sql' runs exactly one")
        return statements[0]

    def _without_end(self, query: str) -> str:
        """The query without its semicolon and the comments after it, so that it can be a subquery."""
        for at in (found.start() for found in re.finditer(";", query)):
            if self._count(query[:at]) == 1 and self._count(query[at + 1 :]) == 0:
                return query[:at]
        return query

    def _count(self, text: str) -> int | None:
        """How many statements the text has; None if it ends in the middle of one."""
        try:
            return len(self._connection.extract_statements(text))
        except duckdb.ParserException:
            return None

    def _execute(self, before: str, after: str) -> duckdb.DuckDBPyConnection:
        # DuckDB allows COPY, INSERT and the like inside a WITH, but only at the top level. As a subquery, a statement
        # can only read.
        try:
            return self._connection.execute(f"{before}{self._query}\n){after}")
        except duckdb.Error as error:
            at = self._text.find(self._query)
            shift_bytes = len(before.encode()) - len(self._text[:at].encode())
            raise self._failed(error, shift_bytes) from error

    def _fetch(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[list[Any]]:
        """The rows. The first ones are there already when this returns: so far, another try prints nothing twice."""
        try:
            first = cursor.fetchmany(ROWS_AT_ONCE)
        except duckdb.Error as error:
            raise self._failed(error, 0) from error
        return self._all(first, cursor)

    def _all(self, rows: list[Any], cursor: duckdb.DuckDBPyConnection) -> Iterator[list[Any]]:
        while rows:
            yield from (list(row) for row in rows)
            try:
                rows = cursor.fetchmany(ROWS_AT_ONCE)
            except duckdb.Error as error:
                raise InputError(_message(error, self._text, 0)) from error

    def _failed(self, error: duckdb.Error, shift_bytes: int) -> InputError:
        message = _message(error, self._text, shift_bytes)
        if self._files is not None and message.startswith((*_OF_FILES, *_OF_VALUES)) and not hint(message):
            return UnreadableError(message, of_values=message.startswith(_OF_VALUES))
        return InputError(message)

    def _refuse_explain(self, form: str) -> None:
        if self._explain:
            raise InputError(f"--format {form} can't show a plan; use --format table")


def _message(error: duckdb.Error, text: str, shift_bytes: int) -> str:
    """DuckDB's message, with its place in the user's statement: line and column, from 1."""
    kind, _, rest = str(error).partition(": ")
    try:
        details = json.loads(rest)
    except ValueError:
        return str(error)
    message = f"{kind}: {details.get('exception_message', rest)}"
    if kind.startswith("Permission"):
        message += "; with --allow-writes a statement may use any file"
    message += hint(message)
    position = details.get("position")
    if position is None or int(position) < shift_bytes:
        return message
    # The position counts bytes of UTF-8.
    before = text.encode()[: int(position) - shift_bytes].decode(errors="replace")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return f"{message} (line {line}, column {column})"
