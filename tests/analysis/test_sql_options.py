"""`dyno sql`: what narrows it, what it refuses, its shell, and the functions of a person's own questions."""

import io
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import dyno_analysis
from dyno_analysis.compaction.convert import convert
from dyno_analysis.spans.file_names import parse
from dyno_analysis.spans.selection import Selection
from dyno_analysis.spans.views import connect_views, list_files
from dyno_analysis.stats.interval import median_interval
from rigs.dyno_command import dyno, refusal
from rigs.stored_spans import STARTED_AT_US, span, write
from rigs.terminal import in_a_terminal


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file a run: the first as Parquet, the second a journal."""
    folder = tmp_path_factory.mktemp("spans")
    old = write(folder, [span(run_id="old", started_at_us=STARTED_AT_US + n) for n in range(5)])
    file = parse(old.name)
    assert file is not None
    convert(folder, file)
    old.unlink()
    new = write(folder, [span(run_id="new", endpoint="sophia", started_at_us=STARTED_AT_US + 3_600_000_000)])
    new.rename(folder / "w-000000000001.jsonl")
    return folder


@pytest.mark.parametrize(
    ("options", "n"),
    [
        ([], 6),
        (["--run", "old"], 5),
        (["--run", "old", "--run", "new"], 6),
        (["--endpoint", "sophia"], 1),
        (["--since", "2026-11-24T22:00:00Z"], 1),
        (["--until", "2026-11-24T22:00:00Z"], 5),
        (["--run", "old", "--endpoint", "sophia"], 0),
    ],
)
def test_what_narrows_it(spans: Path, options: list[str], n: int) -> None:
    """Runs, endpoints and times, all of which must hold; for the views over `spans` too."""
    query = "SELECT count(*) AS n, (FROM runs SELECT sum(requests)) AS m FROM spans"
    done = dyno("sql", query, "--spans", spans, "--format", "csv", *options)
    assert done.stdout.splitlines()[1] == f"{n},{n or ''}"


def test_narrowing_reaches_the_readers(spans: Path) -> None:
    """If a Parquet file's statistics say that nothing in it can match, no row of it is read."""
    for chosen in (Selection(runs=["x"]), Selection(endpoints=["x"]), Selection(since_us=STARTED_AT_US + 60_000_000)):
        with connect_views(spans, list_files(spans), chosen) as connection:
            plan = connection.execute("EXPLAIN SELECT count(*) FROM spans").fetchall()[0][1].replace("_", " ").lower()
            assert "read json" in plan
            assert "read parquet" not in plan


