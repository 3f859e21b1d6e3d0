"""The functions of a person's own questions, each against the same figure computed without DuckDB."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_analysis.query.hints import hint
from dyno_analysis.spans.sql_text import sql_text
from dyno_analysis.stats.student_t import quantile
from rigs.dyno_command import dyno, refusal
from rigs.stored_spans import span, streamed, write

MAYBE = st.none() | st.integers(0, 5)
ROWS = st.lists(st.tuples(MAYBE, st.none() | st.booleans()), max_size=12)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with functions() as connection:
        yield connection


def functions() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": "1"})
    connection.execute(sql_text("figures", "macros"))
    return connection


def ask(connection: duckdb.DuckDBPyConnection, expression: str, rows: list[tuple[Any, Any]]) -> Any:
    """An expression over the rows x and c."""
    values = ", ".join(
        f"({'NULL' if x is None else x}::DOUBLE, {'NULL' if c is None else c}::BOOLEAN)" for x, c in rows
    )
    empty = "SELECT NULL::DOUBLE AS x, NULL::BOOLEAN AS c WHERE false"
    source = f"(VALUES {values}) AS t (x, c)" if rows else f"({empty})"
    return connection.execute(f"SELECT {expression} FROM {source}").fetchall()[0][0]  # noqa: S608


def mean(values: list[bool]) -> float | None:
    return sum(values) / len(values) if values else None


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_shares(rows: list[tuple[int | None, bool | None]]) -> None:
    """`share` is of all rows, and what isn't known isn't fulfilled; `share_known` is of those that are known."""
    with functions() as connection:
        expected: dict[str, float | None] = {
            "share(x <= 2)": mean([x is not None and x <= 2 for x, _ in rows]),
            "share_known(x <= 2)": mean([x <= 2 for x, _ in rows if x is not None]),
            "share(under(x, 2))": mean([x is not None and x <= 2 for x, _ in rows]),
            "share(NOT under(x, 2))": mean([x is None or x > 2 for x, _ in rows]),
            "share(x <= 2, c)": mean([x is not None and x <= 2 for x, c in rows if c]),
            "share_known(x <= 2, c)": mean([x <= 2 for x, c in rows if c and x is not None]),
            "share(under(x, 2) AND c)": mean([x is not None and x <= 2 and bool(c) for x, c in rows]),
        }
        for expression, value in expected.items():
            assert ask(connection, expression, rows) == (None if value is None else pytest.approx(value)), expression


@settings(max_examples=30, deadline=None)
@given(ROWS)
def test_a_condition_is_a_filter(rows: list[tuple[int | None, bool | None]]) -> None:
    """The last argument does what FILTER does: the figure is that of the rows that fulfil it."""
    chosen: list[tuple[Any, Any]] = [(x, c) for x, c in rows if c]
    with functions() as connection:
        for function in ("p(x, 0.9{})", "p_interval(x, 0.5{})", "tokens_per_s(x, x + 1{})", "share(x > 2{})"):
            some = ask(connection, function.format(", c"), list(rows))
            assert some == ask(connection, function.format(""), chosen), function
        assert ask(connection, "p(x, 0.9, c)", list(rows)) == ask(
            connection, "quantile_cont(x, 0.9) FILTER (WHERE c)", list(rows)
        )


def test_the_throughput_of_rows_that_have_both(connection: duckdb.DuckDBPyConnection) -> None:
    """A row without tokens adds no seconds, one without seconds no tokens; without any second it is unknown."""
    source = "(VALUES (10, 2.0), (NULL, 5.0), (7, NULL), (20, 4.0)) AS t (tokens, seconds)"
    assert connection.execute(f"SELECT tokens_per_s(tokens, seconds) FROM {source}").fetchall() == [(5.0,)]  # noqa: S608
    assert connection.execute("SELECT tokens_per_s(3, 0.0)").fetchall() == [(None,)]


@pytest.mark.parametrize("function", ["p(x, 0.5)", "p(x, 0.5, x > 4)", "share(x > 4)", "share_known(x > 4)"])
def test_functions_over_windows(connection: duckdb.DuckDBPyConnection, function: str) -> None:
    """These take OVER: every row has its group's value."""
    source = "(SELECT i AS x, i % 3 AS g FROM range(20) AS r (i))"
    windows = f"SELECT DISTINCT g, {function} OVER (PARTITION BY g) FROM {source} ORDER BY g"  # noqa: S608
    groups = f"SELECT g, {function} FROM {source} GROUP BY g ORDER BY g"  # noqa: S608
    assert connection.execute(windows).fetchall() == connection.execute(groups).fetchall()


