"""`dyno import` of files of the published shape, complete or not, and of our own results; and what it refuses."""

import copy
import json
import zlib
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dyno_analysis.ingest.formats.published_results import EVENTS, OUTCOMES, OWN_COLUMNS
from dyno_analysis.ingest.journal import LEADING_KEYS, journal_line
from dyno_analysis.runs.folder import ANSWER_COLUMNS, PROMPT_COLUMNS
from dyno_analysis.spans import folder as span_folder
from dyno_driver import run_record
from dyno_proxy import attributes, outcomes
from dyno_proxy.telemetry import journal
from dyno_proxy.telemetry.span import COLUMNS
from rigs.dyno_command import dyno, refusal
from rigs.shared_data import PUBLISHED, needs_shared
from rigs.stored_spans import pair, streamed, write


def results(name: str = "metis", **changes: Any) -> dict[str, Any]:
    """A results file of the published shape with one request; `changes` are the request's."""
    result = {
        "endpoint": name,
        "prompt_id": 1,
        "prompt": "Context: C.\n\nQuestion: Q?\n\nAnswer:",
        "run": 1,
        "response": "gold",
        "latency_sec": 1.25,
        "metadata": {"model": "m", "finish_reason": "stop", "prompt_tokens": 8, "completion_tokens": 4},
        **changes,
    }
    return {
        "timestamp": "2025-12-01T19:15:58.240804",
        "dataset": {"name": "SQuAD", "version": "1.1"},
        "models": {name: "m"},
        name: {"results": [result], "statistics": {"num_requests": 1}},
    }


