"""The views over collected spans: what a row says, and whose time goes where."""

import json
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb
import pytest

import dyno_analysis
from dyno_analysis.compaction.compaction import STALE_S, Compaction, expire_all
from dyno_analysis.compaction.retention import Keep
from dyno_analysis.ingest.otlp.genai import _OTHER_NAMES
from dyno_analysis.spans.file_names import SEEDS, parse
from dyno_analysis.spans.sql_text import sql_text
from dyno_analysis.spans.views import list_files
from rigs.collected_rows import TRACE, VLLM, collected, engine, request, sid, store
from rigs.dyno_command import dyno, refusal
from rigs.imports import SAMPLES
from rigs.stored_spans import STARTED_AT_US, span, write

Rows = list[tuple[Any, ...]]


def ask(folder: Path, query: str) -> Rows:
    with dyno_analysis.connect(folder) as connection:
        return connection.execute(query).fetchall()


def test_what_a_row_says(tmp_path: Path) -> None:
    """vLLM's own span, as its exporter sends it: figures in columns, everything else in the map."""
    sample = json.loads((SAMPLES / "vllm_0.29_llm_request.json").read_text())
    (sent,) = sample["resourceSpans"][0]["scopeSpans"][0]["spans"]
    attributes = {one["key"]: str(next(iter(one["value"].values()))) for one in sent["attributes"]}
    # This span has no kind; it counts as a server's, since it has figures that only engines measure.
    row = collected("vllm", "UNSPECIFIED", attributes=attributes | {"resource.service.name": "vllm"})
    store(tmp_path, [], [row, collected("app", "INTERNAL")])
    columns = "service, queue_s, prefill_s, decode_s, ttft_s, input_tokens, output_tokens, latency_s, error"
    expected = ("vllm", 5.4589007049798965e-05, 0.057814636995317414, 0.13830458300071768, 0.11554598808288574)
    assert ask(tmp_path, f"FROM server_spans SELECT {columns}") == [(*expected, 14, 8, 0.9, None)]
    assert ask(tmp_path, "SELECT name FROM collected_spans ORDER BY name") == [("app",), ("vllm",)]
    assert ask(tmp_path, "SELECT attributes['gen_ai.request.id'] FROM server_spans") == [("req-vllm-029-001",)]


def test_a_spans_own_attributes_stay_in_the_map(tmp_path: Path) -> None:
    """What other programs say under a name that has a column is in the map all the same, as in older rows."""
    said = {
        "user_agent.original": "agent/1.2",
        "client.address": "::1",
        "session.id": "ses",
        "gen_ai.request.reasoning.level": "low",
    }
    columns: dict[str, Any] = {"user_agent": "agent/1.2", "client_address": "::1"}
    columns |= {"session_id": "ses", "reasoning_level": "low"}
    later = collected("2", "CLIENT", v=2, attributes={"a": "b"}, **columns)
    bare = collected("3", "CLIENT", v=2, session_id="ses")
    store(tmp_path, [], [collected("1", "CLIENT", attributes=said | {"a": "b"}), later, bare])
    found = ask(tmp_path, "SELECT attributes FROM collected_spans ORDER BY name")
    assert found == [(said | {"a": "b"},), (said | {"a": "b"},), ({"session.id": "ses"},)]


def test_errors(tmp_path: Path) -> None:
    """`error` is the error's type, or else what the status says; it is NULL for a span that didn't fail."""
    failed = {"otel.status_code": "ERROR"}
    store(
        tmp_path,
        [],
        [
            collected("1", "SERVER", error_type="timeout", attributes=failed),
            collected("2", "SERVER", attributes=failed | {"otel.status_description": "no memory"}),
            collected("3", "SERVER", attributes=failed),
            collected("4", "SERVER", attributes={"otel.status_code": "OK", "otel.status_description": "x"}),
        ],
    )
    found = ask(tmp_path, "SELECT error FROM server_spans ORDER BY name")
    assert found == [("timeout",), ("no memory",), ("ERROR",), (None,)]


