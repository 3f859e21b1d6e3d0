"""The tables of sql/ over pairs and over the prompts that two endpoints both answered, worked out by hand."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_analysis.query import fetch, row_types
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.selection import Selection, select
from rigs.bare_spans import over
from rigs.sql_rows import table
from rigs.stored_spans import RUN_ID, STARTED_AT_US, mirrored, pair, span, write


def test_pairs(tmp_path: Path) -> None:
    """A pair is one prompt, in one repeat of one run, that both answered; repeated requests pair in their order."""
    write(
        tmp_path,
        [
            *pair("p1", 4, 2),
            *pair("p1", 6, 3, repeat=2),
            *pair("p2", 8, 1, outcome="http_error"),
            *pair("p3", 8, 1, warmup=True),
            span(prompt_id="p1", run_id="20261124_215900_0a1b", repeat=1, duration_us=99_000_000),
            span(prompt_id="p4", run_id="20261124_215900_0a1b"),
            span(prompt_id="p1", run_id="another", endpoint="sophia"),
            span(endpoint="sophia"),
        ],
    )
    with span_folder.connect(tmp_path) as connection:
        fetch.define(connection, "pairs")
        found = connection.execute(
            "SELECT first_endpoint, second_endpoint, prompt_id, repeat, first_latency_s, second_latency_s "
            "FROM pairs ORDER BY ALL"
        ).fetchall()
    assert found == [
        ("metis", "sophia", "p1", 1, 4.0, 2.0),
        ("metis", "sophia", "p1", 2, 6.0, 3.0),
        ("sophia", "metis", "p1", 1, 2.0, 4.0),
        ("sophia", "metis", "p1", 2, 3.0, 6.0),
    ]


HOUR_US = 3_600_000_000


def test_pairs_outside_of_runs(tmp_path: Path) -> None:
    """Without a run, two answers make a pair if they began within an hour; after an hour's pause turns count anew."""
    starts = {
        "metis": (0, 26 * HOUR_US, 27 * HOUR_US + 1, 50 * HOUR_US),
        "sophia": (26 * HOUR_US + 5, 27 * HOUR_US - 1, 51 * HOUR_US, 99 * HOUR_US),
    }
    rows = [
        span(endpoint=name, prompt_id="p", started_at_us=STARTED_AT_US + at)
        for name, ats in starts.items()
        for at in ats
    ]
    of_run = [
        span(endpoint=name, prompt_id="p", run_id="r", started_at_us=STARTED_AT_US + at)
        for name, at in (("metis", 0), ("sophia", 80 * HOUR_US))
    ]
    write(tmp_path, [*rows, *of_run])
    with span_folder.connect(tmp_path) as connection:
        fetch.define(connection, "pairs")
        query = """SELECT run_id, epoch_us(first_started_at), epoch_us(second_started_at) FROM pairs
            WHERE first_endpoint = 'metis' ORDER BY ALL"""
        found = [(run, a - STARTED_AT_US, b - STARTED_AT_US) for run, a, b in connection.execute(query).fetchall()]
        some = connection.execute(f"FROM pairs WHERE epoch_us(first_started_at) >= {STARTED_AT_US + 40 * HOUR_US}")
        later = len(some.fetchall())
    assert found == [
        ("r", 0, 80 * HOUR_US),
        (None, 26 * HOUR_US, 26 * HOUR_US + 5),
        (None, 27 * HOUR_US + 1, 27 * HOUR_US - 1),
        (None, 50 * HOUR_US, 51 * HOUR_US),
    ]
    assert later == 2 + 1


TURNS = st.lists(
    st.tuples(
        st.sampled_from((None, None, "r")),
        st.sampled_from("pq"),
        st.sampled_from("abc"),
        st.integers(0, 20),
        st.booleans(),
    ),
    max_size=12,
)