def save(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def imported(folder: Path, document: object) -> Path:
    """Import a document; returns the spans folder."""
    done = dyno("import", save(folder / "r.json", document), "--spans", folder / "spans")
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "spans"


def spans(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    with span_folder.connect(folder) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(f"FROM spans SELECT {columns} ORDER BY ALL").fetchall()
    return rows


def test_published_shape(tmp_path: Path) -> None:
    """A request becomes a row with what the file says; what it doesn't say is NULL."""
    folder = imported(tmp_path, results())
    columns = (
        "endpoint, model, outcome, latency_s, streamed, input_tokens, output_tokens, finish_reason, prompt_id, repeat, "
        "run_id, workload, imported_from, started_at::VARCHAR, warmup, ttft_s, status, simulated, usage_source"
    )
    assert spans(folder, columns) == [
        (
            *("metis", "m", "ok", 1.25, False, 8, 4, "stop", "1", 1),
            *("published_20251201_191558", "single", "r.json", "2025-12-01 19:15:58.240804+00", False),
            *(None, None, None, None),
        )
    ]
    run = folder / "runs" / "published_20251201_191558"
    record = json.loads((run / "run.json").read_text())
    assert record["published"] == {"metis": {"num_requests": 1}}
    assert (record["imported_from"], record["prompt_set"]["name"]) == ("r.json", "SQuAD 1.1")
    with duckdb.connect() as connection:
        prompts = connection.execute(f"FROM '{run}/prompts.parquet' SELECT prompt_id, context, question").fetchall()
        answers = connection.execute(f"FROM '{run}/answers.parquet' SELECT endpoint, prompt_id, answer").fetchall()
    assert prompts == [("1", "C.", "Q?")]
    assert answers == [("metis", "1", "gold")]


def test_importing_twice_adds_nothing(tmp_path: Path) -> None:
    """The same content, under whatever name, is imported once, and the second time says so."""
    folder = imported(tmp_path, results())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = dyno("import", save(tmp_path / "other.json", results()), "--spans", folder)
    assert (again.returncode, "nothing added" in again.stdout) == (0, True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_ids_follow_from_the_content(tmp_path: Path) -> None:
    """The same file imported elsewhere has the same ids; they are well-formed and differ from request to request."""
    document = results()
    document["sophia"] = {"results": document["metis"]["results"] * 2, "statistics": {}}
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        found.append(spans(imported(tmp_path / name, document), "trace_id, span_id"))
    assert found[0] == found[1]
    assert len(set(found[0])) == 3
    assert all(len(trace_id) == 32 and len(span_id) == 16 for trace_id, span_id in found[0])


def test_two_files_of_one_second(tmp_path: Path) -> None:
    """Two files with the same timestamp become two runs."""
    folder = imported(tmp_path, results())
    imported(tmp_path, results("sophia"))
    assert len(spans(folder, "DISTINCT run_id")) == 2
    assert len(list((folder / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"response": None, "error": "Error code: 429 - slow down"}, ("rate_limited", "429", 429)),
        ({"response": None, "error": "HTTP 401 Unauthorized"}, ("auth", "401", 401)),
        ({"response": None, "error": "503 Service Unavailable"}, ("http_error", "503", 503)),
        ({"response": None, "error": "Request timed out."}, ("upstream_timeout", "timeout", None)),
        ({"response": None, "error": "Connection refused"}, ("upstream_unreachable", "connection_error", None)),
        ({"response": None, "latency_sec": None}, ("http_error", "_OTHER", None)),
        ({"error": "half an answer"}, ("http_error", "_OTHER", None)),
        ({"outcome": "truncated", "error_type": "reset", "status": 200}, ("truncated", "reset", 200)),
        ({"response": ""}, ("ok", None, None)),
        ({"metadata": None, "prompt_id": None, "run": None, "prompt": None, "endpoint": None}, ("ok", None, None)),
    ],
)
def test_failures_and_missing_fields(tmp_path: Path, changes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """A failed request gets the outcome that its error's text names; missing fields don't prevent the import."""
    folder = imported(tmp_path, results(**changes))
    assert spans(folder, "outcome, error_type, status") == [expected]


def test_endpoint_without_results(tmp_path: Path) -> None:
    """If an endpoint has no request, the other one's are imported all the same."""
    document = results()
    document["sophia"] = {"results": [], "statistics": {}}
    assert spans(imported(tmp_path, document), "endpoint") == [("metis",)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "broken JSON at line 1, column 2"),
        (b'{"a": "\xc3("}', "UTF-8"),
        (b"[1]", "its JSON isn't an object"),
        (b'{"data": [{"paragraphs": []}]}', "no endpoint in it has 'results'"),
        (json.dumps({"metis": {"results": []}}).encode(), "has no 'timestamp'"),
        (json.dumps({**results(), "timestamp": "yesterday"}).encode(), "'timestamp' must be a time, not 'yesterday'"),
        (json.dumps(results(latency_sec=None)).encode(), "metis.results[0] has no 'latency_sec'"),
        (json.dumps(results(latency_sec="fast")).encode(), "'latency_sec' must be a number"),
        (json.dumps(results(latency_sec=-1)).encode(), "'latency_sec' must be between 0 and"),
        (json.dumps(results(latency_sec=1e300)).encode(), "'latency_sec' must be a number in range"),
        (json.dumps(results(latency_sec=float("nan"))).encode(), "'latency_sec' must be a number in range"),
        (json.dumps(results(metadata={"completion_tokens": 2**70})).encode(), "'completion_tokens' must be a number"),
        (json.dumps(results(chunk_offsets_us=["a"])).encode(), "'chunk_offsets_us' must be a list of whole numbers"),
        (
            json.dumps({"timestamp": "2025-12-01", "metis": {"results": [7]}}).encode(),
            "metis.results[0] must be an object",
        ),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_other_shapes_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """A file of another shape is one line that names it and what is wrong; nothing is written."""
    path = tmp_path / "r.json"
    path.write_bytes(content)
    line = refusal("import", path, "--spans", tmp_path / "spans")
    assert line.startswith(f"dyno import: '{path}'")
    assert message in line
    assert not (tmp_path / "spans").exists()


def test_nothing_is_imported_where_one_of_the_files_is_bad(tmp_path: Path) -> None:
    """All files are read before the first is stored."""
    good = save(tmp_path / "good.json", results())
    assert "missing.json" in refusal("import", good, tmp_path / "missing.json", "--spans", tmp_path / "spans")
    assert not (tmp_path / "spans").exists()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """If there is a file where the folder should be, the error is one line."""
    (tmp_path / "spans").touch()
    assert "can't write" in refusal("import", save(tmp_path / "r.json", results()), "--spans", tmp_path / "spans")


def test_half_a_surrogate_pair(tmp_path: Path) -> None:
    """If UTF-8 can't hold a character, that character is replaced and the file is imported."""
    folder = imported(tmp_path, results(response="\ud800 gold", metadata={"model": "m\udc00"}))
    assert spans(folder, "model") == [("m?",)]


def test_own_results_come_back(tmp_path: Path) -> None:
    """What `dyno report --out` writes is imported to the same tables, down to chunks, overhead and failures."""
    rows = [
        *pair("a", 1.5, 0.5, input_tokens=9, output_tokens=12, overhead_us=300, overhead_end_us=500, loop_lag_us=90),
        *pair("b", 1.25, 0.75, input_tokens=9, output_tokens=20, response_id="x", simulated=True),
        *pair("c", 2, 1, outcome="http_error", error_type="500", status=500, attributes={"server.port": "443"}),
    ]
    common = {
        "run_id": "20261124_215900_0a1b",
        "prompt_id": "d",
        "repeat": 2,
        "output_tokens": 9,
        "reasoning_tokens": 3,
    }
    rows += [streamed([200_000, 220_000, 220_000, 260_000], endpoint=name, **common) for name in ("metis", "sophia")]
    write(tmp_path / "spans", rows)
    first = dyno("report", "--spans", tmp_path / "spans", "--out", tmp_path / "out")
    assert first.returncode == 1
    results_path = next((tmp_path / "out").glob("*_results_*.json"))
    assert dyno("import", results_path, "--spans", tmp_path / "again").returncode == 0
    told = dyno("report", "--spans", tmp_path / "again").stdout
    assert "Imported from a results file of Dyno's own" in told
    assert "not measured by Dyno" not in told
    assert "not in the file" not in told
    same = (
        "trace_id, started_at::VARCHAR, endpoint, model, streamed, outcome, error_type, status, latency_s, ttfb_s, "
        "ttft_s, ttfa_s, tpot_s, input_tokens, output_tokens, reasoning_tokens, finish_reason, chunk_count, "
        "chunk_offsets_us, overhead_us, loop_lag_us, prompt_id, repeat, simulated, attributes, "
        "span_id, operation, workload, method, path, response_model, send_lag_s"
    )
    assert spans(tmp_path / "again", same) == spans(tmp_path / "spans", same)


@needs_shared
def test_round_trip_of_the_published_file(tmp_path: Path) -> None:
    """Imported, reported, imported again: every request has the published file's figures."""
    assert dyno("import", PUBLISHED, "--spans", tmp_path / "a").returncode == 0
    assert dyno("report", "--spans", tmp_path / "a", "--out", tmp_path / "out").returncode == 0
    written = next((tmp_path / "out").glob("*.json"))
    ours, theirs = json.loads(written.read_text()), json.loads(PUBLISHED.read_text())
    assert written.name == PUBLISHED.name.replace("published_", "").replace("sophia_", "sophia_results_")
    for name in ("metis", "sophia"):
        for mine, original in zip(ours[name]["results"], theirs[name]["results"], strict=True):
            for key in ("endpoint", "prompt_id", "prompt", "run", "response"):
                assert mine[key] == original[key]
            assert mine["latency_sec"] == pytest.approx(original["latency_sec"], abs=5e-7)
            assert original["metadata"].items() <= mine["metadata"].items()
        assert theirs[name]["statistics"].keys() <= ours[name]["statistics"].keys()
    assert dyno("import", written, "--spans", tmp_path / "b").returncode == 0
    columns = "trace_id, endpoint, prompt_id, latency_s, input_tokens, output_tokens, finish_reason"
    assert spans(tmp_path / "a", columns) == spans(tmp_path / "b", columns)


def test_lines_are_as_the_proxy_writes_them() -> None:
    """An imported line has the proxy's keys in the proxy's order, and the same bytes for the same row."""
    assert (*LEADING_KEYS, "attributes") == tuple(name for name, _ in COLUMNS)
    row = {"v": 2, "seq": 3, "trace_id": "ab", "model": "gpt-öss", "chunk_offsets_us": [1, 2], "attributes": {"k": "v"}}
    line = journal_line({key: value for key, value in reversed(row.items()) if key != "v"} | {"repeat": None})
    assert line == journal.journal_line(copy.deepcopy(row))
    body, _, end = line.rpartition(b',"crc32":')
    assert end == b"%d}\n" % zlib.crc32(body)
    with pytest.raises(ValueError, match="colour"):
        journal_line({"colour": "red"})


def test_names_are_the_proxys() -> None:
    """Outcomes, and the attributes that become columns again, are spelt as the proxy spells them."""
    assert OUTCOMES == outcomes.OUTCOMES
    columns = {attribute.name: attribute.column for attribute in attributes.ATTRIBUTES}
    assert {name: column for name, (column, _) in OWN_COLUMNS.items()} == {name: columns[name] for name in OWN_COLUMNS}
    assert {f"dyno.event.{event}_us": f"{event}_us" for event in EVENTS}.items() <= columns.items()
    assert len(EVENTS) == sum(name.startswith("dyno.event.") for name in columns)


def test_run_files_are_the_drivers() -> None:
    """Prompts and answers have the columns and types that the driver writes."""
    types = {"string": "VARCHAR", "int32": "INTEGER", "int64": "BIGINT", "bool": "BOOLEAN", "double": "DOUBLE"}
    types["list<string>"] = "VARCHAR[]"
    for ours, drivers in (
        (PROMPT_COLUMNS, run_record.PROMPT_COLUMNS),
        (ANSWER_COLUMNS, run_record.ANSWER_COLUMNS),
    ):
        assert list(ours) == [(name, types[kind]) for name, kind in drivers.items()]
