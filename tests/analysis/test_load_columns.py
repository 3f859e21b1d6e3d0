"""Columns of `spans` that follow from others: the end, the failure, the session, and where a row stands."""

from pathlib import Path
from typing import Any

import pytest

from dyno_analysis.spans import folder as span_folder
from dyno_proxy.outcomes import OUTCOMES
from rigs.compacted import as_parquet, rested
from rigs.stored_spans import span, write


def one(folder: Path, column: str) -> Any:
    with span_folder.connect(folder) as connection:
        rows = connection.execute(f"FROM spans SELECT {column}").fetchall()
    assert len(rows) == 1
    return rows[0][0]


@pytest.mark.parametrize(
    ("outcome", "failed"),
    [
        ("ok", False),
        ("client_cancelled", False),
        ("rejected", False),
        *((outcome, True) for outcome in OUTCOMES if outcome not in ("ok", "client_cancelled", "rejected")),
        (None, None),
    ],
)
def test_failed(tmp_path: Path, outcome: str | None, failed: bool | None) -> None:
    """A failure by the success rate's rule: neither ok, nor cancelled by the client, nor rejected by the proxy."""
    write(tmp_path, [span(outcome=outcome)])
    assert one(tmp_path, "failed") is failed


def test_the_end_and_where_a_row_stands(tmp_path: Path) -> None:
    """`ended_at` is start and duration, to the microsecond; `writer` and `seq` name the row in files of both kinds."""
    writers = ("node1_42_20261124T215900000000Z", "import_x")
    journals = [write(tmp_path, [span(seq=7, duration_us=1_234_567, span_id=name)], name) for name in writers]
    query = "FROM spans SELECT writer, seq, epoch_us(ended_at) - epoch_us(started_at) ORDER BY writer DESC"
    expected = [(name, 7, 1_234_567) for name in writers]
    with span_folder.connect(tmp_path) as connection:
        assert connection.execute(query).fetchall() == expected
    for journal in journals:
        as_parquet(rested(journal))
    with span_folder.connect(tmp_path) as connection:
        assert connection.execute(query).fetchall() == expected


def test_times_that_cannot_be(tmp_path: Path) -> None:
    """A due time or a duration that no timestamp can hold is NULL, and no error for the other rows."""
    largest = 2**63 - 1
    write(tmp_path, [span(duration_us=largest, due_at_unix_us=largest), span(due_at_unix_us=5)])
    with span_folder.connect(tmp_path) as connection:
        found = connection.execute("SELECT ended_at IS NULL, epoch_us(due_at) FROM spans ORDER BY seq").fetchall()
    assert found == [(True, None), (False, 5)]


@pytest.mark.parametrize(
    ("columns", "session"),
    [
        ({"session_id": "s", "user": "u", "attributes": {"gen_ai.conversation.id": "c"}}, "s"),
        ({"user": "u", "attributes": {"gen_ai.conversation.id": "c"}}, "c"),
        ({"user": "u"}, "u"),
        ({"v": 1, "attributes": {"session.id": "s", "dyno.user": "u"}}, "s"),
        ({}, None),
    ],
)
def test_the_session(tmp_path: Path, columns: dict[str, Any], session: str | None) -> None:
    """A request's session is what the baggage says, else the conversation's id, else the user."""
    write(tmp_path, [span(**{"v": 2, **columns})])
    assert one(tmp_path, "session_id") == session
