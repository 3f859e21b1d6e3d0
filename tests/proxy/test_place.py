"""The spans folder is renamed, replaced, switched or unmounted under a writer: spans go where the path leads."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from dyno_proxy.file_modes import Access
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.telemetry import place
from dyno_proxy.telemetry.journal import check_folder
from dyno_proxy.telemetry.open_requests import PREFIX
from dyno_proxy.telemetry.telemetry import Telemetry
from rigs.journal_exporter import Journal
from rigs.journal_rows import stored
from rigs.records import record
from rigs.small_disk import small_disk
from rigs.telemetry_rig import WAIT_S, TelemetryRig

SUCCESS = SpanExportResult.SUCCESS


def ids(folder: Path) -> list[int]:
    return [int(row["span_id"], 16) for row in stored(folder)]


def renamed(spans: Path, away: Path) -> None:
    spans.rename(away)


def renamed_and_made(spans: Path, away: Path) -> None:
    spans.rename(away)
    spans.mkdir()


def copied_and_switched(spans: Path, away: Path) -> None:
    """As a folder is brought to a larger disk: the copy has a file of the journal's name."""
    shutil.copytree(spans, spans.with_name("new"))
    spans.rename(away)
    spans.with_name("new").rename(spans)


def archived(spans: Path, away: Path) -> None:
    """`mv`, `tar`, `rm`."""
    spans.rename(away)
    shutil.copytree(away, spans.with_name("tar"))
    shutil.rmtree(away)
    spans.with_name("tar").rename(away)


def relinked(spans: Path, away: Path) -> None:
    """The configured path is a link, which leads to another folder from now on."""
    spans.rename(away)
    other = spans.with_name("other")
    other.mkdir()
    spans.symlink_to(other)


@pytest.mark.parametrize("change", [renamed, renamed_and_made, copied_and_switched, archived, relinked])
def test_a_folder_that_is_another_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: Callable[[Path, Path], None]
) -> None:
    """The next batch goes to the folder that the path names, with its seeds. Earlier rows are where the old one went.

    The log says it once.
    """
    spans, away = tmp_path / "spans", tmp_path / "away"
    check_folder(spans)
    journal = Journal(spans)
    for number in range(1, 11):
        journal.put(record(span_id=number))
    change(spans, away)
    before = set(ids(spans)) if spans.exists() else set()
    for number in range(11, 16):
        assert journal.put(record(span_id=number)) is SUCCESS
    assert set(ids(spans)) - before == {11, 12, 13, 14, 15}
    assert ids(away) == list(range(1, 11))
    assert {path.name for path in spans.iterdir()} >= set(place.SEEDS)
    assert (journal.written, journal.dropped) == (15, {})
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert f"'{spans}' is " in line
    assert "from now on" in line


