"""Readers of all kinds beside real proxies see each row half a second after its answer, and while files change."""

import asyncio
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import duckdb
import pandas as pd
import polars as pl
import pytest

from dyno_analysis.compaction import convert
from dyno_analysis.compaction.compaction import alone
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.file_names import parse
from dyno_analysis.spans.sql_text import sql_text
from dyno_proxy.telemetry.journal import JournalExporter, check_folder, record_line
from rigs.fake_upstream import fake_upstream
from rigs.journal_rows import rows_so_far, stored
from rigs.programs import running
from rigs.proxy_process import proxy_process
from rigs.records import record
from rigs.until import until, until_in_thread

_ANSWER: list[Any] = [{"json": {"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}}]
_STREAM: list[Any] = [{"tokens": 4, "every_s": 0.3}, {"finish": "stop"}, {"done": True}]
_ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
_HALF_S = 0.5

# `dyno proxy` on a machine whose wall clock is ahead by as many seconds as a file says.
_JUMPING = """
import sys, time
from pathlib import Path
wall_ns, ahead = time.time_ns, Path(sys.argv.pop(1))
time.time_ns = lambda: wall_ns() + int(ahead.read_text()) * 10**9
time.time = lambda: time.time_ns() / 1e9
from dyno import main
sys.exit(main())
"""


def trace(number: int) -> dict[str, str]:
    return {"traceparent": f"00-{number:032x}-{number:016x}-01"}


async def ask(session: aiohttp.ClientSession, base_url: str, number: int) -> None:
    async with session.post(f"{base_url}/chat/completions", json=_ASKED, headers=trace(number)) as answer:
        await answer.read()
        assert answer.status == 200


async def test_others_read_what_a_real_proxy_wrote_half_a_second_ago(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty times, a plain DuckDB, pandas and polars have the row, and half a second after the answer's end is enough.

    On a busy machine some answers take longer, so the quickest decides: nothing in the way of a row takes longer.
    """
    monkeypatch.chdir(tmp_path)
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}) as proxy,
        aiohttp.ClientSession() as session,
    ):
        with duckdb.connect() as plain:
            plain.execute(sql_text("spans"))
            waits_s: list[float] = []
            for number in range(1, 21):
                await ask(session, proxy.base_url("e"), number)
                ended_s = time.monotonic()
                wanted = f"{number:032x}"
                await until(partial(_has_one, plain, wanted), f"row {number}")
                waits_s.append(time.monotonic() - ended_s)
                (journal,) = span_folder.span_files(tmp_path / "spans")
                assert list(pd.read_json(journal, lines=True, dtype=False)["trace_id"])[-1] == wanted
                assert pl.read_ndjson(journal)["trace_id"].to_list()[-1] == wanted
            assert min(waits_s) < _HALF_S, waits_s


def _has_one(connection: duckdb.DuckDBPyConnection, trace_id: str) -> bool:
    return connection.execute("SELECT count(*) FROM spans WHERE trace_id = ?", [trace_id]).fetchall() == [(1,)]


def _has_rows(spans: Path, count: int) -> bool:
    return len(rows_so_far(spans)) == count


async def test_two_proxies_share_a_folder_with_compactions(tmp_path: Path) -> None:
    """Proxies run under load while `dyno compact` runs again and again: each request has one row, and no two proxies
    share a file."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    spans = tmp_path / "spans"
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(tmp_path / "a", {"e": upstream.url}, "--spans", str(spans)) as one,
        proxy_process(tmp_path / "b", {"e": upstream.url}, "--spans", str(spans)) as other,
        aiohttp.ClientSession() as session,
    ):
        asked = 0
        compacting = asyncio.create_task(_compact_often(spans, 3))

        async def client(base_url: str) -> None:
            nonlocal asked
            while asked < 2000 or not compacting.done():
                asked += 1
                await ask(session, base_url, asked)

        await asyncio.gather(*(client(each.base_url("e")) for each in (one, other) for _ in range(4)))
        await compacting
    writers = {path.name.rpartition("-")[0] for path in spans.glob("*Z-*.jsonl")}
    assert len(writers) == 2
    assert await asyncio.to_thread(_compact, spans) == 0
    with span_folder.connect(spans) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT trace_id) FROM spans").fetchall()
    assert found == [(asked, asked)]


async def _compact_often(spans: Path, times: int) -> None:
    for _ in range(times):
        assert await asyncio.to_thread(_compact, spans) == 0


def _compact(spans: Path) -> int:
    command = [sys.executable, "-m", "dyno", "compact", "--background", "--spans", str(spans)]
    return subprocess.run(command, check=False).returncode


async def test_a_clock_that_jumps_under_a_proxy(tmp_path: Path) -> None:
    """The clock jumps ten hours ahead, then a day back, each time within a stream. Durations and offsets are right, and
    every row is there once, in one journal."""
    ahead, toml, spans = tmp_path / "ahead", tmp_path / "dyno.toml", tmp_path / "spans"
    ahead.write_text("0")
    async with fake_upstream(_STREAM) as upstream, aiohttp.ClientSession() as session:
        toml.write_text(f'[endpoints.e]\nurl = "{upstream.url}"\n')
        flags = ["proxy", "--config", str(toml), "--listen", "127.0.0.1:0", "--spans", str(spans)]
        command = [sys.executable, "-c", _JUMPING, str(ahead), *flags]
        with running(command, r"listening on (?P<url>http://[^,]+),", tmp_path / "log") as (ready,):
            for number, jump_s in enumerate((0, 36_000, -86_400, 0), start=1):
                asking = asyncio.create_task(ask(session, f"{ready['url']}/e/v1", number))
                await asyncio.sleep(0.4)  # within the stream
                ahead.with_suffix(".new").write_text(str(jump_s))
                ahead.with_suffix(".new").rename(ahead)  # the proxy reads it all the time, and must find a number
                await asking
                await until(partial(_has_rows, spans, number), f"row {number}")
    rows = stored(spans)
    assert len(list(spans.glob("*Z-*.jsonl"))) == 1
    started_s = [row["started_at_us"] / 1e6 for row in rows]
    for number, jump_s in enumerate((0, 0, 36_000, -86_400)):
        assert started_s[number] - started_s[0] == pytest.approx(jump_s, abs=120)
    for row in rows:
        assert 900_000 <= row["duration_us"] < 30_000_000
        times = [row["sent_us"], *row["chunk_offsets_us"], row["duration_us"]]
        assert times == sorted(times)


def test_a_file_that_goes_while_it_is_read(tmp_path: Path) -> None:
    """If the files are removed when half of the rows are fetched, the other half still comes, or an error does."""
    check_folder(tmp_path)
    exporter = JournalExporter(tmp_path, written=lambda _: None, dropped=lambda *_: None, journal_bytes=2_000_000)
    for _ in range(10):
        lines = [(seq, exporter.line(record(span_id=seq), seq)) for seq in (exporter.next_seq() for _ in range(500))]
        exporter.write(b"".join(line or b"" for _, line in lines), lines[0][0], len(lines))
    exporter.shutdown()
    journals = sorted(tmp_path.glob("*Z-*.jsonl"))
    assert len(journals) > 1
    first = parse(journals[0].name)
    assert first is not None
    convert.convert(tmp_path, first)
    for query in ("SELECT span_id FROM spans", "SELECT span_id FROM spans ORDER BY span_id"):
        with span_folder.connect(tmp_path) as connection:
            cursor = connection.execute(query)
            rows = cursor.fetchmany(100)
            kept = {path: path.read_bytes() for path in span_folder.span_files(tmp_path)}
            for path in kept:
                path.unlink()
            try:
                rows += cursor.fetchall()
            except duckdb.IOException as error:
                assert any(str(path) in str(error) for path in kept)  # noqa: PT017  # it need not come
            else:
                assert len(rows) == len(set(rows)) == 5_000
            for path, content in kept.items():
                path.write_bytes(content)


def test_a_proxy_keeps_as_long_as_it_was_told(tmp_path: Path) -> None:
    """With `[spans] keep = "30d"`, older files' rows are deleted at the proxy's start. Without it they stay."""
    spans = tmp_path / "spans"
    now_us = time.time_ns() // 1000
    day_us = 86_400_000_000
    check_folder(spans)
    for writer, age_us in (("import_00aa", 40 * day_us), ("import_00bb", day_us)):
        for first in (1, 501, 1001):
            made = (record_line(record(started_at_unix_us=now_us - age_us), first + n) for n in range(500))
            (spans / f"{writer}-{first:012}.jsonl").write_bytes(b"".join(made))
    for keep, wanted in (("", 3_000), ('[spans]\nkeep = "30d"\n', 1_500)):
        toml = tmp_path / "dyno.toml"
        toml.write_text(f'[endpoints.e]\nurl = "http://127.0.0.1:9/v1"\n{keep}')
        flags = ["proxy", "--config", str(toml), "--listen", "127.0.0.1:0", "--spans", str(spans)]
        with running([sys.executable, "-m", "dyno", *flags], "listening on", tmp_path / "log"):
            until_in_thread(partial(_is_compacted, spans, wanted), f"{wanted} rows in Parquet alone", every_s=0.2)
    with span_folder.connect(spans) as connection:
        found = connection.execute("SELECT count(*) FROM spans WHERE started_at < now() - INTERVAL 30 DAY").fetchall()
    assert found == [(0,)]


def _is_compacted(spans: Path, wanted: int) -> bool:
    """Whether only Parquet files count, with so many rows, and no process is at work."""
    files = span_folder.sources(spans)
    with span_folder.connect(spans, files) as connection:
        try:
            found = connection.execute("SELECT count(*) FROM spans").fetchall()
        except duckdb.Error:  # a file was emptied between its listing and its reading: somebody is at work
            return False
    if found != [(wanted,)] or {file.path.suffix for file in files} != {".parquet"}:
        return False
    with alone(spans) as nobody:
        return nobody
