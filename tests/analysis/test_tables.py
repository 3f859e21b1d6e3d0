"""Each table of sql/: a small input, and its rows worked out by hand."""

import re
from importlib import resources
from pathlib import Path

import pytest

from dyno_analysis.query import fetch, row_types
from dyno_analysis.spans import folder as span_folder
from rigs.sql_rows import table
from rigs.stored_spans import span, streamed, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Metis: four ok of 1, 2, 3 and 6 s, a 500, a cancelled and a rejected one, a warm-up. Sophia: one time-out."""
    write(
        tmp_path,
        [
            span(duration_us=1_000_000, output_tokens=10, input_tokens=100),
            span(duration_us=2_000_000, output_tokens=20, input_tokens=110, finish_reasons=["length"]),
            span(duration_us=3_000_000, output_tokens=30, input_tokens=120, usage_source="chunks"),
            span(duration_us=6_000_000),
            span(duration_us=9_000_000, outcome="http_error", error_type="500", status=500),
            span(duration_us=9_000_000, outcome="client_cancelled", status=None),
            span(duration_us=9_000_000, outcome="rejected", status=413),
            span(duration_us=9_000_000, output_tokens=900, warmup=True),
            span(endpoint="sophia", model="n", outcome="upstream_timeout", error_type="timeout", status=504),
        ],
    )
    return tmp_path


def test_every_file_says_what_a_row_is() -> None:
    """The first comment of each file begins with what a row is, and each file is one statement."""
    for file in (resources.files("dyno_analysis") / "sql").iterdir():
        text = file.read_text(encoding="utf-8")
        assert text.startswith("-- A row is "), file.name
        code = re.sub(r"--.*", "", text).rstrip()
        assert (code.count(";"), code[-1]) == (1, ";"), file.name


def test_comparison(folder: Path) -> None:
    """Latency, tokens and throughput are of ok requests, counts of all but warm-ups."""
    metis, sophia = table(folder, "comparison")
    assert metis == {
        "endpoint": "metis",
        "models": "m",
        "simulated": None,
        "imported": False,
        "requests": 7,
        "ok": 4,
        "cancelled": 1,
        "rejected": 1,
        "lost": 0,
        "warmups": 1,
        "cut_by_length": 1,
        "streamed": 0,
        "counted_by_chunks": 1,
        "with_output_tokens": 3,
        "mean_latency_s": 3.0,
        "median_latency_s": 2.5,
        "min_latency_s": 1.0,
        "max_latency_s": 6.0,
        # Squares of -2, -1, 0 and 3 over n - 1
        "stddev_latency_s": pytest.approx((14 / 3) ** 0.5),
        # 60 tokens in 6 s: the request whose tokens aren't known is in neither sum.
        "output_tokens_per_s": 10.0,
        "mean_output_tokens": 20.0,
        "mean_input_tokens": 110.0,
        "sum_input_tokens": 330,
        "sum_output_tokens": 60,
    }
    unknown = {name for name, value in sophia.items() if value is None}
    assert (sophia["requests"], sophia["ok"], sophia["mean_latency_s"]) == (1, 0, None)
    assert {"output_tokens_per_s", "stddev_latency_s", "sum_output_tokens"} <= unknown


def test_success_rate_leaves_out_what_the_client_or_the_proxy_ended(folder: Path) -> None:
    """The rate is of all requests less cancelled and rejected ones."""
    with span_folder.connect(folder) as connection:
        metis = fetch.fetch(connection, "comparison", row_types.EndpointRow)[0]
    assert (metis.counted, metis.failed) == (5, 1)


def test_percentiles(folder: Path) -> None:
    """A figure's row counts the requests that have the figure; in the adjusted latency a failure is infinite."""
    found = {row["figure"]: row for row in table(folder, "percentiles") if row["endpoint"] == "metis"}
    # Ranks 0.9, 0.95 and 0.99 of the way from the first of 1, 2, 3, 6 to the last
    assert found["latency_s"] == {
        "endpoint": "metis",
        "figure": "latency_s",
        "n": 4,
        "mean": 3.0,
        "p50": 2.5,
        "p90": pytest.approx(3 + 0.7 * 3),
        "p95": pytest.approx(3 + 0.85 * 3),
        "p99": pytest.approx(3 + 0.97 * 3),
    }
    assert (found["output_tokens_per_s"]["n"], found["output_tokens_per_s"]["p50"]) == (3, 10.0)
    assert (found["input_tokens"]["n"], found["input_tokens"]["mean"]) == (3, 110.0)
    assert "ttft_s" not in found
    adjusted = found["latency_adjusted_s"]
    assert (adjusted["n"], adjusted["p50"], adjusted["p90"]) == (5, 3.0, float("inf"))


