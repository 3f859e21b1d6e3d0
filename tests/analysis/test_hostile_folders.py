"""One bad file or line never stops a query: it is left out, standard error names it, and no compaction destroys it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

import dyno_analysis
from dyno_analysis.compaction.compaction import Compaction
from dyno_analysis.compaction.retention import parse_keep
from dyno_analysis.query.statement import Statement
from dyno_analysis.spans import folder as span_folder
from dyno_analysis.spans.journal_lines import bad_lines
from dyno_analysis.spans.views import connect_views, list_files
from rigs.dyno_command import dyno
from rigs.stored_spans import STARTED_AT_US, line, span, streamed, write

TOO_LATE_US = 9_223_371_000_000_000_000  # in the year 294247
JOURNAL = "import_00ff-000000000001.jsonl"
PARQUET = "import_00ff-000000000001-000000000002.parquet"
TIMED = "20261124T215900Z_20261124T220000Z_ffffffffffffffff_import_00ff-000000000001-000000000002.parquet"
COLUMNS = (
    "1::INT AS v, seq, 'a' AS trace_id, 'b' || seq AS span_id, to_timestamp(1795557540) AS started_at, "
    "'metis' AS endpoint, 'chat' AS operation, 'ok' AS outcome, 1000000 AS duration_us FROM range(1, 3) AS t(seq)"
)


@dataclass(frozen=True)
class Case:
    """A bad file: how it is made, how many of its own rows are read all the same, and what is said of it, if it is."""

    name: str
    make: Callable[[Path], object]
    rows: int
    says: str | None


def lines(*rows: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(b"".join(rows))


def row(**columns: Any) -> bytes:
    return line(span(**columns))


def parquet(select: str) -> Callable[[Path], object]:
    return lambda path: stored(path, select)


def stored(path: Path, select: str) -> None:
    said = "KV_METADATA {dyno_spans: '2', dyno_rows: 'import_00ff:1-2'}"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT {select}) TO '{path}' (FORMAT parquet, {said})")


def rotten(path: Path) -> None:
    """Its footer is whole, and its rows aren't."""
    stored(path, COLUMNS)
    content = bytearray(path.read_bytes())
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[4:end] = b"\xff" * (end - 4)
    path.write_bytes(content)


def torn(path: Path) -> None:
    stored(path, COLUMNS)
    path.write_bytes(path.read_bytes()[:-9])


def times(*values: int) -> Callable[[Path], object]:
    return lines(row(), *(row(started_at_us=value) for value in values), row())


