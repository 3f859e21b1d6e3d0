"""Folders for temporary files of this process. What a killed process has left is removed by the next one.

A process holds a lock on a file in its folder while it lives. So another one sees that it is dead, whatever process
numbers each of them sees.
"""

import atexit
import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from . import interrupts
from .file_modes import OWN_FOLDER

_PREFIXES: Final = ("dyno-sql-", "dyno-duckdb-")
_NEW: Final = ".dyno-new-"  # until the lock is held
_LOCK: Final = ".lock"
_FORGOTTEN_S: Final = 86_400.0  # a folder without a lock, of an earlier version or between two steps

_held: Final[dict[Path, int]] = {}  # descriptors, whose locks end with the process


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder of the user's alone, until the block ends. `prefix` is one of _PREFIXES."""
    folder = make_folder(prefix)
    try:
        yield folder
    finally:
        _remove(folder)


def make_folder(prefix: str) -> Path:
    """The same until the process ends."""
    if prefix not in _PREFIXES:
        raise ValueError(prefix)
    _clear_left()
    new = _new_folder()
    fd = os.open(new / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # no locks here: then nobody takes it for dead until a day has passed
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    folder = new.with_name(prefix + new.name.removeprefix(_NEW))
    try:
        new.rename(folder)  # onto a link, a file or a full folder this fails
    except OSError:
        folder = new
    if folder != new:
        interrupts.temporary(folder)
        interrupts.kept(new)
    _held[folder] = fd
    atexit.register(_remove, folder)
    return folder


def _new_folder() -> Path:
    """Nobody can guess 64 random bits. If somebody has put something there all the same, it isn't used."""
    while True:
        new = interrupts.temporary(Path(tempfile.gettempdir(), f"{_NEW}{secrets.token_hex(8)}"))
        try:
            new.mkdir(OWN_FOLDER)
        except FileExistsError:
            interrupts.kept(new)
        else:
            return new


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    interrupts.kept(folder)
    if (fd := _held.pop(folder, None)) is not None:
        os.close(fd)


def _clear_left() -> None:
    """Remove this user's folders whose processes are dead."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as listed:
        for each in listed:
            if each.name.startswith((*_PREFIXES, _NEW)):
                with contextlib.suppress(OSError):  # another process is faster
                    if each.is_dir(follow_symlinks=False) and _is_left(Path(each.path)):
                        shutil.rmtree(each.path, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    found = folder.lstat()
    if found.st_uid != os.geteuid():
        return False
    try:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - found.st_mtime > _FORGOTTEN_S
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks
        return time.time() - found.st_mtime > _FORGOTTEN_S
    finally:
        os.close(fd)
    return not folder.name.startswith(_NEW)  # else it has a file, and its lock in a moment
