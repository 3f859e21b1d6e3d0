"""journal.py: anyone can read what is written, whatever happened to the disk or the writer."""

import fcntl
import logging
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from dyno_proxy.exchange.record import Record
from dyno_proxy.telemetry.journal import (
    LINE_BYTES,
    JournalExporter,
    SetupError,
    check_folder,
    journal_line,
    writer_name,
)
from dyno_proxy.telemetry.span import COLUMNS
from rigs.journal_exporter import Journal, span_of
from rigs.journal_rows import by_duckdb, parsed, stored
from rigs.records import record, records


def numbered(first: int, last: int) -> list[Record]:
    return [record(span_id=number) for number in range(first, last + 1)]


def ids(folder: Path) -> list[int]:
    return [int(row["span_id"], 16) for row in stored(folder)]


# The format


def test_names_and_lines(tmp_path: Path) -> None:
    """The file is WRITER-FIRST.jsonl.

    Sequence numbers begin at 1 and are in order. Each line's last key is its checksum.
    """
    journal = Journal(tmp_path)
    assert journal.put(*numbered(1, 3)) is SpanExportResult.SUCCESS
    assert journal.put(*numbered(4, 4)) is SpanExportResult.SUCCESS
    (path,) = journal.files()
    assert re.fullmatch(r"[A-Za-z0-9_]+_" + str(os.getpid()) + r"_\d{8}T\d{12}Z-000000000001\.jsonl", path.name)
    assert path.read_bytes().endswith(b"}\n")
    rows = stored(tmp_path)
    assert [row["seq"] for row in rows] == [1, 2, 3, 4]
    assert ids(tmp_path) == [1, 2, 3, 4]
    assert (journal.written, journal.dropped) == (4, {})


