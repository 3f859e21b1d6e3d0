"""Results of `vllm bench serve` and GuideLLM as runs: their requests, what is unknown, and what differs."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from dyno_analysis.ingest.failures import failure
from rigs.dyno_command import dyno, refusal
from rigs.imports import SAMPLES, imported, rows

VLLM: dict[str, Any] = json.loads((SAMPLES / "vllm_bench.json").read_text())


def changed(**changes: Any) -> dict[str, Any]:
    """The vLLM result with other values; None leaves a key out."""
    values = {**copy.deepcopy(VLLM), **changes}
    return {key: value for key, value in values.items() if value is not None}


def save(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def run_record(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "runs").glob("*/run.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def test_vllm_bench_request_by_request(tmp_path: Path) -> None:
    """Latency is TTFT and the gaps, TPOT comes out as vLLM's own, a failed request has no latency."""
    said = imported(tmp_path, "vllm_bench.json")
    assert "4 requests to openai-chat, as run vllm_bench_20261123_215900" in said
    assert rows(tmp_path, "outcome, status, error_type, latency_s, ttft_s, input_tokens, output_tokens, streamed") == [
        ("ok", 200, None, 0.57, 0.5, 12, 4, True),
        ("ok", 200, None, 0.31, 0.25, 12, 3, True),
        ("ok", 200, None, 0.1875, 0.125, 12, 2, True),
        ("rate_limited", 429, "429", None, None, 12, None, None),
    ]
    assert rows(tmp_path, "tpot_s, chunk_offsets_us", "latency_s = 0.31") == [
        (0.03, [250_000, 270_000, 310_000, 310_000])
    ]
    tpots_s = [tpot_s for (tpot_s,) in rows(tmp_path, "tpot_s", "tpot_s IS NOT NULL")]
    assert sum(tpots_s) / 3 == pytest.approx(VLLM["mean_tpot_ms"] / 1000, rel=0.2)
    assert rows(tmp_path, "started_at::VARCHAR", "output_tokens = 2") == [("2026-11-23 21:58:58.1+00",)]


def test_the_differences_are_said_once_and_kept(tmp_path: Path) -> None:
    """Differences are printed once per kind of file, however many files there are; the run's record has them too."""
    other = save(tmp_path / "other.json", changed(date="20261124-080000"))
    said = imported(tmp_path / "s", "vllm_bench.json", other, "guidellm_0.2.1.json")
    assert said.count("how the definitions of a result of vllm bench serve differ") == 1
    assert said.count("how the definitions of a GuideLLM report differ") == 1
    assert "TTFT: theirs ends with the first SSE event that has choices" in said
    records = [json.loads(path.read_text()) for path in (tmp_path / "s" / "runs").glob("vllm*/run.json")]
    assert len(records) == 2
    assert all(record["definitions"][0].startswith("TTFT") for record in records)


def test_vllm_bench_without_details(tmp_path: Path) -> None:
    """A file without requests is refused, and the line says how to get them."""
    refused = refusal("import", SAMPLES / "vllm_bench_summary.json", "--spans", tmp_path)
    assert "without single requests" in refused
    assert "--save-detailed" in refused
    path = tmp_path / "both.json"
    path.write_text(json.dumps(json.loads((SAMPLES / "vllm_bench_summary.json").read_text())) + "\n" + json.dumps(VLLM))
    said = imported(tmp_path / "s", path)
    assert "no single requests, only a summary; left out" in said
    assert "4 requests" in said


