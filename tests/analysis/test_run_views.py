"""`prices`, `prompts`, `answers` and `cost` over what runs keep, `lost`, and `--explain-views`."""

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest

import dyno_analysis
from dyno_analysis.runs.folder import ANSWER_COLUMNS, PROMPT_COLUMNS
from dyno_analysis.spans.sql_text import quoted
from dyno_proxy.file_modes import PRIVATE
from dyno_proxy.telemetry.place import plant_seeds
from rigs.collected_rows import engine, request, store
from rigs.compacted import as_parquet, rested
from rigs.dyno_command import dyno
from rigs.sql_rows import rows_of
from rigs.stored_spans import STARTED_AT_US, span, write


def run(folder: Path, run_id: str, prices: dict[str, Any], started_at: str = "2026-11-24T00:00:00Z") -> Path:
    """A run's folder, with a run.json that says these prices, two prompts and an answer."""
    path = folder / "runs" / run_id
    path.mkdir(parents=True)
    endpoints = {name: {"model": "m", "price": price} for name, price in prices.items()}
    record = {"schema": 1, "run_id": run_id, "started_at": started_at, "endpoints": endpoints}
    (path / "run.json").write_text(json.dumps(record, indent=2))
    with duckdb.connect() as connection:
        for name, columns, values in (
            ("prompts", PROMPT_COLUMNS, "prompt_id: 1, question: 'Why?'"),
            ("answers", ANSWER_COLUMNS, "trace_id: 't', endpoint: 'metis', answer: 'So.', sent_at_us: 5"),
        ):
            said = dict(each.split(": ") for each in values.split(", "))
            row = ", ".join(f"CAST({said.get(column, 'NULL')} AS {kind}) AS {column}" for column, kind in columns)
            connection.execute(f"COPY (SELECT {row}) TO {quoted(f'{path}/{name}.parquet')}")
    return path


def price(into: object, out: object) -> dict[str, object]:
    return {"input_per_million": into, "output_per_million": out}


def test_prices_and_costs(tmp_path: Path) -> None:
    """The newest run that was told a price counts; the cost is tokens by price, and unknown where one of them is."""
    write(tmp_path, [span(input_tokens=1_000, output_tokens=200), span(input_tokens=5), span(endpoint="free")])
    run(tmp_path, "old", {"metis": price(1, 1), "sophia": price(3, None)}, "2026-11-20T00:00:00Z")
    run(tmp_path, "new", {"metis": price(2, 10.5), "sophia": None})
    run(tmp_path, "odd", {"metis": "dear", "sophia": price("many", True)}, "2026-11-30T00:00:00Z")
    with dyno_analysis.connect(tmp_path) as connection:
        query = "SELECT endpoint, input_per_million, output_per_million, run_id FROM prices ORDER BY endpoint"
        prices = connection.execute(query).fetchall()
        each = connection.execute(
            "SELECT cost(endpoint, input_tokens, output_tokens) FROM spans ORDER BY seq"
        ).fetchall()
        total = "SELECT endpoint, sum(cost(endpoint, input_tokens, output_tokens)) FROM spans GROUP BY ALL ORDER BY ALL"
        sums = connection.execute(total).fetchall()
    assert prices == [("metis", 2.0, 10.5, "new"), ("sophia", 3.0, None, "old")]
    assert each == [(pytest.approx((1_000 * 2 + 200 * 10.5) / 1e6),), (None,), (None,)]
    assert sums == [("free", None), ("metis", pytest.approx(0.0041))]


def test_prompts_and_answers(tmp_path: Path) -> None:
    """They have a run's rows under its id, in `dyno sql` too, and in a folder without runs the views are empty."""
    write(tmp_path, [span()])
    query = "SELECT (FROM prompts SELECT count(*)) + (FROM answers SELECT count(*)) + (FROM prices SELECT count(*)) n"
    assert dyno("sql", query, "--spans", tmp_path, "--format", "csv").stdout == "n\n0\n"
    run(tmp_path, "r1", {})
    run(tmp_path, "it's [2]", {})
    query = (
        "SELECT run_id, question, answer, epoch_us(sent_at) FROM answers JOIN prompts USING (run_id) ORDER BY run_id"
    )
    done = dyno("sql", query, "--spans", tmp_path, "--format", "csv")
    assert done.stdout.splitlines()[1:] == ["it's [2],Why?,So.,5", "r1,Why?,So.,5"]
    assert done.stderr == ""


