import json
import re
from pathlib import Path
from typing import Any

import pytest

from dyno_analysis.report.slo import read_slo
from dyno_analysis.spans.offered_load import OfferedLoad, read_load
from rigs.dyno_command import cells, dyno, refusal
from rigs.sql_rows import table
from rigs.stored_spans import RUN_ID, STARTED_AT_US, streamed, write
from rigs.terminal import in_a_terminal


def sent(endpoint: str, begins_s: float, latency_s: float, tokens: int, **columns: Any) -> dict[str, Any]:
    """A stream of so many tokens, in its run."""
    offsets_us = [round(latency_s * 1e6 * (number + 1) / tokens) for number in range(tokens)]
    return streamed(
        offsets_us,
        **{
            "endpoint": endpoint,
            "started_at_us": STARTED_AT_US + round(begins_s * 1e6),
            "run_id": RUN_ID,
            "repeat": 1,
            "v": 2,
            "attributes": {},
            **columns,
        },
    )


def closed_loop(
    endpoint: str, concurrency: int, latency_s: float, answers: int, begins_s: float
) -> list[dict[str, Any]]:
    """Each of so many clients gets one answer after the other; before and after, fillers hold the load."""
    rows = []
    for client in range(concurrency):
        for turn in range(-1, answers + 1):
            filler = turn in (-1, answers)
            rows.append(
                sent(
                    endpoint,
                    begins_s + (turn + client / concurrency) * latency_s,
                    latency_s,
                    50,
                    load_concurrency=concurrency,
                    warmup=filler,
                    prompt_id="warm-up" if filler else f"p{concurrency}-{client}-{turn}",
                )
            )
    return rows


