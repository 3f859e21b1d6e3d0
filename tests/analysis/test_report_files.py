"""What `dyno report` makes of a run's own files, and the files that it writes."""

import json
from pathlib import Path

import duckdb
import pytest

from rigs.dyno_command import cells, dyno, refusal
from rigs.stored_spans import RUN_ID, prompts, write


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with its record, prompts and answers as the driver writes them."""
    write(tmp_path, prompts(3, finish_reasons=["length"]))
    folder = tmp_path / "runs" / RUN_ID
    folder.mkdir(parents=True)
    record = {
        "run_id": RUN_ID,
        "command": ["dyno", "drive"],
        "started_at": "2026-11-24T21:59:00Z",
        "finished_at": "2026-11-24T22:01:02Z",
        "interrupted": True,
        "seed": 7,
        "workload": "single",
        "order": "alternate",
        "prompt_set": {"name": "science", "source": "here", "license": "Apache-2.0", "count": 3, "description": "d"},
        "parameters": {"temperature": 0.7, "max_tokens": 512, "stream": False, "repeat": 1, "warmup": 0},
        "method": "in pairs",
        "endpoints": {"sophia": {"model": "big", "hardware": "A100"}, "metis": {"model": "m"}},
    }
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE prompts AS SELECT n::VARCHAR AS prompt_id, NULL::VARCHAR AS title, 'physics' AS domain, "
            "'c' AS context, 'What | is ' || n || '?' AS question, 'p' || n AS prompt, ['gold ' || n, 'au'] "
            "AS reference_answers FROM range(3) AS t(n)"
        )
        connection.execute(f"COPY prompts TO '{folder}/prompts.parquet'")
        connection.execute(
            "CREATE TABLE answers (trace_id VARCHAR, endpoint VARCHAR, prompt_id VARCHAR, repeat INTEGER, "
            "warmup BOOLEAN, answer VARCHAR, reasoning VARCHAR, finish_reason VARCHAR, error VARCHAR, status INTEGER, "
            "client_ttft_s DOUBLE, client_latency_s DOUBLE, sent_at_us BIGINT)"
        )
        connection.execute(
            f"INSERT INTO answers BY NAME FROM read_json('{tmp_path}/*.jsonl') "
            "SELECT trace_id, endpoint, prompt_id, repeat, false AS warmup, "
            "CASE WHEN endpoint = 'metis' THEN 'The Gold ' || prompt_id || '!' ELSE 'It is\nau, too' END AS answer"
        )
        connection.execute(f"COPY answers TO '{folder}/answers.parquet'")
    return tmp_path


def test_report_files(run: Path) -> None:
    """--out writes both files and prints their paths last; they bear the run's time and replace older ones."""
    for _ in range(2):
        done = dyno("report", RUN_ID, "--spans", run, "--out", run / "out")
        paths = done.stdout.splitlines()[-2:]
        assert [Path(path).name for path in paths] == ["report.md", "sophia_vs_metis_results_20261124_220102.json"]
    assert sorted(path.name for path in (run / "out").iterdir()) == sorted(Path(path).name for path in paths)
    report = Path(paths[0]).read_text(encoding="utf-8")
    for expected in (
        "# sophia against metis: run 20261124_215900_0a1b",
        "| prompts | science, 3 prompts |",
        "| domains | physics |",
        "| parameters | temperature 0.7, max tokens 512, runs per prompt 1, warm-ups 0, not streamed |",
        "| interrupted | yes: these are the requests up to then |",
        "| sophia | model big, A100 |",
        "| seed | 7 |",
        "| metis | 3 | 100.0 % | 100.0 % |",
        "**What &#124; is 0?**",
        "Reference: gold 2 / au",
        "```text\nThe Gold 1!\n```",
        "```text\nIt is\nau, too\n```",
        "Ratio of mean latencies, which no verdict carries: metis / sophia 2.000; sophia / metis 0.50.",
        "3 of 3 answers of metis were cut off by the token limit.",
    ):
        assert expected in report, expected
    # F1 of 'it is au too' against 'au': P 1/4, R 1
    assert "| sophia | 3 | 0.0 % | 40.0 % |" in report


def test_results_file(run: Path) -> None:
    """The results have the published file's shape and more: outcome, trace id, definitions, the run's record."""
    dyno("report", RUN_ID, "--spans", run, "--out", run / "out")
    document = json.loads(next((run / "out").glob("*.json")).read_text(encoding="utf-8"))
    assert document["timestamp"] == "2026-11-24T22:01:02Z"
    assert document["models"] == {"sophia": "m", "metis": "m"}
    assert document["dataset"]["num_samples"] == 3
    first = document["metis"]["results"][0]
    assert {key: first[key] for key in ("endpoint", "prompt_id", "prompt", "run", "response", "latency_sec")} == {
        "endpoint": "metis",
        "prompt_id": 0,
        "prompt": "p0",
        "run": 1,
        "response": "The Gold 0!",
        "latency_sec": 2.4,
    }
    assert first["metadata"]["total_tokens"] == 70
    assert first["reference_answers"] == ["gold 0", "au"]
    assert len(first["trace_id"]) == 32
    statistics = document["metis"]["statistics"]
    assert statistics["latency"]["mean"] == pytest.approx(2.6)
    assert statistics["throughput_tokens_per_sec"] == pytest.approx(90 / 7.8)
    assert statistics["tokens"] == {"mean": 80.0, "total": 240}
    assert (statistics["num_requests"], statistics["failed_requests"]) == (3, 0)
    assert document["comparison"]["paired"][0]["ratio"]["ratio"] == pytest.approx(0.5)
    assert "prompt tokens are not counted in" in document["definitions"]["throughput_tokens_per_sec"]
    assert document["runs"][0]["seed"] == 7


@pytest.mark.parametrize(
    ("path", "content"),
    [("run.json", b"{"), ("run.json", b"[]"), ("answers.parquet", b"PAR1"), ("prompts.parquet", b"")],
)
def test_broken_run_files(run: Path, path: str, content: bytes) -> None:
    """A run's file that can't be read is named, with the mend."""
    (run / "runs" / RUN_ID / path).write_bytes(content)
    line = refusal("report", RUN_ID, "--spans", run)
    assert path in line
    assert "to report without it" in line


def test_run_without_its_own_files(run: Path) -> None:
    """Spans alone are enough for the tables."""
    for path in (run / "runs" / RUN_ID).iterdir():
        path.unlink()
    done = dyno("report", RUN_ID, "--spans", run, "--out", run / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert cells(done.stdout, "mean latency, s")[:2] == ["2.600", "1.300"]
    assert "Answer quality" not in done.stdout


def test_names_too_long_for_a_file(tmp_path: Path) -> None:
    """Five endpoints of 60 characters make a results file whose name a file system can hold."""
    rows = [row | {"endpoint": f"{n}-{row['endpoint']:x<58}"} for n in range(3) for row in prompts(1)]
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    (results,) = (tmp_path / "out").glob("*_results_*.json")
    assert results.name.startswith("0-metisxxx")
    assert len(results.name) <= 255
