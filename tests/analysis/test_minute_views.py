"""`minutes_all` and `token_minutes`: each minute's requests and tokens, against counting them one by one."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dyno_analysis
from rigs.bare_spans import over
from rigs.sql_rows import rows_of
from rigs.stored_spans import STARTED_AT_US, span, streamed, write

MINUTE_US = 60_000_000
START_MINUTE = STARTED_AT_US // MINUTE_US


def test_minutes_without_a_request(tmp_path: Path) -> None:
    """Every minute from the first to the last has a row for each endpoint, with counts of 0 where nothing was asked."""
    at = {"metis": (0, 0, 3), "sophia": (1,)}
    rows = [
        span(endpoint=name, started_at_us=STARTED_AT_US + minute * MINUTE_US, output_tokens=5)
        for name, minutes in at.items()
        for minute in minutes
    ]
    write(tmp_path, [*rows, span(started_at_us=STARTED_AT_US + 9 * MINUTE_US, warmup=True)])
    with dyno_analysis.connect(tmp_path) as connection:
        found = rows_of(connection, "SELECT *, epoch_us(minute) AS at_us FROM minutes_all ORDER BY minute, endpoint")
        stored = rows_of(connection, "FROM minutes ORDER BY minute, endpoint")
        later = rows_of(connection, "FROM minutes_all WHERE minute > '2026-11-24 22:01:00Z'")
    assert [(row["at_us"] // MINUTE_US - START_MINUTE, row["endpoint"], row["requests"]) for row in found] == [
        (minute, name, at[name].count(minute)) for minute in range(4) for name in ("metis", "sophia")
    ]
    empty = next(row for row in found if not row["requests"])
    assert (empty["ok"], empty["failed"], empty["output_tokens"], empty["latency_p50_s"]) == (0, 0, 0, None)
    full = [{name: value for name, value in row.items() if name != "at_us"} for row in found if row["requests"]]
    assert full == stored
    assert len(later) == 2


def test_a_clock_that_was_wrong(tmp_path: Path) -> None:
    """A pause of more than 31 days isn't filled: a row of 1970 doesn't become millions of minutes."""
    ends_us = STARTED_AT_US + 31 * 1440 * MINUTE_US
    write(tmp_path, [span(started_at_us=at_us) for at_us in (0, STARTED_AT_US, ends_us)])
    with dyno_analysis.connect(tmp_path) as connection:
        ((n,),) = connection.execute("SELECT count(*) FROM minutes_all").fetchall()
    assert n == 1 + 31 * 1440 + 1


OFFSETS = st.lists(st.integers(0, 4 * MINUTE_US), min_size=1, max_size=8).map(sorted)
ANSWERS = st.lists(
    st.tuples(
        st.integers(0, 3 * MINUTE_US),
        st.sampled_from(("chunks", "no chunk times", "not streamed")),
        OFFSETS,
        st.integers(0, 500),
    ),
    max_size=6,
)


def row(start: int, kind: str, offsets: list[int], tokens: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "endpoint": "a",
        "start_us": STARTED_AT_US + start,
        "latency_s": offsets[-1] / 1e6,
        "output_tokens": tokens,
    }
    if kind != "not streamed":
        made |= {"first_token_us": offsets[0], "last_token_us": offsets[-1]}
    if kind == "chunks":
        made["chunk_offsets_us"] = offsets
    return made


def by_minute(start: int, kind: str, offsets: list[int], tokens: int) -> dict[int, float]:
    """Where the tokens came, by minutes: chunk by chunk, or by the length of each minute's part."""
    found: dict[int, float] = defaultdict(float)
    base = STARTED_AT_US % MINUTE_US + start
    first, last = base + offsets[0], base + offsets[-1]
    if kind == "chunks":
        for offset in offsets:
            found[(base + offset) // MINUTE_US] += tokens / len(offsets)
    elif kind == "not streamed" or first == last:
        found[last // MINUTE_US] += tokens
    else:
        for minute in range(first // MINUTE_US, last // MINUTE_US + 1):
            inside = min(last, (minute + 1) * MINUTE_US) - max(first, minute * MINUTE_US)
            found[minute] += tokens * inside / (last - first)
    return found


@settings(max_examples=30, deadline=None)
@given(ANSWERS)
def test_token_minutes(answers: list[tuple[int, str, list[int], int]]) -> None:
    """A minute has the tokens of the chunks that came in it, and all minutes together those of all answers."""
    with over([row(*answer) for answer in answers], ("token_minutes",)) as connection:
        query = "SELECT epoch_us(minute) // 60_000_000 AS number, output_tokens, output_tokens_per_s FROM token_minutes"
        found = rows_of(connection, query)
    expected: dict[int, float] = defaultdict(float)
    for answer in answers:
        for minute, tokens in by_minute(*answer).items():
            expected[minute + START_MINUTE] += tokens
    assert {each["number"]: each["output_tokens"] for each in found if each["output_tokens"] > 0} == pytest.approx(
        {minute: tokens for minute, tokens in expected.items() if tokens > 0}
    )
    assert sum(each["output_tokens"] for each in found) == pytest.approx(sum(answer[3] for answer in answers))
    assert all(each["output_tokens_per_s"] * 60 == pytest.approx(each["output_tokens"]) for each in found)


def test_minutes_book_all_tokens_at_the_start(tmp_path: Path) -> None:
    """`minutes` has an answer's tokens where it began, `token_minutes` where they came; both have the same in all."""
    offsets = [30_000_000, 50_000_000, 70_000_000, 90_000_000]  # it begins on the minute
    at_us = START_MINUTE * MINUTE_US
    odd = [
        streamed(offsets, started_at_us=at_us, outcome="truncated"),
        streamed(offsets, started_at_us=at_us, warmup=True),
        span(started_at_us=at_us, duration_us=2**62, output_tokens=7),
    ]
    write(tmp_path, [streamed(offsets, started_at_us=at_us, output_tokens=8), *odd])
    with dyno_analysis.connect(tmp_path) as connection:
        began = connection.execute("SELECT epoch_us(minute), output_tokens FROM minutes").fetchall()
        came = connection.execute("SELECT epoch_us(minute), output_tokens FROM token_minutes ORDER BY ALL").fetchall()
    assert began == [(at_us, 15)]
    # A duration that no request can have is unknown, so its tokens count where it began.
    assert came == [(at_us, 11.0), (at_us + MINUTE_US, 4.0)]
