"""`python -m bench.questions`: the questions of docs/sql.md, the views and an attribute, timed over generated spans.

    PYTHONPATH=tests python -m bench.questions                       200,000 and 2 million spans: some minutes
    PYTHONPATH=tests python -m bench.questions --sizes 200000        a short run
    PYTHONPATH=tests python -m bench.questions --folder DIR          the span files go there, and stay

It prints a table: the question, its lines of SQL, the seconds over each number of spans (warm: the faster of two), and
whether its goal is met. Of the generated spans every fourth has an engine's span in `collected/`, and all have
attributes. A question about the sample's runs or hours is asked about a run or an hour of the generated ones.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

import dyno_analysis
from bench_analysis import spans as generated
from contract.cookbook_answers import PAGE, questions
from dyno_analysis.spans.selection import Selection
from dyno_analysis.spans.views import connect_views, list_files
from rigs.compacted import as_parquet, rested
from rigs.stored_spans import write

SIZES: Final = (200_000, 2_000_000)
_QUESTION_S: Final = 1.0
_FILTERED_S: Final = 0.3
_ATTRIBUTE_TIMES: Final = 1.5
_SERVED: Final = 4  # every so manyth request has an engine's span

# What names the sample's runs and hours, and what the generated spans have instead.
_INSTEAD: Final = (
    ("run_id = 'tuesday'", "run_id = 'run_000001'"),
    ("run_id = 'monday'", "run_id = 'run_000000'"),
    ("'2026-11-24 08:20Z' AND '2026-11-24 10:00Z'", "'2026-11-24 22:00Z' AND '2026-11-24 23:00Z'"),
    ("'2026-11-24 00:00Z'", "'2026-11-24 23:22Z'"),
)
_VIEWS: Final = (
    "spans",
    "spans_loaded",
    "chunks",
    "pairs",
    "minutes",
    "minutes_all",
    "token_minutes",
    "concurrency",
    "gaps",
    "runs",
    "request_phases",
)
_FILTERS: Final = {"run_id": "run_id = 'run_000001'", "trace_id": "trace_id = md5('trace4444')"}
# Five minutes, as `--since 2026-11-24T23:00:00Z --until 2026-11-24T23:05:00Z` chooses them.
_SINCE_US: Final = generated.STARTED_US + 61 * 60_000_000
_FIVE_MINUTES: Final = Selection(since_us=_SINCE_US, until_us=_SINCE_US + 300_000_000)


_BY_TIME: Final = "by --since and --until"


class Asked(NamedTuple):
    """A row of the table. `goal` is in seconds, or in times of what the file itself takes."""

    title: str
    sql: str
    goal: float


def asked(connection: duckdb.DuckDBPyConnection) -> Iterator[Asked]:
    """The cookbook's questions, and each view by each filter that it has a column for."""
    for question in questions(PAGE.read_text(encoding="utf-8")):
        sql = question.sql
        for old, new in _INSTEAD:
            sql = sql.replace(old, new)
        yield Asked(question.title, sql, _QUESTION_S)
    for view in _VIEWS:
        described = connection.execute(f"DESCRIBE {view}").fetchall()
        columns = [name for name, *_ in described]
        # All columns are read, but only one row is carried over.
        sql = f"SELECT count(*), {', '.join(f'count({_quoted(each)})' for each in columns)} FROM {view}"  # noqa: S608
        for column, condition in _FILTERS.items():
            if column in columns:
                yield Asked(f"{view} by {column}", f"{sql} WHERE {condition}", _FILTERED_S)
        yield Asked(f"{view} {_BY_TIME}", sql, _FILTERED_S)


def _quoted(name: str) -> str:
    return f'"{name}"'


def generate(folder: Path, n: int) -> None:
    """Span files of n requests with attributes, and an engine's span for every fourth."""
    plain = folder.with_name(f"{folder.name}_plain")
    generated.write(plain, n)
    folder.mkdir()
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        for path in sorted(plain.glob("*.parquet")):
            metadata = connection.execute(
                "SELECT decode(key), decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) LIKE 'dyno%'",
                [str(path)],
            ).fetchall()
            pairs = ", ".join(f"{key}: '{value}'" for key, value in metadata)
            rows = """SELECT * REPLACE (2 AS v, MAP {'server.address': endpoint || '.example', 'server.port': '443',
                'gen_ai.request.max_tokens': CAST(seq % 100 AS VARCHAR)} AS attributes)"""
            connection.execute(
                f"COPY ({rows} FROM '{path}') TO '{folder / path.name}' (FORMAT parquet, COMPRESSION zstd, "
                f"KV_METADATA {{{pairs}}})"
            )
        _collected(connection, folder, n)
    shutil.rmtree(plain)


