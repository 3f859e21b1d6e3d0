"""compaction.py: when `dyno compact` is started, by whom, and that nothing ends it."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from dyno_proxy.config.schema import SpansConfig
from dyno_proxy.telemetry.compaction import Conversion, Intervals, Waiting, is_due, is_worth_a_start, waiting
from dyno_proxy.telemetry.journal import check_folder
from rigs.dyno_command import dyno
from rigs.fake_upstream import fake_upstream
from rigs.journal_exporter import Journal
from rigs.proxy_process import proxy_process
from rigs.records import record
from rigs.slow_file import unanswered, waits_for_a_file
from rigs.until import AT_ONCE_S, until, until_in_thread

AT_ONCE = Intervals(first_s=0.01, look_s=0.05, daily_s=3600.0)
HOUR_S = 3600.0


def journals(folder: Path, count: int, age_s: float = 0.0) -> None:
    """What a quiet site leaves: journals of one row each, by a writer that has ended."""
    check_folder(folder)
    exporter = Journal(folder, journal_bytes=1).exporter
    for _ in range(count):
        seq = exporter.next_seq()
        line = exporter.line(record(span_id=seq), seq)
        assert line is not None
        exporter.write(line, seq, 1)
    exporter.shutdown()
    for path in folder.glob("*Z-*.jsonl"):
        os.utime(path, (time.time() - age_s, time.time() - age_s))


@pytest.mark.parametrize(
    ("found", "due", "worth"),
    [
        ([], False, False),
        ([Waiting("a-1", 900, 60.0, followed=False)], False, False),
        ([Waiting("a-1", 900, HOUR_S + 1, followed=False)], True, False),
        ([Waiting("a-1", 900, -HOUR_S, followed=True)] * 7, False, False),
        ([Waiting("a-1", 900, -HOUR_S, followed=True)] * 8, True, False),
        ([Waiting("a-1", 900, 60.0, followed=False)] * 31, False, False),
        ([Waiting("a-1", 900, 60.0, followed=False)] * 32, False, True),
        ([Waiting("a-1", 1_000_000, 60.0, followed=False)], False, True),
    ],
)
def test_when_it_is_worth_it(found: list[Waiting], *, due: bool, worth: bool) -> None:
    """By age as well as by number and size; a server's clock that is ahead delays only what is few."""
    assert (is_due(found), is_worth_a_start(found)) == (due, worth)


def test_what_waits(tmp_path: Path) -> None:
    """Journals that no compaction has sealed: not the seeds, not empty ones, not others' files."""
    check_folder(tmp_path)
    first, last = "h_1_20260101T000000000000Z", "h_2_20260101T000000000000Z"
    for name, content in {
        f"{first}-000000000001.jsonl": "rows",
        f"{first}-000000000005.jsonl": "",
        f"{first}-000000000009.jsonl": "rows",
        f"{first}-000000000012.jsonl": "rows",
        f"{last}-000000000001.jsonl": "rows",
        "notes.jsonl": "rows",
    }.items():
        (tmp_path / name).write_text(content)
    (tmp_path / f"{first}-000000000001.jsonl").chmod(0o400)
    found = waiting(tmp_path, time.time() + 100)
    assert [(each.name, each.size_bytes, each.followed) for each in found] == [
        (f"{first}-000000000009.jsonl", 4, True),
        (f"{first}-000000000012.jsonl", 4, False),
        (f"{last}-000000000001.jsonl", 4, False),
    ]
    assert all(90 < each.age_s < 110 + AT_ONCE_S for each in found)


def test_a_quiet_sites_journals_become_parquet(tmp_path: Path) -> None:
    """Journals that are never full are converted all the same."""
    journals(tmp_path, 10, age_s=60.0)
    conversion = Conversion(tmp_path, SpansConfig(), AT_ONCE)
    conversion.begin()
    until_in_thread(lambda: not unconverted(tmp_path), "all finished journals to be Parquet")
    conversion.end()
    assert len(list(tmp_path.glob("*Z-*.parquet"))) > 0


