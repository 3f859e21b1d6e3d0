"""telemetry.py: nothing is lost without a count, and nothing reaches traffic."""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dyno_proxy.exchange.record import Record
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.telemetry.journal import SetupError
from dyno_proxy.telemetry.telemetry import QUEUE_BYTES, Telemetry
from rigs.journal_rows import stored
from rigs.records import record
from rigs.telemetry_rig import WAIT_S, TelemetryRig, telemetry_rigs
from rigs.until import until_in_thread


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., TelemetryRig]]:
    """Makes telemetry on a folder."""
    with telemetry_rigs(tmp_path / "spans") as make:
        yield make


# The journal


def test_what_is_recorded_is_on_disk_within_a_quarter_second(rig: Callable[..., TelemetryRig]) -> None:
    """A span is on disk in time without a flush or an end: a kill loses no more than this (a busy machine gets
    longer)."""
    each = rig()
    started_s = time.monotonic()
    each.put(record())
    until_in_thread(lambda: list(each.folder.glob("*.jsonl")), "a journal")
    assert time.monotonic() - started_s < 5.0
    each.telemetry.flush(WAIT_S)
    assert len(stored(each.folder)) == 1


def test_flush_and_close_put_everything_on_disk(rig: Callable[..., TelemetryRig]) -> None:
    """More records than one write takes are written in order, each once. A second close is no error."""
    each = rig()
    each.put(*(record(span_id=number) for number in range(1, 2501)))
    assert each.telemetry.flush(WAIT_S)
    assert [row["seq"] for row in stored(each.folder)] == list(range(1, 2501))
    each.put(record(span_id=2501))
    assert each.telemetry.close(WAIT_S)
    assert each.telemetry.close(WAIT_S)
    assert [int(row["span_id"], 16) for row in stored(each.folder)] == list(range(1, 2502))
    assert each.value("dyno_spans_written_total") == 2501
    assert each.value("dyno_ttft_seconds_count", endpoint="metis", model="gpt-oss-120b", operation="chat") == 2501


@pytest.mark.parametrize("sampled", [None, False, True])
def test_every_request_has_a_row_whatever_its_flag(rig: Callable[..., TelemetryRig], *, sampled: bool | None) -> None:
    """Span files hold every request, also under a traceparent whose sampled flag is 0."""
    each = rig()
    each.put(record(sampled=sampled, parent_span_id=None if sampled is None else 7))
    assert each.telemetry.close(WAIT_S)
    assert len(stored(each.folder)) == 1


def test_counters_are_right_at_once(rig: Callable[..., TelemetryRig]) -> None:
    """The counters that must be right at once don't wait for the thread."""
    each = rig()
    each.telemetry.started(record())
    assert each.value("dyno_active_requests", endpoint="metis") == 1
    each.telemetry.record(record())
    assert each.value("dyno_active_requests", endpoint="metis") == 0
    labels = {"endpoint": "metis", "model": "gpt-oss-120b", "operation": "chat", "outcome": "ok"}
    assert each.value("dyno_requests_total", **labels) == 1


def test_the_journals_lag(rig: Callable[..., TelemetryRig]) -> None:
    """The journal's lag is the age of the oldest record that isn't on disk yet, and 0 once all are."""
    each = rig()
    assert each.telemetry.lag_s() == 0.0
    ages_s = []
    for number in range(1, 6):  # the thread's next look, up to 200 ms away, may come at once now and then
        before_s = time.monotonic()
        each.put(record(span_id=number))
        time.sleep(0.02)
        each.put(record(span_id=100 + number))
        lag_s = each.telemetry.lag_s()
        assert lag_s <= time.monotonic() - before_s
        ages_s.append(lag_s)
        assert each.telemetry.flush(WAIT_S)
        assert each.telemetry.lag_s() == 0.0
    assert max(ages_s) >= 0.02


def test_a_full_queue_drops_and_counts(rig: Callable[..., TelemetryRig]) -> None:
    """If records come faster than they are written, memory is bounded, `record` doesn't wait, and written + dropped =
    recorded."""
    each = rig(queue_records=10)
    each.put(*(record(span_id=number) for number in range(1, 1001)))
    assert each.telemetry.flush(WAIT_S)
    dropped = each.dropped("queue_full")
    assert 0 < dropped <= 990
    each.put(record(span_id=5000))  # there is room again
    assert each.telemetry.close(WAIT_S)
    assert each.dropped("queue_full") == dropped
    assert each.value("dyno_spans_written_total") == 1001 - dropped == len(stored(each.folder))
    labels = {"endpoint": "metis", "model": "gpt-oss-120b", "operation": "chat", "outcome": "ok"}
    assert each.value("dyno_requests_total", **labels) == 1001


