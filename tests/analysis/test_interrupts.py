"""interrupts.py, temporary.py: Ctrl-C and SIGTERM end a command at once, with one line, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rigs.dyno_command import dyno
from rigs.imports import SAMPLES
from rigs.slow_file import unanswered, waits_for_a_file
from rigs.stored_spans import span, write
from rigs.terminal import CTRL_C, CTRL_D, in_a_terminal
from rigs.until import LIMIT_S, until_in_thread

_JOIN = "SELECT count(*) FROM range(400000) a, range(400000) b WHERE (a.range * b.range) % 7 = 3"
_RECURSION = (
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 100000000) SELECT count(*) FROM t"
)
_ROWS = "SELECT * FROM range(1000000000)"
_SORT = "SELECT hash(range) AS h FROM range(200000000) ORDER BY h"
_NESTED = "SELECT count(*) FROM range(3000000) a WHERE EXISTS (FROM range(3000) b WHERE b.range * a.range = 7)"
_AGGREGATE = "SELECT range % 50000000 AS k, list(range) FROM range(300000000) GROUP BY ALL"
_SAYS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
# A person who presses Ctrl-C waits for 0.2 s; a busy machine gets longer.
_SOON_S = 5.0
_ANOTHER = "h_1_20260101T000000000000Z-000000000001.jsonl"


class Command:
    """One command in a folder of its own, with a folder for temporary files of its own."""

    def __init__(self, folder: Path, *words: str | Path, stdout: int = subprocess.DEVNULL) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.words = list(map(str, words))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dyno", *self.words],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def works(self) -> bool:
        """It has its temporary folder, so it listens to signals, and DuckDB is at work or about to be."""
        assert self.process.poll() is None, self.process.communicate()
        return any(path.name.startswith("dyno-") for path in self.temporary.iterdir())

    def ends_by(self, number: signal.Signals) -> None:
        """Send the signal: it ends soon, with its one line and its exit code, and leaves no temporary folder."""
        began_s = time.monotonic()
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=LIMIT_S)
        assert time.monotonic() - began_s < _SOON_S
        assert said == f"dyno {self.words[0]}: stopped by {_SAYS[number]}\n"
        assert self.process.returncode == 128 + number
        assert list(self.temporary.iterdir()) == []


def spans(folder: Path) -> None:
    write(folder / "spans", [span(span_id=f"{n:016x}") for n in range(1, 9)])


@pytest.mark.parametrize("number", _SAYS)
@pytest.mark.parametrize(
    ("statement", "form"), [(_JOIN, "table"), (_RECURSION, "csv"), (_ROWS, "json"), (_SORT, "parquet")]
)
def test_a_statement(tmp_path: Path, statement: str, form: str, number: signal.Signals) -> None:
    """Whatever DuckDB computes, a signal ends it, and a file that is half written doesn't appear."""
    spans(tmp_path)
    command = Command(tmp_path, "sql", statement, "--format", form, "--output", "rows")
    until_in_thread(command.works, "the statement")
    time.sleep(0.5)
    command.ends_by(number)
    assert {path.name for path in tmp_path.iterdir()} == {"spans", "tmp"}


@pytest.mark.parametrize("statement", [_JOIN, _RECURSION, _ROWS, _SORT, _NESTED, _AGGREGATE])
def test_ctrl_c_in_a_terminal(tmp_path: Path, statement: str) -> None:
    """A real terminal's Ctrl-C, whatever DuckDB computes, and while rows are fetched and printed."""
    spans(tmp_path)
    with in_a_terminal(tmp_path, "sql", statement, "--format", "csv") as terminal:
        until_in_thread(lambda: list((tmp_path / "tmp").iterdir()), "the statement")
        time.sleep(0.5)
        terminal.reads()
        terminal.types(CTRL_C)
        code, took_s = terminal.ends()
        assert (code, took_s < _SOON_S) == (130, True)
        assert b"dyno sql: stopped by Ctrl-C" in terminal.seen
    assert list((tmp_path / "tmp").iterdir()) == []


