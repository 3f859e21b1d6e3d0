"""How far the export of a spans folder is: which rows of each writer were sent, and how many of what.

    .dyno.otlp.json     two lines of JSON: Figures (metrics/otlp_figures.py), and for each writer [to, ranges]
    .dyno.otlp.lock     locked (flock) by the process that sends just now

`to` is the last number that was looked at; `ranges` are the numbers that needn't be sent any more. A span that was
dropped is in none of them, so that `dyno export --otlp` may still send it. Who holds the lock reads the file, sends,
and writes the file; so several exporters on a folder send nothing twice.
"""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from dyno_proxy.file_modes import Access
from dyno_proxy.metrics.otlp_figures import NOT_STORED, STATE, Figures, read_figures

from .ranges import Range, add, contains

LOCK: Final = ".dyno.otlp.lock"
_BUSY: Final = (errno.EACCES, errno.EAGAIN)

_log = logging.getLogger(__name__)


class Broken(Exception):  # noqa: N818  # it isn't a program's error
    """The state's file can't be read. The message is one line for the user."""


class Item(NamedTuple):
    """A row's place, and when its request ended."""

    writer: str
    seq: int
    ended_us: int


class State:
    """What the file says, and what has come since. For one thread."""

    def __init__(self, folder: Path, from_us: int, access: Access) -> None:
        """`from_us`: where the file doesn't exist yet, earlier rows are the past."""
        self._path = folder / STATE
        self._access = access
        self._seen: tuple[int, int] | None = None  # the file that was read: its inode, and when it was written
        self._cleared = False
        self._from_us = from_us
        self.figures = Figures(from_us=from_us)
        self._to: dict[str, int] = {}
        self._done: dict[str, list[Range]] = {}

    @property
    def writers(self) -> dict[str, int]:
        """Each known writer's last number that was looked at."""
        return self._to

    def reload(self) -> None:
        """Read the file where another process has written it. Raises Broken."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            # The folder is a new one, or somebody removed the file: what this process knows still holds.
            self._seen = None
            return
        seen = (found.st_ino, found.st_mtime_ns)
        if seen == self._seen:
            return
        with self._path.open("rb") as file:
            file.readline()
            second = file.readline()
        try:
            writers = msgspec.json.decode(second, type=dict[str, tuple[int | None, list[Range] | None]])
        except msgspec.DecodeError as error:
            raise Broken(
                f"'{self._path}' can't be read ({error}); remove it, and what is sent from then on is a first export"
            ) from error
        self.figures = read_figures(self._path)
        self._seen = seen
        self._to |= {writer: to for writer, (to, _) in writers.items() if to is not None}
        self._done |= {writer: [(1, to or 0)] if ranges is None else ranges for writer, (to, ranges) in writers.items()}

    def save(self) -> None:
        """Write the file, so that it is there after a power cut too. Raises OSError."""
        writers = {writer: self._said(writer) for writer in self._to.keys() | self._done}
        if not self._cleared:
            self._clear()
            self._cleared = True
        content = msgspec.json.encode(self.figures) + b"\n" + msgspec.json.encode(writers) + b"\n"
        temporary = self._path.with_name(f"{STATE}.{os.getpid()}_{secrets.token_hex(4)}.tmp")
        try:
            with os.fdopen(self._access.create(temporary), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                found = os.fstat(file.fileno())
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._seen = (found.st_ino, found.st_mtime_ns)

    def _clear(self) -> None:
        """Remove what a killed exporter has left: who holds the lock is the only one that writes."""
        for left in self._path.parent.glob(f"{STATE}.*.tmp"):
            left.unlink(missing_ok=True)

    def _said(self, writer: str) -> tuple[int | None, list[Range] | None]:
        to, ranges = self._to.get(writer), self._done.get(writer, [])
        return to, None if ranges == [(1, to)] else ranges

    def is_past(self, item: Item, writer_began_us: int) -> bool:
        """Whether the row is older than the first export. Its writer's start counts too: clocks may be set back."""
        return item.ended_us < self.figures.from_us and writer_began_us < self.figures.from_us

    def is_done(self, item: Item) -> bool:
        """Whether the row needn't be sent any more."""
        return contains(self._done.get(item.writer, ()), item.seq)

    def looked_at(self, item: Item, before: int) -> int:
        """Note that the rows of this writer up to this one were looked at; returns how many were missing in between.

        `before`: the number before the first row that is expected of a writer that isn't known yet.
        """
        to = self._to.get(item.writer, before)
        missing = max(0, item.seq - to - 1)
        if missing:
            self.drop(NOT_STORED, missing)
        self._to[item.writer] = max(to, item.seq)
        return missing

    def done(self, item: Item) -> None:
        """Note that the row needn't be sent any more."""
        add(self._done.setdefault(item.writer, []), item.seq)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count spans that the collector won't get."""
        dropped = Counter(self.figures.dropped)
        dropped[reason] += count
        self.figures.dropped = dict(dropped)


@contextlib.contextmanager
def locked(folder: Path, access: Access) -> Iterator[bool]:
    """Hold the folder's lock until the block ends, unless another process holds it: then this gives False.

    Raises OSError where the lock's file can't be opened.
    """
    fd = _open(folder / LOCK, access)
    try:
        yield _lock(fd, folder)
    finally:
        os.close(fd)


def _open(path: Path, access: Access) -> int:
    # It stays: if it were removed at the end, two processes could hold locks on two files of this name.
    with contextlib.suppress(FileExistsError):
        return access.create(path)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


_said: set[Path] = set()


def _lock(fd: int, folder: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if folder not in _said:
            _said.add(folder)
            _log.warning(
                "'%s' can't be locked: %s. Let only one process export from this folder, or spans are sent twice",
                folder / LOCK,
                error.strerror,
            )
    return True