def test_the_writers_name() -> None:
    """The name has host, pid and start in UTC.

    It has only letters, digits and `_`, because `-` comes before the number.
    """
    start = datetime(2026, 11, 23, 22, 59, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
    assert writer_name("node1", 4242, start) == "node1_4242_20261123T215900123456Z"
    assert writer_name("a-b.ø.gov", 1, datetime(2026, 1, 1, tzinfo=UTC)) == "a_b___gov_1_20260101T000000000000Z"


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    """The checksum covers every byte of the line before the checksum."""
    Journal(tmp_path).put(record())
    (path,) = tmp_path.glob("*.jsonl")
    line = path.read_bytes()[:-1]
    parsed(line)
    for position in range(0, line.rindex(b',"crc32":'), 7):
        flipped = bytearray(line)
        flipped[position] ^= 1
        with pytest.raises(AssertionError):
            parsed(bytes(flipped))


@settings(max_examples=25, deadline=None)
@given(st.lists(records(), min_size=1, max_size=8))
def test_any_records_are_written(sources: list[Record]) -> None:
    """No record spoils another: each line is there and valid, and DuckDB reads as many rows with the same values."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = Journal(folder)
        assert journal.put(*sources) is SpanExportResult.SUCCESS
        rows = stored(folder)
        assert [int(row["span_id"], 16) for row in rows] == [source.span_id for source in sources]
        read = by_duckdb(*journal.files())
        assert len(read) == len(sources)
        for row, other in zip(rows, read, strict=True):
            for column, _ in COLUMNS:
                assert other[column] == row.get(column), column


def test_duckdb_reads_every_type(tmp_path: Path) -> None:
    """A plain DuckDB with explicit columns reads numbers, booleans, lists and the map."""
    journal = Journal(tmp_path)
    journal.put(record(server_ttft_s=0.18))
    (row,) = by_duckdb(*journal.files())
    assert row["started_at_us"] == 1_795_557_540_000_001
    assert row["chunk_offsets_us"] == [200_000, 220_000, 240_000, 260_000, 280_000]
    assert row["finish_reasons"] == ["stop"]
    assert (row["streamed"], row["warmup"], row["server_ttft_s"], row["workload"]) == (True, False, 0.18, None)
    assert row["attributes"]["server.port"] == "443"


def test_what_json_cannot_hold_is_mended() -> None:
    """A foreign row with a lone surrogate anywhere, or a number that isn't finite, still becomes a valid line."""
    row: dict[str, object] = {
        "v": 2,
        "name": "a\ud800",
        "finish_reasons": ["\udfff"],
        "server_ttft_s": math.nan,
        "attributes": {"\ud801": "b"},
    }
    assert parsed(journal_line(row)[:-1]) == {
        "v": 2,
        "name": "a\ufffd",
        "finish_reasons": ["\ufffd"],
        "server_ttft_s": None,
        "attributes": {"\ufffd": "b"},
    }


def test_a_line_is_never_too_long_for_its_readers(tmp_path: Path) -> None:
    """DuckDB rejects a whole file that has a line of 16 MB. So a span of that size loses its chunk times."""
    journal = Journal(tmp_path)
    journal.put(record(span_id=1), record(span_id=2, chunk_offsets_us=tuple(range(10**7, 10**7 + 2_000_000))))
    rows = by_duckdb(*journal.files())
    assert [row["chunk_count"] for row in rows] == [5, 2_000_000]
    assert rows[1]["chunk_offsets_us"] is None
    assert rows[1]["finish_reasons"] == ["stop"]
    long: dict[str, object] = {"name": "n" * LINE_BYTES, "attributes": {str(key): "v" * 10**6 for key in range(20)}}
    assert len(journal_line(long)) < LINE_BYTES / 10


def test_a_span_that_is_none_costs_only_itself(tmp_path: Path) -> None:
    """A foreign span without a context is counted and logged, and the good spans beside it are stored."""
    journal = Journal(tmp_path)
    spans = [span_of(record(span_id=1)), ReadableSpan("no context"), span_of(record(span_id=2))]
    assert journal.exporter.export(spans) is SpanExportResult.FAILURE
    assert ids(tmp_path) == [1, 2]
    assert [row["seq"] for row in stored(tmp_path)] == [1, 3]
    assert (journal.written, journal.dropped) == (2, {"not_storable": 1})


# Files


def test_a_full_journal_is_followed_by_a_new_one(tmp_path: Path) -> None:
    """No file exceeds its size, no row is lost or twice, and each name says its first sequence number."""
    journal = Journal(tmp_path, journal_bytes=20_000)
    for first in range(1, 100, 7):
        journal.put(*numbered(first, first + 6))
    files = journal.files()
    assert len(files) > 3
    assert all(path.stat().st_size <= 20_000 for path in files)
    assert ids(tmp_path) == list(range(1, 106))
    for path in files:
        first_row = parsed(path.read_bytes().splitlines()[0])
        assert path.stem.rpartition("-")[2] == f"{first_row['seq']:012}"


def test_a_batch_larger_than_a_journal_is_cut(tmp_path: Path) -> None:
    """The size limit of a file also holds for one huge batch."""
    journal = Journal(tmp_path, journal_bytes=10_000)
    assert journal.put(*numbered(1, 50)) is SpanExportResult.SUCCESS
    assert all(path.stat().st_size <= 10_000 for path in journal.files())
    assert ids(tmp_path) == list(range(1, 51))


def test_nothing_to_write_makes_no_file(tmp_path: Path) -> None:
    """An idle proxy leaves no empty journal."""
    journal = Journal(tmp_path)
    journal.put()
    journal.exporter.shutdown()
    assert list(tmp_path.iterdir()) == []


def test_two_writers_share_a_folder(tmp_path: Path) -> None:
    """Several exporters write at once, each from several threads: every row is there once, and each file has one
    writer."""
    journals = [Journal(tmp_path, journal_bytes=30_000) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda each=each, first=first: each.put(*numbered(first, first + 24)))
        for number, each in enumerate(journals * 4)
        for first in [number * 25 + 1]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(tmp_path)) == list(range(1, 201))
    assert sum(journal.written for journal in journals) == 200
    writers = {path.stem.rpartition("-")[0] for path in tmp_path.glob("*.jsonl")}
    assert len(writers) == 2