def _collected(connection: duckdb.DuckDBPyConnection, folder: Path, n: int) -> None:
    """One written span makes the file's columns; the others are made after its pattern."""
    made = as_parquet(
        rested(write(folder / "collected", [{"v": 2, "seq": 1, "trace_id": "0" * 32, "span_id": "1" * 16}]))
    )
    held = "node1_42_20261124T215900000000Z:1-1"
    metadata = connection.execute(
        "SELECT decode(key), decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) LIKE 'dyno%'", [str(made)]
    ).fetchall()
    pairs = ", ".join(f"{key}: '{value.replace(held, held.replace('1-1', f'1-{n}'))}'" for key, value in metadata)
    rows = f"""SELECT * REPLACE (seq // {_SERVED} + 1 AS seq, left(md5('engine' || seq), 16) AS span_id,
            span_id AS parent_span_id, 'llm_request' AS name, 'SERVER' AS kind,
            CAST(NULL AS VARCHAR) AS endpoint, CAST(NULL AS VARCHAR) AS outcome,
            CAST(duration_us * 0.9 AS BIGINT) AS duration_us, 'node1_42_20261124T215900000000Z' AS writer,
            MAP {{'resource.service.name': 'vllm', 'gen_ai.latency.time_in_queue': '0.01'}} AS attributes)
        FROM '{folder}/*.parquet' WHERE seq % {_SERVED} = 1 AND outcome = 'ok'"""  # noqa: S608
    target = made.with_name("node1_42_20261124T215900000000Z-000000000001-{:012}.parquet".format(n))  # noqa: UP032
    connection.execute(f"COPY ({rows}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{pairs}}})")
    made.unlink()


def measure(folder: Path) -> Iterator[tuple[Asked, float | str]]:
    """Each question with its seconds; what it failed with, if it failed. Attributes are in times of the file's own."""
    limited = connect_views(folder, list_files(folder, _FIVE_MINUTES), _FIVE_MINUTES)
    with dyno_analysis.connect(folder) as connection, limited:
        for each in asked(connection):
            yield each, _seconds(limited if each.title.endswith(_BY_TIME) else connection, each.sql)
        own = _seconds(connection, f"SELECT count(attributes['server.address']) FROM '{folder}/*.parquet'")  # noqa: S608
        for expression in ("attributes['server.address']", "first_token_us"):
            sql = f"SELECT count({expression}) FROM spans"  # noqa: S608
            taken = _seconds(connection, sql)
            times = taken / own if isinstance(taken, float) and isinstance(own, float) else taken
            yield Asked(f"{expression}, in times of the file's own attribute", sql, _ATTRIBUTE_TIMES), times


def _seconds(connection: duckdb.DuckDBPyConnection, sql: str) -> float | str:
    best = float("inf")
    for _ in range(3):
        begun_s = time.monotonic()
        try:
            connection.execute(sql).fetchall()
        except duckdb.Error as error:
            return str(error).splitlines()[0]
        best = min(best, time.monotonic() - begun_s)
        if best > 5:  # more would take too long, and say the same
            break
    return best


def main() -> int:
    """Print the table; exit code 1 if a goal isn't met over the largest number of spans."""
    parser = argparse.ArgumentParser(prog="python -m bench.questions", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of spans (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the span files go, and stay (default: a temporary folder)")
    parser.add_argument("--only", default="", help="only titles that this regular expression matches")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    root = arguments.folder or Path(tempfile.mkdtemp(prefix="dyno-bench-questions-"))
    root.mkdir(exist_ok=True)
    found: dict[str, list[float | str]] = {}
    goals: dict[str, Asked] = {}
    for size in sizes:
        if not (folder := root / f"spans{size}").exists():
            print(f"generating {size:,} spans", file=sys.stderr, flush=True)
            generate(folder, size)
        for each, taken in measure(folder) if not arguments.only else _chosen(folder, arguments.only):
            goals[each.title] = each
            found.setdefault(each.title, []).append(taken)
            print(f"{size:>10,}  {_shown(taken):>9}  {each.title}", file=sys.stderr, flush=True)
    if arguments.folder is None:
        shutil.rmtree(root)
    return _print(sizes, goals, found)


def _chosen(folder: Path, pattern: str) -> Iterator[tuple[Asked, float | str]]:
    limited = connect_views(folder, list_files(folder, _FIVE_MINUTES), _FIVE_MINUTES)
    with dyno_analysis.connect(folder) as connection, limited:
        for each in asked(connection):
            if re.search(pattern, each.title):
                yield each, _seconds(limited if each.title.endswith(_BY_TIME) else connection, each.sql)


def _print(sizes: Sequence[int], goals: dict[str, Asked], found: dict[str, list[float | str]]) -> int:
    print(f"\n{os.cpu_count()} cores, DuckDB {duckdb.__version__}; generated spans, all of them simulated\n")
    print(f"| question | lines | {' | '.join(f'{size:,} spans' for size in sizes)} | goal | met |")
    print("|---|--:|" + "--:|" * len(sizes) + "--:|---|")
    missed = 0
    for title, taken in found.items():
        each, last = goals[title], taken[-1]
        met = isinstance(last, float) and last <= each.goal
        missed += not met
        lines = len(each.sql.strip().splitlines())
        print(
            f"| {title} | {lines} | {' | '.join(map(_shown, taken))} | {each.goal:g} | {'yes' if met else '**no**'} |"
        )
    print(f"\n{len(found) - missed} of {len(found)} goals are met.")
    return 1 if missed else 0


def _shown(taken: float | str) -> str:
    return f"{taken:.3f}" if isinstance(taken, float) else taken


if __name__ == "__main__":
    sys.exit(main())
