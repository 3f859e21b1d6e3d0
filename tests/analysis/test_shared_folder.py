"""One spans folder, several containers: each has its own process numbers, and all may bear one host name."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dyno_analysis.compaction import convert
from dyno_analysis.compaction.convert import GrownError
from dyno_analysis.folder_lock import held
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.file_names import parse
from rigs.containers import container
from rigs.imports import SAMPLES
from rigs.stored_spans import line, span, write

# It writes as the proxy's writer does: a row every 5 ms, until it is killed.
_WRITER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from dyno_proxy.telemetry.journal import JournalExporter
from rigs.records import record
exporter = JournalExporter(Path(sys.argv[1]), written=lambda _: None, dropped=lambda *_: sys.exit(3))
while True:
    seq = exporter.next_seq()
    exporter.write(exporter.line(record(span_id=seq), seq), seq, 1)
    print(seq, flush=True)
    time.sleep(0.005)
"""
# A compaction without the lock on the folder, since that only holds among the compactions of one machine.
_COMPACTION = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from dyno_analysis.compaction.compaction import Compaction
compaction = Compaction(Path(sys.argv[1]), datetime.now(UTC), lambda _: None, lambda text: None, False)
compaction.convert()
compaction.merge()
compaction.clean()
"""
_TESTS = Path(__file__).parents[1]


@contextmanager
def writer(folder: Path, *, least: int) -> Iterator["subprocess.Popen[str]"]:
    """In a container, once it has written so many rows; killed with the block's end."""
    command = container(sys.executable, "-c", _WRITER, str(folder), str(_TESTS), before=20)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            _written(process, least)
            yield process
        finally:
            process.kill()


def _written(process: "subprocess.Popen[str]", least: int) -> int:
    assert process.stdout is not None
    while (seq := int(process.stdout.readline())) < least:
        pass
    return seq


def compact(folder: Path) -> None:
    """`dyno compact` in another container."""
    command = container(sys.executable, "-m", "dyno", "compact", "--spans", str(folder))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def journals(folder: Path) -> list[Path]:
    return [path for path in span_folder.span_files(folder) if path.suffix == ".jsonl"]


def numbers(folder: Path) -> list[int]:
    with span_folder.connect(folder) as connection:
        found = connection.execute("SELECT ('0x' || span_id)::BIGINT FROM spans ORDER BY ALL").fetchall()
    return [number for (number,) in found]


def test_a_container_leaves_anothers_journal_alone(tmp_path: Path) -> None:
    """Where `dyno compact` runs, no process has the writer's number, but its lock shows that it lives. Once it is
    killed, its journal becomes Parquet, and no row is missing."""
    with writer(tmp_path, least=50) as process:
        (journal,) = journals(tmp_path)
        for _ in range(3):
            compact(tmp_path)
            written = _written(process, 0)
            assert journals(tmp_path) == [journal]
            assert len(numbers(tmp_path)) >= written
        assert journal.stat().st_mode & 0o200
    written = len(numbers(tmp_path))
    compact(tmp_path)
    assert journals(tmp_path) == []
    assert numbers(tmp_path) == list(range(1, written + 1))


@pytest.mark.parametrize("late_after", [1, 2, 3])
def test_seal_against_append(tmp_path: Path, late_after: int) -> None:
    """A batch that lands after the seal: read if it comes before the reading, else the journal stays as it is."""
    journal = write(tmp_path, [span(seq=1)])
    file = parse(journal.name)
    assert file is not None
    with journal.open("ab", buffering=0) as writing:  # opened before it is sealed
        steps = convert.steps(tmp_path, file)
        for _ in range(late_after):
            next(steps)
        writing.write(line(span(seq=2)))
        if late_after == 1:
            *_, done = steps
            assert done.rows == 2
        else:
            with pytest.raises(GrownError, match="still being written to"):
                list(steps)
            assert [path.name for path in tmp_path.iterdir()] == [journal.name]
    assert convert.convert(tmp_path, file).rows == 2


def test_many_compactions_at_once(tmp_path: Path) -> None:
    """Six compactions that don't see one another's lock convert forty journals: each row is there once, always."""
    for number in range(1, 41):
        path = tmp_path / f"import_00ff-{2 * number - 1:012d}.jsonl"
        path.write_bytes(b"".join(line(span(span_id=f"{n:016x}", seq=n)) for n in (2 * number - 1, 2 * number)))
    wanted = list(range(1, 81))
    running = [subprocess.Popen([sys.executable, "-c", _COMPACTION, str(tmp_path)]) for _ in range(6)]
    looks = 0
    while any(each.poll() is None for each in running):
        assert numbers(tmp_path) == wanted
        looks += 1
    assert [each.returncode for each in running] == [0] * 6
    assert looks > 5
    assert numbers(tmp_path) == wanted
    assert [path.suffix for path in span_folder.span_files(tmp_path)] == [".parquet"]


def test_a_clock_that_jumps_between_runs(tmp_path: Path) -> None:
    """A journal from the future, and one from long ago, of a writer that is gone: converted, rows in their own time."""
    year_us = 365 * 86_400_000_000
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    for number, started_at_us in enumerate((now_us - year_us, now_us + year_us), start=1):
        path = tmp_path / f"import_{number:04x}-000000000001.jsonl"
        path.write_bytes(line(span(span_id=f"{number:016x}", seq=1, started_at_us=started_at_us)))
        os.utime(path, (started_at_us / 1e6, started_at_us / 1e6))
    command = [sys.executable, "-m", "dyno", "compact", "--spans", str(tmp_path), "--keep", "30d"]
    subprocess.run(command, check=True, capture_output=True)
    assert numbers(tmp_path) == [2]


def test_an_import_says_that_it_waits(tmp_path: Path) -> None:
    """While another compaction or import works in the folder, an import waits, and says so once."""
    with held(tmp_path, wait=False) as hold:
        assert hold is not None
        file = str(SAMPLES / "guidellm_0.8.1.json")
        command = [sys.executable, "-m", "dyno", "import", file, "--spans", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = process.stderr.readline()
    rest = process.communicate(timeout=60)[1]
    assert said == f"dyno import: waits for another 'dyno compact' or 'dyno import' that works in '{tmp_path}'\n"
    assert (rest, process.returncode) == ("", 0)
