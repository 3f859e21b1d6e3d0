"""The analysis over many spans: what is bounded stays exact where it was, and the scale bench runs."""

import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import duckdb
import numpy as np
import pytest

from bench_analysis import otlp_lines, spans
from dyno_analysis.query import fetch, row_types
from dyno_analysis.report.comparison import MOST_LENGTHS
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.sql_text import sql_text
from dyno_analysis.stats.interval import median_interval
from rigs.stored_spans import streamed, write

TESTS = Path(__file__).parents[1]


def test_generated_files_are_named_and_made_as_the_writers(tmp_path: Path) -> None:
    """Each file's name says its first and last sequence number, and its columns are those that a proxy writes."""
    spans.write(tmp_path / "spans", 2_500, rows_of_a_file=1_000)
    files = sorted((tmp_path / "spans").iterdir())
    assert [path.name[path.name.index(spans.WRITER) :].removeprefix(spans.WRITER) for path in files] == [
        "-000000000001-000000001000.parquet",
        "-000000001001-000000002000.parquet",
        "-000000002001-000000002500.parquet",
    ]
    with duckdb.connect() as connection:
        found = connection.execute("FROM read_parquet(?)", [[str(path) for path in files]])
        names = [name for name, *_ in found.description or ()]
        seed = connection.execute("FROM read_parquet(?)", [str(resources.files("dyno_proxy") / "seed.parquet")])
        assert sorted(names) == sorted(name for name, *_ in seed.description or ())
        seq = connection.execute("SELECT min(seq), max(seq), count(*) FROM read_parquet(?)", [str(files[1])])
        assert seq.fetchall() == [(1_001, 2_000, 1_000)]


def test_generated_requests_are_labelled_and_of_many_kinds() -> None:
    """Every row says that it is simulated; failures are among them, and no token comes after its request's end."""
    with duckdb.connect() as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(f"CREATE TABLE made AS {spans.rows_sql(0, 20_000)}")
        assert connection.execute("SELECT min(simulated), count(DISTINCT span_id) FROM made").fetchall() == [
            (True, 20_000)
        ]
        outcomes = dict(connection.execute("SELECT outcome, count(*) / 20_000 FROM made GROUP BY outcome").fetchall())
        late = connection.execute("SELECT count(*) FROM made WHERE last_token_us > duration_us").fetchall()
    assert outcomes["ok"] == pytest.approx(0.98, abs=0.01)
    assert len(outcomes) == 5
    assert late == [(0,)]


def test_otlp_lines_hold_the_same_requests(tmp_path: Path) -> None:
    """The lines that DuckDB reads for the bench give the comparison that the rows give."""
    otlp_lines.write(tmp_path / "otlp", 1_200)
    found = bench_job("otlp", tmp_path / "otlp")
    assert found["rows"] == 2


def test_chunk_gaps_by_their_numbers_are_exact(tmp_path: Path) -> None:
    """Percentiles from counted gaps equal those that DuckDB computes from the gaps themselves."""
    rng = np.random.default_rng(0)
    requests = [streamed(np.cumsum(rng.integers(0, 40, n) * 100).tolist()) for n in rng.integers(1, 60, 200)]
    write(tmp_path, requests)
    with span_folder.connect(tmp_path) as connection:
        (row,) = fetch.fetch(connection, "inter_chunk", row_types.InterChunkRow)
    gaps = np.concatenate([np.diff(r["chunk_offsets_us"]) for r in requests]) / 1e6
    assert (row.streams, row.n) == (sum(len(r["chunk_offsets_us"]) > 1 for r in requests), len(gaps))
    assert row.mean == pytest.approx(gaps.mean(), rel=1e-12)
    assert (row.p50, row.p90, row.p95, row.p99) == pytest.approx(np.quantile(gaps, [0.5, 0.9, 0.95, 0.99]), rel=1e-12)
    assert row.share_of_one_read == pytest.approx((gaps == 0).mean())


def test_lengths_are_a_sample_beyond_their_limit() -> None:
    """Up to the limit every request is a point; beyond, they are fewer, and of all lengths."""
    assert f"{MOST_LENGTHS:_}" in sql_text("lengths")
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE VIEW spans AS FROM range({5 * MOST_LENGTHS}) AS numbers (i) "
            "SELECT 'e' || i % 2 AS endpoint, 10 AS input_tokens, i AS output_tokens, 1.0 AS latency_s, "
            "i AS started_at, CAST(i AS VARCHAR) AS span_id, false AS warmup, 'ok' AS outcome "
            "WHERE i % 2 = 0 OR i < 1_000"
        )
        columns = connection.execute(sql_text("lengths")).fetchnumpy()
    assert (columns["endpoint"] == "e1").sum() == 500
    tokens = columns["output_tokens"][columns["endpoint"] == "e0"]
    # 500,000 of them, one of three.
    assert len(tokens) == pytest.approx(500_000 / 3, rel=0.02)
    assert tokens.mean() == pytest.approx(2.5 * MOST_LENGTHS, rel=0.02)


def test_median_interval_of_very_many_values() -> None:
    """What starts close to the middle ends where the whole sum ends: about 0.98 sqrt(n) ranks off it."""
    values = np.arange(1_000_000, dtype=np.float64)
    interval = median_interval(values)
    assert interval is not None
    assert interval.low == pytest.approx(499_999.5 - 980, abs=2)
    assert interval.high == pytest.approx(499_999.5 + 980, abs=2)


def test_no_progress_bar_in_a_pipe(tmp_path: Path) -> None:
    """DuckDB prints its progress bar on standard output; there is none if that isn't a terminal."""
    command = [sys.executable, "-m", "dyno", "sql", "--spans", str(tmp_path), "--format", "csv"]
    done = subprocess.run(
        [*command, "SELECT current_setting('enable_progress_bar') AS bar"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "bar\nfalse\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_bench_prints_its_tables(tmp_path: Path) -> None:
    """`python -m bench_analysis` over few spans: each table has its rows, and nothing is left on the disk."""
    command = [sys.executable, "-m", "bench_analysis", "--max", "20000", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for start in ("| 20,000 | comparison.sql | ", "| 20,000 | pandas, ", "| 1 million | "):
        (row,) = [line for line in done.stdout.splitlines() if line.startswith(start)]
        figures = [float(each.replace(",", "")) for each in re.findall(r"[\d,]+\.?\d*", row.removeprefix(start))]
        assert all(figure > 0 for figure in figures), row
    assert list(tmp_path.iterdir()) == []


def bench_job(job: str, folder: Path) -> dict[str, float]:
    from bench_analysis.measure import child

    return child(job, folder).said
