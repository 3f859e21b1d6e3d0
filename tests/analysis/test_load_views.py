"""`concurrency`, `spans_loaded` and `gaps`: how many requests were under way, against counting them one by one."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dyno_analysis
from rigs.bare_spans import over
from rigs.sql_rows import rows_of
from rigs.stored_spans import STARTED_AT_US, span, write

HOUR_US = 3_600_000_000
VIEWS = ("concurrency", "spans_loaded", "gaps")
# Near the ends of hours, and long enough to last over several.
STARTS = st.one_of(
    st.integers(0, 40), st.integers(0, 5 * HOUR_US), st.sampled_from((HOUR_US - 1, HOUR_US, HOUR_US + 1))
)
LASTS = st.one_of(st.integers(0, 60), st.integers(0, 4 * HOUR_US), st.just(HOUR_US))
REQUESTS = st.lists(st.tuples(st.sampled_from(("a", "b", None)), STARTS, LASTS), max_size=14)


def made(requests: list[tuple[str | None, int, int]]) -> list[dict[str, Any]]:
    return [
        {"endpoint": name, "start_us": STARTED_AT_US + start, "latency_s": lasts / 1e6, "span_id": str(number)}
        for number, (name, start, lasts) in enumerate(requests)
    ]


def open_at(requests: list[tuple[str | None, int, int]], name: str | None, at: int) -> int:
    """How many of the endpoint's requests have begun by then and haven't ended: by looking at each."""
    return sum(1 for other, start, lasts in requests if other == name and start <= at < start + lasts)


@settings(max_examples=20, deadline=None)
@given(REQUESTS)
def test_concurrency(requests: list[tuple[str | None, int, int]]) -> None:
    """There is a row for each moment at which a request begins or ends, with the number that is open from then on."""
    with over(made(requests), VIEWS) as connection:
        found = rows_of(connection, "SELECT endpoint, epoch_us(changed_at) AS changed, open FROM concurrency")
    expected = {
        (name, at): open_at(requests, name, at) for name, start, lasts in requests for at in (start, start + lasts)
    }
    assert {(row["endpoint"], row["changed"] - STARTED_AT_US): row["open"] for row in found} == expected
    assert len(found) == len(expected)


@settings(max_examples=20, deadline=None)
@given(REQUESTS)
def test_spans_loaded(requests: list[tuple[str | None, int, int]]) -> None:
    """Each request is there once, with how many were under way when it began, whatever else a query leaves out."""
    with over(made(requests), VIEWS) as connection:
        found = rows_of(connection, "FROM spans_loaded")
        some = rows_of(connection, "FROM spans_loaded WHERE span_id = '0'")
    expected = {str(number): open_at(requests, name, start) for number, (name, start, _) in enumerate(requests)}
    assert {row["span_id"]: row["under_way"] for row in found} == expected
    assert len(found) == len(requests)
    assert {row["span_id"]: row["under_way"] for row in some} == {key: n for key, n in expected.items() if key == "0"}


@settings(max_examples=20, deadline=None)
@given(REQUESTS)
def test_gaps(requests: list[tuple[str | None, int, int]]) -> None:
    """The gaps are those stretches between two moments of an endpoint in which nothing was under way."""
    with over(made(requests), VIEWS) as connection:
        found = rows_of(connection, "SELECT *, epoch_us(began_at) AS began, epoch_us(ended_at) AS ended FROM gaps")
    gaps = {(row["endpoint"], row["began"] - STARTED_AT_US, row["ended"] - STARTED_AT_US) for row in found}
    expected = set()
    for name in {name for name, _, _ in requests}:
        moments = sorted({at for other, start, lasts in requests if other == name for at in (start, start + lasts)})
        expected |= {(name, at, after) for at, after in pairwise(moments) if open_at(requests, name, at) == 0}
    assert gaps == expected
    assert all(row["gap_s"] == pytest.approx((row["ended"] - row["began"]) / 1e6) for row in found)


def test_over_a_folder(tmp_path: Path) -> None:
    """The views read span files; warm-ups and failures are under way as others are, and a filter changes no number."""
    starts = {"a": 0, "b": 500_000, "c": 900_000, "d": 5_000_000}
    kinds: dict[str, dict[str, Any]] = {"b": {"warmup": True}, "c": {"outcome": "http_error"}}
    rows = [span(span_id=name, started_at_us=STARTED_AT_US + at, **kinds.get(name, {})) for name, at in starts.items()]
    write(tmp_path, [*rows, span(span_id="e", started_at_us=STARTED_AT_US, endpoint="sophia", duration_us=None)])
    with dyno_analysis.connect(tmp_path) as connection:
        found = connection.execute("SELECT span_id, under_way FROM spans_loaded ORDER BY ALL").fetchall()
        filtered = connection.execute("SELECT under_way FROM spans_loaded WHERE outcome = 'http_error'").fetchall()
        gaps = connection.execute("SELECT endpoint, gap_s FROM gaps").fetchall()
    assert found == [("a", 1), ("b", 2), ("c", 3), ("d", 1), ("e", None)]
    assert filtered == [(3,)]
    assert gaps == [("metis", 3.1)]


def test_a_duration_that_cannot_be(tmp_path: Path) -> None:
    """A request whose end no timestamp can hold isn't counted, and no number is below 0."""
    year_us = 365 * 24 * HOUR_US
    write(
        tmp_path, [span(duration_us=year_us), span(duration_us=2**63 - 1), span(started_at_us=STARTED_AT_US + year_us)]
    )
    with dyno_analysis.connect(tmp_path) as connection:
        found = connection.execute("SELECT min(open), max(open) FROM concurrency").fetchall()
    assert found == [(0, 2)]
