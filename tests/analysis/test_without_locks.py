"""Folders on file systems without locks: one compaction or import at a time, by names, and each row once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dyno_analysis import folder_lock
from dyno_analysis.compaction import convert
from dyno_analysis.compaction.convert import ReplacedError
from dyno_analysis.compaction.parquet import empty_replaced
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.file_names import parse
from rigs import dyno_command
from rigs.containers import container
from rigs.imports import SAMPLES
from rigs.preloaded import NO_LOCKS, without_locks
from rigs.stored_spans import line, span, write

_TESTS = Path(__file__).parents[1]
_HOLDER = """
import sys, time
from pathlib import Path
from dyno_analysis.folder_lock import held
with held(Path(sys.argv[1]), wait=sys.argv[2] == "wait") as hold:
    print("none" if hold is None else "held", flush=True)
    sys.stdin.read()
"""
# It writes as the proxy's writer does, until its standard input ends; many small journals, each of which is finished.
_WRITER = """
import sys, select
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from dyno_proxy.telemetry.journal import JournalExporter
from rigs.records import record
base = int(sys.argv[3])
exporter = JournalExporter(
    Path(sys.argv[1]), written=lambda _: None, dropped=lambda *_: sys.exit(3), journal_bytes=50_000
)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    seq = exporter.next_seq()
    if not exporter.write(exporter.line(record(span_id=base + seq), seq), seq, 1):
        sys.exit(4)
    print(seq, flush=True)
exporter.shutdown()
"""


@contextmanager
def holder(folder: Path, how: str, wait: str = "") -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the folder, or was told that another does; it ends with the block."""
    command = [sys.executable, "-c", _HOLDER, str(folder), wait]
    environment = {**os.environ, **(without_locks(how) if how else {})}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.communicate()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: "subprocess.Popen[str]") -> None:
    process.communicate("")
    assert process.returncode == 0


def dyno(*arguments: str | Path, how: str) -> "subprocess.CompletedProcess[str]":
    return dyno_command.dyno(*arguments, environment=without_locks(how))


def numbers(folder: Path) -> list[int]:
    with span_folder.connect(folder) as connection:
        found = connection.execute("SELECT ('0x' || span_id)::BIGINT FROM spans ORDER BY ALL").fetchall()
    return [number for (number,) in found]


def counted(folder: Path) -> tuple[int, int]:
    """The rows, and the different ones among them."""
    with span_folder.connect(folder) as connection:
        ((rows, different),) = connection.execute("SELECT count(*), count(DISTINCT span_id) FROM spans").fetchall()
    return rows, different


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("how", ["", *NO_LOCKS])
def test_one_at_a_time(tmp_path: Path, how: str) -> None:
    """Who comes second is told so, or waits for the first one's end. A killed holder is in nobody's way."""
    with holder(tmp_path, how) as first:
        assert said(first) == "held"
        with holder(tmp_path, how) as second:
            assert said(second) == "none"
        with holder(tmp_path, how, "wait") as waiting:
            ended(first)
            assert said(waiting) == "held"
            waiting.send_signal(signal.SIGKILL)
            waiting.wait()
    assert len(hidden(tmp_path)) == 1
    with holder(tmp_path, how) as next_one:
        assert said(next_one) == "held"
    assert hidden(tmp_path) == []


def test_a_claim_of_another_machine(tmp_path: Path) -> None:
    """It is left alone until it wasn't touched for ten minutes; then it is taken over, by one of many alone."""
    claim = tmp_path / folder_lock.CLAIM
    claim.write_text(json.dumps({"token": "theirs", "machine": "elsewhere", "pid": 1, "began": "1"}))
    with holder(tmp_path, "ENOSYS") as process:
        assert said(process) == "none"
    then_s = time.time() - folder_lock.STALE_S - 60
    os.utime(claim, (then_s, then_s))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(tmp_path), ""],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **without_locks("ENOSYS")},
        )
        for _ in range(6)
    ]
    assert sorted(map(said, processes)).count("held") <= 1
    for process in processes:
        ended(process)
    with holder(tmp_path, "ENOSYS") as process:
        assert said(process) == "held"
    assert hidden(tmp_path) == []


def test_a_process_with_the_number_of_a_dead_one(tmp_path: Path) -> None:
    """A claim names when its process began. Another process with that number doesn't keep the claim alive."""
    claim = tmp_path / folder_lock.CLAIM
    began = folder_lock._began(os.getpid())
    assert began is not None
    for other, wanted in ((began, "none"), ("1", "held")):
        words = {"token": "t", "machine": folder_lock._where(), "pid": os.getpid(), "began": other}
        claim.write_text(json.dumps(words))
        with holder(tmp_path, "ENOLCK") as process:
            assert said(process) == wanted


@pytest.mark.parametrize("how", NO_LOCKS)
def test_compact_and_import(tmp_path: Path, how: str) -> None:
    """Both work, whatever flock says; an import that is repeated adds nothing, and nothing hidden is left."""
    write(tmp_path, [span(span_id=f"{n:016x}", seq=n) for n in (1, 2)]).rename(
        tmp_path / "import_00ff-000000000001.jsonl"
    )
    done = dyno("compact", "--spans", tmp_path, how=how)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.suffix for path in span_folder.span_files(tmp_path)] == [".parquet"]
    for _ in range(2):
        done = dyno("import", SAMPLES / "vllm_0.29_llm_request.json", "--spans", tmp_path, how=how)
        assert (done.returncode, done.stderr) == (0, "")
    assert counted(tmp_path) == (3, 3)
    assert hidden(tmp_path) == []


