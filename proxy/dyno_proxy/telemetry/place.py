"""The folder that the path of the spans names now: it may be renamed, replaced or switched while a proxy writes.

An open file goes along with its folder: rows would land where nobody looks for them. So the writer compares before
each batch, and goes on in the folder that the path names.
"""

import errno
import logging
import os
import secrets
import stat
import time
from importlib import resources
from pathlib import Path
from typing import Final

from dyno_proxy.file_modes import Access

# Files without a row. A person's own DuckDB (docs/spans.md) reads both kinds of files, and fails where one is missing.
SEEDS: Final = ("seed-000000000000.jsonl", "seed-000000000000-000000000000.parquet")

# A folder that is renamed or switched (`mv`, then `mkdir` or `ln -s`) is missing for a moment. A folder that were made
# in this moment would make the second command fail, or a link end up inside it.
_MISSING_S: Final = 1.0
_LOOK_S: Final = 0.05

# What the path leads to is gone, not only hidden from us.
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)

_log = logging.getLogger(__name__)


def plant_seeds(folder: Path, access: Access) -> None:
    """Put the files without a row into the folder, where they are missing. Raises OSError."""
    for seed in (folder / name for name in SEEDS):
        if seed.exists():
            continue
        content = resources.files("dyno_proxy").joinpath(f"seed{seed.suffix}").read_bytes()
        # A process id isn't enough: several containers may share the folder, each with a process 1.
        planted = seed.with_name(f".{seed.name}.{os.getpid()}_{secrets.token_hex(4)}.tmp")
        with os.fdopen(access.create(planted), "wb") as file:
            file.write(content)
        planted.replace(seed)


def names(path: Path, fd: int) -> bool:
    """Whether the path still leads to this open file. Where nobody can tell, it does if the file has a name at all."""
    found = os.fstat(fd)
    try:
        named = os.stat(path)  # noqa: PTH116  # the pair of os.fstat
    except OSError as error:
        return error.errno not in _GONE and found.st_nlink > 0
    return os.path.samestat(named, found)


class Place:
    """The folder of one writer's files. Not for several threads at once."""

    def __init__(self, folder: Path, access: Access) -> None:
        self._folder = folder
        self._access = access
        self._known = _identity(folder)  # (device, inode); None: there was no folder yet
        self._made = False

    def prepare(self, *, patient: bool) -> None:
        """Make the folder if it is missing. `patient`: wait a second for it to come back. Raises OSError."""
        until_s = time.monotonic() + _MISSING_S
        while patient and self._known is not None and not os.path.lexists(self._folder) and time.monotonic() < until_s:
            time.sleep(_LOOK_S)
        if _identity(self._folder) is None:
            self._access.make_folder(self._folder)
            self._made = True

    def begun(self) -> bool:
        """A file has begun in the folder. Returns whether that is another one than before: then the log says so."""
        before, self._known = self._known, _identity(self._folder)
        made, self._made = self._made, False
        if self._known == before or before is None:
            return False
        self.plant()
        _log.warning(_message(before, self._known, made=made), self._folder)
        return True

    def plant(self) -> None:
        """Put the seeds there. Rows don't need them, so a failure is only logged."""
        try:
            plant_seeds(self._folder, self._access)
        except OSError as error:
            _log.warning("'%s' has no seed files: %s", self._folder, error.strerror or error)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISDIR(found.st_mode) else None


def _message(before: tuple[int, int], now: tuple[int, int] | None, *, made: bool) -> str:
    if now is not None and now[0] != before[0]:
        what = "'%s' is on another file system than before: one was mounted or unmounted, or a link was switched"
        return f"{what}. Spans go there from now on; earlier ones are where it was"
    if made:
        what = "'%s' is gone: it was renamed or removed. It is made again, and spans go there from now on"
        return f"{what}; earlier ones are where it went"
    what = "'%s' is another folder than before: it was renamed and replaced, or a link was switched"
    return f"{what}. Spans go there from now on; earlier ones are where it was"
