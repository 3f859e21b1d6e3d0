"""`dyno report` over several runs: which one, what is a column, what is pooled, and what is said of nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from dyno_analysis.report.columns import short_names
from rigs.dyno_command import cells, dyno, refusal
from rigs.stored_spans import RUN_ID, STARTED_AT_US, pair, prompts, span, write

EARLY, LATE, NEXT_DAY = "20261124_215900_0a1b", "20261124_225900_c2d3", "20261125_080000_e4f5"


def run_of(run_id: str, n: int, at_us: int = STARTED_AT_US, **columns: Any) -> list[dict[str, Any]]:
    """n prompts for both endpoints, in turn; sophia takes half the time."""
    rows = prompts(n, run_id=run_id, **columns)
    for number, row in enumerate(rows):
        row["started_at_us"] = at_us + number * 1_000_000
    return rows


def record(spans: Path, run_id: str, endpoints: list[str]) -> None:
    folder = spans / "runs" / run_id
    folder.mkdir(parents=True)
    values = {"run_id": run_id, "endpoints": {name: {"model": "m"} for name in endpoints}}
    (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")


def test_two_runs_are_columns(tmp_path: Path) -> None:
    """Two runs aren't one: each endpoint has a column for each of them, once, and their prompts are the same ten."""
    write(tmp_path, [*run_of(EARLY, 10), *run_of(LATE, 10, STARTED_AT_US + 3_600_000_000)])
    for run_id in (EARLY, LATE):
        record(tmp_path, run_id, ["metis", "sophia"])
    out = dyno("report", EARLY, LATE, "--spans", tmp_path).stdout
    names = [f"{name} ({run})" for run in ("0a1b", "c2d3") for name in ("metis", "sophia")]
    assert out.splitlines()[0] == f"{' against '.join(names)}: runs {EARLY}, {LATE}"
    assert cells(out, "success rate")[:4] == ["10/10"] * 4
    assert cells(out, f"latency {names[0]} : {names[3]}")[::3] == ["10", f"{names[3]} faster"]
    assert cells(out, f"latency {names[0]} : {names[2]}")[-1] == "no difference within 5 %"
    assert "Each run has columns of its own" in out
    assert "Each prompt was asked once" in out


def test_names_of_columns() -> None:
    """A run is called by the last part of its id in a column's name, unless two runs would be called the same."""
    assert short_names([EARLY, LATE]) == {EARLY: "0a1b", LATE: "c2d3"}
    for runs in (["a", "b_a"], ["a_", "b_"], ["x_1", "y_1"]):
        assert short_names(runs) == {run: run for run in runs}


def test_pooled_runs_are_one_set(tmp_path: Path) -> None:
    """Pooled, the same ten prompts are ten, asked twice; that runs vary is said, and each endpoint stands once."""
    write(tmp_path, [*run_of(EARLY, 10), *run_of(LATE, 10, STARTED_AT_US + 3_600_000_000)])
    for arguments in ((EARLY, LATE, "--pool"), ("--since", "2026-11-01"), (EARLY, LATE, EARLY, "--pool")):
        out = dyno("report", *arguments, "--spans", tmp_path, "--endpoints", "sophia,metis,sophia").stdout
        assert out.startswith("sophia against metis: ")
        assert "pooled" in out.splitlines()[0]
        assert "sophia : sophia" not in out
        assert cells(out, "latency sophia : metis")[::3] == ["10", "metis slower"]
        assert cells(out.partition("Behind")[2], "latency sophia : metis")[0] == "20 : 20"
        assert "2 runs are pooled" in out
        assert "asked once" not in out


def test_six_runs_are_crossed_with_prompts(tmp_path: Path) -> None:
    """What differs from run to run widens the interval, as soon as there are six runs to tell it from."""
    rows = []
    for number in range(6):
        swing = 1.5 if number % 2 else 1 / 1.5
        for prompt in range(10):
            rows += pair(str(prompt), 1.2 * swing + prompt / 1000, 1 + prompt / 1000, run_id=f"r{number}")
    write(tmp_path, rows)
    runs = [f"r{number}" for number in range(6)]
    out = dyno("report", *runs, "--pool", "--spans", tmp_path).stdout
    assert cells(out, "latency metis : sophia")[::3] == ["10", "undecided"]
    assert "intervals are over prompts and runs" in out
    out = dyno("report", *runs[:4], "--pool", "--spans", tmp_path).stdout
    assert cells(out, "latency metis : sophia")[-1] == "sophia faster"
    assert "unknown below 6 runs" in out