COUNTS = ("duration_us", "due_at_unix_us", "output_tokens", "first_token_us", "last_token_us", "overhead_us", "retries")
CASES = {
    "a time that is DuckDB's infinity": Case(JOURNAL, times(2**63 - 1), 2, "line 2 of"),
    "a negative time": Case(JOURNAL, times(-1), 2, "line 2 of"),
    "the least time": Case(JOURNAL, times(-(2**63), -(2**63)), 2, "2 lines (2, 3) of"),
    "the year 294247": Case(JOURNAL, times(TOO_LATE_US), 2, "line 2 of"),
    "the year 10000": Case(JOURNAL, times(253_402_300_800_000_000), 2, "line 2 of"),
    "the year 9999": Case(JOURNAL, times(253_402_300_799_999_999), 3, None),
    "a time beyond 64 bits": Case(JOURNAL, times(2**70), 3, None),
    "extreme counts": Case(JOURNAL, lines(*(row(**{c: v}) for c in COUNTS for v in (2**63 - 1, -(2**63)))), 14, None),
    "extreme offsets": Case(
        JOURNAL, lines(line(streamed([-(2**63), 2**63 - 1], output_tokens=2**63 - 1)), row()), 2, None
    ),
    "a line of 40 MB": Case(JOURNAL, lines(row(), row(model="x" * 40_000_000), row()), 2, "line 2 of"),
    "40 MB without a newline": Case(JOURNAL, lines(row(), b"x" * 40_000_000), 1, "line 2 of"),
    "NULs": Case(JOURNAL, lines(b"\0" * 5_000), 0, "line 1 of"),
    "NULs between lines": Case(JOURNAL, lines(row(), b"\0" * 500 + b"\n", row()), 2, "line 2 of"),
    "invalid UTF-8": Case(JOURNAL, lines(row(), row(model="QQ").replace(b"QQ", b"\xff\xfe"), row()), 2, "line 2 of"),
    "a torn character at the end": Case(JOURNAL, lines(row(), row(model="ö")[:-40].rpartition(b"\xb6")[0]), 1, None),
    "no JSON": Case(JOURNAL, lines(row(), b"{]\n5\n[1]\nnull\n", row()), 2, None),
    "nested too deeply": Case(JOURNAL, lines(row(), b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"), 1, None),
    "wrong types": Case(JOURNAL, lines(row(), row(status="x", attributes=[1], finish_reasons="y")), 2, None),
    "an empty journal": Case(JOURNAL, lines(), 0, None),
    "a folder": Case(JOURNAL, Path.mkdir, 0, "left out"),
    "a named pipe": Case(JOURNAL, os.mkfifo, 0, "left out"),
    "a link to nothing": Case(JOURNAL, lambda path: path.symlink_to("gone"), 0, "left out"),
    "a link to itself": Case(JOURNAL, lambda path: path.symlink_to(path.name), 0, "left out"),
    "a folder named .parquet": Case(PARQUET, Path.mkdir, 0, "left out"),
    "a pipe named .parquet": Case(PARQUET, os.mkfifo, 0, "left out"),
    "good Parquet": Case(PARQUET, parquet(COLUMNS), 2, None),
    "no rows": Case(PARQUET, parquet(f"{COLUMNS} WHERE false"), 0, None),
    "a text for a time": Case(TIMED, parquet(COLUMNS.replace("to_timestamp(1795557540)", "'x'")), 0, "left out"),
    "a text for a number": Case(TIMED, parquet(COLUMNS.replace("1000000 AS", "'x' AS")), 0, "left out"),
    "a number for a text": Case(TIMED, parquet(COLUMNS.replace("'metis'", "7")), 0, "left out"),
    "a list for a text": Case(TIMED, parquet(COLUMNS.replace("'metis'", "['x']")), 0, "left out"),
    "bytes for a text": Case(TIMED, parquet(COLUMNS.replace("'metis'", "'x'::BLOB")), 0, "left out"),
    "a missing column": Case(TIMED, parquet("1::INT AS v, 'b' AS span_id"), 0, "left out"),
    "Parquet of the year 294247": Case(
        PARQUET, parquet(COLUMNS.replace("to_timestamp(1795557540)", f"make_timestamptz({TOO_LATE_US})")), 0, None
    ),
    "a time when it was due": Case(
        TIMED, parquet(COLUMNS.replace("1000000 AS", "9223372036854775807 AS due_at_unix_us, 1000000 AS")), 2, None
    ),
    "a torn end": Case(TIMED, torn, 0, "left out"),
    "rotten pages": Case(TIMED, rotten, 0, "left out"),
    "nothing": Case(TIMED, lines(), 0, "left out"),
}
QUESTIONS = [
    "FROM spans",
    "FROM minutes",
    "FROM runs",
    "SELECT max(gap_s) FROM chunks",
    "SELECT date_trunc('month', started_at), count(*) FROM spans GROUP BY ALL",
]


@pytest.mark.parametrize("case", CASES)
def test_what_is_read(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever one file holds, each question is answered over the other rows, and standard error has one line."""
    write(tmp_path, [span(), streamed([1_000, 2_000])])
    bad = CASES[case]
    bad.make(tmp_path / bad.name)
    count = 2 + bad.rows

    def answers() -> list[list[str | None]]:
        found = []
        for question in (*QUESTIONS, "SELECT count(*), count(DISTINCT span_id) FROM spans"):
            files = list_files(tmp_path)
            with connect_views(tmp_path, files) as connection:
                found = list(Statement(connection, question, files.all()).rows()[1])
        return found

    ((counted, distinct),) = span_folder.without_broken(tmp_path, answers)
    said = [text for text in capfd.readouterr().err.splitlines() if text]
    assert counted is not None
    if case == "extreme offsets" and int(counted) == 2:
        assert "is broken" in said[0]  # no answer to the question about chunks: the file is left out as a whole
        return
    assert int(counted) == count
    assert distinct is not None
    assert (said == []) == (bad.says is None)
    for text in said:
        assert str(bad.says) in text
        assert bad.name in text
    assert len(said) <= 1


@pytest.mark.parametrize("case", CASES)
def test_what_a_compaction_does(tmp_path: Path, case: str) -> None:
    """What it can't read stays as it is, byte for byte; of a journal, each bad line stays in `.rejected`. Other rows
    become Parquet, are counted once, and --keep doesn't fail."""
    write(tmp_path, [span()], writer="import_aaaa")
    bad = CASES[case]
    path = tmp_path / bad.name
    bad.make(path)
    regular = path.is_file()
    before = path.read_bytes() if regular else b""
    old_s = time.time() - 200_000
    if regular:
        os.utime(path, (old_s, old_s))
    problems: list[str] = []
    for keep in ("99999d", "1GB"):
        compaction = Compaction(tmp_path, datetime.now(UTC), lambda _: None, problems.append, dry=False)
        compaction.convert()
        compaction.expire(parse_keep(keep))
        compaction.merge()
        compaction.clean()
    if bad.says == "left out" and case != "rotten pages":
        assert os.path.lexists(path)
        assert (path.read_bytes() if regular else b"") == before
        assert any(bad.name in problem for problem in problems)
    elif bad.says is not None and path.suffix == ".jsonl":
        aside = path.with_suffix(".rejected").read_bytes()
        wanted = [int(number) for number in re.findall(r"\d+", bad.says.partition("(")[2] or bad.says)]
        numbered = before.splitlines(keepends=True)
        assert aside == b"".join(numbered[number - 1] for number in wanted)
    with dyno_analysis.connect(tmp_path) as connection:
        counted = (
            connection.execute("SELECT count(DISTINCT span_id) FROM spans").fetchall()[0][0]
            if case != "rotten pages"
            else 1
        )
    assert counted >= 1


def test_all_of_them_at_once(tmp_path: Path) -> None:
    """A folder of nothing but trouble is read as far as it can be, by every command, without a traceback."""
    spans = tmp_path / "spans"
    write(spans, [span(), span()])
    for number, bad in enumerate(CASES.values()):
        bad.make(spans / bad.name.replace("00ff", f"{number:04x}"))
    for words in (
        ("sql", "SELECT count(*) AS n FROM spans", "--format", "csv"),
        ("report", "--since", "2020-01-01", "--out", "out"),
        ("trace", "0"),
        ("compact", "--keep", "99999d"),
        ("sql", "SELECT count(*) AS n FROM spans", "--format", "csv"),
    ):
        done = dyno(*words, cwd=tmp_path)
        assert "Traceback" not in done.stderr
        assert "named pipe" in done.stderr
        if words[0] == "sql":
            assert int(done.stdout.split()[1]) > 30
        if words[0] == "report":
            assert done.returncode == 0, done.stderr
            assert "report.md" in done.stdout


# Takes from root what lets it read any file: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, the capabilities 1 and 2.
_AS_A_USER = """
import ctypes, struct, sys
from dyno_analysis.commands import sql
libc, head, held = ctypes.CDLL(None), ctypes.create_string_buffer(8), ctypes.create_string_buffer(24)
head.raw = struct.pack("Ii", 0x20080522, 0)  # version 3, this process
assert libc.capget(head, held) == 0
words = struct.unpack("6I", held.raw)
held.raw = struct.pack("6I", words[0] & ~0b110, words[1] & ~0b110, *words[2:])
assert libc.capset(head, held) == 0
sys.exit(sql.main(["SELECT count(*) AS n FROM spans", "--spans", sys.argv[1]]))
"""


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """It is named, and the others are read."""
    write(tmp_path, [span()])
    for name in (JOURNAL, TIMED):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", _AS_A_USER, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "n\n1\n"), done.stderr
    refused = [text.split("'")[1] for text in done.stderr.splitlines() if "Permission denied" in text]
    assert sorted(refused) == sorted(str(tmp_path / name) for name in (JOURNAL, TIMED))


@pytest.mark.parametrize(
    ("value", "is_bad"),
    [
        (b"1795557540000000", False),
        (b" 1795557540000000", False),
        (b"0", False),
        (b"null", False),
        (b"17955575400000000", False),
        (b"253402300799999999", False),
        (b"253402300800000000", True),
        (b"179555754000000000", False),
        (b"999999999999999999", True),
        (b"9223372036854775807", True),
        (b"-1", True),
        (b"-9223372036854775808", True),
        (b'"x"', False),
        (b"1e3", False),
        (b"[1]", False),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_which_times_are_none(tmp_path: Path, value: bytes, is_bad: bool, last: bool) -> None:
    """A number that is no time from 1970 to 9999, wherever it stands in a line and the line in the journal."""
    usual = b'{"v":2,"started_at_us":1795557540000000,"span_id":"a"}\n'
    odd = b'{"v":2,"started_at_us":' + value + (b"}" if last else b',"span_id":"a"}\n')
    path = tmp_path / "x"
    path.write_bytes(usual + usual + odd + (b"" if last else usual))
    assert bad_lines(path).no_time == ([3] if is_bad else [])
    path.write_bytes(odd if last else odd + usual)
    assert bad_lines(path).no_time == ([1] if is_bad else [])
    assert STARTED_AT_US > 0
