"""Dyno's own reader and other readers read spans while they are written, converted and compacted."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from dyno_analysis.compaction.convert import convert
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.file_names import parse
from dyno_analysis.spans.sql_text import sql_text
from dyno_proxy.telemetry.journal import JournalExporter, check_folder
from rigs.records import record
from rigs.running_proxy import running_proxy
from rigs.until import until_in_thread

# What is to happen beside the queries: so often do files become others under them, in each way that they can.
_COMPACTIONS = 3
_PARQUET_FILES = 5
_QUERIES = 30
_REST_S = 0.1  # between two queries: the compactions need the processor too
_LIMIT_S = 600.0


class Writer:
    """Write journals of some rows each, as the proxy's exporter does, until told to end."""

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self.written = 0
        self._folder = folder
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        def count(rows: int) -> None:
            self.written += rows

        def drop(reason: str, _rows: int) -> None:
            raise AssertionError(reason)

        exporter = JournalExporter(self._folder, written=count, dropped=drop, journal_bytes=40_000)
        while not self._ended.is_set():
            seq = exporter.next_seq()
            line = exporter.line(record(span_id=seq), seq)
            assert line is not None
            exporter.write(line, seq, 1)
            time.sleep(0.01)
        exporter.shutdown()


@contextmanager
def compacting(folder: Path) -> Iterator[list[int]]:
    """Run `dyno compact` again and again. Returns the exit codes."""
    codes: list[int] = []
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            # Not --background: with the lowest priority it would wait for minutes beside other tests.
            command = [sys.executable, "-m", "dyno", "compact", "--spans", str(folder)]
            codes.append(subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode)
            ended.wait(0.1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield codes
    finally:
        ended.set()
        thread.join()


def test_no_row_is_missing_or_twice_while_journals_become_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Query with Dyno and with a plain DuckDB in turn. It ends when a writer has begun many journals, several
    compactions have converted them, and each kind of query has seen that.
    """
    folder = tmp_path / "spans"
    monkeypatch.chdir(tmp_path)
    writer = Writer(folder)
    plain = duckdb.connect()
    plain.execute(sql_text("spans"))
    try:
        with compacting(folder) as codes:
            number, seen, end_s = 0, set[Path](), time.monotonic() + _LIMIT_S
            while number < _QUERIES or len(codes) < _COMPACTIONS or len(seen) < _PARQUET_FILES:
                assert time.monotonic() < end_s, f"{number} queries, {codes} of compactions, {len(seen)} Parquet files"
                number += 1
                time.sleep(_REST_S)
                seen |= set(folder.glob("*.parquet"))
                before = writer.written
                if number % 2:
                    with span_folder.connect(folder) as connection:
                        found = connection.execute("SELECT count(*), count(DISTINCT span_id) FROM spans").fetchall()[0]
                else:
                    found = plain.execute("SELECT count(*), count(DISTINCT span_id) FROM spans").fetchall()[0]
                assert found[0] == found[1]
                assert before <= found[0] <= writer.written + 1
    finally:
        writer.end()
        plain.close()
    assert set(codes) == {0}


def test_others_read_what_a_running_proxy_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain DuckDB, pandas and polars read journals while their writer runs, and a Parquet file made from one."""
    monkeypatch.chdir(tmp_path)
    writer = Writer(tmp_path / "spans")
    try:
        spans = tmp_path / "spans"
        until_in_thread(lambda: len(list(spans.glob("*Z-*.jsonl"))) > 1, "a second journal")
        plain = duckdb.connect()
        plain.execute(sql_text("spans"))
        ((rows,),) = plain.execute("SELECT count(*) FROM spans").fetchall()
        assert rows > 0
        journals = sorted(path for path in (tmp_path / "spans").glob("*Z-*.jsonl"))
        frame = pd.concat(pd.read_json(path, lines=True) for path in journals[:-1])
        assert len(frame) == len(set(frame["span_id"])) > 0
        first = parse(journals[0].name)
        assert first is not None
        done = convert(tmp_path / "spans", first)
        assert done.path is not None
        as_pandas, as_polars = pd.read_parquet(done.path), pl.read_parquet(done.path)
        assert list(as_pandas["span_id"]) == as_polars["span_id"].to_list()
        assert len(as_pandas) == done.rows
    finally:
        writer.end()


def test_a_proxy_converts_what_others_left(tmp_path: Path) -> None:
    """A proxy compacts at its start if old journals are large. After that, each row is there once."""
    spans = tmp_path / "spans"
    check_folder(spans)
    exporter = JournalExporter(spans, written=lambda _: None, dropped=lambda *_: None, journal_bytes=600_000)
    for _ in range(3_000):
        seq = exporter.next_seq()
        line = exporter.line(record(span_id=seq), seq)
        assert line is not None
        exporter.write(line, seq, 1)
    exporter.shutdown()
    assert len(list(spans.glob("*Z-*.jsonl"))) > 1
    with running_proxy(tmp_path, {"e": "http://127.0.0.1:9/v1"}):
        until_in_thread(lambda: list(spans.glob("*Z-*.parquet")), "Parquet", every_s=0.1)
    with span_folder.connect(spans) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT span_id) FROM spans").fetchall()
    assert found == [(3_000, 3_000)]