def test_a_journal_that_waited_for_an_hour(tmp_path: Path) -> None:
    """One alone is enough after an hour; before, no process is started for it."""
    journals(tmp_path, 1)
    conversion = Conversion(tmp_path, SpansConfig(), AT_ONCE)
    conversion.begin()
    time.sleep(0.5)
    assert waiting(tmp_path, time.time())
    for path in tmp_path.glob("*Z-*.jsonl"):
        os.utime(path, (time.time() - 2 * HOUR_S, time.time() - 2 * HOUR_S))
    until_in_thread(lambda: not waiting(tmp_path, time.time()), "it to be Parquet")
    conversion.end()


@pytest.mark.parametrize("when", ["at the start", "daily", "when it is configured"])
def test_old_spans_go_although_nothing_is_converted(tmp_path: Path, when: str) -> None:
    """With `keep`, `dyno compact` runs at the start and daily, whether or not journals wait: a promise is kept also
    where no request comes. A new limit holds at once.
    """
    journals(tmp_path, 1, age_s=2 * HOUR_S)
    assert dyno("compact", "--spans", tmp_path).returncode == 0
    (stored,) = tmp_path.glob("*Z-*.parquet")
    before = stored.stat().st_ino
    keep = SpansConfig(keep="1h")
    if when == "daily":
        conversion = Conversion(tmp_path, SpansConfig(), AT_ONCE._replace(daily_s=0.1))
        conversion.begin()
        time.sleep(0.2)  # the start's run has nothing to delete
        conversion.replace(keep)
    elif when == "at the start":
        conversion = Conversion(tmp_path, keep, AT_ONCE)
        conversion.begin()
    else:
        conversion = Conversion(tmp_path, SpansConfig(), Intervals())
        conversion.replace(keep)
    until_in_thread(lambda: not stored.exists() or stored.stat().st_ino != before, "the old span to go")
    conversion.end()


def test_without_keep_and_journals_nothing_is_started(tmp_path: Path) -> None:
    """A small site's proxy starts no process beside its first requests. With `compact = false` it never starts one."""
    journals(tmp_path, 3)
    first = Conversion(tmp_path, SpansConfig(), AT_ONCE)
    second = Conversion(tmp_path, SpansConfig(compact=False, keep="1h"), AT_ONCE)
    for each in (first, second):
        each.begin()
    time.sleep(0.5)
    assert not compactions(tmp_path)
    for each in (first, second):
        each.end()
    assert len(waiting(tmp_path, time.time())) == 3


def test_a_compaction_that_takes_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says it, and it goes on: nothing ends it, however long it takes."""
    journals(tmp_path, 10, age_s=60.0)
    conversion = Conversion(tmp_path, SpansConfig(), AT_ONCE._replace(slow_s=0.2))
    with unanswered(tmp_path / "h_1_20260101T000000000000Z-000000000001.jsonl"):
        conversion.begin()
        until_in_thread(lambda: "has taken more than 0.2 s" in caplog.text, "the log to say it")
        conversion.end()
        assert len(compactions(tmp_path)) == 1
    until_in_thread(lambda: not unconverted(tmp_path), "the rest to be converted")
    until_in_thread(lambda: not compactions(tmp_path), "its end")


async def test_the_proxys_end_leaves_a_compaction_alone(tmp_path: Path) -> None:
    """The proxy ends at once and in order, while `dyno compact` works on, and what it finds is converted."""
    spans = tmp_path / "spans"
    journals(spans, 40, age_s=60.0)
    with unanswered(spans / "h_1_20260101T000000000000Z-000000000001.jsonl"):
        async with (
            fake_upstream([]) as upstream,
            proxy_process(tmp_path, {"e": upstream.url}) as proxy,
        ):
            await until(lambda: any(map(waits_for_a_file, compactions(spans))), "a compaction that waits")
            began_s = time.monotonic()
            proxy.signal(signal.SIGTERM)
            assert await proxy.exit_code() == 0
            assert time.monotonic() - began_s < AT_ONCE_S
        assert len(compactions(spans)) == 1
    await until(lambda: not unconverted(spans), "the journals to be converted")
    await until(lambda: not compactions(spans), "its end")


def unconverted(folder: Path) -> list[Waiting]:
    """The finished journals that wait; a writer's last one may not be finished."""
    return [each for each in waiting(folder, time.time()) if each.followed]


def compactions(folder: Path) -> list[int]:
    """The process numbers of the compactions that work in this folder."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = line.read_bytes().split(b"\0")
            if b"compact" in words and os.fsencode(folder) in words:
                found.append(int(line.parent.name))
    return found
