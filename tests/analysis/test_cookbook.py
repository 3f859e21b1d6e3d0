"""docs/sql.md: every question's SQL runs as it stands, and answers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

import dyno_analysis
from bench_analysis import spans as generated
from dyno_analysis.spans.sql_text import sql_text
from rigs.dyno_command import dyno
from rigs.stored_spans import STARTED_AT_US, pair, span, streamed, write

TEXT: Final = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
QUESTIONS: Final = dict(re.findall(r"^### (.+?)\n.*?```sql\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL))
TABLES: Final = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| `")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some thousand generated requests as Parquet, and a journal with what those lack: mirrors, retries, bursts."""
    folder = tmp_path_factory.mktemp("demo") / "spans"
    generated.write(folder, 3_000, extras=generated.Extras(chunk_times=True))
    mirrored = [
        span(trace_id="a" * 32, span_id="a" * 16, duration_us=4_000_000, attributes={"dyno.mirror": "original"}),
        span(
            endpoint="sophia",
            duration_us=1_000_000,
            attributes={"dyno.mirror": "copy", "dyno.mirror.trace_id": "a" * 32, "dyno.mirror.span_id": "a" * 16},
        ),
    ]
    odd = [
        span(retries=2, run_id="r"),
        span(outcome="rate_limited", run_id="r", retry_after_s=7.5),
        streamed([1_000, 1_000, 5_000], endpoint="burst", cached_tokens=3, reasoning_tokens=1),
        span(endpoint="burst", started_at_us=STARTED_AT_US + 10_000_000_000),
    ]
    write(folder, [*mirrored, *odd, *pair("p", 1.0, 2.0)])
    return folder


@pytest.fixture
def connection(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with dyno_analysis.connect(folder) as connection:
        yield connection


def answer(connection: duckdb.DuckDBPyConnection, question: str) -> list[dict[str, Any]]:
    cursor = connection.execute(QUESTIONS[question])
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_there_are_twenty() -> None:
    assert len(QUESTIONS) == 20


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_is_answered(folder: Path, question: str) -> None:
    """Each question, run by `dyno sql` as a user runs it, gives at least one row."""
    done = dyno("sql", QUESTIONS[question], "--spans", folder, "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 1


def test_answers_that_are_known(connection: duckdb.DuckDBPyConnection) -> None:
    """The answers to some questions over the journal's few requests are as worked out by hand."""
    ((mirror),) = answer(connection, "What did the mirror say?")
    assert (mirror["endpoint"], mirror["mirrored_to"], mirror["pairs"], mirror["ratio"]) == ("metis", "sophia", 1, 4.0)
    ((retried),) = answer(connection, "Who causes the retries?")
    assert (retried["run_id"], retried["retries"]) == ("r", 2)
    refused = {row["run_id"]: row for row in answer(connection, next(each for each in QUESTIONS if "refused" in each))}
    assert (refused["r"]["refused"], refused["r"]["longest_wait_s"]) == (1, 7.5)
    bursts = {row["endpoint"]: row for row in answer(connection, "Are tokens sent one by one, or in bursts?")}
    assert (bursts["burst"]["share_of_one_read"], bursts["burst"]["gaps"]) == (0.5, 2)
    pauses = answer(connection, "Is the first request after a pause slower?")
    assert [row["requests"] for row in pauses if row["endpoint"] == "burst"] == [1]


def test_every_view_and_function_is_documented(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables of docs/sql.md name the views and functions that a connection has."""
    found = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    views = {name for (name,) in found}
    named = {name for row in TABLES for name in re.findall(r"`([a-z_]+)`", row[0])}
    assert views <= named
    functions = {name for row in TABLES for name in re.findall(r"`([a-z_]+)\(", row[0])}
    sources = sql_text("figures", "macros") + sql_text("trace", "macros")
    defined = set(re.findall(r"MACRO (\w+)\(", sources))
    assert functions == defined - {"binomial_term", "binomial_rank"}