def test_a_torn_tail_loses_only_the_tail(tmp_path: Path) -> None:
    """If a kill cuts a journal at any byte, Dyno and a plain DuckDB read all complete lines."""
    journal = Journal(tmp_path / "whole")
    journal.put(*numbered(1, 3))
    (path,) = journal.files()
    content = path.read_bytes()
    ends = [match.end() for match in re.finditer(rb"\n", content)]
    torn = tmp_path / "torn.jsonl"
    for cut in {*range(0, len(content), 131), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}:
        torn.write_bytes(content[:cut])
        # A line that lacks nothing but its newline is whole.
        whole = sum(end - 1 <= cut for end in ends)
        assert [row["seq"] for row in by_duckdb(torn)] == list(range(1, whole + 1)), cut


# Faults of the disk


def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A batch that doesn't fit is taken back, counted, and logged once. When there is room again, a new file begins.

    RLIMIT_FSIZE makes `write` accept a part and then fail, as a full disk does.
    """
    journal = Journal(tmp_path)
    assert journal.put(*numbered(1, 2)) is SpanExportResult.SUCCESS
    size = journal.files()[0].stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 4, hard))
    try:
        for first in (3, 8, 13):
            assert journal.put(*numbered(first, first + 4)) is SpanExportResult.FAILURE
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.files()[0].stat().st_size == size
    assert len(journal.files()) == 1  # attempts leave no empty files behind
    assert (journal.written, journal.dropped) == (2, {"disk": 15})
    assert [entry.levelname for entry in caplog.records] == ["ERROR"]

    assert journal.put(*numbered(18, 19)) is SpanExportResult.SUCCESS
    assert ids(tmp_path) == [1, 2, 18, 19]
    assert [row["seq"] for row in stored(tmp_path)] == [1, 2, 18, 19]  # never a number twice
    assert len(journal.files()) == 2
    assert [entry.levelname for entry in caplog.records] == ["ERROR", "WARNING"]
    assert "15 were lost" in caplog.text


def test_a_closed_descriptor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens to the file, the next batch begins a new one."""
    journal = Journal(tmp_path)
    journal.put(record(span_id=1))
    (path,) = journal.files()
    for link in Path("/proc/self/fd").iterdir():
        if link.exists() and link.samefile(path):
            os.close(int(link.name))
    assert journal.put(record(span_id=2)) is SpanExportResult.FAILURE
    assert journal.put(record(span_id=3)) is SpanExportResult.SUCCESS
    assert ids(tmp_path) == [1, 3]
    assert journal.dropped == {"disk": 1}
    assert "torn last line" in caplog.text


def test_files_and_folder_deleted_under_the_writer(tmp_path: Path) -> None:
    """If the file was removed, a new one is made, so that no spans go to a file without a name."""
    folder = tmp_path / "spans"
    journal = Journal(folder)
    journal.put(record(span_id=1))
    journal.files()[0].unlink()
    assert journal.put(record(span_id=2)) is SpanExportResult.SUCCESS
    assert ids(folder) == [2]
    shutil.rmtree(folder)
    assert journal.put(record(span_id=3)) is SpanExportResult.SUCCESS
    assert ids(folder) == [3]