def test_imports_at_once(tmp_path: Path) -> None:
    """Six imports of the same file at once: each row is there once."""
    command = [sys.executable, "-m", "dyno", "import", str(SAMPLES / "guidellm_0.8.1.json"), "--spans", str(tmp_path)]
    running = [subprocess.Popen(command, env={**os.environ, **without_locks("ENOLCK")}) for _ in range(6)]
    assert [each.wait() for each in running] == [0] * 6
    rows, different = counted(tmp_path)
    assert rows == different > 0
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("how", ["ENOSYS", "nfs"])
def test_two_proxies_and_two_compactions(tmp_path: Path, how: str) -> None:
    """Two writers and, again and again, two compactions at once: each row that was written is there once, always."""
    environment = {**os.environ, **without_locks(how)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(_TESTS), str(base)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for base in (0, 1_000_000)
    ]
    for each in writers:
        said(each)
    for _ in range(3):
        compactions = [
            subprocess.Popen(
                [sys.executable, "-m", "dyno", "compact", "--spans", str(tmp_path)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for _ in range(2)
        ]
        while any(each.poll() is None for each in compactions):
            found = numbers(tmp_path)
            assert len(found) == len(set(found))
            time.sleep(0.5)  # the compactions need the processor too
        assert [(each.returncode, each.communicate()[1]) for each in compactions] == [(0, "")] * 2
    wanted: list[int] = []
    for base, each in zip((0, 1_000_000), writers, strict=True):
        out, _ = each.communicate("\n")
        assert each.returncode == 0
        wanted += [base + number for number in range(1, int(out.split()[-1]) + 1)]
    assert numbers(tmp_path) == wanted
    assert dyno("compact", "--spans", tmp_path, how=how).returncode == 0
    assert numbers(tmp_path) == wanted
    assert {path.suffix for path in span_folder.span_files(tmp_path)} == {".parquet"}


@pytest.mark.parametrize("how", ["", "ENOSYS"])
def test_a_container_with_our_hosts_name(tmp_path: Path, how: str) -> None:
    """A writer whose process seems to be gone lives in another container with the same host name.

    Its lock tells; without locks, it sees the seal, and each of its rows is there once.
    """
    environment = {**os.environ, **(without_locks(how) if how else {})}
    command = container(sys.executable, "-c", _WRITER, str(tmp_path), str(_TESTS), "0", before=20)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        said(process)
        compact = container(sys.executable, "-m", "dyno", "compact", "--spans", str(tmp_path))
        for _ in range(2):
            done = subprocess.run(compact, env=environment, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
        out, _ = process.communicate("\n")
        assert process.returncode == 0
    assert numbers(tmp_path) == list(range(1, int(out.split()[-1]) + 1))


def test_a_merge_that_rested(tmp_path: Path) -> None:
    """A compaction that has listed files long ago doesn't join them once another one has: they may be empty by now."""
    for first in (1, 3):
        journal = tmp_path / f"import_00ff-{first:012d}.jsonl"
        journal.write_bytes(b"".join(line(span(span_id=f"{n:016x}", seq=n)) for n in (first, first + 1)))
        file = parse(journal.name)
        assert file is not None
        convert.convert(tmp_path, file)
        journal.unlink()
    listed = span_folder.sources(tmp_path)
    assert len(listed) == 2
    convert.merge(tmp_path, listed)
    for source in listed:
        empty_replaced(source.path)  # as ten minutes later
    with pytest.raises(ReplacedError):
        convert.merge(tmp_path, listed)
    assert numbers(tmp_path) == [1, 2, 3, 4]
    assert hidden(tmp_path) == []


def test_a_conversion_that_rested(tmp_path: Path) -> None:
    """The same for a journal, which the other compaction has emptied meanwhile."""
    journal = tmp_path / "import_00ff-000000000001.jsonl"
    journal.write_bytes(b"".join(line(span(span_id=f"{n:016x}", seq=n)) for n in (1, 2)))
    file = parse(journal.name)
    assert file is not None
    rested = convert.steps(tmp_path, file)
    for _ in range(2):
        next(rested)
    assert dyno("compact", "--spans", tmp_path, how="ENOSYS").returncode == 0
    journal.chmod(0o600)
    os.truncate(journal, 0)  # as ten minutes later
    with pytest.raises(ReplacedError):
        list(rested)
    assert numbers(tmp_path) == [1, 2]
    assert hidden(tmp_path) == []


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    """A compaction whose folder is removed, or was never one, ends with one line."""
    for place, code in ((tmp_path / "none", 2), (write(tmp_path / "there", [span()]), 2)):
        done = subprocess.run(
            [sys.executable, "-m", "dyno", "compact", "--spans", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr.count("\n")) == (code, 1)
        assert "Traceback" not in done.stderr