def test_requests_without_repeat_all_count(tmp_path: Path) -> None:
    """Requests of one prompt id without a repeat all count, in unequal numbers, and none is said to lack a partner."""
    tags = {"run_id": None, "repeat": None, "output_tokens": 9}
    rows = [row for n in range(40) for row in pair(str(n % 8), 2 + n / 50, 1 + n / 100, **tags)]
    rows += [span(prompt_id="3", duration_us=2_000_000, output_tokens=9) for _ in range(60)]
    write(tmp_path, rows)
    out = dyno("report", "--spans", tmp_path).stdout
    assert cells(out, "latency metis : sophia")[::3] == ["8", "sophia faster"]
    assert cells(out.partition("Behind")[2], "latency metis : sophia")[0] == "100 : 40"
    assert "without one of" not in out
    assert "over unequal sets of requests: 100 and 40 answers" in out


def test_simulated_and_real_are_never_one(tmp_path: Path) -> None:
    """A demo's requests and real ones of the same endpoints are columns apart, also those that got no answer."""
    demo = run_of(EARLY, 10, simulated=True)
    demo[0] |= {"outcome": "upstream_unreachable", "status": 502}
    demo[0].pop("simulated")
    real = run_of(LATE, 3, STARTED_AT_US + 60_000_000)
    write(tmp_path, [*demo, *real, span(outcome="upstream_timeout", status=504)])
    out = dyno("report", "--since", "2026-11-01", "--spans", tmp_path).stdout
    columns = ["metis", "metis (simulated)", "sophia", "sophia (simulated)"]
    assert out.startswith(" against ".join(columns))
    assert cells(out, "success rate")[:4] == ["3/4", "9/10", "3/3", "10/10"]
    assert "Only metis (simulated), sophia (simulated) was simulated" in out
    assert cells(out, "latency metis : sophia")[::3] == ["3", "undecided"]


def test_the_newest_run_with_results(tmp_path: Path) -> None:
    """A run that ended in its warm-up, or before its first request, doesn't hide the one before it."""
    warmup = [span(run_id=LATE, warmup=True, started_at_us=STARTED_AT_US + 3_600_000_000)]
    write(tmp_path, [*run_of(EARLY, 6), *warmup])
    record(tmp_path, NEXT_DAY, ["metis", "sophia"])
    done = dyno("report", "--spans", tmp_path)
    assert done.returncode == 0
    assert f": run {EARLY}\n" in done.stdout
    assert "passed over, without results" in done.stderr
    listed = dyno("report", "--list", "--spans", tmp_path).stdout
    assert cells(listed, NEXT_DAY)[1:] == ["–", "0", "0", "0", "no results"]
    assert cells(listed, LATE)[1:] == ["metis", "0", "0", "0", "no results"]
    assert cells(listed, EARLY) == ["2026-11-24 21:59", "metis, sophia", "12", "12", "0"]
    warm = dyno("report", LATE, "--spans", tmp_path)
    assert warm.returncode == 1
    assert "No request failed" not in warm.stdout
    assert "Requests of metis: only 1 of the warm-up" in warm.stdout


def test_names_of_runs(tmp_path: Path) -> None:
    """A run is named by its id, by the beginning of one id, or as the latest; an ambiguous beginning is refused."""
    write(tmp_path, [*run_of(EARLY, 1), *run_of(NEXT_DAY, 2, STARTED_AT_US + 86_400_000_000)])
    for name, run_id in (("latest", NEXT_DAY), ("20261125", NEXT_DAY), (EARLY, EARLY), (EARLY[:-1], EARLY)):
        assert f": run {run_id}\n" in dyno("report", name, "--spans", tmp_path).stdout
    said = refusal("report", "202611", "--spans", tmp_path)
    assert said.endswith(f"begin with '202611' ({EARLY}, {NEXT_DAY}); write more of the id")
    assert "no run 'x'" in refusal("report", "x", "--spans", tmp_path)


def test_every_request_refused(tmp_path: Path) -> None:
    """Where the proxy refused all requests of an endpoint, that is said: no '0/0', and not that none failed."""
    rows = [row for row in prompts(6) if row["endpoint"] == "metis"]
    rows += [span(endpoint="sophia", run_id=RUN_ID, outcome="rejected", status=413) for _ in range(6)]
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out")
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert done.returncode == 1
    assert cells(done.stdout, "success rate")[:2] == ["6/6", "none of 6 counts"]
    for text in (done.stdout, report):
        assert "No request failed" not in text
        assert "0/0" not in text
        assert "No request of sophia was answered: 6 rejected by the proxy." in text


