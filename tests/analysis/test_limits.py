"""limits.py: how much of the machine a command takes, and what of it can be said."""

import argparse
import os
from pathlib import Path

import pytest

import dyno_analysis
from dyno_analysis import limits
from rigs.dyno_command import dyno, refusal
from rigs.stored_spans import span, write

_UNLIMITED = "9223372036854771712\n"  # as version 1 says it


@pytest.mark.parametrize(
    ("member_of", "files", "found"),
    [
        ("0::/\n", {"memory.max": "max\n"}, []),
        ("0::/\n", {"memory.max": "8000\n"}, [8000]),
        ("0::/user/job\n", {"memory.max": "max\n", "user/memory.max": "9000\n", "user/job/memory.max": "max"}, [9000]),
        ("0::/user/job\n", {"user/memory.max": "9000", "user/job/memory.max": "4000\n"}, [9000, 4000]),
        ("0::/job\n", {"job/memory.max": "max\n", "job/memory.high": "5000\n"}, [5000]),
        ("0::/docker/abc\n", {"memory.max": "7000\n"}, [7000]),
        ("0::/../../x\n", {"memory.max": "7000\n"}, [7000]),
        ("5:cpu,cpuacct:/a\n4:memory:/a/b\n", {"memory/a/memory.limit_in_bytes": "6000\n"}, [6000]),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": _UNLIMITED}, [int(_UNLIMITED)]),
        ("4:cpu:/\n1:name=systemd:/\n", {"memory/memory.limit_in_bytes": "1\n"}, []),
        ("", {}, []),
        ("nonsense\n0::\n", {"memory.max": "nonsense\n"}, []),
    ],
)
def test_control_groups(tmp_path: Path, member_of: str, files: dict[str, str], found: list[int]) -> None:
    """The limits of both versions: a process's own group, and those above it, as far as they can be seen."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert list(limits.group_limits_bytes(member_of, tmp_path)) == found


def test_a_quarter_by_default(tmp_path: Path) -> None:
    """A connection takes at most a quarter of the machine's memory, and less where that was said."""
    write(tmp_path, [span()])
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < limits.default_memory_bytes() <= machine_bytes // 4
    assert limits.memory_limit(1000) == "1000B"
    with dyno_analysis.connect(tmp_path) as connection:
        ((said,),) = connection.execute("SELECT current_setting('memory_limit')").fetchall()
    unit = {"GiB": 1 << 30, "MiB": 1 << 20}[said.split()[1]]
    assert float(said.split()[0]) * unit == pytest.approx(limits.default_memory_bytes(), rel=0.1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MB", 500_000_000),
        ("1.5 GB", 1_500_000_000),
        ("64mib", 64 << 20),
        ("2TiB", 2 << 40),
        *(
            (text, None)
            for text in ("", "0MB", "-1GB", "10", "1KB", "31MB", "80%", "lots", "1PB", "1e9MB", "1GB; x", "nanGB")
        ),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    """Decimal and binary units; anything else, and what nothing can be done with, is refused."""
    if size is not None:
        assert limits.size_bytes(text) == size
        return
    with pytest.raises(argparse.ArgumentTypeError, match="must be a size"):
        limits.size_bytes(text)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "1025", "99999999", "\u0663"])
def test_threads_that_are_none(text: str) -> None:
    """They are refused."""
    with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
        limits.threads(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", "", "1e9"])
def test_times_that_are_none(text: str) -> None:
    """They are refused."""
    with pytest.raises(argparse.ArgumentTypeError, match="number of seconds"):
        limits.seconds(text)


def test_what_a_command_takes(tmp_path: Path) -> None:
    """--memory and --threads are DuckDB's; a bad value is one line."""
    write(tmp_path, [span()])
    query = "SELECT current_setting('memory_limit') AS m, current_setting('threads') AS t"
    options = ("--memory", "64MiB", "--threads", "1", "--format", "csv")
    assert dyno("sql", query, "--spans", tmp_path, *options).stdout == "m,t\n64.0 MiB,1\n"
    for flag in ("--memory", "--threads", "--timeout"):
        assert f"argument {flag}: 'lots' must be a" in refusal("sql", query, "--spans", tmp_path, flag, "lots")
    big = "SELECT list(range) FROM range(30000000)"
    done = dyno("sql", big, "--spans", tmp_path, "--memory", "64MB", "--output", "/dev/null")
    assert done.returncode == 2
    assert done.stderr.startswith("dyno sql: Out of Memory Error")
    assert done.stderr.count("\n") == 1