@pytest.mark.parametrize("column", ["model", "input_tokens", "output_tokens", "method", "status", "path"])
def test_other_generations_names(tmp_path: Path, column: str) -> None:
    """The view knows every name of a column that `dyno import` knows."""
    for name in _OTHER_NAMES[column]:
        store(tmp_path, [], [collected("c", "CLIENT", attributes={name: "7"})])
        assert str(ask(tmp_path, f"SELECT {column} FROM collected_spans")[0][0]) == "7"  # noqa: S608


def test_nothing_collected(tmp_path: Path) -> None:
    """Without the folder, or without a file in it, the views are there and empty; requests have their own parts."""
    write(tmp_path, [request("p")])
    for make in (False, True):
        if make:
            (tmp_path / "collected").mkdir()
        assert ask(tmp_path, "SELECT count(*) FROM collected_spans") == [(0,)]
        assert ask(tmp_path, "SELECT count(*) FROM server_spans") == [(0,)]
        found = ask(tmp_path, "SELECT proxy_s, upstream_s, client_s, gateway_s, queue_s, rest_s FROM request_phases")
        assert found == [(0.001, 0.969, None, None, None, None)]


def test_pasteable_by_a_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files as they stand, one after the other, in a plain DuckDB beside `spans/`."""
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "spans", [request("p", "c")], [engine("s", "p")])
    for folder in ("spans", "spans/collected"):
        for seed in SEEDS:
            content = (resources.files("dyno_proxy") / f"seed{Path(seed).suffix}").read_bytes()
            (tmp_path / folder / seed).write_bytes(content)
    with duckdb.connect() as connection:
        for name in ("spans", "collected_spans", "server_spans", "request_phases"):
            connection.execute(sql_text(name))
        assert connection.execute("SELECT queue_s FROM request_phases").fetchall() == [(0.1,)]


# Request, the client's spans and servers' spans; then queue_s, server_source, server span, server_spans.
ENGINE = (0.1, "engine span")
UNKNOWN = (None, None, None)
C1: dict[str, Any] = {"response_id": "chatcmpl-1"}
C2: dict[str, Any] = {"response_id": "chatcmpl-2"}
NAMED = {**VLLM, "gen_ai.request.id": "chatcmpl-2-0"}

JOINS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, tuple[Any, ...]]]] = {
    "the proxy's span is the parent": (
        [request("p", "c")],
        [engine("s", "p")],
        {"p": (*ENGINE, "s", 1)},
    ),
    "the client's traceparent passed as it came": (
        [request("p", "c")],
        [engine("s", "c")],
        {"p": (*ENGINE, "s", 1)},
    ),
    "two requests, each of its own client span": (
        [request("p1", "c1"), request("p2", "c2")],
        [engine("s1", "c1"), engine("s2", "c2", attributes=VLLM | {"gen_ai.latency.time_in_queue": "0.7"})],
        {"p1": (*ENGINE, "s1", 1), "p2": (0.7, "engine span", "s2", 1)},
    ),
    "two requests of one client span: nobody can tell": (
        [request("p1", "c"), request("p2", "c")],
        [engine("s1", "c"), engine("s2", "c")],
        {"p1": (*UNKNOWN, 0), "p2": (*UNKNOWN, 0)},
    ),
    "but their response ids can": (
        [request("p1", "c", **C1), request("p2", "c", **C2)],
        [engine("s1", "c", **C1), engine("s2", "c", attributes=NAMED)],
        {"p1": (*ENGINE, "s1", 1), "p2": (*ENGINE, "s2", 1)},
    ),
    "an id that all share tells nothing": (
        [request("p1", "c", **C1), request("p2", "c", **C1)],
        [engine("s1", "c", **C1), engine("s2", "c", **C1)],
        {"p1": (*UNKNOWN, 0), "p2": (*UNKNOWN, 0)},
    ),
    "an id of another trace isn't it": (
        [request("p", None, **C1)],
        [engine("s", None, trace_id="b" * 32, **C1)],
        {"p": (*UNKNOWN, 0)},
    ),
    "a refused request reached nobody": (
        [request("p1", "c", outcome="rejected"), request("p2", "c")],
        [engine("s", "c")],
        {"p1": (*UNKNOWN, 0), "p2": (*ENGINE, "s", 1)},
    ),
    "a span that was exported twice": (
        [request("p", "c")],
        [engine("s", "p"), engine("s", "p"), collected("c", "CLIENT", None, 1.2), collected("c", "CLIENT", None, 1.2)],
        {"p": (*ENGINE, "s", 1)},
    ),
    "a gateway before the engine": (
        [request("p", "c")],
        [collected("g", "SERVER", "p", 0.95), collected("gc", "CLIENT", "g", 0.94), engine("s", "gc")],
        {"p": (*ENGINE, "s", 1)},
    ),
    "a gateway alone": (
        [request("p", "c")],
        [collected("g", "SERVER", "p", 0.95), collected("inner", "SERVER", "g", 0.5)],
        {"p": (None, "server span", "g", 1)},
    ),
    "a retry of the proxy: the attempt that worked": (
        [request("p", "c")],
        [engine("s1", "p", error_type="500"), engine("s2", "p")],
        {"p": (*ENGINE, "s2", 1)},
    ),
    "two engine spans of one request": (
        [request("p", "c")],
        [engine("s1", "p"), engine("s2", "p")],
        {"p": (*UNKNOWN, 2)},
    ),
    "the server that called is not the one that served": (
        [request("p", "c")],
        [collected("app", "SERVER", None, 2.0), collected("c", "CLIENT", "app", 1.1)],
        {"p": (*UNKNOWN, 0)},
    ),
    "another server that the same client called": (
        [request("p", "step")],
        [collected("tool", "SERVER", "step", 0.2, path="/search"), collected("step", "INTERNAL", None, 2.0)],
        {"p": (*UNKNOWN, 0)},
    ),
    "a gateway by the request's path": (
        [request("p", "c")],
        [collected("g", "SERVER", "c", 0.5, path="/api/v1/chat/completions")],
        {"p": (None, "server span", "g", 1)},
    ),
    "spans that are each other's parent": (
        [request("p", "x")],
        [engine("x", "y"), collected("y", "CLIENT", "x")],
        {"p": (*UNKNOWN, 0)},
    ),
}


@pytest.mark.parametrize("case", JOINS)
def test_whose_server_span_it_is(tmp_path: Path, case: str) -> None:
    """Each request gets its own server's span or none, and stays one row."""
    requests, others, expected = JOINS[case]
    store(tmp_path, requests, others)
    query = "SELECT span_id, queue_s, server_source, server_span_id, server_spans FROM request_phases"
    found = {row[0]: row[1:] for row in ask(tmp_path, query)}
    wanted = {sid(name): (*row[:2], row[2] and sid(row[2]), row[3]) for name, row in expected.items()}
    assert found == wanted
    assert ask(tmp_path, "SELECT count(*) FROM request_phases") == [(len(requests),)]


