"""Contestants that are Python programs of others: each in an environment of its own, made once, versions pinned."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

# What these need is taken as it was at this date, so that the same versions come every time.
_NOT_AFTER: Final = "2026-11-20"
_LIMIT_S: Final = 600


class MissingError(Exception):
    """A contestant isn't here; the message says why."""


def installed(package: str, version: str, program: str) -> Path:
    """The program, from `package==version`; `package` may name extras. Raises MissingError."""
    folder = Path(sys.prefix) / "bench" / f"{program}-{version}"
    path = folder / "bin" / program
    complete = folder / "complete"
    if complete.exists():
        return path
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise MissingError("uv isn't in this environment, so it can't be installed")
    print(f"bench: installing {package}=={version} into {folder}", file=sys.stderr)
    python = folder / "bin" / "python"
    commands: tuple[list[str | Path], ...] = (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder],
        [uv, "pip", "install", "--quiet", "--python", python, "--exclude-newer", _NOT_AFTER, f"{package}=={version}"],
    )
    for command in commands:
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LIMIT_S)
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no reason given"])[0]
            raise MissingError(f"not installed: {reason}") from error
        except subprocess.TimeoutExpired as error:
            raise MissingError(f"not installed within {_LIMIT_S} s") from error
    complete.touch()
    return path
