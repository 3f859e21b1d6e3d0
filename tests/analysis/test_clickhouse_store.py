"""`dyno report --store`: the headline tables over a Collector's ClickHouse, the same figures as over span files.

ClickHouse is the real engine (chdb) behind its HTTP interface (clickhouse_server.py); the spans come by OTLP's encoder.
"""

import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, Final

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from opentelemetry.sdk.resources import Resource

from dyno_analysis.clickhouse import store as clickhouse_store
from dyno_analysis.clickhouse.store import Address, Store, parse_address
from dyno_analysis.errors import InputError
from dyno_analysis.query import fetch, row_types
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.selection import Selection, select
from dyno_proxy.exchange.record import Record
from dyno_proxy.outcomes import OUTCOMES
from dyno_proxy.telemetry.span import record_span, scope, span_row
from rigs import clickhouse_server
from rigs.network import refusing_port
from rigs.otel_traces import TABLE, insert_sql
from rigs.programs import running
from rigs.records import record, unstreamed
from rigs.stored_spans import write

PASSWORD: Final = "no-one-may-see-this"  # noqa: S105
TABLES: Final[list[tuple[str, type[Any]]]] = [
    ("comparison", row_types.EndpointRow),
    ("percentiles", row_types.PercentileRow),
    ("failures", row_types.FailureRow),
    ("instrument", row_types.InstrumentRow),
]
RUNS: Final = ("run_a", "run_b's \\")
STARTED_US: Final = 1_795_557_540_000_000


def some_record(number: int, chance: random.Random) -> Record:
    """A request as it might be: any outcome, streamed or not, with or without usage, reasoning and tags."""
    ttft_us = round(1e6 * chance.lognormvariate(-1.5, 0.5))
    tokens = chance.randint(1, 400)
    spread_us = 0 if chance.random() < 0.02 else round(tokens * chance.uniform(2_000, 9_000))

    def maybe(value: object, share: float = 0.9) -> object:
        return value if chance.random() < share else None

    endpoint = chance.choice(["metis", "sophia", "ünïcode 'quoted'"]) if chance.random() < 0.99 else None
    changes: dict[str, Any] = {
        "trace_id": number + 1,
        "span_id": number + 1,
        "parent_span_id": maybe(number + 7, 0.5),
        "started_at_unix_us": STARTED_US + number * 1_003,
        "duration_us": ttft_us + spread_us + chance.randint(0, 999),
        "endpoint": endpoint,
        "provider": maybe("vllm"),
        "operation": maybe("chat", 0.98),
        "model": chance.choice(["gpt-oss-120b", "openai/gpt-oss-120b", None]),
        "simulated": endpoint == "metis",
        "finish_reasons": chance.choice([("stop",), ("length",), (), ("stop", "length")]),
        "input_tokens": maybe(chance.randint(1, 9_000)),
        "output_tokens": maybe(tokens),
        "reasoning_tokens": maybe(chance.randint(0, tokens), 0.3),
        "reasoning_streamed": chance.random() < 0.5,
        "reasoning_hidden": maybe(True, 0.05),
        "first_chunk_tokens": maybe(chance.randint(1, 3), 0.1),
        "usage_source": chance.choice(["server", "chunks", None]),
        "overhead_us": maybe(chance.randint(50, 900)),
        "overhead_end_us": maybe(chance.randint(50, 900)),
        "loop_lag_us": maybe(chance.randint(0, 3_000)),
        "server_ttft_s": maybe(ttft_us / 1e6, 0.2),
        "baggage": {
            "dyno.run.id": chance.choice(RUNS),
            "dyno.prompt.id": str(chance.randint(0, 99)),
            **({"dyno.warmup": chance.random() < 0.5} if chance.random() < 0.2 else {}),
            **({"dyno.send_lag_s": chance.random() / 1e3} if chance.random() < 0.5 else {}),
        }
        if chance.random() < 0.9
        else {},
    }
    if chance.random() < 0.2:
        outcome = chance.choice(OUTCOMES)
        changes |= {
            "outcome": outcome,
            "status": chance.choice([None, 429, 500]),
            "error_type": None if outcome == "ok" else chance.choice(["429", "500", outcome]),
        }
    if chance.random() < 0.3:
        return unstreamed(**changes | {"usage_source": "server"})
    if changes.get("usage_source") == "chunks":
        changes["output_tokens"] = 2  # as many as there are chunks
    events = {"first_token_us": ttft_us, "first_event_us": ttft_us, "last_token_us": ttft_us + spread_us}
    answer = {"first_answer_us": maybe(ttft_us + spread_us // 2), "chunk_offsets_us": (ttft_us, ttft_us + spread_us)}
    return record(**changes, **events, **answer)


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Record], Path]:
    """4,000 requests, and the folder with their span files."""
    chance = random.Random(0)  # noqa: S311
    records = [some_record(number, chance) for number in range(4_000)]
    made = [record_span(each, resource=Resource({}), scope=scope("0"), sampled=True) for each in records]
    folder = tmp_path_factory.mktemp("spans")
    write(folder, [span_row(span, seq) for seq, span in enumerate(made, start=1)])
    return records, folder


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("clickhouse")
    command = [sys.executable, clickhouse_server.__file__, "0", PASSWORD]
    # It leaves its files where it ran.
    environment = {**os.environ, "TMPDIR": str(folder)}
    with running(command, r"^(\d+)$", folder / "log", environment) as (match,):
        yield int(match[1])


