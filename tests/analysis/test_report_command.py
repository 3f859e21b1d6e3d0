"""`dyno report`: what it prints of stored runs and traffic, what it writes, what it refuses."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rigs.dyno_command import cells, dyno, refusal
from rigs.shared_data import PUBLISHED, needs_shared
from rigs.stored_spans import RUN_ID, STARTED_AT_US, mirrored, pair, prompts, span, streamed, write
from rigs.terminal import read_all


@needs_shared
def test_published_file(tmp_path: Path) -> None:
    """The published file gives both columns: its own statistics, and what its requests say."""
    assert dyno("import", "--spans", tmp_path, PUBLISHED).returncode == 0
    done = dyno("report", "--spans", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout
    assert "Comparison, imported" in out
    assert cells(out, "mean latency, s") == ["4.987", "4.987", "1.621", "1.621", "3.08x faster (sophia)", "-67.5 %"]
    assert cells(out, "median latency, s")[:4] == ["5.044", "5.041", "1.761", "1.668"]
    assert cells(out, "min latency, s")[:5] == ["4.465", "4.465", "0.597", "0.597", "7.48x faster (sophia)"]
    assert cells(out, "max latency, s")[:5] == ["5.535", "5.535", "3.133", "3.133", "1.77x faster (sophia)"]
    assert cells(out, "standard deviation, s")[:4] == ["not in the file", "0.314", "not in the file", "0.781"]
    assert cells(out, "throughput, output tok/s")[:4] == ["65.37", "15.86", "203.98", "50.46"]
    assert cells(out, "avg response length, tokens")[:4] == ["326.0", "79.1", "330.7", "81.8"]
    assert cells(out, "success rate")[:5] == ["10/10", "10/10", "10/10", "10/10", "equal"]
    # Two of the ten prompts are one text, so there are nine.
    assert cells(out, "latency metis : sophia")[::3] == ["9", "sophia faster"]
    assert cells(out, "mean latency metis : sophia")[:2] == ["9", "3.08"]
    # As published: 5.01 s - 0.2 ms a token, 1.06 s + 6.8 ms; Theil-Sen's slopes -5 to 8 and -7 to 19 ms; undecided.
    undecided = "undecided, more lengths needed"
    assert cells(out, "metis", "least squares", "10", "30 to 132", "5.006")[1::2] == ["-0.24", undecided]
    assert cells(out, "sophia", "least squares", "10", "41 to 146", "1.064")[1::2] == ["6.82", undecided]
    assert cells(out, "metis", "Theil–Sen")[-2:] == ["-5.2 to 7.8", undecided]
    assert cells(out, "sophia", "Theil–Sen")[-2:] == ["-7.2 to 18.6", undecided]
    for note in (
        "9 of 10 prompts of run published_20251201_191558 are distinct",
        "sophia counts 2 more in each (10 of 10 pairs differ",
        "Not streamed: metis, sophia",
        "the median is the upper middle value",
        "the throughput includes prompt tokens (65.37 tok/s; output only: 15.86)",
        "the response length includes the prompt (330.7 tokens = 248.9 of the prompt + 81.8 of output)",
        "start times aren't known",
    ):
        assert note in out


@needs_shared
def test_no_published_figure_stands_in_the_package() -> None:
    """The code holds none of the published file's figures: what is printed is computed."""
    document = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    figures = {"3.07", "3.08", "0.311", "0.839", "0.314", "0.781", "15.86", "50.46"}
    for name in ("metis", "sophia"):
        statistics = document[name]["statistics"]
        figures |= {f"{value:.3f}" for value in statistics["latency"].values()}
        figures |= {f"{statistics['throughput_tokens_per_sec']:.2f}", f"{statistics['tokens']['mean']:.1f}"}
    package = Path(__file__).resolve().parents[2] / "analysis" / "dyno_analysis"
    for path in package.rglob("*.*"):
        if path.suffix in (".py", ".sql"):
            text = path.read_text(encoding="utf-8")
            assert not [figure for figure in figures if figure in text], path


