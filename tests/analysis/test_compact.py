"""`dyno compact`: each row stays, exactly once, however the command ends and whatever files the folder has."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dyno_analysis.compaction import convert
from dyno_analysis.compaction.compaction import STALE_S
from dyno_analysis.compaction.retention import Keep, parse_keep
from dyno_analysis.compaction.retire import GRACE_S, REMOVED_S
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.file_names import SpanFile, parse
from rigs.compacted import compacted, rested
from rigs.stored_spans import STARTED_AT_US, line, span, streamed, write

# A conversion that kills itself by SIGKILL after a number of steps.
_KILLED = """
import os, signal, sys
from pathlib import Path
from dyno_analysis.compaction import convert
from dyno_analysis.spans import file_names
for number, _ in enumerate(convert.steps(Path(sys.argv[1]), file_names.parse(sys.argv[2])), start=1):
    if number == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def rows(folder: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    with span_folder.connect(folder) as connection:
        query = f"SELECT columns(*)::VARCHAR FROM (SELECT {columns} FROM spans) ORDER BY ALL"  # noqa: S608
        return connection.execute(query).fetchall()


def file_of(path: Path) -> SpanFile:
    found = parse(path.name)
    assert found is not None
    return found


def many() -> list[dict[str, Any]]:
    odd = span(model="öss 💡", attributes={"a": "b", "dyno.mirror": "original"}, finish_reasons=["stop", "length"])
    return [*(streamed([1_000, 2_000, 5_000]) for _ in range(20)), odd, span(endpoint="sophia", outcome="http_error")]


def test_every_column_survives(tmp_path: Path) -> None:
    """A journal and the Parquet file that it becomes give the same rows, in all columns of the view."""
    journal = write(tmp_path, many())
    before = rows(tmp_path)
    done = convert.convert(tmp_path, file_of(journal))
    assert (done.rows, done.torn, done.rejected) == (22, False, [])
    journal.unlink()
    assert rows(tmp_path) == before
    with duckdb.connect() as connection:
        described = connection.execute(f"DESCRIBE FROM '{done.path}'").fetchall()
        of_seed = connection.execute("DESCRIBE FROM 'proxy/dyno_proxy/seed.parquet'").fetchall()
    assert described == of_seed
    assert ("started_at", "TIMESTAMP WITH TIME ZONE") in [row[:2] for row in described]


def test_a_kill_between_any_two_steps(tmp_path: Path) -> None:
    """After a kill, and after the next run, each row is there once; at last nothing of the killed run is left."""
    steps = 0
    for number in range(1, 20):
        folder = tmp_path / str(number)
        journal = write(folder, many())
        before = rows(folder)
        command = [sys.executable, "-c", _KILLED, str(folder), journal.name, str(number)]
        code = subprocess.run(command, check=False).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert rows(folder) == before
        assert compacted(folder, after_s=STALE_S + 60) == []
        assert rows(folder) == before
        assert compacted(folder, after_s=REMOVED_S + STALE_S + 60) == []
        assert [path.suffix for path in folder.iterdir()] == [".parquet"]
        steps = number
    assert steps >= 4
    assert code == 0


def test_a_flipped_byte_costs_its_line(tmp_path: Path) -> None:
    """The checksum finds each bit of each byte; the line is set aside by its number, and the others stay."""
    whole = [line(span(span_id=f"{n:016x}", seq=n)) for n in range(1, 4)]
    content, start, size = b"".join(whole), len(whole[0]), len(whole[1])
    assert convert.whole_row(whole[1]) is not None
    for bit in range(8 * (size - 1)):
        changed = bytearray(whole[1])
        changed[bit // 8] ^= 1 << bit % 8
        assert convert.whole_row(bytes(changed)) is None
    flipped: dict[Path, bytes] = {}
    for at in range(0, size - 1, 13):
        changed = bytearray(content)
        changed[start + at] ^= 0x01
        if changed.count(b"\n") == 3:  # not one that cuts the line in two
            journal = tmp_path / f"w{at}-000000000001.jsonl"
            flipped[journal] = bytes(changed[start : start + size])
            journal.write_bytes(changed)
            rested(journal)
    assert len(flipped) > 20
    problems = compacted(tmp_path)
    assert len(problems) == len(flipped)
    assert all("1 broken lines (2)" in problem for problem in problems)
    for journal, broken in flipped.items():
        assert journal.with_suffix(".rejected").read_bytes() == broken
    assert rows(tmp_path, "span_id") == [(f"{n:016x}",) for n in (1, 3) for _ in flipped]


def test_a_journal_cut_at_every_byte(tmp_path: Path) -> None:
    """Its whole lines become Parquet, also a last one that lacks only its newline, which readers read too. A torn line
    isn't reported as a problem, since a kill leaves one."""
    lines = [line(span(span_id=f"{n:016x}", seq=n)) for n in (1, 2)]
    content = b"".join(lines)
    for cut in range(len(lines[0])):
        assert (convert.whole_row(lines[0][:cut]) is None) == (cut < len(lines[0]) - 1)
    near = range(len(lines[0]) - 3, len(lines[0]) + 3)
    cuts = {*range(0, len(content), 29), *near, *range(len(content) - 3, len(content) + 1)}
    for cut in cuts:
        journal = tmp_path / f"w{cut}-000000000001.jsonl"
        journal.write_bytes(content[:cut])
        rested(journal)
    before = rows(tmp_path, "span_id")
    assert compacted(tmp_path) == []
    assert rows(tmp_path, "span_id") == before
    for cut in cuts:
        whole = (cut >= len(lines[0]) - 1) + (cut >= len(content) - 1)
        made = [path.name for path in tmp_path.glob(f"*_w{cut}-*.parquet")]
        assert [name.partition(f"_w{cut}-")[2] for name in made] == (
            [f"{1:012d}-{whole:012d}.parquet"] if whole else []
        )


def test_when_a_journal_is_finished(tmp_path: Path) -> None:
    """A living writer's newest journal stays as long as it holds its lock. Older ones, and a dead writer's, are
    converted; so are, after an hour, another machine's, and one whose process number another process has."""
    host = os.uname().nodename.replace(".", "_").replace("-", "_")
    ours = f"{host}_{os.getpid()}_20261124T215900000000Z"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [f"{ours}-000000000001", f"{ours}-000000000002", f"{host}_{gone.pid}_20261124T215900000000Z-000000000001"]
    names += ["elsewhere_1_20261124T215900000000Z-000000000001", "import_00ff-000000000001"]
    for name in names:
        (tmp_path / f"{name}.jsonl").write_bytes(line(span(seq=int(name[-12:]))))

    def journals() -> set[str]:
        return {path.stem for path in span_folder.span_files(tmp_path) if path.suffix == ".jsonl"}

    with (tmp_path / f"{names[1]}.jsonl").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert compacted(tmp_path) == []
        assert journals() == {names[1], names[3]}
        assert compacted(tmp_path, after_s=STALE_S + 60) == []
        assert journals() == {names[1]}
    assert compacted(tmp_path) == []
    assert journals() == {names[1]}
    assert compacted(tmp_path, after_s=STALE_S + 60) == []
    assert journals() == set()
    assert len(rows(tmp_path)) == 5


def test_small_files_become_one_and_the_old_ones_go(tmp_path: Path) -> None:
    """Replaced files stay for their readers at first, are emptied later, and then removed; the rows never change."""
    for first in (1, 3, 5):
        path = tmp_path / f"import_00ff-{first:012d}.jsonl"
        path.write_bytes(b"".join(line(span(seq=n, started_at_us=STARTED_AT_US - n)) for n in (first, first + 1)))
    before = rows(tmp_path)
    assert compacted(tmp_path) == []
    (joined,) = span_folder.sources(tmp_path)
    assert (joined.counted.file.writer, joined.counted.file.first, joined.counted.file.last) == ("import_00ff", 1, 6)
    assert rows(tmp_path) == before
    for after_s, files, held in ((GRACE_S / 2, 7, True), (GRACE_S + 60, 7, False), (REMOVED_S + 60, 1, False)):
        assert compacted(tmp_path, after_s=after_s) == []
        assert len(list(tmp_path.iterdir())) == files
        assert (path.exists() and span(seq=6)["span_id"].encode()[:4] in path.read_bytes()) == held
        assert rows(tmp_path) == before


def test_nothing_goes_unless_asked(tmp_path: Path) -> None:
    """By age and by size, whole files, oldest first; `--dry-run` changes nothing at all."""
    day_us = 86_400_000_000
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    for writer, days in (("a", 40), ("b", 20), ("c", 0)):
        path = tmp_path / f"{writer}-000000000001.jsonl"
        path.write_bytes(line(span(seq=1, endpoint=writer, started_at_us=now_us - days * day_us)))
    compacted(tmp_path, after_s=STALE_S + 60)
    listed = sorted((path.name, path.stat().st_size) for path in tmp_path.iterdir())
    compacted(tmp_path, keep=parse_keep("1h"), dry=True)
    assert sorted((path.name, path.stat().st_size) for path in tmp_path.iterdir()) == listed
    compacted(tmp_path, keep=parse_keep("30d"))
    assert rows(tmp_path, "endpoint") == [("b",), ("c",)]
    compacted(tmp_path, keep=Keep(size_bytes=1))
    assert rows(tmp_path, "endpoint") == [("c",)]
    compacted(tmp_path, after_s=60 * REMOVED_S, keep=parse_keep("1d"))
    assert rows(tmp_path) == []
    compacted(tmp_path, after_s=62 * REMOVED_S)
    compacted(tmp_path, after_s=64 * REMOVED_S)
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_read_are_named_and_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A foreign file, a broken one and one of a later version get a line each; the rest is read and compacted."""
    write(tmp_path, [span(endpoint="good")])
    future = tmp_path / "f-000000000001.jsonl"
    future.write_bytes(line(span(v=3, endpoint="future")))
    (tmp_path / "strange.parquet").write_bytes(b"PAR1")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS a) TO '{tmp_path}/other-000000000001-000000000002.parquet'")
    (tmp_path / "broken-000000000001-000000000002.parquet").write_bytes(b"PAR1 and no more")
    for _ in range(2):
        assert rows(tmp_path, "endpoint") == [("good",)]
        said = capfd.readouterr().err.splitlines()
        assert len(said) == 4
        for word in ("f-0000", "strange.parquet", "other-0000", "broken-0000"):
            assert sum(word in text for text in said) == 1
        problems = compacted(tmp_path, after_s=STALE_S + 60)
        assert any("later Dyno" in problem for problem in problems)
        assert future.read_bytes() == line(json.loads(future.read_bytes()) | {"crc32": None}) or future.stat().st_size


def test_the_command(tmp_path: Path) -> None:
    """It says what it does; a missing folder and a wrong --keep are one line and exit code 2."""

    def run(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "dyno", "compact", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    (tmp_path / "import_00ff-000000000001.jsonl").write_bytes(line(span(seq=1)))
    assert run("--spans", str(tmp_path), "--dry-run")[:2] == (0, "import_00ff-000000000001.jsonl: becomes Parquet\n")
    assert run("--spans", str(tmp_path), "--background") == (0, "", "")
    assert [path.suffix for path in span_folder.span_files(tmp_path)] == [".parquet"]
    code, _, said = run("--spans", str(tmp_path / "missing"))
    assert (code, said.count("\n"), "missing" in said) == (2, 1, True)
    code, _, said = run("--spans", str(tmp_path), "--keep", "soon")
    assert (code, said.count("\n"), "--keep" in said) == (2, 1, True)


def test_queries_by_time_and_run_skip_files(tmp_path: Path) -> None:
    """DuckDB answers from a Parquet file's statistics that nothing in it can match, and reads no row."""
    journal = write(tmp_path, [span(run_id="r1") for _ in range(5)])
    convert.convert(tmp_path, file_of(journal))
    with span_folder.connect(tmp_path) as connection:
        for condition in ("started_at > '2030-01-01'", "run_id = 'x'", "endpoint = 'zzz'"):
            plan = connection.execute(f"EXPLAIN SELECT count(*) FROM spans WHERE {condition}").fetchall()[0][1]  # noqa: S608
            assert "Read Parquet" not in plan.title().replace("_", " "), plan
            assert connection.execute(f"SELECT count(*) FROM spans WHERE {condition}").fetchall() == [(0,)]  # noqa: S608