def by_load(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    rows = table(folder, "loads")
    return {
        (row["endpoint"], OfferedLoad(row["load_concurrency"], row["load_rate_per_s"]).in_words()): row for row in rows
    }


def test_a_closed_loops_throughput_is_littles(tmp_path: Path) -> None:
    """With N clients that never pause, the endpoint makes N answers a latency (Little's law), whatever the fillers."""
    rows = [
        *closed_loop("metis", 1, 1.0, 6, 0.0),
        *closed_loop("metis", 4, 2.0, 5, 100.0),
        *closed_loop("metis", 4, 2.0, 5, 200.0),  # a second block
        *closed_loop("sophia", 4, 0.5, 7, 150.0),
    ]
    write(tmp_path, rows)
    found = by_load(tmp_path)
    assert list(found) == [("metis", "1"), ("metis", "4"), ("sophia", "4")]
    for name, (requests, per_s) in {
        ("metis", "1"): (6, 1 / 1.0),
        ("metis", "4"): (40, 4 / 2.0),
        ("sophia", "4"): (28, 4 / 0.5),
    }.items():
        row = found[name]
        assert (row["requests"], row["ok"]) == (requests, requests)
        assert row["ok_per_s"] == pytest.approx(per_s, rel=1e-3)
        assert row["output_tokens_per_s"] == pytest.approx(50 * per_s, rel=1e-3)
    assert found["metis", "4"]["latency_p50_s"] == pytest.approx(2.0)


def test_all_at_once_is_the_time_until_the_last(tmp_path: Path) -> None:
    """Where all come at once, throughput is over the time until the last answer; a failed one makes no tokens."""
    latencies_s = [1.0, 2.0, 4.0, 8.0]
    rows = [
        sent("metis", 0.0, latency_s, 10, load_concurrency=4, prompt_id=str(latency_s)) for latency_s in latencies_s
    ]
    rows[1]["outcome"] = "truncated"
    write(tmp_path, rows)
    row = by_load(tmp_path)["metis", "4"]
    assert (row["requests"], row["ok"]) == (4, 3)
    assert row["output_tokens_per_s"] == pytest.approx(30 / 8)
    assert row["ok_per_s"] == pytest.approx(3 / 8)
    assert row["latency_p50_s"] == pytest.approx(4.0)


def test_an_open_loop_is_counted_from_first_to_last(tmp_path: Path) -> None:
    """Under a rate the pauses between requests belong to the time."""
    rows = [sent("metis", 2.0 * number, 0.5, 20, load_rate_per_s=0.5, prompt_id=str(number)) for number in range(11)]
    write(tmp_path, rows)
    row = by_load(tmp_path)["metis", "0.5/s"]
    assert row["ok_per_s"] == pytest.approx(11 / 20.5)
    assert row["output_tokens_per_s"] == pytest.approx(220 / 20.5)


def test_latency_counts_from_the_due_time_as_well(tmp_path: Path) -> None:
    """In an open loop the lag of a late request is part of its time; a closed loop has no due times."""
    rows = [
        sent("metis", number, 0.5, 20, load_rate_per_s=1.0, prompt_id=str(number), send_lag_s=lag_s)
        for number, lag_s in enumerate([0.0, 0.25, 3.0])
    ]
    rows.append(sent("metis", 100.0, 0.5, 20, load_concurrency=2, prompt_id="9"))
    write(tmp_path, rows)
    found = by_load(tmp_path)
    assert found["metis", "1/s"]["latency_p50_s"] == pytest.approx(0.5)
    assert found["metis", "1/s"]["due_latency_p50_s"] == pytest.approx(0.75)
    assert found["metis", "1/s"]["due_latency_p95_s"] == pytest.approx(0.75 + 0.9 * 2.75)
    assert found["metis", "2"]["due_latency_p50_s"] is None
    said = dyno("report", "--spans", tmp_path).stdout
    assert "from due, s" in said
    assert "latency from when an open loop's request was due" in said


def test_requests_without_a_load_are_in_no_row(tmp_path: Path) -> None:
    """Other clients' requests say no load."""
    write(tmp_path, [sent("metis", 0.0, 1.0, 5), sent("metis", 2.0, 1.0, 5, load_concurrency=1)])
    assert [row["requests"] for row in table(tmp_path, "loads")] == [1]


def several_loads(folder: Path) -> None:
    """metis is slower alone and sophia under load; ten prompts each."""
    rows = []
    for concurrency, metis_s, sophia_s in ((1, 4.0, 1.0), (8, 5.0, 20.0)):
        for number in range(10):
            for endpoint, latency_s in (("metis", metis_s), ("sophia", sophia_s)):
                rows.append(
                    sent(
                        endpoint,
                        1000 * concurrency + 30 * number,
                        latency_s * (1 + number / 100),
                        40,
                        load_concurrency=concurrency,
                        prompt_id=f"{concurrency}-{number}",
                    )
                )
    write(folder, rows)


def test_each_load_has_a_verdict_of_its_own(tmp_path: Path) -> None:
    """A run under several loads isn't pooled: who is faster alone may be slower under load."""
    several_loads(tmp_path)
    done = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = re.sub(r" +", " ", done.stdout)
    assert "1 latency metis : sophia 10 4.00 4.00 to 4.00 sophia faster" in said
    assert "8 latency metis : sophia 10 0.250 0.250 to 0.250 sophia slower" in said
    assert "all 8 verdicts hold together with 95 %" in said
    assert f"dyno report {RUN_ID} --load 1 --all" in said
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "[report](load_8/report.md)" in report
    assert "sophia is typically slower" in (tmp_path / "out" / "load_8" / "report.md").read_text(encoding="utf-8")
    assert len(list((tmp_path / "out").glob("load_*/*results*.json"))) == 2


def test_a_terminal_has_a_row_for_each_load(tmp_path: Path) -> None:
    """On a terminal the answer is one short table: what both endpoints gave, and who answers sooner under each load."""
    several_loads(tmp_path)
    with in_a_terminal(
        tmp_path, "report", "--spans", tmp_path, environment={"COLUMNS": "80", "NO_COLOR": "1"}
    ) as shown:
        code, _ = shown.ends()
    lines = shown.seen.decode().replace("\r", "").splitlines()
    assert code == 0
    rows = [" ".join(line.split()) for line in lines if line.startswith(("1 ", "8 "))]
    assert [row.split(" ", 1)[0] for row in rows] == ["1", "8"]
    assert rows[0].endswith("4.00 4.00 to 4.00 sophia faster")
    assert rows[1].endswith("0.250 0.250 to 0.250 sophia slower")
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert "By latency, sophia is ahead below about" in " ".join(" ".join(lines).split())


def test_one_load_by_itself(tmp_path: Path) -> None:
    """--load has all tables of one load; a load that nothing was sent under is refused, in one line."""
    several_loads(tmp_path)
    done = dyno("report", "--spans", tmp_path, "--load", "8")
    assert done.returncode == 0, done.stderr
    assert "sophia is typically slower" in done.stdout
    assert "By load" not in done.stdout
    for load, says in (
        ("9", "no request in run"),
        ("x", "--load x: must be a number of requests at once"),
        ("0", "must"),
    ):
        done = dyno("report", "--spans", tmp_path, "--load", load)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert says in done.stderr


def test_an_endpoint_that_was_never_asked(tmp_path: Path) -> None:
    """A misspelt endpoint is refused in one line under several loads too."""
    several_loads(tmp_path)
    done = dyno("report", "--spans", tmp_path, "--endpoints", "metis,sofia")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert "no request of endpoint 'sofia' in run" in done.stderr
    assert "its endpoints: metis" in done.stderr


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("8", OfferedLoad(8, None)),
        ("2.5/s", OfferedLoad(None, 2.5)),
        *((text, None) for text in ("", "0", "-1", "1.5", "8/m", "/s", "0/s", "nan/s", "inf/s", "8/s/s")),
    ],
)
def test_a_loads_words(text: str, load: OfferedLoad | None) -> None:
    """A load is read as it is written; what isn't one is none."""
    assert read_load(text) == load
    if load is not None:
        assert load.in_words() == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ttfx_p95=2s", "no figure 'ttfx_p95'"),
        ("ttft=2s", "no figure 'ttft'"),
        ("ttft_p0=2s", "no figure 'ttft_p0'"),
        ("ttft_mean=2s", "no figure 'ttft_mean'"),
        ("ttft_p95", "needs a limit"),
        ("ttft_p95=", "needs a limit"),
        ("ttft_p95=0s", "needs a limit"),
        ("ttft_p95=-1s", "needs a limit"),
        ("ttft_p95=nan", "needs a limit"),
        ("ttft_p95=2", "needs a unit"),
        ("ttft_p95=2h", "needs a unit"),
        ("ttft_p95=2s,ttft_p95=3s", "twice"),
        ("", "a figure is missing"),
        ("ttft_p95=2s,", "a figure is missing"),
        ("success=2s", "needs a share"),
        ("error_rate=100%", "needs a share"),
    ],
)
def test_limits_that_are_none(text: str, says: str) -> None:
    """Each is refused with what is wrong and what to write."""
    with pytest.raises(ValueError, match=re.escape(says)):
        read_slo(text)


