"""docs/sql.md: every question's SQL runs as it stands, and gives the answer that is printed under it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import duckdb
import pytest

import dyno_analysis
from contract.cookbook_answers import NOTEBOOK, PAGE, SAMPLE, Question, answer, notebook, questions
from dyno_analysis.spans.sql_text import sql_text
from rigs.dyno_command import dyno

TEXT: Final = PAGE.read_text(encoding="utf-8")
QUESTIONS: Final = list(questions(TEXT))
GROUPS: Final = (
    "Slow",
    "Failing",
    "Load",
    "Tokens and cost",
    "Clients",
    "Comparing",
    "Before and after",
    "Quality",
    "The instrument",
)
TABLES: Final = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| `")]
NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?")


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with dyno_analysis.connect(SAMPLE) as connection:
        yield connection


def test_there_are_forty() -> None:
    """Forty questions, in nine groups, and each has a block of SQL that the writer of the answers sees."""
    assert len(QUESTIONS) == len({question.title for question in QUESTIONS}) == 40
    assert tuple(dict.fromkeys(question.group for question in QUESTIONS)) == GROUPS
    assert (
        len(re.findall(r"^### ", TEXT, re.MULTILINE)) == TEXT.partition("## Forty questions")[2].count("```sql") == 40
    )


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.title for question in QUESTIONS])
def test_every_answer_is_the_printed_one(connection: duckdb.DuckDBPyConnection, question: Question) -> None:
    """The sample's answer has the words of the page, and its numbers as the page rounds them."""
    found, printed = answer(connection, question.sql), question.answer
    assert len(printed.splitlines()) > 1, "run `make docs`"
    assert words(found) == words(printed)
    numbers = [float(each) for each in NUMBER.findall(printed)]
    assert [float(each) for each in NUMBER.findall(found)] == pytest.approx(numbers, rel=2e-3)


def words(text: str) -> list[list[str]]:
    return [NUMBER.sub("#", line).split() for line in text.splitlines()]


def test_a_question_by_the_command() -> None:
    """`dyno sql` gives the same rows as the page, as the page says."""
    failing = next(question for question in QUESTIONS if question.title == "What fails, and how?")
    done = dyno("sql", failing.sql, "--spans", SAMPLE)
    assert done.stderr == ""
    assert [line.split() for line in done.stdout.splitlines()] == [line.split() for line in failing.answer.splitlines()]


def test_the_notebook() -> None:
    """The notebook is what `make docs` makes of the page, and its cells run one after the other in its folder."""
    assert NOTEBOOK.read_text(encoding="utf-8") == notebook(TEXT), "run `make docs`"
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == 41
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(NOTEBOOK.parent)
        for cell in cells[:4]:
            exec("".join(cell["source"]), names)  # noqa: S102  # our own
    spans = names["spans"]
    assert isinstance(spans, duckdb.DuckDBPyConnection)
    spans.close()


def test_the_sample_is_simulated(connection: duckdb.DuckDBPyConnection) -> None:
    """Every request of the sample says that it is simulated."""
    assert connection.execute("SELECT DISTINCT simulated FROM spans").fetchall() == [(True,)]


def test_every_view_and_function_is_documented(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables of docs/sql.md name the views and functions that a connection has."""
    found = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    views = {name for (name,) in found}
    named = {name for row in TABLES for name in re.findall(r"`([a-z_]+)`", row[0])}
    assert views <= named
    functions = {name for row in TABLES for name in re.findall(r"`([a-z_]+)\(", row[0])}
    sources = "".join(sql_text(name, "macros") for name in ("figures", "trace", "cost"))
    defined = set(re.findall(r"MACRO (\w+)\(", sources))
    steps = {"binomial_term", "binomial_rank", "p_of_sorted", "student_t_975", "log_margin", "ratio_of_logs"}
    assert functions == defined - steps


def test_known_answers_about_the_sample(connection: duckdb.DuckDBPyConnection) -> None:
    """What the sample was made with is found again: the three rows that were left out, and sophia's faster tokens."""
    assert connection.execute("SELECT sum(missing) FROM lost").fetchall() == [(3,)]
    by_title = {question.title: question for question in QUESTIONS}
    ratios = dict(connection.execute(by_title["Is it faster since Tuesday?"].sql).fetchall())
    assert ratios["sophia"]["low"] < 9 / 16 < ratios["sophia"]["high"]
    assert ratios["metis"]["low"] < 1 < ratios["metis"]["high"]


def test_the_page_and_its_folder() -> None:
    """The page names the sample's folder and the notebook as they are called."""
    assert f"docs/{SAMPLE.name}/" in TEXT
    assert f"({NOTEBOOK.name})" in TEXT
    assert Path(SAMPLE, "runs", "monday", "run.json").is_file()