def test_a_link_that_is_switched(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder behind a link is followed through it, each time that it is switched, also back to the first one."""
    spans = tmp_path / "spans"
    for day in ("monday", "tuesday"):
        (tmp_path / day).mkdir()
    spans.symlink_to("monday")
    check_folder(spans)
    journal = Journal(spans)
    for number, day in enumerate(("monday", "tuesday", "monday"), start=1):
        (tmp_path / "link").symlink_to(day)
        (tmp_path / "link").rename(spans)
        assert journal.put(record(span_id=number)) is SUCCESS
        assert number in ids(tmp_path / day)
    assert (ids(tmp_path / "monday"), ids(tmp_path / "tuesday")) == ([1, 3], [2])
    assert len(caplog.records) == 2


def test_a_folder_that_was_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After `rm -rf` the folder and its seeds are there again, with the mode and the group that are configured."""
    spans = tmp_path / "spans"
    access = Access(os.getegid())
    check_folder(spans, access)
    journal = Journal(spans, access=access)
    journal.put(record(span_id=1))
    shutil.rmtree(spans)
    assert journal.put(record(span_id=2)) is SUCCESS
    assert ids(spans) == [2]
    assert (spans.stat().st_mode & 0o7777, spans.stat().st_gid) == (0o2750, os.getegid())
    for path in spans.iterdir():
        assert (path.stat().st_mode & 0o777, path.stat().st_gid) == (0o640, os.getegid())
    assert {path.name for path in spans.iterdir()} >= set(place.SEEDS)
    assert [entry.levelno for entry in caplog.records] == [logging.WARNING]
    assert "is gone" in caplog.text


@pytest.mark.parametrize("how", ["renamed within", "moved away", "removed", "all files removed"])
def test_a_journal_that_is_moved_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """A new journal begins, and the log says it. What was removed with it comes back: the seeds."""
    spans = tmp_path / "spans"
    check_folder(spans)
    journal = Journal(spans)
    journal.put(record(span_id=1))
    (path,) = spans.glob("*Z-*.jsonl")
    if how == "renamed within":
        path.rename(spans / "renamed.txt")
    elif how == "moved away":
        path.rename(tmp_path / path.name)
    elif how == "removed":
        path.unlink()
    else:
        for each in spans.iterdir():
            each.unlink()
    assert journal.put(record(span_id=2)) is SUCCESS
    assert journal.put(record(span_id=3)) is SUCCESS
    assert ids(spans) == [2, 3]
    assert {path.name for path in spans.iterdir()} >= set(place.SEEDS)
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert line.startswith(f"'{path}' was renamed or removed")


def test_a_folder_that_can_not_be_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows that are in no folder of this name count as dropped, not as written, and the log says it once.

    When the folder can be made, spans are written again, and the log says where.
    """
    spans = tmp_path / "spans"
    check_folder(spans)
    journal = Journal(spans)
    journal.put(record(span_id=1))
    spans.rename(tmp_path / "away")
    spans.touch()
    for number in (2, 3):
        assert journal.put(record(span_id=number)) is not SUCCESS
    assert (journal.written, journal.dropped) == (1, {"disk": 2})
    spans.unlink()
    assert journal.put(record(span_id=4)) is SUCCESS
    assert (ids(tmp_path / "away"), ids(spans)) == ([1], [4])
    assert [entry.levelname for entry in caplog.records] == ["ERROR", "WARNING", "WARNING"]


def test_a_disk_that_is_unmounted_and_mounted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Under a mount point is another folder, an empty one. Rows go there, and the log says that it is another disk."""
    spans = tmp_path / "spans"
    with small_disk(spans, kilobytes=512) as disk:
        check_folder(spans)
        journal = Journal(spans)
        journal.put(record(span_id=1))
        assert ids(disk.path) == [1]
    assert journal.put(record(span_id=2)) is SUCCESS
    assert ids(spans) == [2]
    assert "is on another file system" in caplog.text
    assert len(caplog.records) == 1


def test_what_a_proxy_has_open_goes_along(tmp_path: Path) -> None:
    """The note of open requests is where the spans are, so that a kill is counted there. It is void in the old folder:
    another proxy that serves there counts none of these requests once more.
    """
    spans, away = tmp_path / "spans", tmp_path / "away"
    rig = TelemetryRig(spans)
    rig.telemetry.started(record(span_id=1))
    rig.put(record(span_id=2))
    rig.telemetry.flush(WAIT_S)
    spans.rename(away)
    spans.mkdir()
    rig.put(record(span_id=3))
    rig.telemetry.flush(WAIT_S)
    rig.telemetry.record(record(span_id=1))
    assert rig.telemetry.close(WAIT_S)
    assert rig.telemetry.lost == 0
    assert not [path for path in spans.iterdir() if path.name.startswith(PREFIX)]
    metrics = Metrics("0.1.0")
    another = Telemetry(away, metrics)
    assert another.close(WAIT_S)
    assert metrics.registry.get_sample_value("dyno_requests_total", {"outcome": "lost"}) is None
    assert ids(away) == [2]
    assert not [path for path in away.iterdir() if path.name.startswith(PREFIX)]