def test_every_row_of_the_published_table(tmp_path: Path) -> None:
    """A measured run prints all rows, each figure from its spans."""
    write(tmp_path, prompts(8))
    out = dyno("report", "--spans", tmp_path).stdout
    assert cells(out, "mean latency, s") == ["3.100", "1.550", "2.00x faster (sophia)", "-50.0 %"]
    assert cells(out, "median latency, s")[:2] == ["3.100", "1.550"]
    assert cells(out, "min latency, s")[:2] == ["2.400", "1.200"]
    assert cells(out, "max latency, s")[:2] == ["3.800", "1.900"]
    assert cells(out, "standard deviation, s") == ["0.490", "0.245", "-50.0 %"]
    assert cells(out, "throughput, output tok/s") == ["17.74", "35.48", "2.00x higher (sophia)", "+100.0 %"]
    assert cells(out, "avg response length, tokens") == ["55.0", "55.0", "equal", "+0.0 %"]
    assert cells(out, "success rate") == ["8/8", "8/8", "equal", "+0.0 points"]
    assert cells(out, "latency metis : sophia") == ["8", "2.00", "2.00 to 2.00", "sophia faster"]
    assert cells(out, "mean latency metis : sophia") == ["8", "2.00", "2.00 to 2.00", "(no verdict below 30)"]
    behind = out.partition("Behind the verdicts")[2]
    typical = "3065.65 : 1532.82"
    expected = ["8 : 8", typical, "2.00", "2.00 to 2.00", "1532.82", "–"]
    assert cells(behind, "latency metis : sophia") == expected
    assert cells(out, "metis", "least squares")[2::2] == ["2.000", "20.00", "grows with length"]
    assert cells(out, "sophia", "least squares")[2::2] == ["1.000", "10.00", "grows with length"]
    assert "simulated" not in out
    assert "imported" not in out


def test_streamed_figures(tmp_path: Path) -> None:
    """TTFT, TTFA, TPOT and inter-chunk latency stand below; a percentile that n doesn't support says what it needs."""
    offsets = [200_000, 220_000, 240_000]
    overhead = {"overhead_us": 150, "overhead_end_us": 90}
    rows = [
        streamed(offsets, endpoint=e, run_id=RUN_ID, prompt_id=str(n), **overhead)
        for n in range(40)
        for e in ("metis", "sophia")
    ]
    write(tmp_path, rows)
    out = dyno("report", "--spans", tmp_path).stdout
    unsupported = ["needs n ≥ 72", "needs n ≥ 368"]
    assert cells(out, "TTFT, s", "metis") == ["40", "0.200", "0.200", "0.200", *unsupported, "0.150"]
    assert cells(out, "TTFA, s", "metis")[:2] == ["40", "0.200"]
    assert cells(out, "TPOT, ms", "sophia") == ["40", "20.00", "20.00", "20.00", *unsupported, "–"]
    inter_chunk = cells(out, "inter-chunk latency, ms", "metis")
    assert inter_chunk == ["80", "20.00", "20.00", "20.00", "20.00", "needs n ≥ 368", "–"]
    assert cells(out, "latency, s", "metis")[-1] == "0.090"
    assert cells(out, "proxy's own, ms (median)") == ["0.090", "0.090"]
    assert "no difference within 5 %" in cells(out, "TTFT metis : sophia")