def test_narrowing_makes_nothing_unambiguous(tmp_path: Path) -> None:
    """A request that --endpoint leaves out still counts as another request of the trace."""
    store(tmp_path, [request("p1", "c"), request("p2", "c", endpoint="sophia")], [engine("s", "c")])
    query = "SELECT endpoint, server_spans FROM request_phases"
    done = dyno("sql", query, "--spans", tmp_path, "--format", "csv", "--endpoint", "sophia")
    assert done.stdout == "endpoint,server_spans\nsophia,0\n"


PARTS = "client_s, body_s, connect_s, proxy_s, upstream_s, gateway_s, server_s, queue_s, prefill_s, decode_s, rest_s"


def parts(folder: Path) -> dict[str, float | None]:
    (row,) = ask(folder, f"SELECT {PARTS} FROM request_phases")  # noqa: S608
    return {
        name: None if value is None else round(value, 6) for name, value in zip(PARTS.split(", "), row, strict=True)
    }


def test_where_the_time_went(tmp_path: Path) -> None:
    """By hand: the parts of each level add up to the span that they are parts of."""
    store(tmp_path, [request("p", "c")], [collected("c", "CLIENT", None, 1.25), engine("s", "p")])
    assert parts(tmp_path) == {
        "client_s": 0.25,  # 1.25 - 1
        "body_s": 0.01,
        "connect_s": 0.02,  # 0.03 - 0.01
        "proxy_s": 0.001,
        "upstream_s": 0.969,  # 1 - 0.03 - 0.001
        "gateway_s": 0.069,  # 0.969 - 0.9
        "server_s": 0.9,
        "queue_s": 0.1,
        "prefill_s": 0.2,
        "decode_s": 0.4,
        "rest_s": 0.2,  # 0.9 - 0.7
    }