def test_percentiles_of_streams(tmp_path: Path) -> None:
    """TTFT and TPOT have rows where answers were streamed."""
    write(tmp_path, [streamed([200_000, 220_000]), streamed([400_000, 440_000]), span()])
    found = {row["figure"]: (row["n"], row["p50"]) for row in table(tmp_path, "percentiles")}
    assert found["ttft_s"] == (2, pytest.approx(0.3))
    assert found["tpot_s"] == (2, pytest.approx(0.03))
    assert found["latency_s"][0] == 3


def test_inter_chunk(tmp_path: Path) -> None:
    """Gaps are pooled over streams; a gap of zero is two chunks of one read, and a lone chunk has none."""
    write(
        tmp_path,
        [
            streamed([100, 300, 300, 700]),
            streamed([100, 200]),
            streamed([100]),
            streamed([0, 9], warmup=True),
            streamed([0, 9], outcome="truncated"),
        ],
    )
    assert table(tmp_path, "inter_chunk") == [
        {
            "endpoint": "metis",
            "streams": 2,
            "n": 4,
            "mean": pytest.approx(175e-6),
            "p50": pytest.approx(150e-6),
            "p90": pytest.approx(340e-6),
            "p95": pytest.approx(370e-6),
            "p99": pytest.approx(394e-6),
            "share_of_one_read": 0.25,
        }
    ]


def test_failures(folder: Path) -> None:
    """Every outcome other than ok is named and counted."""
    found = [tuple(row.values()) for row in table(folder, "failures")]
    assert found == [
        ("metis", "client_cancelled", None, None, 1),
        ("metis", "http_error", "500", 500, 1),
        ("metis", "rejected", None, 413, 1),
        ("sophia", "upstream_timeout", "timeout", 504, 1),
    ]


def test_interleaving(tmp_path: Path) -> None:
    """Changes from one endpoint to the next tell an interleaved run from one after the other."""
    write(
        tmp_path,
        [
            *[span(run_id="blocks", endpoint=name, prompt_id=str(n)) for name in ("metis", "sophia") for n in range(3)],
            *[
                span(run_id="turns", endpoint=name, prompt_id="1", repeat=n)
                for n in (1, 2)
                for name in ("metis", "sophia")
            ],
            span(run_id="turns", endpoint="metis", warmup=True),
            span(started_at_us=5),
            span(started_at_us=5),
        ],
    )
    assert [tuple(row.values()) for row in table(tmp_path, "interleaving")] == [
        # run, requests, endpoints, starts, changes, prompts, repeats
        ("blocks", 6, 2, 6, 1, 3, 0),
        ("turns", 4, 2, 4, 3, 1, 2),
        (None, 2, 1, 1, 0, 0, 0),
    ]


def test_distribution(tmp_path: Path) -> None:
    """Quartiles are interpolated; outliers lie beyond one and a half of their range."""
    write(tmp_path, [span(duration_us=s * 1_000_000) for s in (1, 2, 3, 4, 20)] + [span(outcome="truncated")])
    # Quartiles 2 and 4: the fences are -1 and 7.
    assert table(tmp_path, "distribution") == [
        {
            "endpoint": "metis",
            "n": 5,
            "variance_s2": 62.5,
            "coefficient_of_variation": pytest.approx(62.5**0.5 / 6),
            "q1_s": 2.0,
            "q3_s": 4.0,
            "high_outliers": 1,
            "low_outliers": 0,
        }
    ]