def test_a_folder_that_cannot_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each lost batch is counted, and the fault is logged once."""
    blocked = tmp_path / "file"
    blocked.touch()
    journal = Journal(blocked / "spans")
    for number in range(3):
        assert journal.put(record(span_id=number + 1)) is SpanExportResult.FAILURE
    assert journal.dropped == {"disk": 3}
    assert len(caplog.records) == 1


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    """After kill -9 while writing, all rows that were reported as written are there.

    Only the last line may be unreadable.
    """
    program = (
        "import sys\n"
        "sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "from test_journal import Journal, numbered\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for first in range(1, 10**6, 5):\n"
        "    journal.put(*numbered(first, first + 4))\n"
        "    print(journal.written, flush=True)\n"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), *paths], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        reported = 0
        while reported < 200:
            reported = int(writer.stdout.readline())
        writer.kill()
        reported = max([reported, *map(int, writer.stdout.read().split())])
    read = [row["seq"] for row in by_duckdb(*tmp_path.glob("*.jsonl"))]
    assert read == list(range(1, len(read) + 1))
    assert len(read) >= reported


# The start


def test_check_folder_makes_it(tmp_path: Path) -> None:
    """A missing folder is made, with its parents. The check leaves only two files without a row in it."""
    folder = tmp_path / "a" / "spans"
    check_folder(folder)
    check_folder(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "seed-000000000000-000000000000.parquet",
        "seed-000000000000.jsonl",
    ]


def test_check_folder_refuses_a_file(tmp_path: Path) -> None:
    """The message is one line, with the path and the fix."""
    path = tmp_path / "spans"
    path.touch()
    with pytest.raises(SetupError) as raised:
        check_folder(path)
    assert str(raised.value) == f"spans folder '{path}' can't be written: is a file; name another with --spans"


def test_check_folder_refuses_what_cannot_be_written() -> None:
    """Not even root can write there."""
    with pytest.raises(SetupError, match=r"spans folder '/proc/spans' can't be written: .+; name another with --spans"):
        check_folder(Path("/proc/spans"))


def test_the_log_says_nothing_of_a_span(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A disk fault's message names the folder and the reason, never a span's content."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "file").touch()
    Journal(tmp_path / "file").put(record(model="secret model"))
    assert "secret" not in caplog.text
    assert str(tmp_path / "file") in caplog.text


def test_a_journal_that_was_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a journal was sealed, or has rested so long that a conversion may come, the next row goes into a new file."""
    exporter = JournalExporter(tmp_path, written=lambda _: None, dropped=lambda *_: None)

    def write() -> set[str]:
        seq = exporter.next_seq()
        line = exporter.line(record(span_id=seq), seq)
        assert line is not None
        assert exporter.write(line, seq, 1)
        return {path.name.rpartition("-")[2] for path in tmp_path.iterdir()}

    assert write() == write() == {"000000000001.jsonl"}
    (journal,) = tmp_path.iterdir()
    journal.chmod(0o444)
    assert write() == {"000000000001.jsonl", "000000000003.jsonl"}
    then_s = time.monotonic() + 1801
    monkeypatch.setattr(time, "monotonic", lambda: then_s)
    assert write() == write() == {"000000000001.jsonl", "000000000003.jsonl", "000000000004.jsonl"}
    exporter.shutdown()


def test_a_clock_that_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a clock jumps by years, on this machine or on the file server, the writer continues in its file."""
    journal = Journal(tmp_path)
    now_s = time.time()
    for number, jump_s in enumerate((0, 10**8, -(10**8), 7200, -7200), start=1):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: now_s + jump_s)
        assert journal.put(record(span_id=number)) is SpanExportResult.SUCCESS
        (path,) = journal.files()
        os.utime(path, (now_s - jump_s, now_s - jump_s))
    assert ids(tmp_path) == [1, 2, 3, 4, 5]


def test_a_writer_holds_its_file_while_it_lives(tmp_path: Path) -> None:
    """A lock, which others can test whatever process numbers they see, shows that a writer lives."""

    def held() -> list[bool]:
        found = []
        for path in journal.files():
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append(True)
                else:
                    found.append(False)
        return found

    journal = Journal(tmp_path, journal_bytes=10_000)
    journal.put(*numbered(1, 5))
    assert held() == [True]
    journal.put(*numbered(6, 10))
    assert held() == [False, True]
    journal.exporter.shutdown()
    assert held() == [False, False]