def test_every_simulated_table_says_so(tmp_path: Path) -> None:
    """If an endpoint is simulated, the tables' titles say so; if not all are, they name it."""
    for count, label in ((2, ", simulated"), (1, ", simulated: metis")):
        rows = prompts(6)
        for row in rows:
            if count == 2 or row["endpoint"] == "metis":
                row["simulated"] = True
        folder = tmp_path / str(count)
        write(folder, rows)
        out = dyno("report", "--spans", folder, "--out", folder / "out").stdout
        lines = out.splitlines()
        titles = [lines[n - 1] for n, line in enumerate(lines) if re.fullmatch("-{5,}", line)]
        assert len(titles) >= 5
        assert all(title.endswith(label) for title in titles), titles
        report = (folder / "out" / "report.md").read_text(encoding="utf-8")
        tables = re.findall(r"^\*\*(.*)\*\*\n\n\|", report, re.MULTILINE)
        assert len(tables) >= 7
        assert all(title.endswith(label) for title in tables), tables
        results = json.loads(next((folder / "out").glob("*.json")).read_text(encoding="utf-8"))
        assert (results["metis"]["simulated"], results["sophia"]["simulated"]) == (True, count == 2)


def test_failures_are_named_and_counted(tmp_path: Path) -> None:
    """Failures stand beside the successes, by endpoint, outcome and error; the exit code is 1."""
    rows = prompts(6)
    rows[0] |= {"outcome": "upstream_unreachable", "error_type": "ConnectionRefusedError", "duration_us": 1}
    rows[0].pop("status")
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path)
    assert done.returncode == 1
    row = cells(done.stdout, "metis", "upstream_unreachable")
    assert row == ["ConnectionRefusedError", "–", "1", "16.7 %"]
    assert cells(done.stdout, "success rate") == ["5/6", "6/6", "higher (sophia)", "+16.7 points"]
    assert cells(done.stdout, "latency, failures as infinite, s", "metis")[0] == "6"
    assert "1 answer of sophia without one of metis to the same prompt" in done.stdout


def test_an_endpoint_that_is_down(tmp_path: Path) -> None:
    """If all requests of an endpoint failed, the tables are printed, with unknown figures marked as such."""
    rows = prompts(6)
    for row in rows:
        if row["endpoint"] == "sophia":
            row |= {"outcome": "upstream_unreachable", "error_type": "refused"}
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (1, "")
    assert cells(done.stdout, "mean latency, s") == ["2.900", "–", "–", "–"]
    assert cells(done.stdout, "latency, s", "sophia") == ["0", *["no ok request"] * 2, *["–"] * 4]
    assert "Requests failed: 6 of 6 of sophia." in done.stdout


def test_what_does_not_count_as_failure(tmp_path: Path) -> None:
    """Warm-ups, and requests that the client cancelled or the proxy rejected, fail no report; all are counted."""
    rows = prompts(6)
    rows += pair("w", 9, 9, warmup=True, outcome="http_error")
    rows += [span(run_id=RUN_ID, outcome=outcome) for outcome in ("client_cancelled", "rejected", "rejected")]
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path)
    assert done.returncode == 0
    assert cells(done.stdout, "success rate")[:2] == ["6/6", "6/6"]
    assert "Left out: warm-ups (1 of metis, 1 of sophia)." in done.stdout
    assert "Left out: requests that the proxy rejected (2 of metis, 0 of sophia)." in done.stdout


def test_one_endpoint_and_three(tmp_path: Path) -> None:
    """One endpoint is reported alone; with three, the others are held against the first, which --endpoints chooses."""
    rows = prompts(6)
    rows += [
        row | {"endpoint": "third", "span_id": row["span_id"][:-1] + "f"} for row in rows if row["endpoint"] == "metis"
    ]
    write(tmp_path, rows)
    out = dyno("report", "--spans", tmp_path).stdout
    assert "ratio metis : sophia" in out
    assert "ratio metis : third" in out
    assert cells(out, "latency metis : third")[-1] == "no difference within 5 %"
    assert cells(out, "mean latency, s")[3:] == ["2.00x faster (sophia)", "-50.0 %", "equal", "+0.0 %"]
    out = dyno("report", "--spans", tmp_path, "--endpoints", "sophia,metis").stdout
    assert cells(out, "latency sophia : metis")[-1] == "metis slower"
    assert "third" not in out
    out = dyno("report", "--spans", tmp_path, "--endpoints", "sophia", "--out", tmp_path / "out").stdout
    assert cells(out, "mean latency, s") == ["1.450"]
    assert [path.name.split("_results")[0] for path in (tmp_path / "out").glob("*.json")] == ["sophia"]