def test_what_the_response_reported(tmp_path: Path) -> None:
    """Without an engine's span, the engine's figures in the response count, and the source says so."""
    said = {"dyno.server.prefill_s": "0.2", "dyno.server.decode_s": "0.5"}
    store(tmp_path, [request("p", server_queue_s=0.05, server_latency_s=0.8, attributes=said)], [])
    found = parts(tmp_path)
    assert (found["gateway_s"], found["server_s"], found["rest_s"]) == (0.169, 0.8, 0.05)
    sources = "DISTINCT unnest([server_source, queue_source, prefill_source, decode_source])"
    assert ask(tmp_path, f"SELECT {sources} FROM request_phases") == [("reported in the response",)]  # noqa: S608


def test_what_cannot_be_known(tmp_path: Path) -> None:
    """A part that can't be known is NULL, never 0 or negative: a span that doesn't contain the request isn't used."""
    others = [
        engine("s", "p", 0.98, attributes={"gen_ai.latency.time_in_queue": "0.1"}),
        collected("c", "CLIENT", None, 0.3),
    ]
    store(tmp_path, [request("p", "c")], others)
    found = parts(tmp_path)
    # The server's took longer than the proxy waited; the client's ended before the request did.
    assert (found["gateway_s"], found["client_s"], found["rest_s"], found["prefill_s"]) == (None, None, None, None)
    write(tmp_path, [span(trace_id=TRACE, outcome="upstream_unreachable")])
    assert {name for name, value in parts(tmp_path).items() if value is not None} == set()


@pytest.mark.parametrize(
    ("others", "client", "client_s"),
    [
        ([collected("c", "CLIENT", None, 1.1)], "c", 0.1),
        # An HTTP library's span ends at the head of a stream; the SDK's around it holds all.
        ([collected("c", "CLIENT", "sdk", 0.3), collected("sdk", "CLIENT", None, 1.5)], "sdk", 0.5),
        ([collected("c", "CLIENT", "sdk", 1.1), collected("sdk", "CLIENT", None, 1.5)], "c", 0.1),
        ([collected("c", "INTERNAL", None, 1.5)], None, None),
        ([], None, None),
    ],
)
def test_the_clients_span(tmp_path: Path, others: list[dict[str, Any]], client: str | None, client_s: float) -> None:
    """The nearest client's span that holds the request."""
    store(tmp_path, [request("p", "c")], others)
    expected = [(client and sid(client), client_s)]
    assert ask(tmp_path, "SELECT client_span_id, round(client_s, 6) FROM request_phases") == expected


def test_a_clients_retries(tmp_path: Path) -> None:
    """A client's span that contains two requests belongs to neither of them."""
    store(tmp_path, [request("p1", "c"), request("p2", "c")], [collected("c", "CLIENT", None, 3.0)])
    assert ask(tmp_path, "SELECT client_s FROM request_phases") == [(None,), (None,)]