def test_lengths(folder: Path) -> None:
    """The points of latency over length are the ok requests whose output was counted."""
    assert [tuple(row.values()) for row in table(folder, "lengths")] == [
        ("metis", 100.0, 10.0, 1.0),
        ("metis", 110.0, 20.0, 2.0),
        ("metis", 120.0, 30.0, 3.0),
    ]


def test_instrument(tmp_path: Path) -> None:
    """Overhead, lag and its share over a millisecond are of all requests that know them."""
    write(
        tmp_path,
        [
            span(overhead_us=100, overhead_end_us=150, loop_lag_us=1000, streamed=True),
            span(overhead_us=300, overhead_end_us=450, loop_lag_us=1001, send_lag_s=0.004, outcome="http_error"),
            span(),
            span(overhead_us=99_999, warmup=True),
        ],
    )
    assert table(tmp_path, "instrument") == [
        {
            "endpoint": "metis",
            "n": 2,
            "median_overhead_us": 200.0,
            "median_overhead_streamed_us": 100.0,
            "p99_overhead_us": 298.0,
            "max_overhead_us": 300,
            "median_overhead_end_us": 300.0,
            "max_overhead_end_us": 450,
            "with_lag": 2,
            "median_lag_us": 1000.5,
            "max_lag_us": 1001,
            "share_lagging": 0.5,
            "median_send_lag_s": 0.004,
            "max_send_lag_s": 0.004,
        }
    ]


def test_answers_prompts_and_results(tmp_path: Path) -> None:
    """Answers join their spans and prompts by run; a prompt of another run under the same id is another prompt."""
    write(
        tmp_path,
        [
            span(trace_id="t1", run_id="r", prompt_id="10"),
            span(trace_id="t2", run_id="r", prompt_id="9", outcome="truncated"),
            span(trace_id="t3", run_id="other", prompt_id="10"),
        ],
    )
    with span_folder.connect(tmp_path) as connection:
        connection.execute(
            "CREATE VIEW answers AS SELECT * FROM (VALUES "
            "('r', 't1', 'metis', '10', NULL, 'gold', 'hm', NULL), ('r', 't2', 'metis', '9', 1, 'go', NULL, 'cut')"
            ") AS a(run_id, trace_id, endpoint, prompt_id, repeat, answer, reasoning, error)"
        )
        connection.execute(
            "CREATE VIEW prompts AS SELECT * FROM (VALUES ('r', '10', 'Q?', 'P', ['gold'], 'sport'), "
            "('r', '9', 'Q?', 'P', [], 'art'), ('other', '10', 'no', 'no', [], NULL)"
            ") AS p(run_id, prompt_id, question, prompt, reference_answers, domain)"
        )
        answers = fetch.fetch(connection, "answers", row_types.AnswerRow)
        texts = fetch.fetch(connection, "prompt_texts", row_types.PromptTextsRow)
        results = fetch.fetch(connection, "results", row_types.ResultRow)
    assert answers == [
        row_types.AnswerRow("metis", "10", 1, "Q?", "P", ["gold"], "gold", "hm", 1.0, None, "t1", None, "sport")
    ]
    assert texts == [row_types.PromptTextsRow("other", 1, 1, None), row_types.PromptTextsRow("r", 2, 1, "art, sport")]
    # Prompt ids that are numbers are in the order of numbers.
    assert [(row.trace_id, row.prompt, row.answer, row.error) for row in results] == [
        ("t3", "no", None, None),
        ("t2", "P", "go", "cut"),
        ("t1", "P", "gold", None),
    ]


def test_columns_and_row_classes_agree(tmp_path: Path) -> None:
    """A table whose columns aren't its row class's fields is refused, not shifted by one."""
    with span_folder.connect(tmp_path) as connection, pytest.raises(TypeError, match="differ"):
        fetch.fetch(connection, "failures", row_types.DistributionRow)