@pytest.mark.parametrize(
    ("itls", "output_lens", "said"),
    [
        ([[0.1, 0.1, 0.1]] * 4, [3] * 4, "the first SSE event that has choices"),
        ([[0.1, 0.1]] * 4, [3] * 4, "the first SSE event that has tokens, as since vLLM 0.33"),
        ([[]] * 4, [3] * 4, "this file doesn't show which"),
    ],
)
def test_vllms_definitions_by_what_the_file_shows(
    tmp_path: Path, itls: list[list[float]], output_lens: list[int], said: str
) -> None:
    """More events than tokens are those of a vLLM before 0.33, which counted events that only name a role."""
    path = save(tmp_path / "r.json", changed(itls=itls, output_lens=output_lens))
    assert said in imported(tmp_path / "s", path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resolved with empty response payload", ("http_error", "_OTHER", None)),
        ("request ended after 512 tokens", ("http_error", "_OTHER", None)),
        ("ConnectError('All connection attempts failed')", ("upstream_unreachable", "connection_error", None)),
        ("[Errno -2] Name or service not known", ("upstream_unreachable", "connection_error", None)),
        ("could not resolve host", ("upstream_unreachable", "connection_error", None)),
        ("httpx.ReadTimeout", ("upstream_timeout", "timeout", None)),
        ("Client error '404 Not Found' for url 'http://h:8500/v1'", ("http_error", "404", 404)),
        ("Error code: 429 - {'error': 1}", ("rate_limited", "429", 429)),
        ("the model disconnected its tools", ("http_error", "_OTHER", None)),
        ("HTTP 503", ("http_error", "503", 503)),
    ],
)
def test_a_failure_is_judged_by_its_structure(text: str, expected: tuple[Any, ...]) -> None:
    """Names of exceptions, whole phrases and numbers that are called a status count; letters inside words don't."""
    assert failure(text) == expected


def test_guidellms_empty_answer(tmp_path: Path) -> None:
    """A request whose answer had begun was no unreachable endpoint, whatever the message says."""
    document = json.loads((SAMPLES / "guidellm_0.8.1.json").read_text())
    (failed,) = document["benchmarks"][0]["requests"]["errored"]
    failed["info"]["error"] = "response resolved with empty response payload"
    imported(tmp_path / "a", save(tmp_path / "a.json", document))
    assert rows(tmp_path / "a", "outcome", "outcome <> 'ok'") == [("http_error",)]
    failed["info"]["timings"]["first_request_iteration"] = failed["info"]["timings"]["request_start"] + 0.001
    imported(tmp_path / "b", save(tmp_path / "b.json", document))
    assert rows(tmp_path / "b", "outcome", "outcome <> 'ok'") == [("truncated",)]


def test_older_vllm_files(tmp_path: Path) -> None:
    """Without start times all requests have the file's date; errors, texts and the backend may be missing too."""
    document = changed(
        start_times=None, errors=None, generated_texts=None, backend=None, endpoint_type=None, failed=None
    )
    path = save(tmp_path / "old.json", document)
    assert "all have the file's timestamp" in imported(tmp_path / "s", path)
    assert rows(tmp_path / "s", "DISTINCT started_at::VARCHAR, endpoint, operation", "true") == [
        ("2026-11-23 21:59:00+00", "vllm", "text_completion")
    ]
    assert sorted(rows(tmp_path / "s", "outcome, error_type")) == [("http_error", "_OTHER"), *[("ok", None)] * 3]


def test_appended_results(tmp_path: Path) -> None:
    """`--append-result` writes one result a line; each is a run."""
    path = tmp_path / "many.json"
    path.write_text("\n".join(json.dumps(changed(date=f"20261123-22000{number}")) for number in range(3)))
    assert imported(tmp_path / "s", path).count("4 requests to openai-chat") == 3
    assert len(rows(tmp_path / "s", "span_id")) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"date": "yesterday"}, "'date' must be a time, not 'yesterday'"),
        ({"itls": [[0.1]]}, "'itls' must have one entry per request: 4, as 'ttfts' has"),
        ({"itls": [["a"], [], [], []]}, "'itls[0]' must be a list of numbers"),
        ({"ttfts": ["fast"]}, "'ttfts' must be a list of numbers"),
        ({"start_times": 7}, "'start_times' must be a list of numbers"),
    ],
)
def test_broken_vllm_results(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """One line, and nothing is stored."""
    path = save(tmp_path / "r.json", changed(**changes))
    assert message in refusal("import", path, "--spans", tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "guidellm_0.2.1.json",
            [
                (18431, "text_completion", "ok", True, 0.02425, None, 0.023685, None, 6, 20, None),
                (18431, "text_completion", "ok", True, 0.021988, None, 0.021419, None, 5, 20, None),
                (18431, "text_completion", "ok", True, 0.036556, None, 0.033301, None, 9, 20, None),
                (18431, "text_completion", "ok", True, 0.051304, None, 0.050729, None, 6, 20, None),
            ],
        ),
        (
            "guidellm_0.5.3.json",
            [
                (18431, "chat", "ok", True, 0.051039, "49047", None, None, 79, 20, None),
                (18431, "chat", "ok", True, 0.06727, "62088", None, None, 76, 20, None),
                (18431, "chat", "ok", True, 0.015701, "14118", None, None, 76, 20, None),
                (18431, "chat", "ok", True, 0.019398, "18479", 0.019082, None, 75, 20, 1),
            ],
        ),
        (
            "guidellm_0.8.1.json",
            [
                (18440, "chat", "ok", True, 0.106354, "75368", 0.075368, 0.075368, 10, 8, 8),
                (18440, "chat", "ok", True, 0.106714, "77686", 0.077686, 0.077686, 14, 8, 8),
                (18440, "chat", "ok", True, 0.064678, "35439", 0.035439, 0.035439, 8, 8, 8),
                (18440, "chat", "http_error", None, 0.00217, None, None, None, None, None, None),
            ],
        ),
    ],
)
def test_guidellm(tmp_path: Path, file: str, expected: list[tuple[Any, ...]]) -> None:
    """Each version's requests have their times and tokens; what it didn't record (or see) is NULL."""
    imported(tmp_path, file)
    columns = (
        "endpoint, operation, outcome, streamed, latency_s, first_event_us::VARCHAR, ttft_s, ttfa_s, "
        "input_tokens, output_tokens, chunk_count"
    )
    found = rows(tmp_path, columns)
    assert sorted(map(str, found)) == sorted(str((f"127.0.0.1:{port}", *rest)) for port, *rest in expected)


