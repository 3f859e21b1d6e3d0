"""Files of a program that behave as on a centre's file systems: without locks, slow to sync, full, or broken."""

import errno
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).with_suffix(".c")
# What flock fails with, by file system. `nfs`: it locks only what is open for writing.
NO_LOCKS: Final = {
    "nfs": "nfs",
    **{name: str(getattr(errno, name)) for name in ("EBADF", "ENOSYS", "ENOLCK", "EOPNOTSUPP", "EINVAL", "EIO")},
}


def without_locks(how: str) -> dict[str, str]:
    """The environment of a program for which flock fails as NO_LOCKS says."""
    return {**_preloaded(), "PRELOAD_FLOCK": NO_LOCKS[how]}


def slow_to_sync(milliseconds: int) -> dict[str, str]:
    """The environment of a program for which a sync takes so long."""
    return {**_preloaded(), "PRELOAD_SYNC_MS": str(milliseconds)}


def failing(error: str, calls: str, under: Path, while_there: Path) -> dict[str, str]:
    """The environment of a program for which `calls` fail in the folder `under`, as long as `while_there` exists.

    `calls` are of: make (a file, a folder), write, sync, open (a file, to read it), read, list. `error` is an error's
    name, such as EDQUOT.
    """
    return {
        **_preloaded(),
        "PRELOAD_ERROR": str(getattr(errno, error)),
        "PRELOAD_CALLS": calls,
        "PRELOAD_UNDER": str(under),
        "PRELOAD_WHILE": str(while_there),
    }


def _preloaded() -> dict[str, str]:
    return {"LD_PRELOAD": str(_library())}


@functools.cache
def _library() -> Path:
    """Compile the library once; the test is skipped where that isn't possible."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("other file systems' behaviour wants the program `cc` (Linux)")
    library = Path(tempfile.gettempdir()) / f"dyno-tests-preloaded-{os.getuid()}-{SOURCE.stat().st_mtime_ns}.so"
    if not library.exists():
        made = library.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True)
        made.rename(library)
    return library
