"""One thing that is measured, in a process of its own, so that its peak memory is its own too.

`python -m bench_analysis.jobs JOB FOLDER [ARGUMENT]` prints a JSON object: seconds, peak_mb, and what the job says.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from dyno_analysis.spans.selection import Selection, select
from dyno_analysis.spans.sql_text import sql_text

Found = dict[str, Any]

# The comparison table's columns that the plain ways compute too, so that all do the same work.
_PLAIN: Final = """
    SELECT endpoint, count(*) FILTER (WHERE ok), avg(latency_s) FILTER (WHERE ok), median(latency_s) FILTER (WHERE ok),
        min(latency_s) FILTER (WHERE ok), max(latency_s) FILTER (WHERE ok), stddev_samp(latency_s) FILTER (WHERE ok),
        sum(output_tokens) FILTER (WHERE ok) / sum(latency_s) FILTER (WHERE ok)
    FROM ({source}) GROUP BY endpoint ORDER BY endpoint
"""
# A span's attribute in OTLP's JSON: the first of the list that bears the name.
_ATTRIBUTE: Final = "list_filter(span.attributes, lambda a: a.key = '{name}')[1].value.{kind}"


def main() -> None:
    job, folder = sys.argv[1], Path(sys.argv[2])
    found = JOBS[job](folder, *sys.argv[3:])
    # Not getrusage's figure: that one begins with what the starting process held.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({**found, "peak_mb": kilobytes / 1024}))


def table(folder: Path, name: str) -> Found:
    """A table of sql/ over all traffic, from opening the folder to the last row."""
    from dyno_analysis.spans import folder as span_folder

    begun_s = time.monotonic()
    with span_folder.connect(folder) as connection:
        select(connection, Selection())
        rows = connection.execute(sql_text(name)).fetchall()
        assert rows, "no span was read"
        return {"seconds": time.monotonic() - begun_s, "rows": len(rows), "version": _duckdb_version()}


def run(folder: Path, run_id: str) -> Found:
    """The comparison table of one run, and its rows counted: point queries."""
    from dyno_analysis.spans import folder as span_folder

    begun_s = time.monotonic()
    with span_folder.connect(folder) as connection:
        opened_s = time.monotonic()
        ((n,),) = connection.execute("SELECT count(*) FROM spans WHERE run_id = ?", [run_id]).fetchall()
        counted_s = time.monotonic()
        connection.execute("FROM spans SELECT endpoint, avg(latency_s) WHERE run_id = ? GROUP BY ALL", [run_id])
        connection.fetchall()
        averaged_s = time.monotonic()
    return {"seconds": averaged_s - counted_s, "count_s": counted_s - opened_s, "open_s": opened_s - begun_s, "n": n}


def report(folder: Path) -> Found:
    """All of `dyno report` over all traffic."""
    from contextlib import redirect_stdout
    from io import StringIO

    from dyno_analysis.commands import report as report_command

    begun_s = time.monotonic()
    with redirect_stdout(StringIO()) as printed:
        code = report_command.main(["--spans", str(folder), "--since", "2000-01-01"])
    assert code == 1, "some of the requests failed, as they were made to"
    return {"seconds": time.monotonic() - begun_s, "printed": len(printed.getvalue())}


def verdict(_: Path, prompts: str) -> Found:
    """The ratios with their intervals, of prompts whose means are there."""
    import numpy as np

    from dyno_analysis.stats.paired import Prompts, paired_ratio

    rng = np.random.default_rng(0)
    first = rng.lognormal(0, 0.8, int(prompts))
    second = first * rng.lognormal(1, 0.1, int(prompts))
    four, zero = np.full(len(first), 4.0), np.zeros(len(first))
    begun_s = time.monotonic()
    ratio = paired_ratio(Prompts(four, four, first, second, np.log(first), np.log(second), zero))
    assert ratio.typical_interval is not None
    return {"seconds": time.monotonic() - begun_s}


def otlp(folder: Path) -> Found:
    """The same comparison over OTLP JSON lines, as the Collector's file exporter writes them, by DuckDB's reader."""
    import duckdb

    def attribute(name: str, kind: str) -> str:
        return _ATTRIBUTE.format(name=name, kind=kind)

    source = f"""
        SELECT {attribute("dyno.endpoint", "stringValue")} AS endpoint,
            {attribute("dyno.outcome", "stringValue")} = 'ok' AS ok,
            CAST({attribute("gen_ai.usage.output_tokens", "intValue")} AS BIGINT) AS output_tokens,
            (CAST(span.endTimeUnixNano AS BIGINT) - CAST(span.startTimeUnixNano AS BIGINT)) / 1e9 AS latency_s
        FROM (
            SELECT unnest(resourceSpans[1].scopeSpans[1].spans) AS span
            FROM read_json('{folder}/*.jsonl', format = 'newline_delimited',
                columns = {{resourceSpans: 'STRUCT(scopeSpans STRUCT(spans STRUCT(
                    startTimeUnixNano VARCHAR, endTimeUnixNano VARCHAR,
                    attributes STRUCT("key" VARCHAR, "value" STRUCT(stringValue VARCHAR, intValue VARCHAR))[]
                )[])[])[]'}})
        )
    """  # noqa: S608
    begun_s = time.monotonic()
    duckdb.execute("SET enable_progress_bar = false")
    rows = duckdb.execute(_PLAIN.format(source=source)).fetchall()
    return {"seconds": time.monotonic() - begun_s, "rows": len(rows)}


def pandas(folder: Path) -> Found:
    """The same comparison by pandas, over the columns that it needs of the same Parquet files."""
    import pandas as pd

    begun_s = time.monotonic()
    columns = ["endpoint", "outcome", "duration_us", "output_tokens"]
    frame = pd.read_parquet(folder, columns=columns)
    frame = frame[frame["outcome"] == "ok"]
    frame["latency_s"] = frame["duration_us"] / 1e6
    grouped = frame.groupby("endpoint")
    figures = grouped["latency_s"].agg(["count", "mean", "median", "min", "max", "std", "sum"])
    figures["throughput"] = grouped["output_tokens"].sum() / figures["sum"]
    return {"seconds": time.monotonic() - begun_s, "rows": len(figures), "version": pd.__version__}


def _duckdb_version() -> str:
    import duckdb

    return duckdb.__version__


JOBS: Final[dict[str, Callable[..., Found]]] = {
    "table": table,
    "run": run,
    "report": report,
    "verdict": verdict,
    "otlp": otlp,
    "pandas": pandas,
}

if __name__ == "__main__":
    main()