@pytest.fixture(scope="module")
def writer(port: int) -> Iterator[Client]:
    """A client that may write, which Dyno's own may not."""
    with clickhouse_connect.get_client(host="127.0.0.1", port=port, username="default", password=PASSWORD) as client:
        yield client


@pytest.fixture(scope="module")
def store(port: int, writer: Client, spans: tuple[list[Record], Path]) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(clickhouse_store.PASSWORD_VARIABLE, PASSWORD)
        opened = clickhouse_store.connect(parse_address(f"clickhouse://default@127.0.0.1:{port}/default"))
    writer.command(TABLE.format(table="otel_traces"))
    writer.command(insert_sql("otel_traces", spans[0]))
    yield opened
    opened.client.close()


@pytest.mark.parametrize("statement", ["DROP TABLE otel_traces", "INSERT INTO otel_traces (TraceId) VALUES ('x')"])
def test_the_server_refuses_writes(store: Store, statement: str) -> None:
    """Each request says that it only reads, so the server itself refuses what isn't a query."""
    assert store.client.get_client_setting("readonly") == "1"
    with pytest.raises(DatabaseError, match="readonly"):
        store.client.command(statement)
    assert store.client.query("SELECT count() FROM otel_traces").result_rows == [(4_000,)]


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(Selection(), id="all traffic"),
        pytest.param(Selection(runs=RUNS), id="two runs"),
        pytest.param(Selection(runs=["run_b's \\"], endpoints=["ünïcode 'quoted'", "metis"]), id="names with quotes"),
        pytest.param(Selection(since_us=STARTED_US + 1_003_000, until_us=STARTED_US + 2_006_000), id="a time range"),
        pytest.param(Selection(endpoints=["metis"], until_us=STARTED_US + 1), id="one span"),
        pytest.param(Selection(runs=["none"]), id="nothing"),
    ],
)
@pytest.mark.parametrize(("table", "row"), TABLES, ids=[name for name, _ in TABLES])
def test_tables_agree_with_duckdb(
    store: Store, spans: tuple[list[Record], Path], table: str, row: type[Any], chosen: Selection
) -> None:
    """The same rows in the same order; texts and counts equal, figures to nine digits."""
    found = clickhouse_store.fetch(store, table, row, chosen)
    with span_folder.connect(spans[1]) as connection:
        select(connection, chosen)
        expected = fetch.fetch(connection, table, row)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for column, a, b in zip(fields(ours), astuple(ours), astuple(theirs), strict=True):
            assert same(a, b), f"{table}.{column.name}: {a} and {b}"