def test_guidellms_figures(tmp_path: Path) -> None:
    """TTFT and TPOT of the rows are the time_to_first_token_ms and inter_token_latency_ms that GuideLLM computed."""
    document = json.loads((SAMPLES / "guidellm_0.8.1.json").read_text())
    theirs = sorted(
        (request["time_to_first_token_ms"], request["inter_token_latency_ms"], request["request_latency"])
        for request in document["benchmarks"][0]["requests"]["successful"]
    )
    imported(tmp_path, "guidellm_0.8.1.json")
    ours = sorted(rows(tmp_path, "ttft_s * 1000, tpot_s * 1000, latency_s", "outcome = 'ok'"))
    for mine, their in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(their, abs=2e-3)
    record = run_record(tmp_path)
    published = record["published"]["127.0.0.1:18440"]
    assert (published["num_requests"], published["successful_requests"]) == (4, 3)
    assert "GuideLLM 0.8.1, strategy concurrent" in record["method"]


def test_guidellms_open_loop_has_due_times(tmp_path: Path) -> None:
    """A constant rate says when a request was due, concurrent streams don't; a prompt that the file has gets an id."""
    imported(tmp_path, "guidellm_0.2.1.json", "guidellm_0.8.1.json")
    lags = rows(
        tmp_path, "due_at IS NOT NULL, send_lag_s > 0.02, prompt_id IS NOT NULL", "operation = 'text_completion'"
    )
    assert lags == [(True, True, True)] * 4
    assert rows(tmp_path, "DISTINCT due_at IS NULL, send_lag_s", "operation = 'chat'") == [(True, None)]


def test_guidellm_again_adds_nothing(tmp_path: Path) -> None:
    """A request is recognised by its own id, even from a file that was written anew."""
    imported(tmp_path / "s", "guidellm_0.8.1.json")
    document = json.loads((SAMPLES / "guidellm_0.8.1.json").read_text())
    assert "nothing added" in imported(tmp_path / "s", "guidellm_0.8.1.json")
    assert "nothing added" in imported(tmp_path / "s", save(tmp_path / "anew.json", document))
    assert len(rows(tmp_path / "s", "span_id")) == 4


def test_old_results_and_new_ones_are_compared(tmp_path: Path) -> None:
    """What was imported under an endpoint's name stands in the report's table; a report of it doesn't fail."""
    done = dyno("import", SAMPLES / "guidellm_0.5.3.json", "--spans", tmp_path, "--endpoint", "old")
    assert done.returncode == 0
    done = dyno("import", SAMPLES / "vllm_bench.json", "--spans", tmp_path, "--endpoint", "new")
    assert done.returncode == 0
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    report = dyno("report", *runs, "--spans", tmp_path)
    assert report.returncode in (0, 1), report
    assert "old" in report.stdout
    assert "new" in report.stdout
    assert "Traceback" not in report.stderr
