"""The spans that an OpenTelemetry Collector keeps in ClickHouse: the store's address, and the tables of sql/ over it.

Nothing is created on the server: each query begins with the view `spans` and the functions of engines/.
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
    """Where a store is. `str` of it has no user and no options, so messages may contain it."""

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
    """A ClickHouse server's client, and the address that it is connected to."""

    address: Address
    client: "Client"


def parse_address(text: str) -> Address:
    """The parts of `clickhouse://user@host:port/database?secure=true&table=otel_traces`; InputError if it isn't that.

    The port is that of ClickHouse's HTTP interface: by default 8123, and 8443 with TLS. The default database is
    `otel`, as in the Collector's examples.
    """
    # The messages don't contain the text, since it may contain a password.
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(f"--store isn't an address ({error}); write {_FORM}") from error
    if parts.scheme != "clickhouse" or not parts.hostname:
        raise InputError(f"--store must be the address of a ClickHouse server; write {_FORM}")
    if parts.password is not None:
        raise InputError(
            f"--store contains a password, which other users can see; remove it and set {PASSWORD_VARIABLE}"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {"secure", "table"})
    if unknown:
        raise InputError(f"--store: unknown option '{unknown[0]}'; its options: secure=true, table=NAME")
    if options.get("secure", "false") not in ("true", "false"):
        raise InputError("--store: secure must be true or false")
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
    """Connect to the store, with the password from the environment; InputError if that fails."""
    try:
        import clickhouse_connect
        from clickhouse_connect.driver.exceptions import ClickHouseError
    except ImportError as error:
        raise InputError("--store needs the extra 'clickhouse': pip install 'inference-dyno[clickhouse]'") from error
    # The client logs a failed connection; our own message says it already.
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
            # Our queries come one after another and share nothing, so a session would only hinder a load balancer.
            autogenerate_session_id=False,
        )
    except ClickHouseError as error:
        raise _refusal(error, address) from error
    # Each request says it from now on, and the server refuses whatever isn't reading. A user who is a reader by his
    # profile may not set it.
    now = client.server_settings.get("readonly")
    if now is None or now.value == "0":
        client.set_client_setting("readonly", "1")
    return Store(address, client)


def runs(store: Store) -> dict[str, float]:
    """Every run: its id -> its start (Unix seconds)."""
    query = (
        "SELECT run_id, toUnixTimestamp64Micro(min(started_at)) / 1e6 FROM spans "
        "WHERE run_id IS NOT NULL GROUP BY run_id"
    )
    _, found = _rows(store, query, "true")
    return {str(run_id): float(str(start)) for run_id, start in found}


def fetch(store: Store, table: str, row: type[Row], selection: Selection) -> list[Row]:
    """The rows of `sql/{table}.sql` over the selected spans. The table must be one that engines/ has functions for."""
    names, found = _rows(store, sql_text(table), condition(selection))
    expected = [column.name for column in fields(row)]
    # An empty result may have no column names.
    if found and names != expected:
        raise TypeError(f"{table}.sql and {row.__name__} differ: {names} and {expected}")
    return [row(*values) for values in found]


def stored_twice(store: Store, selection: Selection) -> int:
    """How many selected rows repeat another one's span: the Collector sends a batch again after a time-out."""
    _, found = _rows(store, "SELECT count() - uniqExact(trace_id, span_id) FROM spans", condition(selection))
    return int(str(found[0][0]))


def simulated_in_part(store: Store, selection: Selection) -> list[tuple[str, int, int]]:
    """The endpoints of whose selected requests some are simulated, and others aren't: name, simulated, all."""
    query = (
        "SELECT endpoint, countIf(simulated) AS made, count() AS requests FROM spans "
        "WHERE endpoint IS NOT NULL GROUP BY endpoint HAVING made > 0 AND made < requests ORDER BY endpoint"
    )
    _, found = _rows(store, query, condition(selection))
    return [(str(name), int(str(made)), int(str(requests))) for name, made, requests in found]


def condition(selection: Selection) -> str:
    """The selection as a condition in ClickHouse's SQL over the view `spans`."""
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
    """The query, preceded by what engines/ has for ClickHouse: the functions, and `spans` as a query of the table."""
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
        return InputError(f"'{address}' refuses user '{user}'; name a user that may read, and set {PASSWORD_VARIABLE}")
    if code == _UNKNOWN_DATABASE:
        return InputError(
            f"'{address}' has no database '{address.database}'; write the Collector's database after the port"
        )
    if code == _UNKNOWN_TABLE:
        return InputError(
            f"'{address}' has no table '{address.table}'; if the Collector's clickhouse exporter sets "
            "traces_table_name, add ?table=NAME"
        )
    return InputError(f"'{address}' says: {str(error)[:300]}")


def _reason(error: BaseException) -> str:
    """The innermost cause's message: the client's own begins with its pool and its retries."""
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
        raise InputError(f"--store: the {what}'s name '{text}' must consist of letters, digits and _")
    return text
