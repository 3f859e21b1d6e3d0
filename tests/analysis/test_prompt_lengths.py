"""Prompts by length: bins of one set of edges for all endpoints, and how sure each figure is."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.report.comparison import MOST_LENGTHS
from dyno_analysis.report.prompt_lengths import prompt_lengths
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.sql_text import sql_text
from rigs.dyno_command import cells, dyno
from rigs.stored_spans import pair, span, write


def columns(lengths: dict[str, list[float]], characters: bool = False) -> dict[str, np.ndarray]:
    """Rows of prompt_lengths.sql, whose latency in seconds is the length."""
    endpoints = np.array([name for name, own in lengths.items() for _ in own])
    values = np.array([value for own in lengths.values() for value in own], dtype=float)
    nothing = np.full(len(values), np.nan)
    known, other = ("characters", "input_tokens") if characters else ("input_tokens", "characters")
    figures = dict.fromkeys(("latency_s", "ttft_s", "output_tokens"), values)
    return {"endpoint": endpoints, known: values, other: nothing, **figures}


def test_quartiles_of_many() -> None:
    """24 requests an endpoint make four bins of six, whose medians are of their own requests."""
    lengths = [float(n) for n in range(1, 25)]
    found = prompt_lengths(columns({"a": lengths, "b": lengths}), ["a", "b"])
    assert found is not None
    assert [(one.endpoint, one.shortest, one.longest, one.n) for one in found.bins[:3]] == [
        ("a", 1, 6, 6),
        ("b", 1, 6, 6),
        ("a", 7, 12, 6),
    ]
    assert [one.median_latency_s for one in found.bins[::2]] == [3.5, 9.5, 15.5, 21.5]
    assert found.unit == "tokens"


def test_few_requests_make_two_bins() -> None:
    """Ten requests make two bins; prompts of one length make none; characters stand in where no tokens are known."""
    found = prompt_lengths(columns({"a": [float(n) for n in range(10)]}, characters=True), ["a"])
    assert found is not None
    assert ([one.n for one in found.bins], found.unit) == ([5, 5], "characters")
    assert prompt_lengths(columns({"a": [5.0] * 50}), ["a"]) is None
    assert prompt_lengths(columns({}), ["a"]) is None


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=80),
    st.lists(st.integers(1, 60), max_size=80),
)
def test_each_request_is_in_one_bin(first: list[int], second: list[int]) -> None:
    """Bins don't overlap, hold every request once, and each endpoint has an entry in each."""
    found = prompt_lengths(columns({"a": [*map(float, first)], "b": [*map(float, second)]}), ["a", "b"])
    if found is None:
        assert len({*first, *second}) == 1
        return
    assert sum(one.n for one in found.bins if one.endpoint == "a") == len(first)
    assert sum(one.n for one in found.bins if one.endpoint == "b") == len(second)
    ends = [(one.shortest, one.longest) for one in found.bins[::2]]
    assert all(low <= high for low, high in ends)
    assert all(before[1] < after[0] for before, after in pairwise(ends))
    assert [one.endpoint for one in found.bins] == ["a", "b"] * len(ends)


def test_the_table(tmp_path: Path) -> None:
    """A prompt that two tokenizers count differently is in one bin of both; a bin with few requests says so."""
    rows = []
    for number in range(12):
        both = pair(str(number), 1 + number, 2 + number, output_tokens=50)
        both[0]["input_tokens"], both[1]["input_tokens"] = 100 + 10 * number, 104 + 10 * number
        rows += both
    write(tmp_path, [*rows, span(endpoint="sophia", run_id=rows[0]["run_id"], input_tokens=None)])
    out = dyno("report", "--spans", tmp_path, "--out", tmp_path / "out").stdout
    table = out[out.index("Prompts by length") :]
    assert cells(table, "102 to 152", "metis") == ["6", "3.500", "–", "50.0"]
    assert cells(table, "162 to 212", "metis") == ["6", "9.500", "–", "50.0"]
    assert "Not in it, since their prompts' lengths aren't known: 1 request of sophia." in table
    assert "## Prompts by length" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    write(tmp_path / "few", rows[:8])
    assert "2 (few)" in dyno("report", "--spans", tmp_path / "few").stdout


def test_the_rows(tmp_path: Path) -> None:
    """An ok request has its prompt's mean count of tokens and its characters; without a prompt's id, its own count."""
    write(
        tmp_path,
        [
            span(run_id="r", prompt_id="1", input_tokens=10, output_tokens=5),
            span(run_id="r", prompt_id="1", input_tokens=13, endpoint="sophia"),
            span(run_id="other", prompt_id="1", input_tokens=90),
            span(input_tokens=70),
            span(run_id="r", prompt_id="1", input_tokens=99, outcome="truncated"),
            span(run_id="r", prompt_id="1", input_tokens=99, warmup=True),
        ],
    )
    with span_folder.connect(tmp_path) as connection:
        connection.execute("CREATE VIEW prompts AS SELECT 'r' AS run_id, '1' AS prompt_id, 'four' AS prompt")
        found = connection.execute(sql_text("prompt_lengths")).fetchall()
    assert found == [
        ("metis", 11.5, 4.0, 5.0, 1.0, None),
        ("metis", 90.0, None, None, 1.0, None),
        ("metis", 70.0, None, None, 1.0, None),
        ("sophia", 11.5, 4.0, None, 1.0, None),
    ]
    # The note says how large the sample is.
    assert sql_text("prompt_lengths").count(f"{MOST_LENGTHS:_}") == 1


@pytest.mark.parametrize("lengths", [{"input_tokens": 50}, {}], ids=["one length", "not known"])
def test_no_table_without_lengths(tmp_path: Path, lengths: dict[str, int]) -> None:
    """Prompts of one length, or of unknown lengths, make no table."""
    write(tmp_path, [row for n in range(6) for row in pair(str(n), 1, 2, **lengths)])
    assert "Prompts by length" not in dyno("report", "--spans", tmp_path).stdout