def paired(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """The pairs by the definition, in plain Python."""
    found = set()
    for key in {(row["run_id"], row["prompt_id"]) for row in rows}:
        group = [row for row in rows if (row["run_id"], row["prompt_id"]) == key and not row["warmup"]]
        occasions: list[list[dict[str, Any]]] = []
        for row in sorted(group, key=lambda row: (row["start_us"], row["span_id"])):
            late = occasions and row["start_us"] - occasions[-1][-1]["start_us"] > HOUR_US
            if not occasions or (key[0] is None and late):
                occasions.append([])
            occasions[-1].append(row)
        for occasion in occasions:
            turn = {
                row["span_id"]: [x["span_id"] for x in occasion if x["endpoint"] == row["endpoint"]] for row in occasion
            }
            found |= {
                (a["span_id"], b["span_id"])
                for a in occasion
                for b in occasion
                if a["endpoint"] != b["endpoint"]
                and turn[a["span_id"]].index(a["span_id"]) == turn[b["span_id"]].index(b["span_id"])
                and (key[0] is not None or abs(a["start_us"] - b["start_us"]) <= HOUR_US)
            }
    return found


@settings(max_examples=25, deadline=None)
@given(TURNS)
def test_any_pairs(turns: list[tuple[str | None, str, str, int, bool]]) -> None:
    """Over any requests, the view has the pairs of the definition, also where a query asks for some of them."""
    rows = [
        {
            "span_id": f"{number:02}",
            "trace_id": "t",
            "run_id": run,
            "prompt_id": prompt,
            "endpoint": endpoint,
            "start_us": STARTED_AT_US + quarter * HOUR_US // 4,
            "warmup": warmup,
            "overhead_us": number,
        }
        for number, (run, prompt, endpoint, quarter, warmup) in enumerate(turns)
    ]
    with over(rows, ("pairs",)) as connection:
        query = "SELECT first_overhead_us, second_overhead_us FROM pairs"
        found = [(f"{a:02}", f"{b:02}") for a, b in connection.execute(query).fetchall()]
        some = [f"{a:02}" for a, _ in connection.execute(f"{query} WHERE first_endpoint = 'a'").fetchall()]
    assert sorted(found) == sorted(paired(rows))
    assert sorted(some) == sorted(a for a, _ in paired(rows) if rows[int(a)]["endpoint"] == "a")


def test_mirror_pairs(tmp_path: Path) -> None:
    """A pair is a request and the copy that names it, both ok, whatever their tags; its columns are those of pairs."""
    ok = mirrored("p", 4, 2, run_id="r", repeat=3)
    other_run = mirrored("p", 6, 3)
    other_run[1]["repeat"] = 9
    write(
        tmp_path,
        [
            *ok,
            *other_run,
            *mirrored("p", 8, 1, outcome="http_error"),
            *mirrored("p", 8, 1, warmup=True),
            *mirrored("p", 8, 1)[:1],
            *mirrored("p", 8, 1)[1:],
            *pair("p", 8, 1),
        ],
    )
    columns = {}
    with span_folder.connect(tmp_path) as connection:
        for view in ("pairs", "mirror_pairs"):
            fetch.define(connection, view)
            columns[view] = connection.execute("DESCRIBE pairs").fetchall()
        found = connection.execute(
            "SELECT first_endpoint, second_endpoint, run_id, prompt_id, first_latency_s, second_latency_s "
            "FROM pairs ORDER BY ALL"
        ).fetchall()
    assert columns["pairs"] == columns["mirror_pairs"]
    assert found == [
        ("metis", "sophia", "r", "p", 2.0, 4.0),
        ("metis", "sophia", None, "p", 3.0, 6.0),
        ("sophia", "metis", "r", "p", 4.0, 2.0),
        ("sophia", "metis", None, "p", 6.0, 3.0),
    ]


def test_mirrors(tmp_path: Path) -> None:
    """Each mirror's requests by how both sides ended; a side that isn't there is NULL, its endpoint's requests too."""
    broken = [mirrored("p", 1, 1) for _ in range(4)]
    broken[0][0]["outcome"] = "client_cancelled"
    broken[1][1]["outcome"] = "truncated"
    broken[2][0]["outcome"] = broken[2][1]["outcome"] = "http_error"
    write(
        tmp_path,
        [
            *[row for both in broken for row in both],
            *mirrored("p", 1, 1, names=("metis", "sophia")),
            *mirrored("p", 1, 1, warmup=True),
            *mirrored("p", 1, 1)[:1],
            *mirrored("p", 1, 1, names=("sophia", "third"))[1:],
            *[span(endpoint="sophia", prompt_id=tag) for tag in (None, "q")],
            span(endpoint="sophia", outcome="rejected"),
        ],
    )
    with span_folder.connect(tmp_path) as connection:
        select(connection, Selection())
        found = fetch.fetch(connection, "mirrors", row_types.MirrorRow)
    assert found == [
        # endpoint, copied_to, requests, mirrored, both_ok, original_not_ok, copy_not_ok, neither_ok
        row_types.MirrorRow("metis", "sophia", 1, 1, 1, 0, 0, 0),
        row_types.MirrorRow("sophia", "metis", 7, 4, 1, 1, 1, 1),
        row_types.MirrorRow("sophia", None, 7, 1, 0, 0, 1, 0),
        row_types.MirrorRow(None, "third", None, 1, 0, 1, 0, 0),
    ]


def test_pairs_without_repeats(tmp_path: Path) -> None:
    """A client that repeats a request under the same tags makes as many pairs as both sides have answers."""
    run = {"run_id": "r", "prompt_id": "p"}
    write(tmp_path, [span(endpoint=name, **run) for name in ("metis", "sophia", "metis", "metis", "sophia")])
    with span_folder.connect(tmp_path) as connection:
        fetch.define(connection, "pairs")
        found = connection.execute("FROM pairs SELECT first_endpoint, count(*) GROUP BY ALL ORDER BY ALL").fetchall()
    assert found == [("metis", 2), ("sophia", 2)]


PROMPT_COLUMNS = "run_id, prompt_id, prompt"


def paired_prompts(folder: Path, texts: str, columns: str) -> list[tuple[Any, ...]]:
    """Columns of paired_prompts.sql from metis' side; `texts` are the rows of the view `prompts`."""
    with span_folder.connect(folder) as connection:
        connection.execute(f"CREATE VIEW prompts AS FROM (VALUES {texts}) AS t({PROMPT_COLUMNS})")
        fetch.keep(connection, "paired_prompts")
        return connection.execute(
            f"FROM paired_prompts SELECT {columns} WHERE first_endpoint = 'metis' ORDER BY ALL"
        ).fetchall()


def test_paired_prompts(tmp_path: Path) -> None:
    """Of each prompt all requests count, for each figure, also in unequal numbers on the two sides."""
    rows = [*pair("p1", 4, 2), *pair("p1", 16, 3, repeat=2), *pair("p2", 1, 5, streamed=True, first_token_us=7)]
    rows += [span(prompt_id="p1", run_id=RUN_ID, repeat=9, duration_us=8_000_000, overhead_end_us=300)]
    rows += [span(prompt_id="alone"), *pair("p3", 8, 1, outcome="http_error"), *pair("p4", 8, 1, warmup=True)]
    for row, overhead_us in zip(rows[:2], (100, 600), strict=True):
        row["overhead_end_us"] = overhead_us
    write(tmp_path, rows)
    found = paired_prompts(
        tmp_path,
        "(NULL, NULL, NULL)",
        "figure, prompt, first_n, second_n, first_mean, second_mean, exp(first_log), exp(second_log), more_overhead_s",
    )
    assert [values[:4] for values in found] == [
        ("latency_s", "id p1", 3, 2),
        ("latency_s", "id p2", 1, 1),
        ("ttft_s", "id p2", 1, 1),
    ]
    # Geometric means: 4, 16 and 8 make 8; 2 and 3 make the root of 6. Overhead: 600 us less the mean of 100 and 300.
    assert found[0][4:] == pytest.approx((28 / 3, 2.5, 8, 6**0.5, 400e-6))
    assert found[2][4:6] == pytest.approx((7e-6, 7e-6))
    assert found[1][-1] is None


def test_a_prompt_is_its_text(tmp_path: Path) -> None:
    """The same text is one prompt, in any run and under any id; the same id with another text is another prompt."""
    rows = []
    for run_id, prompt_id in (("a", "1"), ("a", "2"), ("b", "1"), ("b", "7"), ("c", "1")):
        rows += pair(prompt_id, 4, 2, run_id=run_id)
    write(tmp_path, rows)
    texts = "('a', '1', 'sky'), ('a', '2', 'sky'), ('b', '1', 'sea'), ('b', '7', 'sky'), ('x', '1', 'no')"
    found = paired_prompts(tmp_path, texts, "first_n, second_n")
    assert found == [(1, 1), (1, 1), (3, 3)]  # run c's prompt 1 has no text, so its id is all that is known of it


def test_paired_runs(tmp_path: Path) -> None:
    """A prompt in a run that both answered: the logarithm of the ratio, for each figure that both have."""
    rows = [*pair("1", 8, 2, run_id="a"), *pair("1", 4, 2, run_id="b"), *pair("2", 1, 1, run_id="b")]
    write(
        tmp_path, [*rows, span(prompt_id="2", run_id="a"), span(prompt_id="1"), span(prompt_id="1", endpoint="sophia")]
    )
    with span_folder.connect(tmp_path) as connection:
        connection.execute(f"CREATE VIEW prompts AS FROM (VALUES (NULL, NULL, NULL)) AS t({PROMPT_COLUMNS})")
        fetch.keep(connection, "paired_runs")
        found = connection.execute(
            "FROM paired_runs SELECT figure, run_id, prompt, round(exp(log_ratio), 9) WHERE first_endpoint = 'metis'"
        ).fetchall()
    assert found == [("latency_s", "a", "id 1", 4.0), ("latency_s", "b", "id 1", 2.0), ("latency_s", "b", "id 2", 1.0)]


def test_mirrored_prompts(tmp_path: Path) -> None:
    """A prompt's mirrored requests and their copies, in the columns of paired_prompts.sql."""
    write(tmp_path, [*mirrored("p", 4, 2), *mirrored("p", 16, 8), *mirrored("q", 1, 3)])
    found = [
        tuple(row.values())[2:8]
        for row in table(tmp_path, "mirrored_prompts", "mirror_pairs")
        if row["first_endpoint"] == "sophia"
    ]
    assert found == [("latency_s", "p", 2, 2, 10.0, 5.0), ("latency_s", "q", 1, 1, 1.0, 3.0)]


def test_pair_balance(tmp_path: Path) -> None:
    """Input tokens that differ, and who was asked first, are of pairs alone."""
    first = pair("p1", 1, 1)
    first[0] |= {"input_tokens": 10}
    first[1] |= {"input_tokens": 12}
    second = pair("p2", 1, 1)
    second[0] |= {"input_tokens": 20}
    second[1] |= {"input_tokens": 20}
    third = pair("p3", 1, 1)
    third[0]["started_at_us"], third[1]["started_at_us"] = third[1]["started_at_us"], third[0]["started_at_us"]
    write(tmp_path, [*first, *second, *third])
    found = table(tmp_path, "pair_balance", "pairs")[0]
    assert found == {
        "first_endpoint": "metis",
        "second_endpoint": "sophia",
        "pairs": 3,
        "with_input_tokens": 2,
        "different_input": 1,
        "mean_more_input": 1.0,
        "least_more_input": 0,
        "most_more_input": 2,
        "first_asked_first": 2,
        "second_asked_first": 1,
    }