def test_verdict_withheld(tmp_path: Path) -> None:
    """If the proxy's overhead differs by as much as the endpoints do, no verdict is given, and the report says why."""
    rows = []
    for number in range(8):
        both = pair(str(number), 0.010, 0.011)
        both[0]["overhead_end_us"], both[1]["overhead_end_us"] = 100, 1200
        rows += both
    write(tmp_path, rows)
    out = dyno("report", "--spans", tmp_path).stdout
    assert cells(out, "latency metis : sophia")[-1] == "withheld"
    assert "withheld: the proxy's own 1.10 ms against an effect of 1.00 ms." in out
    assert cells(out, "mean latency, s")[2] == "1.10x"
    assert "metis faster" not in out


OVERHEADS = [
    # (TTFT of metis and sophia, its overhead at each in µs, by turns; the verdict)
    (0.010, 0.011, [(100, 1200)], "withheld: the proxy's own 1.10 ms against an effect of 1.00 ms"),
    (0.010, 0.011, [(100, 100), (2100, 2100)], "sophia slower"),  # however it varies, both share it
    (0.010, 0.011, [(100, 600), (600, 100)], "sophia slower"),  # eight pairs allow 0.59 ms at the most
    (0.010, 0.011, [(100, 1600), (1600, 100)], "withheld: the proxy's own 1.77 ms against an effect of 1.00 ms"),
    (0.010, 0.011, [(5000, 5000)], "sophia slower"),
    (0.010, 0.011, [(100, 900)], "sophia slower"),
    (0.010, 0.010, [(100, 900)], "withheld: the proxy's own 0.80 ms against a margin of 0.50 ms"),
    (0.010, 0.010, [(100, 400)], "no difference within 5 %"),
    (0.010, 0.011, [(None, None)], "sophia slower"),
]


@pytest.mark.parametrize(("metis_s", "sophia_s", "overheads", "expected"), OVERHEADS)
def test_verdict_and_overhead(
    tmp_path: Path, metis_s: float, sophia_s: float, overheads: list[tuple[int | None, int | None]], expected: str
) -> None:
    """The overhead's mean difference with its error withholds a verdict that is no larger; what both share cancels."""
    rows = []
    for number in range(8):
        for name, ttft_s, overhead_us in zip(
            ("metis", "sophia"), (metis_s, sophia_s), overheads[number % len(overheads)], strict=True
        ):
            rows.append(
                streamed([round(ttft_s * 1e6), 1_000_000], endpoint=name, run_id=RUN_ID, prompt_id=str(number))
                | ({} if overhead_us is None else {"overhead_us": overhead_us})
            )
    write(tmp_path, rows)
    out = dyno("report", "--spans", tmp_path).stdout
    verdict, _, why = expected.partition(": ")
    assert cells(out, "TTFT metis : sophia")[-1] == verdict
    assert (why in out) if why else ("withheld:" not in out)