def test_ctrl_c_at_the_prompt(tmp_path: Path) -> None:
    """It ends a statement, or what is typed so far, and the prompt goes on. The prompt's end leaves nothing."""
    spans(tmp_path)
    with in_a_terminal(tmp_path, "sql") as terminal:
        terminal.shows(b" D ")
        terminal.types(b"SELECT 40 + count(*) // 4 AS n FROM spans;\r")
        terminal.shows(b"42")
        for slow in (_JOIN, _RECURSION, _SORT):
            terminal.types(slow.encode() + b";\r")
            time.sleep(1.0)
            terminal.types(CTRL_C)
            terminal.shows(b" D ")
            terminal.types(b"SELECT 70 + count(*) AS m\rFROM spans;\r")
            terminal.shows(b"78")
        terminal.types(b"SELECT 'never\r")
        terminal.shows(b"... ")
        terminal.types(CTRL_C)
        terminal.shows(b" D ")
        terminal.types(b"SELECT 80 + count(*) AS k FROM spans;\r")
        terminal.shows(b"88")
        terminal.types(CTRL_D)
        assert terminal.ends()[0] == 0
        assert b"Traceback" not in terminal.seen
    assert list((tmp_path / "tmp").iterdir()) == []


def test_ctrl_c_in_duckdbs_own_shell(tmp_path: Path) -> None:
    """With --unsafe-shell it is the shell's: a statement ends, and the shell goes on. Its end leaves nothing."""
    spans(tmp_path)
    with in_a_terminal(tmp_path, "sql", "--unsafe-shell") as terminal:
        terminal.shows(b" D ")
        terminal.types(b"SELECT 40 + count(*) // 4 AS n FROM spans;\r")
        terminal.shows(b"42")
        terminal.types(_JOIN.encode() + b";\r")
        time.sleep(1.0)
        terminal.types(CTRL_C)
        time.sleep(0.2)
        terminal.types(b"SELECT 70 + count(*) AS m FROM spans;\r")
        terminal.shows(b"78")
        terminal.types(b".exit\r")
        terminal.ends()
        assert b"KeyboardInterrupt" not in terminal.seen
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_time_that_is_over(tmp_path: Path) -> None:
    """--timeout ends a command with one line and the exit code of timeout(1); at the prompt, it ends the statement."""
    spans(tmp_path)
    done = dyno("sql", _JOIN, "--timeout", "0.5", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (124, "", "dyno sql: stopped after 0.5 s (--timeout)\n")
    assert "42" in dyno("sql", "SELECT 42", "--timeout", "60", cwd=tmp_path).stdout
    with in_a_terminal(tmp_path, "sql", "--timeout", "0.5") as terminal:
        terminal.shows(b" D ")
        terminal.types(_JOIN.encode() + b";\r")
        terminal.shows(b"stopped after 0.5 s (--timeout)")
        terminal.types(b"SELECT 40 + count(*) // 4 AS n FROM spans;\r")
        terminal.shows(b"42")


def test_a_reader_that_reads_no_more(tmp_path: Path) -> None:
    """`dyno sql … | less`: the pipe is full, and Ctrl-C ends it all the same."""
    spans(tmp_path)
    command = Command(tmp_path, "sql", _ROWS, "--format", "csv", stdout=subprocess.PIPE)
    until_in_thread(command.works, "the statement")
    time.sleep(1.0)
    began_s = time.monotonic()
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(LIMIT_S) == 130
    assert time.monotonic() - began_s < _SOON_S
    command.process.communicate()


@pytest.mark.parametrize("number", _SAYS)
@pytest.mark.parametrize("words", [("report",), ("trace", "0af7"), ("sql", "FROM spans"), ("sql", "FROM pairs")])
def test_a_file_server_that_does_not_answer(tmp_path: Path, words: tuple[str, ...], number: signal.Signals) -> None:
    """A read that doesn't come back keeps nobody."""
    spans(tmp_path)
    with unanswered(tmp_path / "spans" / _ANOTHER):
        command = Command(tmp_path, *words)
        until_in_thread(lambda: waits_for_a_file(command.process.pid), "it to read")
        command.ends_by(number)


@pytest.mark.parametrize("number", _SAYS)
def test_a_compaction(tmp_path: Path, number: signal.Signals) -> None:
    """It leaves nothing half done: no temporary file, no lock; the next one goes on where it was."""
    spans(tmp_path)
    folder = tmp_path / "spans"
    with unanswered(folder / _ANOTHER):
        command = Command(tmp_path, "compact")
        until_in_thread(lambda: waits_for_a_file(command.process.pid), "it to read")
        command.ends_by(number)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    assert dyno("compact", cwd=tmp_path).returncode == 0
    assert "8" in dyno("sql", "SELECT count(*) FROM spans", "--format", "csv", cwd=tmp_path).stdout


@pytest.mark.parametrize("number", _SAYS)
def test_an_import(tmp_path: Path, number: signal.Signals) -> None:
    """It is all or nothing: an import that a signal ends has added no row, and importing again adds each once."""
    spans(tmp_path)
    folder = tmp_path / "spans"
    file = SAMPLES / "guidellm_0.8.1.json"
    with unanswered(folder / _ANOTHER):  # it looks which rows are known, and doesn't come back
        command = Command(tmp_path, "import", file)
        until_in_thread(lambda: list(folder.glob(".import-*/*.jsonl")), "rows that are staged")
        until_in_thread(lambda: waits_for_a_file(command.process.pid), "it to read")
        command.ends_by(number)
    assert [path.name for path in folder.iterdir() if path.name.startswith((".", "import"))] in ([], [".dyno.lock"])
    count = "SELECT count(*) AS n, count(DISTINCT span_id) = count(*) AS once FROM spans"
    assert dyno("sql", count, "--format", "csv", cwd=tmp_path).stdout == "n,once\n8,true\n"
    assert dyno("import", file, cwd=tmp_path).returncode == 0
    after = dyno("sql", count, "--format", "csv", cwd=tmp_path).stdout
    assert after.endswith(",true\n")
    assert after != "n,once\n8,true\n"


def ended(program: str, folder: Path) -> tuple[int, str, str]:
    """How a Python program ends: its exit code, and what it printed on both channels."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, check=False)
    return done.returncode, done.stdout, done.stderr


def test_rows_are_let_in_whole(tmp_path: Path) -> None:
    """A signal while an import's journals are moved in waits until all are in."""
    program = (
        "import os, signal, sys\n"
        "from dyno_analysis import interrupts\n"
        "with interrupts.ending('dyno import'):\n"
        "    with interrupts.undisturbed():\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        for _ in range(10**6): pass\n"
        "        print('whole', flush=True)\n"
        "    print('later', flush=True)\n"
    )
    assert ended(program, tmp_path) == (143, "whole\n", "dyno import: stopped by SIGTERM\n")


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """Under nohup a hang-up doesn't end a command."""
    program = (
        "import os, signal, sys, dyno\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from dyno_analysis import interrupts\n"
        "with interrupts.ending('dyno sql'):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('on', flush=True)\n"
    )
    assert ended(program, tmp_path) == (0, "on\n", "")


def kill_sql(folder: Path) -> None:
    command = Command(folder, "sql", _SORT, "--format", "parquet", "--output", "rows")
    until_in_thread(lambda: len(list(command.temporary.iterdir())) >= 2, "both temporary folders")
    command.process.kill()
    command.process.communicate()
    assert len(list(command.temporary.iterdir())) >= 2


def kill_compact(folder: Path) -> None:
    (folder / "spans" / ".h_1_20260101T000000000000Z-000000000001.jsonl.7_0011aabb.checked").touch()
    (folder / "spans" / ".h_1_20260101T000000000000Z-000000000001-000000000003.parquet.7_0011aabb.tmp").touch()
    (folder / "spans" / ".h_1_20260101T000000000000Z-000000000001-000000000003.parquet.7_0011aabb.spill").mkdir()
    (folder / "spans" / ".import-abcd1234").mkdir()
    (folder / "spans" / "runs" / ".20260101_000000_ab12.x1y2z3_4").mkdir(parents=True)


@pytest.mark.parametrize("kill", [kill_sql, kill_compact])
def test_what_a_kill_left_is_removed(tmp_path: Path, kill: Callable[[Path], None]) -> None:
    """By the next command that needs temporary files, and in the spans folder by the next `dyno compact`; what living
    processes need stays, and so does what isn't ours.
    """
    spans(tmp_path)
    kill(tmp_path)
    (tmp_path / "tmp").mkdir(exist_ok=True)
    others = [tmp_path / "spans" / ".open-h_1_20260101T000000000000Z", tmp_path / "spans" / ".notes.tmp"]
    for path in others:
        path.touch()
    before = set((tmp_path / "tmp").iterdir())
    living = Command(tmp_path, "sql", _JOIN)
    until_in_thread(lambda: set((tmp_path / "tmp").glob("dyno-*")) - before, "another command's folder")
    found = set((tmp_path / "tmp").iterdir())
    assert len(found) == 1
    assert not found & before
    assert dyno("compact", cwd=tmp_path).returncode == 0
    environment = {"TMPDIR": str(tmp_path / "tmp")}
    assert dyno("sql", "FROM spans LIMIT 1", cwd=tmp_path, environment=environment).returncode == 0
    assert set((tmp_path / "tmp").iterdir()) == found
    hidden = [path for path in (tmp_path / "spans").rglob(".*") if path.name != ".dyno.lock"]
    assert sorted(hidden) == sorted(others)
    living.ends_by(signal.SIGINT)