def test_an_endpoint_without_a_request(tmp_path: Path) -> None:
    """An endpoint that the run names, and that got no request, stands in the table with the reason."""
    write(tmp_path, prompts(6))
    record(tmp_path, RUN_ID, ["metis", "sophia", "third"])
    done = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out")
    assert cells(done.stdout, "success rate")[:3] == ["6/6", "6/6", "no request"]
    assert "Requests of third: none, though the run's record names it" in done.stdout
    assert done.returncode == 1
    document = json.loads(next((tmp_path / "out").glob("*.json")).read_text(encoding="utf-8"))
    assert document["third"]["results"] == []
    chosen = dyno("report", "--spans", tmp_path, "--endpoints", "metis,third")
    assert cells(chosen.stdout, "success rate")[:2] == ["6/6", "no request"]
    assert "no request of endpoint 'fourth'" in refusal("report", "--spans", tmp_path, "--endpoints", "fourth")


def test_an_imported_file_with_an_empty_endpoint(tmp_path: Path) -> None:
    """An endpoint that a results file lists without a request stays in the report, by name."""
    result = {"prompt_id": 1, "prompt": "p", "response": "a", "latency_sec": 1.0, "metadata": {}}
    document = {"timestamp": "2026-01-01T00:00:00", "metis": {"results": [result]}, "sophia": {"results": []}}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert dyno("import", "--spans", tmp_path / "spans", path).returncode == 0
    out = dyno("report", "--spans", tmp_path / "spans").stdout
    assert out.startswith("metis against sophia: ")
    assert cells(out, "success rate")[1:4:2] == ["1/1", "no request"]


def test_lost_requests_count_alike(tmp_path: Path) -> None:
    """A lost request is a failure, and a rejected one isn't: in the report, in `runs` and in `minutes`."""
    ended = [span(run_id=RUN_ID, outcome=o, status=None) for o in ("lost", "rejected", "client_cancelled")]
    write(tmp_path, [*prompts(6), *ended])
    out = dyno("report", "--spans", tmp_path).stdout
    assert cells(out, "success rate")[:2] == ["6/7", "6/6"]
    assert "Failed: 1 of metis, whose end is lost" in out
    for view in ("runs", "minutes"):
        query = f"FROM {view} SELECT sum(requests), sum(ok), sum(cancelled), sum(rejected), sum(failed)"
        said = dyno("sql", "--spans", tmp_path, query, "--format", "csv").stdout.splitlines()[1]
        assert said == "15,12,1,1,1"


def test_answers_without_tokens_are_counted(tmp_path: Path) -> None:
    """Where some answers' tokens aren't known, the report says of how many."""
    rows = prompts(6)
    for row in rows[::4]:
        row.pop("output_tokens")
    write(tmp_path, rows)
    out = dyno("report", "--spans", tmp_path).stdout
    assert "The output tokens of 3 of 6 answers of metis aren't known" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "nosuch"], "no run 'nosuch'"),
        (["--endpoint", "mettis"], "no request of endpoint 'mettis' in"),
        (["--endpoint", "metis", "--endpoint", "x"], "its endpoints: metis, sophia"),
    ],
)
def test_sql_refuses_unknown_names(tmp_path: Path, arguments: list[str], message: str) -> None:
    """`dyno sql` refuses a run or an endpoint that isn't there, as `dyno report` does."""
    write(tmp_path, prompts(1))
    assert message in refusal("sql", "--spans", tmp_path, *arguments, "SELECT count(*) FROM spans")


def test_a_broken_record_stops_no_report_of_traffic(tmp_path: Path) -> None:
    """A time range is reported without the texts of a run whose record can't be read, and the record is named."""
    write(tmp_path, run_of(EARLY, 6))
    record(tmp_path, EARLY, ["metis", "sophia"])
    (tmp_path / "runs" / EARLY / "run.json").write_text("{", encoding="utf-8")
    done = dyno("report", "--since", "2026-11-01", "--spans", tmp_path)
    assert (done.returncode, done.stderr.count("\n"), "run.json" in done.stderr) == (0, 1, True)
    assert cells(done.stdout, "success rate")[:2] == ["6/6", "6/6"]