def test_paired_by_mirror(tmp_path: Path) -> None:
    """Users' own traffic: each mirrored request against its copy, the originals first; what is left out is counted."""
    rows = [span(endpoint="sophia", duration_us=90_000_000) for _ in range(5)]  # not mirrored
    for number in range(12):
        rows += mirrored(str(number), 1 + number * 0.1, 2 + number * 0.2)
    rows[5] |= {"outcome": "client_cancelled"}  # an original
    rows[8] |= {"outcome": "truncated", "error_type": "x"}  # a copy
    rows += mirrored("w", 9, 9, warmup=True)
    rows += mirrored("alone", 9, 9)[:1] + mirrored("orphan", 9, 9)[1:]
    rows += [span(endpoint="sophia", outcome="rejected", status=413)]
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path, "--paired-by", "mirror", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (1, "")
    out = done.stdout
    assert out.startswith("sophia against metis: mirrored traffic\n")
    assert cells(out, "latency sophia : metis")[:2] == ["10", "0.500"]
    assert cells(out, "latency sophia : metis")[-1] == "metis slower"
    assert cells(out, "sophia, copied to metis") == ["18", "12", "66.7 %", "10", "1", "1", "0"]
    assert "among these spans: 1 originals at sophia, 1 copies at metis." in out
    assert cells(out, "success rate")[:2] == ["12/12", "12/13"]
    assert "Nobody waits for a copy" in out
    assert "sophia was asked first in every pair" in out
    document = json.loads(next((tmp_path / "out").glob("*.json")).read_text(encoding="utf-8"))
    assert (document["comparison"]["paired_by"], len(document["comparison"]["mirrors"])) == ("mirror", 3)
    assert "**Mirrored requests**" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_copies_in_ordinary_reports(tmp_path: Path) -> None:
    """A report of any traffic holds copies too, which are measurements of their endpoint, and says how many."""
    write(tmp_path, [*mirrored("1", 1, 2), *mirrored("2", 1, 2), span(endpoint="metis")])
    out = dyno("report", "--spans", tmp_path).stdout
    assert "2 of 3 requests of metis are a mirror's copies" in out
    assert cells(out, "latency metis : sophia")[:2] == ["2", "2.00"]
    assert "Mirrored requests" not in out


def test_pairs_of_several_mirrors(tmp_path: Path) -> None:
    """Two mirrors are two rows; a note names the pairs of endpoints that don't include the first one."""
    rows = [row for number in range(3) for row in mirrored(str(number), 1, 2)]
    rows += mirrored("x", 1, 2, names=("third", "fourth"))
    write(tmp_path, rows)
    out = dyno("report", "--spans", tmp_path, "--paired-by", "mirror").stdout
    assert cells(out, "third, copied to fourth")[1] == "1"
    assert "see --endpoints third,fourth" in out
    chosen = dyno("report", "--spans", tmp_path, "--paired-by", "mirror", "--endpoints", "third,fourth").stdout
    assert cells(chosen, "latency third : fourth")[:2] == ["1", "0.500"]


def test_nothing_mirrored_is_refused(tmp_path: Path) -> None:
    """Without mirrored requests, the error is one line that says how to get some."""
    write(tmp_path, prompts(6))
    said = refusal("report", "--spans", tmp_path, "--paired-by", "mirror")
    assert f"no mirrored request in the chosen traffic of '{tmp_path}'" in said
    assert 'mirror = { to = "OTHER", share = 0.1 }' in said
    assert "no mirrored request in run" in refusal("report", RUN_ID, "--spans", tmp_path, "--paired-by", "mirror")
    assert "invalid choice" in refusal("report", "--spans", tmp_path, "--paired-by", "chance")


def test_newest_run_and_chosen_runs(tmp_path: Path) -> None:
    """Without a run the newest is reported; several are pooled if asked; an unknown one is refused with the nearest."""
    old = [span(run_id="old", started_at_us=STARTED_AT_US - n, duration_us=1_000_000) for n in range(3)]
    write(tmp_path, [*old, *[span(run_id="new", duration_us=3_000_000)], span(duration_us=9_000_000)])
    for runs, expected in ((["old"], "1.000"), ([], "3.000"), (["old", "new", "--pool"], "1.500")):
        assert cells(dyno("report", *runs, "--spans", tmp_path).stdout, "mean latency, s") == [expected]
    assert refusal("report", "odl", "--spans", tmp_path).endswith("did you mean 'old'?")