def test_runs_that_cannot_be_read(tmp_path: Path) -> None:
    """A broken file and a link that leads outside are named and left out; the others are read."""
    write(tmp_path / "spans", [span()])
    run(tmp_path / "spans", "good", {"metis": price(1, 2)})
    broken = run(tmp_path / "spans", "broken", {})
    for name in ("prompts.parquet", "answers.parquet", "run.json"):
        (broken / name).write_bytes(b"\xff\xfe no")
    outside = run(tmp_path / "outside", "secret", {"metis": price(7, 7)}, "2027-01-01T00:00:00Z")
    (tmp_path / "spans" / "runs" / "link").symlink_to(outside)
    query = (
        "SELECT (FROM prompts SELECT string_agg(run_id)) AS p, (FROM answers SELECT string_agg(run_id)) AS a, "
        "(SELECT any_value(run_id) FROM prices) AS c"
    )
    done = dyno("sql", query, "--spans", tmp_path / "spans", "--format", "csv")
    assert done.stdout == "p,a,c\ngood,good,good\n"
    assert done.returncode == 0
    left_out = [line for line in done.stderr.splitlines() if "is left out" in line]
    assert len(left_out) == len(done.stderr.splitlines()) == 5
    # A statement that asks for none of them opens none of them.
    assert dyno("sql", "FROM spans", "--spans", tmp_path / "spans").stderr == ""


def test_lost(tmp_path: Path) -> None:
    """Each gap in a writer's numbers is a row, inside a block of numbers or between two, whatever file has its ends."""
    chance = random.Random(3)  # noqa: S311
    numbers = sorted(
        {*chance.sample(range(1, 9_000), 40), *range(4_000, 4_200), *range(12_000, 12_020), 8_191, 8_192, 4_095, 20_000}
    )
    whole = range(5, 30)
    rows = [span(seq=n, span_id=f"{n:016x}", started_at_us=STARTED_AT_US + n) for n in numbers]
    as_parquet(rested(write(tmp_path, rows[:100], "w_1_20261124T215900000000Z")))
    rest = write(tmp_path, rows[100:], "w_1_20261124T215900000000Z")
    rest.rename(rest.with_name(f"w_1_20261124T215900000000Z-{numbers[100]:012}.jsonl"))
    write(tmp_path, [span(seq=n) for n in whole], "other_2_20261124T215900000000Z")
    expected = [
        ("w_1_20261124T215900000000Z", a + 1, b - 1, b - a - 1, STARTED_AT_US + a, STARTED_AT_US + b)
        for a, b in pairwise(numbers)
        if b > a + 1
    ]
    columns = "writer, first_seq, last_seq, missing, epoch_us(after_at), epoch_us(before_at)"
    with dyno_analysis.connect(tmp_path) as connection:
        found = connection.execute(f"SELECT {columns} FROM lost ORDER BY ALL").fetchall()  # noqa: S608
    assert found == expected


def test_nothing_is_lost_by_narrowing(tmp_path: Path) -> None:
    """Rows that --endpoint leaves out aren't lost."""
    write(tmp_path, [span(seq=n, endpoint=("metis", "sophia")[n % 2]) for n in (1, 2, 3, 4, 7)])
    done = dyno("sql", "SELECT missing FROM lost", "--spans", tmp_path, "--format", "csv", "--endpoint", "sophia")
    assert done.stdout == "missing\n2\n"


@pytest.mark.parametrize("kind", ["journals alone", "a proxy's folder", "with runs", "an empty folder"])
def test_explained_views_can_be_pasted(tmp_path: Path, kind: str) -> None:
    """What --explain-views prints makes the same views in a plain DuckDB, and they give the same rows."""
    folder = tmp_path / "it's [a] folder"
    folder.mkdir()
    if kind != "an empty folder":
        store(folder, [request("p", "c"), span(run_id="r", input_tokens=3, output_tokens=4)], [engine("s", "p")])
    if kind == "a proxy's folder":
        for each in (folder, folder / "collected"):
            plant_seeds(each, PRIVATE)
    if kind == "with runs":
        run(folder, "r", {"metis": price(1, 2)})
    done = dyno("sql", "--explain-views", "--spans", folder)
    assert (done.returncode, done.stderr) == (0, "")
    with dyno_analysis.connect(folder) as ours, duckdb.connect() as theirs:
        theirs.execute(done.stdout)
        named = "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
        views = [name for (name,) in ours.execute(named).fetchall()]
        assert [name for (name,) in theirs.execute(named).fetchall()] == views
        for view in views:
            assert f"\n-- == {view} ==\n" in done.stdout
            query = f"FROM {view} SELECT COLUMNS(*)::VARCHAR ORDER BY ALL"
            assert rows_of(theirs, query) == rows_of(ours, query), view
        query = "SELECT sum(cost(endpoint, input_tokens, output_tokens)), p(latency_s, 0.5), share(failed) FROM spans"
        assert theirs.execute(query).fetchall() == ours.execute(query).fetchall()