FORBIDDEN = [
    "COPY (SELECT 1) TO '{spans}/x.csv'",
    "COPY spans TO '{spans}/w-000000000001.jsonl'",
    "ATTACH '{spans}/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads = 1",
    "PRAGMA threads = 1",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW spans AS SELECT 1",
    "DROP VIEW spans",
    "EXPORT DATABASE '{spans}/x'",
    "CALL pragma_version()",
    "FROM '/etc/passwd'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_json('https://example.org/x.json')",
    "SELECT getenv('HOME')",
    "SELECT 1; SELECT 2",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_it_only_reads_span_files(spans: Path, statement: str) -> None:
    """Statements that write, settings, extensions, the network and other files: one line, and nothing is changed."""
    before = sorted((path.name, path.stat().st_size) for path in spans.iterdir())
    refusal("sql", statement.format(spans=spans), "--spans", spans)
    assert sorted((path.name, path.stat().st_size) for path in spans.iterdir()) == before


def test_writes_where_they_are_allowed(spans: Path, tmp_path: Path) -> None:
    """With the flag a person's own files are written and read; what fails is a line all the same."""
    target = tmp_path / "x.csv"
    done = dyno("sql", f"COPY spans TO '{target}'", "--allow-writes", "--spans", spans)
    assert (done.returncode, done.stdout) == (0, "count\n6\n")
    count = f"FROM '{target}' SELECT count(*) AS n"
    done = dyno("sql", count, "--allow-writes", "--spans", spans, "--format", "csv")
    assert done.stdout == "n\n6\n"
    assert "missing" in refusal("sql", "COPY missing TO 'x'", "--allow-writes", "--spans", spans)


def test_a_file_and_arrow(spans: Path, tmp_path: Path) -> None:
    """A statement out of a file; its rows as an Arrow stream."""
    question = tmp_path / "question.sql"
    question.write_text("SELECT run_id, started_at FROM spans -- all of them\n")
    command = [sys.executable, "-m", "dyno", "sql", str(question), "--spans", str(spans), "--format", "arrow"]
    done = subprocess.run(command, capture_output=True, check=True)
    table = pa.ipc.open_stream(io.BytesIO(done.stdout)).read_all()
    assert (table.num_rows, table.column_names, done.stderr) == (6, ["run_id", "started_at"], b"")
    assert "can't be read" in refusal("sql", "missing.sql", "--spans", spans)


def test_names_that_do_not_exist(spans: Path) -> None:
    """The error names the nearest one."""
    assert '"spans"' in refusal("sql", "FROM span", "--spans", spans)
    assert '"ttft_s"' in refusal("sql", "SELECT tft_s FROM spans", "--spans", spans)


def test_the_shell(spans: Path, tmp_path: Path) -> None:
    """With --unsafe-shell DuckDB's own opens on a terminal, with the views, and may write."""
    with in_a_terminal(tmp_path, "sql", "--unsafe-shell", "--spans", spans) as terminal:
        terminal.shows(b" D ")
        terminal.types(b"SELECT 'rows', count(*) + 1000 FROM spans;\r")
        terminal.shows(b"1006")
        terminal.types(b"COPY (SELECT 1 AS a) TO 'written.csv';\rSELECT 1000 + 7;\r")
        terminal.shows(b"1007")
    assert (tmp_path / "written.csv").read_text() == "a\n1\n"
    assert "leave out the statement" in refusal("sql", "SELECT 1", "--unsafe-shell", "--spans", spans)


def test_percentiles_and_their_intervals(spans: Path) -> None:
    """The median's interval is stats/interval.py's, whatever n; others hold their percentile as often as they say."""
    rng = np.random.default_rng(7)
    with dyno_analysis.connect(spans) as connection:
        for n in (1, 5, 6, 7, 50, 367, 368, 3_000):
            values = rng.lognormal(size=n)
            connection.execute("CREATE OR REPLACE TABLE t AS SELECT unnest(?::DOUBLE[]) AS x", [values.tolist()])
            query = "SELECT p_interval(x, 0.5), p(x, 0.95), p_interval(x, 0.99) FROM t"
            (found,) = connection.execute(query).fetchall()
            expected = median_interval(values)
            assert (found[0]["low"], found[0]["high"]) == ((expected.low, expected.high) if expected else (None, None))
            assert found[0]["value"] == pytest.approx(np.median(values))
            assert found[1] == pytest.approx(np.quantile(values, 0.95))
            # A p99 needs 368 values for a two-sided interval (docs/sql.md).
            assert (found[2]["high"] is not None) == (n >= 368)
        assert connection.execute("SELECT p_interval(NULL::DOUBLE, 0.5).value").fetchall() == [(None,)]


def test_a_connection_of_ones_own(spans: Path) -> None:
    """`dyno_analysis.connect` has the views, and importing the package loads no DuckDB."""
    with dyno_analysis.connect(str(spans)) as connection:
        assert isinstance(connection, duckdb.DuckDBPyConnection)
        assert connection.execute("SELECT count(*) FROM spans").fetchall() == [(6,)]
        ((started_at,),) = connection.execute("SELECT min(started_at) FROM spans").fetchall()
        assert started_at.tzinfo is not None
    code = "import dyno_analysis, sys; print('duckdb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