def test_the_spans_are_of_every_kind(store: Store) -> None:
    """The spans that are compared above have every outcome, and unknown and infinite figures."""
    failures = clickhouse_store.fetch(store, "failures", row_types.FailureRow, Selection())
    assert {row.outcome for row in failures} | {"ok"} == set(OUTCOMES)
    assert {row.endpoint for row in failures} >= {None, "metis"}
    figures = clickhouse_store.fetch(store, "percentiles", row_types.PercentileRow, Selection())
    known = {row.figure: row.n for row in figures if row.endpoint == "metis"}
    assert len(known) == 9
    assert known["tpot_s"] < known["ttft_s"] < known["latency_s"] < known["latency_adjusted_s"]
    assert any(math.isinf(row.p99) for row in figures)
    (metis,) = [
        r for r in clickhouse_store.fetch(store, "comparison", row_types.EndpointRow, Selection()) if r.warmups
    ][:1]
    assert min(metis.cancelled, metis.rejected, metis.cut_by_length, metis.counted_by_chunks) > 0
    assert metis.models == "gpt-oss-120b, openai/gpt-oss-120b"


def test_view_agrees_with_duckdb_column_by_column(store: Store, spans: tuple[list[Record], Path]) -> None:
    """Every column of `spans` but the map, the lists and a row's place holds the same for every request."""
    with span_folder.connect(spans[1]) as connection:
        described = [name for name, *_ in connection.execute("DESCRIBE spans").fetchall()]
    left_out = ("attributes", "chunk_offsets_us", "finish_reasons", "writer", "seq")
    names = [name for name in described if name not in left_out]
    times = {name: f"epoch_us({name})" for name in ("started_at", "due_at", "ended_at")}
    theirs = {name: f"toUnixTimestamp64Micro({name})" for name in times}
    asked = ", ".join(theirs.get(name, name) for name in names)
    text = clickhouse_store.composed(f"SELECT {asked} FROM spans ORDER BY span_id", "true", "otel_traces")  # noqa: S608
    found = store.client.query(text).result_rows
    with span_folder.connect(spans[1]) as connection:
        asked = ", ".join(times.get(name, name) for name in names)
        expected = connection.execute(f"FROM spans SELECT {asked} ORDER BY span_id").fetchall()
    assert len(found) == len(expected) == 4_000
    for ours, own in zip(found, expected, strict=True):
        for name, a, b in zip(names, ours, own, strict=True):
            assert same(a, b), f"{name}: {a} and {b}"


def test_report_prints_what_the_report_over_files_prints(
    port: int, store: Store, spans: tuple[list[Record], Path]
) -> None:
    """The comparison, the outcomes and the instrument's table are the same text; exit code 1 says that some failed."""
    assert store.address.port == port
    over_store = dyno("report", *RUNS, "--pool", "--store", f"clickhouse://127.0.0.1:{port}/default")
    over_files = dyno("report", *RUNS, "--pool", "--spans", str(spans[1]))
    assert (over_store.returncode, over_files.returncode) == (1, 1), over_store.stderr
    for title in ("Comparison", "Requests that were not ok", "The instrument's own error"):
        assert section(over_store.stdout, title) == section(over_files.stdout, title)
    assert "Verdicts and inter-chunk latency need the span files" in over_store.stdout
    assert "faster (" not in over_store.stdout
    assert "higher (" not in over_store.stdout.replace("success rate", "\n").partition("avg response")[0]


def test_spans_that_came_twice_are_counted_and_named(
    store: Store, writer: Client, spans: tuple[list[Record], Path]
) -> None:
    """A batch that the Collector sent again is stored twice, and the report says so."""
    writer.command(TABLE.format(table="twice"))
    for part in (spans[0][:50], spans[0][:7]):
        writer.command(insert_sql("twice", part))
    twice = Store(parse_address(f"clickhouse://127.0.0.1:{store.address.port}/default?table=twice"), store.client)
    again = sum(each.operation is not None for each in spans[0][:7])
    assert clickhouse_store.stored_twice(twice, Selection()) == again
    done = dyno("report", "--since", "2020-01-01", "--store", f"{twice.address}?table=twice")
    assert f"{again} spans are stored twice" in done.stdout


def test_simulated_and_real_in_one_column_are_named(store: Store, writer: Client) -> None:
    """Where an endpoint's requests are partly simulated, the store's report says of how many."""
    writer.command(TABLE.format(table="demo"))
    records = [record(trace_id=n, span_id=n, endpoint="metis", simulated=n < 3) for n in range(1, 6)]
    writer.command(insert_sql("demo", records))
    address = f"clickhouse://127.0.0.1:{store.address.port}/default?table=demo"
    done = dyno("report", "--since", "2020-01-01", "--store", address)
    assert "2 of 5 requests of metis are simulated, and in one column with the others" in done.stdout