def test_sql_reads_collected_files_and_no_others(tmp_path: Path) -> None:
    """The views work after the lock too, and the suggestions for a misspelt name include them."""
    store(tmp_path, [request("p", "c")], [engine("s", "p")])
    (tmp_path / "collected" / "notes.txt").write_text("x")
    done = dyno("sql", "SELECT count(*) AS n FROM server_spans", "--spans", tmp_path, "--format", "csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, "n\n1\n", "")
    assert '"server_spans"' in refusal("sql", "FROM server_span", "--spans", tmp_path)
    assert '"request_phases"' in refusal("sql", "FROM request_phase", "--spans", tmp_path)
    refusal("sql", f"FROM read_text('{tmp_path}/collected/notes.txt')", "--spans", tmp_path)
    assert len(list_files(tmp_path).all()) == 2


def old(folder: Path, name: str, days: int, rows: int = 1) -> None:
    at_us = STARTED_AT_US - days * 86_400_000_000
    journal = write(folder, [collected(f"{name}{n}", "SERVER", started_at_us=at_us + n) for n in range(rows)])
    journal.rename(folder / f"import_{name}-000000000001.jsonl")


def test_compact_takes_the_collected_too(tmp_path: Path) -> None:
    """Journals of both folders become Parquet, with every attribute; --keep by age holds in both."""
    old(tmp_path, "a", 1)
    old(tmp_path / "collected", "b", 1)
    old(tmp_path / "collected", "c", 900)
    before = ask(tmp_path, "SELECT COLUMNS(*)::VARCHAR FROM collected_spans ORDER BY ALL")
    done = dyno("compact", "--spans", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "collected: import_b-000000000001.jsonl: becomes Parquet" in done.stdout
    assert {path.suffix for path in list_files(tmp_path).all()} == {".parquet"}
    assert ask(tmp_path, "SELECT COLUMNS(*)::VARCHAR FROM collected_spans ORDER BY ALL") == before
    age_days = (datetime.now(UTC) - datetime.fromtimestamp(STARTED_AT_US / 1e6, UTC)).days + 30
    assert dyno("compact", "--spans", tmp_path, "--keep", f"{max(age_days, 30)}d").returncode == 0
    assert ask(tmp_path, "SELECT name FROM collected_spans") == [("b0",)]
    assert ask(tmp_path, "SELECT count(*) FROM spans") == [(1,)]


def writer(path: Path) -> str:
    file = parse(path.name)
    assert file is not None
    return file.writer.removeprefix("import_")


def test_a_size_is_that_of_both_folders(tmp_path: Path) -> None:
    """The oldest of either folder goes first, until all of them together are small enough."""
    now = datetime.now(UTC) + timedelta(seconds=STALE_S)
    folders = [tmp_path, tmp_path / "collected"]
    for folder, name, days in ((folders[0], "a", 1), (folders[1], "b", 5), (folders[0], "c", 9)):
        old(folder, name, days)
    problems: list[str] = []
    compactions = [Compaction(folder, now, lambda _: None, problems.append, dry=False) for folder in folders]
    for compaction in compactions:
        compaction.convert()
    sizes = {writer(path): path.stat().st_size for path in list_files(tmp_path).all()}
    for kept, names in (("ab", ["a0", "b0"]), ("a", ["a0"])):
        expire_all(compactions, Keep(size_bytes=sum(sizes[name] for name in kept)), now)
        found = "SELECT trace_id, name FROM collected_spans UNION ALL SELECT trace_id, 'a0' FROM spans"
        assert sorted(name for _, name in ask(tmp_path, found)) == names
        # A file without rows doesn't count, however large it is.
        sizes |= {writer(path): path.stat().st_size for path in list_files(tmp_path).all()}
    assert problems == []
