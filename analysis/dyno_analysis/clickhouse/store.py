"""The spans that an OpenTelemetry Collector keeps in ClickHouse: where they are, and the tables of sql/ over them.

Nothing is created on the server: the view `spans` and the functions of engines/ come before each query.
"""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from dyno_analysis.errors import InputError
from dyno_analysis.query.fetch import Row
from dyno_analysis.spans.selection import Selection
from dyno_analysis.spans.sql_text import replaced, sql_part, sql_text

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

PASSWORD_VARIABLE = "CLICKHOUSE_PASSWORD"  # noqa: S105 -- the name, as ClickHouse's own client has it
EXPORTER_TABLE = "otel_traces"
_FORM = "clickhouse://user@host:port/database"
_HTTP_PORT, _TLS_PORT = 8123, 8443
_CONNECT_TIMEOUT_S, _QUERY_TIMEOUT_S = 10, 600
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# The server's codes (src/Common/ErrorCodes.cpp).
_UNKNOWN_TABLE, _UNKNOWN_DATABASE, _WRONG_PASSWORD, _REFUSED = 60, 81, 516, 497


@dataclass(frozen=True)
class Address:
    """Where a store is; its text is fit for messages."""

    host: str
    port: int
    user: str | None
    database: str
    table: str
    tls: bool

    def __str__(self) -> str:
        return f"clickhouse://{self.host}:{self.port}/{self.database}"


@dataclass(frozen=True)
class Store:
    address: Address
    client: "Client"


