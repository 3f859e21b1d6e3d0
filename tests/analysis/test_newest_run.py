"""Which run is meant where none is named: the newest that has spans, whatever files' and other hosts' clocks say."""

import json
import math
import os
import time
from pathlib import Path

import pytest

from dyno_analysis.runs.folder import Known, newest
from rigs.dyno_command import dyno
from rigs.stored_spans import span, write

NOW_S = 1_000_000.0


def with_spans(started_s: float) -> Known:
    return Known(started_s, has_spans=True)


def without(started_s: float) -> Known:
    return Known(started_s, has_spans=False)


@pytest.mark.parametrize(
    ("runs", "chosen", "passed_over"),
    [
        ({}, None, []),
        ({"a": with_spans(1.0), "b": with_spans(2.0)}, "b", []),
        ({"a": with_spans(2.0), "b": with_spans(2.0)}, "b", []),
        ({"a": with_spans(1.0), "b": without(0.5)}, "a", []),
        ({"a": with_spans(1.0), "b": without(2.0), "c": without(3.0)}, "a", ["without results", "c and 1 more"]),
        ({"a": with_spans(1.0), "ahead": with_spans(NOW_S + 7200)}, "a", ["in the future", ": ahead"]),
        ({"a": with_spans(1.0), "b": with_spans(NOW_S + 60)}, "b", []),  # clocks that are kept differ by less
        ({"ahead": with_spans(NOW_S + 7200), "more": with_spans(NOW_S + 9000)}, "more", []),
        ({"b": without(2.0), "c": without(3.0)}, "c", []),
    ],
)
def test_the_choice(runs: dict[str, Known], chosen: str | None, passed_over: list[str]) -> None:
    """A run without spans, or with a start in the future, is only meant where there is no other, and is named."""
    found = newest(runs, NOW_S)
    assert found.run_id == chosen
    assert bool(found.passed_over) == bool(passed_over)
    for words in passed_over:
        assert any(words in line for line in found.passed_over)
    assert newest(runs, math.inf).run_id in {None, *runs}


def record(spans: Path, run_id: str, **values: object) -> Path:
    folder = spans / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"schema": 1, "run_id": run_id, "endpoints": {}, **values}))
    return folder / "run.json"


def test_a_newer_record_without_spans(tmp_path: Path) -> None:
    """The report is of the run with spans, and a line names the other. A file's own time says nothing: copying the
    folder makes every file new.
    """
    write(tmp_path, [span(run_id="measured", started_at_us=1_700_000_000_000_000)])
    record(tmp_path, "stopped", started_at="2024-02-01T00:00:00Z")
    record(tmp_path, "copied", started_at="2020-01-01T00:00:00Z")  # written just now
    record(tmp_path, "broken").write_text("{")
    os.utime(tmp_path / "runs" / "broken" / "run.json", (1_000_000_000, 1_000_000_000))
    done = dyno("report", "--spans", tmp_path)
    assert done.returncode == 0
    assert "run measured" in done.stdout
    assert done.stderr == ("dyno report: run measured is reported; passed over, without results: stopped\n")


def test_a_host_whose_clock_is_ahead(tmp_path: Path) -> None:
    """Its run isn't the newest for hours. It can be named."""
    now_us = int(time.time() * 1e6)
    rows = [span(run_id="now", started_at_us=now_us), span(run_id="ahead", started_at_us=now_us + 7_200_000_000)]
    write(tmp_path, rows)
    done = dyno("report", "--spans", tmp_path)
    assert "run now" in done.stdout
    assert "in the future (a clock is ahead): ahead" in done.stderr
    named = dyno("report", "ahead", "--spans", tmp_path)
    assert ("run ahead" in named.stdout, named.stderr) == (True, "")
