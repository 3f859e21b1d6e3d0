"""Generated span files for the scale bench: simulated requests with the distributions of real ones, made in DuckDB.

Nobody sent these requests; `simulated` is true in every row. Latencies and lengths are lognormal, an answer's time is a
first token's and so much a token, two of a hundred requests fail in four ways, nine of ten are streamed. Runs follow
one another in time, 100,000 requests each: 12,500 prompts, asked four times of two endpoints.
"""

import math
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from dyno_analysis.compaction.parquet import contents_of
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.footer import HELD_KEY, VERSION_KEY
from dyno_analysis.spans.held_rows import as_text, one_range
from dyno_analysis.spans.readable import SCHEMA_VERSION
from dyno_proxy.telemetry.span import COLUMNS
from rigs.journal_rows import DUCKDB_TYPES

WRITER: Final = "simulated_1_20261124T215900000000Z"
STARTED_US: Final = 1_795_557_540_000_000
REQUESTS_OF_A_RUN: Final = 100_000
REPEATS: Final = 4
# A file of `dyno compact`, and one that a full journal becomes (19 MB of lines).
COMPACTED: Final = 1_000_000
AS_WRITTEN: Final = 30_000

# What a row's columns are made of: numbers by chance, uniform (u) and normal (z), and what follows from them.
_DRAWN: Final = """
    WITH uniform AS (
        SELECT i, i % 2 AS e, random() AS u1, random() AS u2, random() AS u3, random() AS u4, random() AS u5,
            random() AS u6, random() AS u7
        FROM range({first}, {end}) AS numbers (i)
    ),
    normal AS (
        SELECT *, sqrt(-2 * ln(1 - u1)) * cos(2 * pi() * u2) AS z1, sqrt(-2 * ln(1 - u1)) * sin(2 * pi() * u2) AS z2,
            sqrt(-2 * ln(1 - u3)) * cos(2 * pi() * u4) AS z3
        FROM uniform
    )
    SELECT *,
        CAST(greatest(2, least(4096, exp(5 + 0.8 * z1))) AS BIGINT) AS tokens,
        CAST(exp(5.5 + 0.7 * z2) AS BIGINT) + 20 AS prompt_tokens,
        CAST(1e6 * [0.12, 0.35][e + 1] * exp(0.4 * z3) AS BIGINT) AS first_us,
        [3000, 9000][e + 1] * (0.8 + 0.4 * u5) AS token_us,
        u7 >= 0.02 AS ok,
        u7 >= 0.02 AND u6 < 0.9 AS streams,
        CASE WHEN u7 >= 0.02 THEN 'ok' WHEN u7 < 0.01 THEN 'rate_limited' WHEN u7 < 0.014 THEN 'http_error'
            WHEN u7 < 0.018 THEN 'upstream_timeout' ELSE 'client_cancelled' END AS ends
    FROM normal
"""
_STORED: Final = (
    f"FROM made SELECT make_timestamptz(started_at_us) AS started_at, * EXCLUDE (started_at_us), '{WRITER}' AS writer"
)
# The columns of a span file; those that aren't here are NULL.
_COLUMNS: Final = {
    "v": "1",
    "seq": "i + 1",
    "trace_id": "md5('trace' || i)",
    "span_id": "left(md5('span' || i), 16)",
    "name": "'chat ' || ['gpt-oss-120b', 'openai/gpt-oss-120b'][e + 1]",
    "kind": "'CLIENT'",
    "started_at_us": f"{STARTED_US} + i * 50_000 + CAST(u5 * 40_000 AS BIGINT)",
    "duration_us": "CASE WHEN ok THEN first_us + CAST(token_us * tokens AS BIGINT) + 200 "
    "WHEN ends = 'upstream_timeout' THEN 60_000_000 ELSE CAST(u4 * 1e6 AS BIGINT) END",
    "operation": "'chat'",
    "provider": "['sambanova', 'vllm'][e + 1]",
    "model": "['gpt-oss-120b', 'openai/gpt-oss-120b'][e + 1]",
    "response_model": "CASE WHEN ok THEN 'gpt-oss-120b' END",
    "finish_reasons": "CASE WHEN ok THEN [CASE WHEN u4 < 0.03 THEN 'length' ELSE 'stop' END] END",
    "input_tokens": "CASE WHEN ok THEN prompt_tokens END",
    "output_tokens": "CASE WHEN ok THEN tokens END",
    "method": "'POST'",
    "status": "CASE ends WHEN 'ok' THEN 200 WHEN 'rate_limited' THEN 429 WHEN 'http_error' THEN 500 END",
    "request_bytes": "prompt_tokens * 5 + 300",
    "response_bytes": "CASE WHEN ok THEN tokens * 180 ELSE 120 END",
    "path": "['/metis/v1/chat/completions', '/sophia/v1/chat/completions'][e + 1]",
    "error_type": "CASE ends WHEN 'rate_limited' THEN '429' WHEN 'http_error' THEN '500' WHEN 'ok' THEN NULL "
    "ELSE ends END",
    "endpoint": "['metis', 'sophia'][e + 1]",
    "outcome": "ends",
    "streamed": "CASE WHEN ends <> 'upstream_timeout' THEN streams END",
    "simulated": "true",
    "usage_source": "CASE WHEN ok THEN 'server' END",
    "reasoning_streamed": "CASE WHEN streams THEN false END",
    "connection_reused": "u3 < 0.95",
    "body_received_us": "CAST(100 + u1 * 400 AS BIGINT)",
    "connected_us": "CAST(500 + u2 * 300 AS BIGINT)",
    "sent_us": "CAST(850 + u3 * 80 AS BIGINT)",
    "headers_us": "CASE WHEN ok THEN first_us - 1000 - CAST(2000 * u1 AS BIGINT) END",
    "first_event_us": "CASE WHEN streams THEN first_us - CAST(1000 * u2 AS BIGINT) END",
    "first_token_us": "CASE WHEN streams THEN first_us END",
    "first_answer_us": "CASE WHEN streams THEN first_us END",
    "last_token_us": "CASE WHEN streams THEN first_us + CAST(token_us * (tokens - 1) AS BIGINT) END",
    "done_us": "CASE WHEN ok THEN first_us + CAST(token_us * tokens AS BIGINT) END",
    "chunk_count": "CASE WHEN streams THEN tokens END",
    "overhead_us": "CAST(250 + exp(4 + z3) AS BIGINT)",
    "overhead_end_us": "CAST(280 + exp(4 + z2) AS BIGINT)",
    "loop_lag_us": "CAST(50 + exp(3 + z1) AS BIGINT)",
    "run_id": f"'run_' || lpad(CAST(i // {REQUESTS_OF_A_RUN} AS VARCHAR), 6, '0')",
    "workload": "'steady'",
    "prompt_id": f"CAST(i % {REQUESTS_OF_A_RUN} // {2 * REPEATS} AS VARCHAR)",
    "repeat": f"i % {2 * REPEATS} // 2 + 1",
    "warmup": "false",
}
_RESPONSE_ID: Final = "CASE WHEN ok THEN 'chatcmpl-' || md5('response' || i) END"
# A token a chunk, each a little early or late.
_CHUNK_TIMES: Final = (
    "CASE WHEN streams THEN list_transform(range(tokens), "
    "lambda k: first_us + CAST(token_us * k AS BIGINT) + CAST(hash(i * 4096 + k) % 1000 AS BIGINT)) END"
)


