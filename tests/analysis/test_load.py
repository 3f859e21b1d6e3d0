"""The view `spans`: its columns, and what it derives."""

import re
from pathlib import Path
from typing import Any

import pytest

from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.sql_text import sql_text
from dyno_proxy.attributes import ATTRIBUTES
from dyno_proxy.telemetry.span import COLUMNS
from rigs.shared_data import SHARED, needs_shared
from rigs.stored_spans import span, streamed, write

SPECIFIED = [
    ("trace_id", "VARCHAR"),
    ("span_id", "VARCHAR"),
    ("parent_span_id", "VARCHAR"),
    ("started_at", "TIMESTAMP WITH TIME ZONE"),
    ("endpoint", "VARCHAR"),
    ("provider", "VARCHAR"),
    ("operation", "VARCHAR"),
    ("model", "VARCHAR"),
    ("response_model", "VARCHAR"),
    ("streamed", "BOOLEAN"),
    ("method", "VARCHAR"),
    ("path", "VARCHAR"),
    ("status", "INTEGER"),
    ("outcome", "VARCHAR"),
    ("error_type", "VARCHAR"),
    ("latency_s", "DOUBLE"),
    ("ttfb_s", "DOUBLE"),
    ("ttft_s", "DOUBLE"),
    ("ttfa_s", "DOUBLE"),
    ("tpot_s", "DOUBLE"),
    ("input_tokens", "BIGINT"),
    ("output_tokens", "BIGINT"),
    ("reasoning_tokens", "BIGINT"),
    ("cached_tokens", "BIGINT"),
    ("usage_source", "VARCHAR"),
    ("finish_reason", "VARCHAR"),
    ("chunk_count", "BIGINT"),
    ("chunk_offsets_us", "BIGINT[]"),
    ("request_bytes", "BIGINT"),
    ("response_bytes", "BIGINT"),
    ("server_ttft_s", "DOUBLE"),
    ("server_latency_s", "DOUBLE"),
    ("server_queue_s", "DOUBLE"),
    ("overhead_us", "BIGINT"),
    ("loop_lag_us", "BIGINT"),
    ("run_id", "VARCHAR"),
    ("workload", "VARCHAR"),
    ("prompt_id", "VARCHAR"),
    ("repeat", "INTEGER"),
    ("warmup", "BOOLEAN"),
    ("due_at", "TIMESTAMP WITH TIME ZONE"),
    ("send_lag_s", "DOUBLE"),
    ("simulated", "BOOLEAN"),
    ("imported_from", "VARCHAR"),
    ("attributes", "MAP(VARCHAR, VARCHAR)"),
]
# Further columns, which reports and other views need.
OWN = [
    ("overhead_end_us", "BIGINT"),
    ("mirror", "VARCHAR"),
    ("mirror_trace_id", "VARCHAR"),
    ("mirror_span_id", "VARCHAR"),
    ("response_id", "VARCHAR"),
    ("body_received_us", "BIGINT"),
    ("connected_us", "BIGINT"),
    ("sent_us", "BIGINT"),
    ("server_prefill_s", "DOUBLE"),
    ("server_decode_s", "DOUBLE"),
    ("cut_by_length", "BOOLEAN"),
    ("user_agent", "VARCHAR"),
    ("client", "VARCHAR"),
    ("client_address", "VARCHAR"),
    ("user", "VARCHAR"),
    ("session_id", "VARCHAR"),
    ("request_id", "VARCHAR"),
    ("reasoning_level", "VARCHAR"),
    ("choice_count", "BIGINT"),
    ("first_read_tokens", "BIGINT"),
    ("connection_reused", "BOOLEAN"),
    ("resent", "BOOLEAN"),
    ("retries", "BIGINT"),
    ("retry_after_s", "DOUBLE"),
    ("rtt_us", "BIGINT"),
    ("min_rtt_us", "BIGINT"),
    ("gc_pause_us", "BIGINT"),
    ("sampled", "BOOLEAN"),
    ("tracestate", "VARCHAR"),
    ("finish_reasons", "VARCHAR[]"),
    ("first_chunk_tokens", "BIGINT"),
    ("reasoning_streamed", "BOOLEAN"),
    ("headers_us", "BIGINT"),
    ("first_event_us", "BIGINT"),
    ("first_token_us", "BIGINT"),
    ("first_answer_us", "BIGINT"),
    ("last_token_us", "BIGINT"),
    ("done_us", "BIGINT"),
    ("load_concurrency", "BIGINT"),
    ("load_rate_per_s", "DOUBLE"),
    ("writer", "VARCHAR"),
    ("seq", "BIGINT"),
    ("ended_at", "TIMESTAMP WITH TIME ZONE"),
    ("failed", "BOOLEAN"),
]
NAMES = [name for name, _ in SPECIFIED]