@pytest.mark.parametrize("freedom", [5, 6, 7, 8, 12, 20, 50, 200, 5_000])
def test_students_t(connection: duckdb.DuckDBPyConnection, freedom: int) -> None:
    """The expansion is within 0.02 % of the quantile that the report's verdicts use."""
    ((found,),) = connection.execute("SELECT student_t_975(?)", [freedom]).fetchall()
    assert found == pytest.approx(quantile(0.975, freedom), rel=2e-4)


def t_975(freedom: float) -> float:
    """The quantile for any degrees of freedom: Student's density, added up until 0.475 lies above 0."""
    t = np.linspace(0, 4, 400_001)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    density = scale * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    below = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2) * (t[1] - t[0])))
    return float(np.interp(0.475, below, t))


def welch(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """The ratio of geometric means with its 95 % interval, by Welch's t on logarithms, in numpy."""
    x, y = np.log(a), np.log(b)
    of_x, of_y = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    freedom = (of_x + of_y) ** 2 / (of_x**2 / (len(x) - 1) + of_y**2 / (len(y) - 1))
    margin = t_975(float(freedom)) * math.sqrt(of_x + of_y)
    difference = float(x.mean() - y.mean())
    return math.exp(difference), math.exp(difference - margin), math.exp(difference + margin)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (7, 40), (400, 300)])
def test_before_and_after(connection: duckdb.DuckDBPyConnection, n: int, m: int) -> None:
    """The ratio and its interval are Welch's; exchanged sides give the reciprocals; other values are left out."""
    rng = np.random.default_rng(n)
    a, b = rng.lognormal(0.3, 0.5, n), rng.lognormal(0, 0.2, m)
    rows = [*((float(x), True) for x in a), *((float(x), False) for x in b), (None, True), (0.0, False), (-1.0, True)]
    sides = "CASE WHEN c THEN x END, CASE WHEN NOT c THEN x END"
    found = ask(connection, f"ratio_interval({sides})", list(rows))
    assert (found["ratio"], found["low"], found["high"]) == pytest.approx(welch(a, b), rel=3e-4)
    assert (found["n_a"], found["n_b"]) == (n, m)
    turned = ask(connection, "ratio_interval(CASE WHEN NOT c THEN x END, CASE WHEN c THEN x END)", list(rows))
    assert turned["low"] == pytest.approx(1 / found["high"])


def test_before_and_after_of_few_values(connection: duckdb.DuckDBPyConnection) -> None:
    """Below six values on a side the bounds are unknown; equal values have an interval without width."""
    few = [(2.0, True)] * 5 + [(1.0, False)] * 9
    sides = "CASE WHEN c THEN x END, CASE WHEN NOT c THEN x END"
    assert ask(connection, f"ratio_interval({sides})", list(few)) == {
        "ratio": 2.0,
        "low": None,
        "high": None,
        "n_a": 5,
        "n_b": 9,
    }
    steady = ask(connection, f"ratio_interval({sides})", [*few, (2.0, True)])
    assert (steady["low"], steady["high"]) == (2.0, 2.0)
    assert ask(connection, f"ratio_interval({sides})", [])["ratio"] is None


