"""Run `dyno` as a user does: as another process, with its two streams and its exit code."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def dyno(
    *arguments: str | Path,
    stdin: str | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end. Its input is `stdin`, or empty. `environment`: variables beside our own."""
    return subprocess.run(
        [sys.executable, "-m", "dyno", *map(str, arguments)],
        input=stdin or "",
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )


def refusal(*arguments: str | Path, stdin: str | None = None) -> str:
    """The one line on stderr with which a command refuses wrong input. Its exit code must be 2."""
    done = dyno(*arguments, stdin=stdin)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")


def cells(output: str, *start: str) -> list[str]:
    """The cells of the first printed row that begins with the given cells."""
    for line in output.splitlines():
        found = re.split(r"  +", line.strip())
        if tuple(found[: len(start)]) == start:
            return found[len(start) :]
    raise AssertionError(f"no row {start} in:\n{output}")