class Extras(NamedTuple):
    """What an endpoint or a configuration may add to each span."""

    response_id: bool = False
    chunk_times: bool = False


PLAIN: Final = Extras()


def write(folder: Path, n: int, rows_of_a_file: int = COMPACTED, extras: Extras = PLAIN) -> None:
    """n requests as Parquet, named and laid out as the writer's own files: in order of time, zstd."""
    folder.mkdir()
    with duckdb.connect(config={"temp_directory": str(folder.parent / "spill"), "memory_limit": "4GB"}) as connection:
        connection.execute("SET enable_progress_bar = false")
        for first in range(0, n, rows_of_a_file):
            end = min(first + rows_of_a_file, n)
            path = folder / "being_written"
            connection.execute(f"SELECT setseed({math.modf(first * 0.6180339887)[0]})")
            connection.execute(f"CREATE OR REPLACE TEMP VIEW made AS {rows_sql(first, end, extras)}")
            held = as_text(one_range(WRITER, first + 1, end))
            metadata = f"KV_METADATA {{{VERSION_KEY}: '{SCHEMA_VERSION}', {HELD_KEY}: '{held}'}}"
            connection.execute(f"COPY ({_STORED}) TO '{path}' (FORMAT parquet, COMPRESSION zstd, {metadata})")
            _, contents = contents_of(path, connection)
            path.rename(folder / SpanFile(WRITER, first + 1, end, contents).name)


def rows_sql(first: int, end: int, extras: Extras = PLAIN) -> str:
    """A query whose rows are the requests number `first` to `end`, less one, in their columns' order and types."""
    values = dict(_COLUMNS)
    if extras.response_id:
        values["response_id"] = _RESPONSE_ID
    if extras.chunk_times:
        values["chunk_offsets_us"] = _CHUNK_TIMES
    columns = ", ".join(f"CAST({values.get(name, 'NULL')} AS {DUCKDB_TYPES[kind]}) AS {name}" for name, kind in COLUMNS)
    return f"SELECT {columns} FROM ({_DRAWN.format(first=first, end=end)}) ORDER BY i"  # noqa: S608


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
