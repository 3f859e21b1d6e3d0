"""The journal is written also when connections have taken every file descriptor."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from dyno_proxy.telemetry.spare import SpareDescriptor
from rigs.fd_limit import soft_limit_of_fds
from rigs.journal_exporter import Journal
from rigs.journal_rows import stored
from rigs.records import record

ROOM = 20


@contextmanager
def none_left() -> Iterator[list[int]]:
    """Take every descriptor that the process may still open; yields them."""
    taken: list[int] = []
    highest = os.dup(0)
    os.close(highest)
    with soft_limit_of_fds(highest + ROOM):
        try:
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                taken.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(2 * ROOM + highest))
            yield taken
        finally:
            for descriptor in taken:
                os.close(descriptor)


def test_the_first_journal_and_each_further_one(tmp_path: Path) -> None:
    """Journals begin, fill and follow each other without a free descriptor. No span is lost."""
    journal = Journal(tmp_path, journal_bytes=2_000)
    with none_left():
        for number in range(1, 21):
            assert journal.put(record(span_id=number)) is SpanExportResult.SUCCESS
    journal.exporter.shutdown()
    assert len(journal.files()) > 5
    assert [int(row["span_id"], 16) for row in stored(tmp_path)] == list(range(1, 21))
    assert not journal.dropped


def test_a_descriptor_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    """If the spare one is gone too, opening goes on as soon as any descriptor is free."""
    spare = SpareDescriptor()
    with none_left() as taken:
        first = spare.opening(lambda: os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT))
        timer = threading.Timer(0.1, lambda: os.close(taken.pop()))
        timer.start()
        second = spare.opening(lambda: os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT))
        timer.join()
    for descriptor in (first, second):
        os.close(descriptor)
    spare.close()


def test_other_errors_pass_at_once(tmp_path: Path) -> None:
    """A folder that is gone isn't waited for."""
    begun_s = time.monotonic()
    spare = SpareDescriptor()
    with pytest.raises(FileNotFoundError):
        spare.opening(lambda: os.open(tmp_path / "none" / "a", os.O_WRONLY | os.O_CREAT))
    spare.close()
    assert time.monotonic() - begun_s < 1.0