def test_limits() -> None:
    """Figures, percentiles and units are read; shares of requests too."""
    found = read_slo("ttft_p95=2s, tpot_p99.9=50ms,latency_p50=.5s,ttfb_p90=300us,success=99%,error_rate=5%")
    assert [(each.figure, each.share, each.at_most_s) for each in found[:4]] == [
        ("ttft_s", 0.95, 2.0),
        ("tpot_s", pytest.approx(0.999), pytest.approx(0.05)),
        ("latency_s", 0.5, 0.5),
        ("ttfb_s", 0.9, pytest.approx(0.0003)),
    ]
    assert [(each.figure, each.share) for each in found[4:]] == [(None, 0.99), (None, 0.95)]


def test_the_highest_load_within_limits(tmp_path: Path) -> None:
    """metis keeps a limit under both loads, sophia only alone; the curve stands in the report and as JSON."""
    rows = []
    for concurrency, metis_s, sophia_s in ((1, 1.5, 1.0), (8, 1.6, 9.0)):
        for endpoint, latency_s in (("metis", metis_s), ("sophia", sophia_s)):
            for number in range(80):
                prompt_id, begins_s = f"{concurrency}-{number}", 1000 * concurrency + 10 * number
                offered = {"load_concurrency": concurrency, "prompt_id": prompt_id}
                rows.append(sent(endpoint, begins_s, latency_s * (1 + number / 1000), 40, **offered))
    rows[0]["outcome"] = "http_error"
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path, "--slo", "latency_p90=2s,success=90%", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stderr  # a request failed
    assert cells(done.stdout, "metis", "1 to 8") == ["8 or more", "8 to ∞"]
    assert cells(done.stdout, "sophia", "1 to 8")[1] == "1 to 8"
    assert re.search(r"1 +metis +79 of 80 +98\.8 %", done.stdout)
    assert cells(done.stdout, "latency", "metis : sophia")[1:] == ["1 to 8", "sophia below"]
    curves = json.loads((tmp_path / "out" / "load_curves.json").read_text(encoding="utf-8"))
    assert [each["interval"] for each in curves["highest_load"]] == [[8.0, None], [1.0, 8.0]]
    crossing = next(each for each in curves["crossovers"] if each["figure"] == "latency_s")
    assert (crossing["found"][0]["interval"], crossing["found"][0]["better_below"]) == ([1.0, 8.0], "sophia")
    assert "Crossovers" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_limits_without_a_load(tmp_path: Path) -> None:
    """--slo of requests that say no load, and an unknown figure, are refused in one line."""
    write(tmp_path, [sent("metis", 0.0, 1.0, 5)])
    assert "--slo needs requests sent under a load" in refusal("report", "--spans", tmp_path, "--slo", "ttft_p95=2s")
    assert "no figure 'x_p95'" in refusal("report", "--spans", tmp_path, "--slo", "x_p95=2s")


def test_all_at_once_has_a_table(tmp_path: Path) -> None:
    """Makespan, throughput and stragglers of a batch: the last of twenty takes twice as long as the others."""
    latencies_s = [1.0] * 19 + [2.0]
    rows = [
        sent("metis", 0.0, latency_s, 10, load_concurrency=20, workload="offline", prompt_id=str(number))
        for number, latency_s in enumerate(latencies_s)
    ]
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path, "--all")
    assert cells(done.stdout, "metis", "20 of 20") == ["2.000", "100.00", "10.00", "1.000", "1.000", "50.0 %"]


def test_an_open_loop_counts_from_when_a_request_was_due(tmp_path: Path) -> None:
    """Requests that left 2 s late took 2 s longer for whom they were due: in the percentiles and against limits."""
    offered = {"load_rate_per_s": 1.0, "send_lag_s": 2.0}
    write(tmp_path, [sent("metis", 2.0 * number, 0.5, 5, prompt_id=str(number), **offered) for number in range(80)])
    done = dyno("report", "--spans", tmp_path, "--all", "--slo", "latency_p95=1s")
    assert cells(done.stdout, "1/s", "metis", "latency, s")[1:3] == ["0.500", "0.500"]
    assert cells(done.stdout, "1/s", "metis", "latency from due, s")[1:3] == ["2.500", "2.500"]
    assert cells(done.stdout, "metis", "1/s")[:2] == ["below 1/s", "0 to 1/s"]