def test_other_services_spans_are_left_out(store: Store, writer: Client, spans: tuple[list[Record], Path]) -> None:
    """Clients and engines send into the same table; only what has an outcome is a request of ours."""
    writer.command(TABLE.format(table="mixed"))
    writer.command(insert_sql("mixed", spans[0][:20]))
    writer.command(
        "INSERT INTO mixed (Timestamp, TraceId, SpanId, ServiceName, SpanAttributes) "
        "VALUES ('2026-11-24 21:59:00', 'a', 'b', 'vllm', map('gen_ai.operation.name', 'chat'))"
    )
    text = clickhouse_store.composed("SELECT count() FROM spans", "true", "mixed")
    assert store.client.query(text).result_rows == [(20,)]


def test_refusals_are_one_line_without_the_password(port: int, store: Store) -> None:
    """If a store can't be reached, refuses us, or lacks what is asked for: exit code 2, and one line with the mend."""
    there = f"clickhouse://reader@127.0.0.1:{port}/default"
    for arguments, said in (
        ([f"clickhouse://127.0.0.1:{refusing_port()}/otel"], "can't reach ClickHouse's HTTP interface at"),
        ([f"{there}?table=nothing"], "has no table 'nothing'"),
        (["run_z", "--store", there], "no run 'run_z' in"),
        ([there, "--endpoints", "cerebras"], "no request of endpoint 'cerebras'"),
        ([there, "--since", "2090-01-01"], "no chosen request in"),
        ([there, "--out", "out"], "--out needs span files"),
        ([there, "--paired-by", "mirror"], "--paired-by mirror needs span files"),
        ([there, "--spans", "elsewhere"], "--spans needs span files"),
    ):
        options = arguments if "--store" in arguments else ["--store", *arguments]
        assert said in refusal(*options)
    assert "refuses user 'reader'" in refusal("--store", there, password="wrong-and-secret")  # noqa: S106
    assert store.client.query("SELECT 1").result_rows == [(1,)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://h/otel", "must be the address of a ClickHouse server"),
        ("clickhouse:///otel", "must be the address of a ClickHouse server"),
        ("clickhouse://h:port/otel", "isn't an address"),
        ("clickhouse://h/otel?tls=yes", "unknown option 'tls'"),
        ("clickhouse://h/otel?secure=yes", "secure must be true or false"),
        ("clickhouse://h/otel;DROP", "must consist of letters"),
        ("clickhouse://h/otel?table=a.b", "must consist of letters"),
        (f"clickhouse://me:{PASSWORD}@h/otel", f"set {clickhouse_store.PASSWORD_VARIABLE}"),
        (f"clickhouse://me:{PASSWORD}@h:port/otel", "isn't an address"),
    ],
)
def test_addresses_that_are_none(text: str, said: str) -> None:
    """An address is checked before the server is asked, and no message contains its password."""
    with pytest.raises(InputError, match=said) as refused:
        parse_address(text)
    assert PASSWORD not in str(refused.value)


def test_addresses() -> None:
    """A part of the address that is left out has the Collector's or ClickHouse's default."""
    assert parse_address("clickhouse://h") == Address("h", 8123, None, "otel", "otel_traces", False)
    assert parse_address("clickhouse://me%40x@h:9/d?secure=true&table=t") == Address("h", 9, "me@x", "d", "t", True)
    assert parse_address("clickhouse://h?secure=true").port == 8443
    assert str(parse_address("clickhouse://me@h/d")) == "clickhouse://h:8123/d"


def same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9) or (math.isinf(a) and a == b)
    return a == b


def section(output: str, title: str) -> list[str]:
    """The printed table whose title begins so, up to the empty line after it."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(title))
    return lines[start : lines.index("", start)]


def refusal(*options: str, password: str = PASSWORD) -> str:
    done = dyno("report", *options, password=password)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert password not in done.stderr
    return done.stderr


def dyno(*arguments: str, password: str = PASSWORD) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, clickhouse_store.PASSWORD_VARIABLE: password}
    command = [sys.executable, "-m", "dyno", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=120, check=False)
