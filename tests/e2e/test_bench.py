"""A small part of `make bench`, run as the command runs it, measures something."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_requests_part_has_a_row_for_each_contestant() -> None:
    """The bare proxy and dyno answer the benchmark's requests, and their CPU time per request is a positive figure."""
    done = run("--quick", "--parts", "requests", "--only", "bare,dyno")
    assert done.returncode == 0, done.stderr
    for title in ("| bare aiohttp | ", "| **dyno** | "):
        (row,) = [line for line in done.stdout.splitlines() if line.startswith(title)]
        measured = figures(row.removeprefix(title).split(" | "))
        assert len(measured) == 4, f"in turn and at a rate, each with its ratio to the bare proxy: {row}"
        assert all(figure > 0 for figure in measured), row


def test_unknown_part_is_named() -> None:
    """For an unknown part or contestant there is one clear line and exit code 2."""
    done = run("--parts", "request")
    assert done.returncode == 2
    assert "'request' is none of starts, requests" in done.stderr


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=TESTS, timeout=120, check=False)


def figures(cells: list[str]) -> list[float]:
    """The first number of each cell that has one."""
    found = (re.match(r"[\d,.]+\d", cell) for cell in cells)
    return [float(each[0].replace(",", "")) for each in found if each is not None]