def test_chunk_times_count_against_the_queue(rig: Callable[..., TelemetryRig]) -> None:
    """A few endless streams can't fill the memory either: a row loses its chunk times, and stays. A single one is
    always taken whole."""
    each, chunks = rig(), QUEUE_BYTES // 40
    each.put(*(record(span_id=number, chunk_offsets_us=(5,) * chunks) for number in (1, 2)))
    assert each.telemetry.close(WAIT_S)
    assert each.dropped("queue_full") == 0
    assert [row["chunk_count"] for row in stored(each.folder)] == [chunks, chunks]
    assert [len(row.get("chunk_offsets_us", ())) for row in stored(each.folder)] == [chunks, 0]


def test_streams_that_end_at_once_all_have_their_rows(rig: Callable[..., TelemetryRig]) -> None:
    """300 streams of 46,000 chunks that are cancelled at once leave 300 rows. Those for which the queue has no room
    have no chunk times, but the chunks' number."""
    each = rig()
    offsets_us = tuple(range(46_000))
    cancelled = {"outcome": "client_cancelled", "error_type": "client_cancelled", "chunk_offsets_us": offsets_us}
    each.put(*(record(span_id=number, **cancelled) for number in range(1, 301)))
    assert each.telemetry.close(WAIT_S)
    rows = stored(each.folder)
    assert [int(row["span_id"], 16) for row in rows] == list(range(1, 301))
    assert {row["chunk_count"] for row in rows} == {46_000}
    assert {len(row.get("chunk_offsets_us", ())) for row in rows} == {0, 46_000}
    assert each.telemetry.lost == 0


def test_after_the_end_records_are_counted_drops(rig: Callable[..., TelemetryRig]) -> None:
    """A request that ends after the drain is counted as lost."""
    each = rig()
    each.telemetry.close(WAIT_S)
    each.put(record())
    assert each.dropped("closed") == 1
    assert each.value("dyno_active_requests", endpoint="metis") == 0


def test_an_exception_stays_inside(rig: Callable[..., TelemetryRig], caplog: pytest.LogCaptureFixture) -> None:
    """If a record raises an exception, only it is lost, and counted.

    The caller sees nothing, and the thread goes on.
    """
    each = rig()
    unforeseen = [record(baggage=None), record(chunk_offsets_us=None), record(status=object())]
    each.put(record(span_id=1), *unforeseen, *unforeseen, record(span_id=2))
    each.telemetry.flush(WAIT_S)
    each.put(record(span_id=3))
    assert each.telemetry.close(WAIT_S)
    assert [int(row["span_id"], 16) for row in stored(each.folder)] == [1, 2, 3]
    lost = sum(map(each.dropped, ("internal_error", "not_storable")))
    assert lost == 6
    assert each.value("dyno_spans_written_total") == 3
    assert each.value("dyno_requests_started_total", endpoint="metis") == 9
    assert "telemetry failed" in caplog.text


def test_a_disk_fault_is_counted(rig: Callable[..., TelemetryRig], caplog: pytest.LogCaptureFixture) -> None:
    """If the folder becomes a file while the proxy runs, spans are dropped with one line in the log.

    Later they are written.
    """
    each = rig()
    shutil.rmtree(each.folder)
    each.folder.touch()
    each.put(record(span_id=1))
    each.telemetry.flush(WAIT_S)
    each.put(record(span_id=2))
    each.telemetry.flush(WAIT_S)
    assert each.dropped("disk") == 2
    assert [entry.levelno for entry in caplog.records] == [logging.ERROR]
    each.folder.unlink()
    each.put(record(span_id=3))
    assert each.telemetry.close(WAIT_S)
    assert [int(row["span_id"], 16) for row in stored(each.folder)] == [3]


def test_a_folder_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    """The fault is found before any traffic, and no thread is left behind."""
    (tmp_path / "spans").touch()
    threads = threading.active_count()
    with pytest.raises(SetupError, match="is a file"):
        Telemetry(tmp_path / "spans", Metrics("0"))
    assert threading.active_count() == threads


def test_record_is_cheap(rig: Callable[..., TelemetryRig]) -> None:
    """`record` runs on the event loop after each request, and takes some 10 µs of CPU (the limit here is for a slow
    machine)."""
    each = rig()
    sources = [record(span_id=number) for number in range(1, 5001)]
    best_s = min(timed(each.telemetry.record, sources[first : first + 500]) for first in range(0, 5000, 500))
    assert best_s < 60e-6


def timed(call: Callable[[Record], None], sources: list[Record]) -> float:
    started_s = time.thread_time()
    for source in sources:
        call(source)
    return (time.thread_time() - started_s) / len(sources)