def test_the_interval_holds_as_often_as_it_says(connection: duckdb.DuckDBPyConnection) -> None:
    """Of a thousand pairs of samples with a known ratio, some 95 % of the intervals contain it."""
    rng = np.random.default_rng(5)
    a, b = rng.lognormal(math.log(1.5), 0.6, (1_000, 12)), rng.lognormal(0, 0.3, (1_000, 8))
    query = """
        WITH drawn AS (
            SELECT n, unnest(a) AS a, NULL::DOUBLE AS b
            FROM (SELECT unnest(range(1000)) AS n, unnest(?::DOUBLE[][]) AS a)
            UNION ALL
            SELECT n, NULL, unnest(b) FROM (SELECT unnest(range(1000)) AS n, unnest(?::DOUBLE[][]) AS b)
        ),
        found AS (SELECT ratio_interval(a, b) AS ratio FROM drawn GROUP BY n)
        SELECT share(ratio.low <= 1.5 AND 1.5 <= ratio.high) FROM found
    """
    ((held,),) = connection.execute(query, [a.tolist(), b.tolist()]).fetchall()
    assert 0.93 < held < 0.97


REFUSED = [
    ("SELECT p(latency_s, 0.5) FILTER (WHERE NOT warmup) FROM spans", "p(x, q, condition)"),
    ("SELECT share(failed) FILTER (WHERE NOT warmup) FROM spans", "share(a, condition)"),
    ("SELECT share_known(failed) FILTER (NOT warmup) FROM spans", "share_known(a, condition)"),
    ("SELECT p(DISTINCT latency_s, 0.5) FROM spans", "quantile_cont(x, q) FILTER"),
    ("PIVOT spans ON endpoint USING p(latency_s, 0.5)", "quantile_cont(x, q) instead of p(x, q)"),
    ("PIVOT spans ON endpoint USING share(failed) GROUP BY model", "instead of share(a)"),
    ("SELECT tokens_per_s(output_tokens, latency_s) OVER (PARTITION BY endpoint) FROM spans", "sum(tokens) OVER (…)"),
    ("SELECT p_interval(latency_s, 0.5) OVER () FROM spans", "join the groups"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spans")
    write(folder, [streamed([100_000, 200_000]), streamed([400_000, 500_000]), span(outcome="http_error")])
    return folder


@pytest.mark.parametrize(("statement", "instead"), REFUSED)
def test_what_macros_cannot_do(folder: Path, statement: str, instead: str) -> None:
    """Where DuckDB refuses FILTER, DISTINCT or PIVOT for a function of ours, the error says what to write instead."""
    assert instead in refusal("sql", statement, "--spans", folder)


def test_what_to_write_instead(folder: Path) -> None:
    """The spellings that the messages and docs/sql.md name give the figure that was asked for."""
    for expression, value in (
        ("p(latency_s, 0.5, outcome = 'ok')", 0.35),
        ("quantile_cont(latency_s, 0.5) FILTER (WHERE outcome = 'ok')", 0.35),
        ("share(under(ttft_s, 0.3), NOT warmup)", 1 / 3),
        ("share_known(ttft_s <= 0.3)", 0.5),
    ):
        query = f"SELECT {expression} AS x FROM spans"  # noqa: S608
        done = dyno("sql", query, "--spans", folder, "--format", "csv")
        assert float(done.stdout.splitlines()[1]) == pytest.approx(value), done.stderr
    pivot = "PIVOT (SELECT outcome, latency_s FROM spans) ON outcome USING quantile_cont(latency_s, 0.5)"
    done = dyno("sql", pivot, "--spans", folder, "--format", "csv")
    assert done.stdout == "http_error,ok\n1.0,0.35\n"


def test_other_messages_have_no_hint() -> None:
    """A message that has nothing to do with them stays as it is."""
    assert hint('Binder Error: Referenced column "x" not found') == ""
    assert hint('Function "theirs" is a Macro Function') == ""