def one(folder: Path, column: str) -> Any:
    with span_folder.connect(folder) as connection:
        rows = connection.execute(f"FROM spans SELECT {column}").fetchall()
    assert len(rows) == 1
    return rows[0][0]


def test_columns_are_those_that_others_rely_on(tmp_path: Path) -> None:
    """The view has exactly these columns, in this order and of these types, also without a file."""
    with span_folder.connect(tmp_path) as connection:
        described = [row[:2] for row in connection.execute("DESCRIBE spans").fetchall()]
        assert connection.execute("SELECT count(*) FROM spans").fetchall() == [(0,)]
    assert described == SPECIFIED + OWN


@needs_shared
def test_columns_agree_with_the_specification() -> None:
    """The project's definition of the view, which CI has, lists the same columns in the same order."""
    text = (SHARED / "MEASURING.md").read_text(encoding="utf-8").partition("## The `spans` view")[2]
    listed = next(block for block in re.findall(r"`([^`]+)`", text) if block.startswith("trace_id,"))
    assert re.sub(r"\s*\([^)]*\)", "", listed).replace("\n", " ").split(", ") == NAMES


def test_reads_every_column_that_the_proxy_writes() -> None:
    """Each column of a journal's line is read with its type."""
    types = {
        "int": "BIGINT",
        "float": "DOUBLE",
        "bool": "BOOLEAN",
        "string": "VARCHAR",
        "string[]": "VARCHAR[]",
        "int[]": "BIGINT[]",
        "map": "MAP(VARCHAR, VARCHAR)",
    }
    read = dict(re.findall(r"^ {12}(\w+): '([^']+)'", sql_text("spans"), re.MULTILINE))
    written = {name: types[kind] for name, kind in COLUMNS}
    assert {name: kind.replace("INTEGER", "BIGINT") for name, kind in read.items()} == written


def test_every_stored_column_is_one_of_the_view(tmp_path: Path) -> None:
    """A stored value is in the column of its name, and the map is as it is stored."""
    values = {"string": "x", "int": 7, "float": 0.5, "bool": True, "string[]": ["stop", "length"], "int[]": [1, 2]}
    stored = {str(a.column): values[a.type] for a in ATTRIBUTES if a.column and a.column != "due_at_unix_us"}
    write(tmp_path, [span(v=2, attributes={"server.port": "443"}, **stored)])
    for name, value in stored.items():
        assert one(tmp_path, f'"{name}"') == value
    assert one(tmp_path, "attributes") == {"server.port": "443"}


@pytest.mark.parametrize(
    ("row", "tpot_s"),
    [
        pytest.param(streamed([200_000, 220_000, 240_000]), 0.02, id="a token a chunk"),
        pytest.param(streamed([200_000, 220_000, 240_000], output_tokens=5), 0.01, id="the server's count"),
        pytest.param(
            streamed([200_000, 240_000], output_tokens=5, first_chunk_tokens=3), 0.02, id="first chunk's tokens"
        ),
        pytest.param(streamed([200_000, 240_000], output_tokens=5, first_chunk_tokens=5), None, id="all in the first"),
        pytest.param(
            streamed([200_000, 240_000], output_tokens=12, reasoning_tokens=7), 0.01, id="hidden reasoning taken off"
        ),
        pytest.param(
            streamed([200_000, 240_000], output_tokens=12, reasoning_tokens=7, reasoning_streamed=True),
            0.04 / 11,
            id="streamed reasoning counts",
        ),
        pytest.param(
            streamed([200_000, 240_000], output_tokens=12, attributes={"dyno.reasoning.hidden": "true"}),
            None,
            id="hidden reasoning that nobody counted",
        ),
        pytest.param(streamed([200_000], output_tokens=1), None, id="one token"),
        pytest.param(
            streamed([200_000] * 20 + [400_000] * 20, output_tokens=40), 0.01, id="a gateway that collects twenty"
        ),
        pytest.param(
            streamed([200_000, 300_000], output_tokens=41, attributes={"dyno.usage.first_read_tokens": "21"}),
            0.005,
            id="the first read's tokens, as the row has them",
        ),
        pytest.param(
            streamed([200_000] * 2 + [240_000] * 2, output_tokens=4, attributes={"dyno.choice.count": "2"}),
            0.04,
            id="two choices",
        ),
        pytest.param(
            streamed([200_000] * 2 + [240_000] * 2, output_tokens=4, finish_reasons=["stop", "length"]),
            0.04,
            id="two choices of an older row",
        ),
        pytest.param(streamed([200_000] * 5 + [240_000], output_tokens=5), None, id="no more than came first"),
        pytest.param(
            streamed([200_000, 240_000], output_tokens=8, reasoning_tokens=7), None, id="one token besides reasoning"
        ),
        pytest.param(streamed([200_000, 240_000], output_tokens=None), None, id="tokens unknown"),
        pytest.param(streamed([200_000, 240_000], streamed=False), None, id="not streamed"),
    ],
)
def test_tpot(tmp_path: Path, row: dict[str, Any], tpot_s: float | None) -> None:
    """TPOT is the time from first token to last over the tokens that came in it, or NULL where that isn't known."""
    write(tmp_path, [row])
    assert one(tmp_path, "tpot_s") == (None if tpot_s is None else pytest.approx(tpot_s, rel=1e-12))