def test_traffic_by_time(tmp_path: Path) -> None:
    """With --since or --until any traffic is reported, in a run or not; a request of no operation is left out."""
    write(
        tmp_path,
        [
            span(started_at_us=STARTED_AT_US, duration_us=1_000_000, run_id="r"),
            span(started_at_us=STARTED_AT_US + 60_000_000, duration_us=2_000_000),
            span(started_at_us=STARTED_AT_US + 60_000_000, duration_us=9_000_000, operation=None),
        ],
    )
    for times, expected in (
        (["--since", "2026-11-24T21:59:01Z"], "2.000"),
        (["--until", "2026-11-24T22:59:01+01:00"], "1.000"),
        (["--since", "2026-11-24T21:59:00", "--until", "2026-11-24T22:30:00Z"], "1.500"),
    ):
        assert cells(dyno("report", "--spans", tmp_path, *times).stdout, "mean latency, s") == [expected]
    assert "no request in the chosen traffic" in refusal(
        "report", "--spans", tmp_path, "--since", "2100-01-01T00:00:00Z"
    )


def test_without_any_run_all_traffic(tmp_path: Path) -> None:
    """Where no request belongs to a run, all of them are reported."""
    write(tmp_path, [span(), span(endpoint="sophia")])
    out = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out").stdout
    assert "metis against sophia: stored traffic" in out
    assert "Requests without a prompt id can't be paired" in out


def test_interleaving_is_found(tmp_path: Path) -> None:
    """One endpoint wholly after the other is noted; interleaved pairs are not."""
    rows = prompts(6)
    write(tmp_path / "pairs", rows)
    assert "Not interleaved" not in dyno("report", "--spans", tmp_path / "pairs").stdout
    rows.sort(key=lambda row: str(row["endpoint"]))
    for number, row in enumerate(rows):
        row["started_at_us"] = STARTED_AT_US + number
    write(tmp_path / "blocks", rows)
    out = dyno("report", "--spans", tmp_path / "blocks").stdout
    assert "Not interleaved: one endpoint was asked wholly after the other" in out
    assert "metis was asked first in every pair" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "noon"], "--since 'noon' must be a time"),
        (["--until", "2026-13-01"], "--until '2026-13-01' must be a time"),
        (["--endpoints", "nobody"], "no request of endpoint 'nobody'"),
        (["--margin", "0"], "--margin"),
        (["--margin", "much"], "--margin"),
        (["--seed", "x"], "--seed"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["nothing"], "no run 'nothing'"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Wrong flags are one line that names them."""
    write(tmp_path, prompts(1))
    line = refusal("report", "--spans", tmp_path, *arguments)
    assert line.startswith("dyno report: ")
    assert message in line


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    """Nothing stored, no folder, and an --out that can't be written, are one line each."""
    assert "no request in the chosen traffic" in refusal("report", "--spans", tmp_path)
    assert "doesn't exist" in refusal("report", "--spans", tmp_path / "gone")
    write(tmp_path, prompts(1))
    (tmp_path / "file").touch()
    done = dyno("report", "--spans", tmp_path, "--out", tmp_path / "file")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "choose another --out" in done.stderr


def test_terminal_shows_every_digit(tmp_path: Path) -> None:
    """On a terminal of 60 columns the tables fit it, and no cell is cut off."""
    write(tmp_path, prompts(6))
    terminal, program_end = pty.openpty()
    command = [sys.executable, "-m", "dyno", "report", "--all", "--spans", str(tmp_path)]
    environment = {**os.environ, "COLUMNS": "60", "TERM": "xterm-256color"}
    with subprocess.Popen(command, stdout=program_end, stderr=program_end, env=environment) as process:
        os.close(program_end)
        output = read_all(terminal)
    os.close(terminal)
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert plain != output
    assert cells(plain, "mean latency, s")[:2] == ["2.900", "1.450"]
    assert "-50.0 %" in plain
    assert "…" not in plain
    assert max(map(len, plain.splitlines())) <= 60


@pytest.mark.parametrize("command", ["report", "sql", "import"])
def test_help_is_quick_and_light(command: str) -> None:
    """--help shows an example and imports none of the heavy packages."""
    code = (
        "import sys, dyno\n"
        f"try: dyno.main(['{command}', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'duckdb', 'numpy', 'rich', 'orjson'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert f"dyno {command}" in done.stdout
    assert "example" in done.stdout
    assert done.stdout.endswith("[]\n")