def parse_address(text: str) -> Address:
    """`clickhouse://user@host:port/database?secure=true&table=otel_traces` in parts; InputError where it is none.

    The port is that of ClickHouse's HTTP interface; 8123 if left out, with TLS 8443. The database is `otel` if left
    out, as the Collector's examples have it.
    """
    # What is wrong is said without the text itself: there may be a password in it.
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(f"--store is no address ({error}); write {_FORM}") from error
    if parts.scheme != "clickhouse" or not parts.hostname:
        raise InputError(f"--store is no address of a ClickHouse; write {_FORM}")
    if parts.password is not None:
        raise InputError(f"--store holds a password, which others can see; leave it out and set {PASSWORD_VARIABLE}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"secure", "table"})
    if unknown:
        raise InputError(f"--store knows no option '{unknown[0]}'; there are secure=true and table=NAME")
    if options.get("secure", "false") not in ("true", "false"):
        raise InputError("--store: secure is true or false")
    tls = options.get("secure") == "true"
    return Address(
        host=parts.hostname,
        port=port or (_TLS_PORT if tls else _HTTP_PORT),
        user=unquote(parts.username) if parts.username else None,
        database=_identifier(unquote(parts.path.strip("/")) or "otel", "database"),
        table=_identifier(options.get("table", EXPORTER_TABLE), "table"),
        tls=tls,
    )


def connect(address: Address) -> Store:
    """A client of the store, with the password from the environment; InputError where it can't be had."""
    try:
        import clickhouse_connect
        from clickhouse_connect.driver.exceptions import ClickHouseError
    except ImportError as error:
        raise InputError("--store needs the extra 'clickhouse': pip install 'inference-dyno[clickhouse]'") from error
    # What it logs of a connection that fails, we say ourselves.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    try:
        client = clickhouse_connect.get_client(
            host=address.host,
            port=address.port,
            username=address.user,
            password=os.environ.get(PASSWORD_VARIABLE, ""),
            database=address.database,
            interface="https" if address.tls else "http",
            connect_timeout=_CONNECT_TIMEOUT_S,
            send_receive_timeout=_QUERY_TIMEOUT_S,
            query_retries=0,
            # Queries of ours follow one another: a session would only get in the way of a load balancer.
            autogenerate_session_id=False,
        )
    except ClickHouseError as error:
        raise _refusal(error, address) from error
    return Store(address, client)


def runs(store: Store) -> dict[str, float]:
    """Every run, by id, with its start (Unix seconds)."""
    query = (
        "SELECT run_id, toUnixTimestamp64Micro(min(started_at)) / 1e6 FROM spans "
        "WHERE run_id IS NOT NULL GROUP BY run_id"
    )
    _, found = _rows(store, query, "true")
    return {str(run_id): float(str(start)) for run_id, start in found}


def fetch(store: Store, table: str, row: type[Row], selection: Selection) -> list[Row]:
    """The rows of `sql/{table}.sql` over the selected spans; one of the tables that engines/ has the functions for."""
    names, found = _rows(store, sql_text(table), condition(selection))
    expected = [column.name for column in fields(row)]
    # An empty result may come without names.
    if found and names != expected:
        raise TypeError(f"{table}.sql and {row.__name__} differ: {names} and {expected}")
    return [row(*values) for values in found]


def stored_twice(store: Store, selection: Selection) -> int:
    """How many of the selected spans are there a second time: the Collector sends a batch again after a time-out."""
    _, found = _rows(store, "SELECT count() - uniqExact(trace_id, span_id) FROM spans", condition(selection))
    return int(str(found[0][0]))


def condition(selection: Selection) -> str:
    """The selection as ClickHouse's SQL over the view `spans`."""
    parts = ["operation IS NOT NULL"]
    if selection.runs:
        parts = [f"run_id IN ({', '.join(map(_literal, selection.runs))})"]
    if selection.endpoints:
        parts.append(f"endpoint IN ({', '.join(map(_literal, selection.endpoints))})")
    if selection.since_us is not None:
        parts.append(f"started_at >= fromUnixTimestamp64Micro({selection.since_us}, 'UTC')")
    if selection.until_us is not None:
        parts.append(f"started_at < fromUnixTimestamp64Micro({selection.until_us}, 'UTC')")
    return " AND ".join(parts)


def composed(query: str, where: str, table: str) -> str:
    """The query with what engines/ has for ClickHouse before it: its functions, and `spans` out of the table."""
    query = _code(query)
    select = _code(sql_part("clickhouse_spans", "rows", "engines"))
    select = replaced(select, f"FROM {EXPORTER_TABLE}\n", f"FROM {table}\n")
    spans = ["all_spans AS (", select, "),", "spans AS (FROM all_spans SELECT * WHERE", where, ")"]
    own, rest = (",", query.removeprefix("WITH ")) if query.startswith("WITH ") else ("", query)
    return "\n".join([_code(sql_text("clickhouse", "engines")), ",", *spans, own, rest])


def _rows(store: Store, query: str, where: str) -> tuple[list[str], Sequence[Sequence[object]]]:
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        result = store.client.query(composed(query, where, store.address.table))
    except ClickHouseError as error:
        raise _refusal(error, store.address) from error
    return list(result.column_names), result.result_rows


def _refusal(error: Exception, address: Address) -> InputError:
    code = getattr(error, "code", None)
    if code is None:
        return InputError(
            f"can't reach ClickHouse's HTTP interface at '{address}' ({_reason(error)}); "
            f"it listens at port {_HTTP_PORT} as a rule, with TLS (?secure=true) at {_TLS_PORT}"
        )
    if code in (_WRONG_PASSWORD, _REFUSED):
        user = address.user or "default"
        return InputError(f"'{address}' refuses user '{user}'; name one that may read, with {PASSWORD_VARIABLE} set")
    if code == _UNKNOWN_DATABASE:
        return InputError(f"'{address}' has no database '{address.database}'; name the Collector's after the port")
    if code == _UNKNOWN_TABLE:
        return InputError(
            f"'{address}' has no table '{address.table}'; the Collector's clickhouse exporter makes it, "
            "under another name if its traces_table_name says so: ?table=NAME"
        )
    return InputError(f"'{address}' says: {str(error)[:300]}")


def _reason(error: BaseException) -> str:
    """What the innermost cause says: the client's own message tells of its pool and its retries first."""
    while error.__cause__ is not None:
        error = error.__cause__
    inner = getattr(error, "reason", error)
    return (getattr(inner, "strerror", None) or str(inner).rpartition(": ")[2] or type(inner).__name__)[:200]


def _code(sql: str) -> str:
    """A statement without its comments and its semicolon."""
    lines = (line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    return "\n".join(lines).strip().removesuffix(";")


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _identifier(text: str, what: str) -> str:
    if not _IDENTIFIER.fullmatch(text):
        raise InputError(f"--store: a {what} is named by letters, digits and _, not '{text}'")
    return text