@pytest.mark.parametrize(
    ("row", "tokens"),
    [
        ({"streamed": True, "chunk_count": 0, "status": 200}, (0, "chunks")),
        ({"streamed": True, "chunk_count": 0, "status": 500}, (None, None)),
        ({"streamed": True, "chunk_count": 0, "status": 200, "attributes": {"dyno.unread": "encoding"}}, (None, None)),
        ({"streamed": True, "chunk_count": 3, "status": 200, "usage_source": "chunks"}, (3, "chunks")),
        ({"streamed": False, "status": 200}, (None, None)),
        ({"streamed": False, "status": 200, "input_tokens": 8}, (None, "server")),
        ({"streamed": False, "status": 200, "input_tokens": 8, "imported_from": "f"}, (None, None)),
    ],
)
def test_tokens_of_older_rows(tmp_path: Path, row: dict[str, Any], tokens: tuple[int | None, str | None]) -> None:
    """A row without a count has the one that a new row would have: a stream without output has 0 tokens."""
    base = {key: value for key, value in span().items() if key not in ("output_tokens", "usage_source", "input_tokens")}
    write(tmp_path, [base | row])
    assert one(tmp_path, "[output_tokens::VARCHAR, usage_source]") == [
        None if tokens[0] is None else str(tokens[0]),
        tokens[1],
    ]


@pytest.mark.parametrize(
    ("reasons", "cut"),
    [
        (["stop"], False),
        (["length"], True),
        (["max_tokens"], True),
        (["max_output_tokens"], True),
        (["stop", "length"], True),
        (["MAX_TOKENS"], True),
        (["content_filter", "tool_calls"], False),
    ],
)
def test_cut_by_length(tmp_path: Path, reasons: list[str], cut: bool) -> None:
    """An answer was cut by length if one of its choices was, in the words of any API."""
    write(tmp_path, [span(finish_reasons=reasons)])
    assert one(tmp_path, "cut_by_length") is cut


def test_times_in_seconds(tmp_path: Path) -> None:
    """Latency, TTFB, TTFT and TTFA are the offsets in seconds; the stamps keep their microseconds."""
    offsets = {"headers_us": 150_000, "first_answer_us": 300_001, "due_at_unix_us": 1_000_001}
    write(tmp_path, [streamed([200_000, 300_001], **offsets)])
    assert one(tmp_path, "[latency_s, ttfb_s, ttft_s, ttfa_s]") == [0.300001, 0.15, 0.2, 0.300001]
    assert one(tmp_path, "due_at::VARCHAR") == "1970-01-01 00:00:01.000001+00"
    assert one(tmp_path, "epoch_us(started_at) % 1_000_000") == 0


def test_unstreamed_has_no_ttft(tmp_path: Path) -> None:
    """An answer that wasn't streamed has no TTFT, never its latency, whatever offsets stand in the file."""
    write(tmp_path, [span(first_token_us=5, first_answer_us=5, headers_us=5)])
    assert one(tmp_path, "[ttft_s, ttfa_s]") == [None, None]


def test_unknown_is_null_and_a_missing_warmup_flag_is_false(tmp_path: Path) -> None:
    """Absent keys are NULL; the warm-up flag alone is then false, so that NOT warmup keeps the row."""
    write(tmp_path, [{"v": 1, "seq": 1, "trace_id": "0" * 32, "span_id": "1" * 16, "crc": 0}])
    with span_folder.connect(tmp_path) as connection:
        query = "SELECT * REPLACE (started_at::VARCHAR AS started_at, due_at::VARCHAR AS due_at) FROM spans"
        row = dict(zip([name for name, _ in SPECIFIED + OWN], connection.execute(query).fetchall()[0], strict=True))
    known = {name: value for name, value in row.items() if value is not None}
    named = {"writer": "node1_42_20261124T215900000000Z", "seq": 1}
    assert known == {"trace_id": "0" * 32, "span_id": "1" * 16, "warmup": False, "attributes": {}, **named}
