"""One journal, and the thread that syncs journals, so that a slow disk delays neither the next rows nor the end.

A file server may take seconds or minutes for a sync. Rows are written meanwhile: `append` writes a batch and asks for a
sync, `synced` says later what became of it. Only one sync of a file is under way; the next one covers all that was
written since.
"""

import errno
import fcntl
import logging
import os
import queue
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dyno_proxy.file_modes import Access

from .place import names

# Half of the hour after which `dyno compact` on another machine may take the writer for dead.
RESTED_S: Final = 1800.0
_LOCK_TRIES: Final = 5
_LOCK_PAUSE_S: Final = 0.01

_log = logging.getLogger(__name__)
_sync: Final[Callable[[int], None]] = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class _Sync:
    """A sync that was asked for: of which file, how much of it, and how it ended."""

    def __init__(self, fd: int, new_in: Path | None, size_bytes: int, count: int) -> None:
        self.fd = fd
        self.new_in = new_in  # the folder, where the file's name isn't synced yet
        self.size_bytes = size_bytes
        self.count = count
        self.ended = threading.Event()
        self.error: OSError | None = None


class Syncing:
    """The thread that syncs. It begins with the first sync."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[_Sync | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, sync: _Sync) -> None:
        """Have the thread do it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="dyno-sync", daemon=True)
            self._thread.start()
        self._asked.put(sync)

    def end(self) -> None:
        """End the thread after what it has to do. Nobody waits for that: a process that ends doesn't need it."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread = None

    def _run(self) -> None:
        asked = self._asked
        while (sync := asked.get()) is not None:
            try:
                if sync.new_in is not None:
                    _sync_folder(sync.new_in)
                _sync(sync.fd)
            except OSError as error:
                sync.error = error
            sync.ended.set()


class JournalFile:
    """One file, open for appending. OSErrors pass to the caller, who then takes back what failed."""

    def __init__(self, path: Path, access: Access, syncing: Syncing) -> None:
        self.path = path
        self.size_bytes = 0  # of whole batches
        self.pending = 0  # spans that are written, but perhaps not on disk
        self._synced_bytes = 0
        self._syncing = syncing
        self._under_way: _Sync | None = None
        self._named = False
        self._fd = access.create(path, os.O_APPEND)  # a new file, so it has one writer, whatever happens
        # By the monotonic clock, since the wall clock jumps, and a file server's times come from another clock.
        self._rests_since_s = time.monotonic()
        _lock(self._fd, path)

    def append(self, batch: bytes | bytearray, count: int) -> None:
        """Write the lines of `count` spans, and ask for a sync."""
        rest = memoryview(batch)
        while rest:  # one write is enough, unless the disk takes only a part: then the next write says why
            written = os.write(self._fd, rest)
            if not written:
                raise OSError(errno.EIO, os.strerror(errno.EIO))  # else this would never end
            rest = rest[written:]
        self.size_bytes += len(batch)
        self.pending += count
        self._rests_since_s = time.monotonic()
        if self._under_way is None:
            self._begin_sync()

    def wait(self, limit_s: float | None) -> bool:
        """Wait for the sync that is under way; False if it takes longer."""
        return self._under_way is None or self._under_way.ended.wait(limit_s)

    def synced(self) -> int:
        """How many more spans are on disk than the last time. OSError if the disk didn't take those that wait."""
        sync = self._under_way
        if sync is None or not sync.ended.is_set():
            return 0
        self._under_way = None
        if sync.error is not None:
            raise sync.error
        self._named = True
        self._synced_bytes = sync.size_bytes
        self.pending -= sync.count
        if self.pending:
            self._begin_sync()
        return sync.count

    def is_ours(self) -> bool:
        """Whether nobody can have taken the file over: it isn't sealed, and is in use."""
        rested_s = time.monotonic() - self._rests_since_s
        return bool(os.fstat(self._fd).st_mode & stat.S_IWUSR) and rested_s < RESTED_S

    def is_named(self) -> bool:
        """Whether the file is still the one that its path names: nobody has renamed or removed it, or its folder."""
        return names(self.path, self._fd)

    def take_back(self) -> int:
        """Cut off what isn't on disk, after a sync has failed; returns how many spans that were."""
        lost, self.pending = self.pending, 0
        self.size_bytes = self._synced_bytes
        self.cut()
        return lost

    def cut(self) -> None:
        """Cut off what a failed append left. A file without a whole batch is removed."""
        try:
            if self.size_bytes == 0:
                self.path.unlink(missing_ok=True)
            else:
                os.ftruncate(self._fd, self.size_bytes)
        except OSError as error:
            # The torn tail stays, and nothing comes after it: readers skip it by its checksum.
            _log.warning("'%s' keeps a torn last line: %s", self.path, error.strerror or error)

    def close(self) -> None:
        """Close the file, which no sync may be reading any more."""
        try:
            os.close(self._fd)
        except OSError as error:
            _log.warning("'%s' closed with an error: %s", self.path, error.strerror or error)

    def _begin_sync(self) -> None:
        new_in = None if self._named else self.path.parent
        self._under_way = _Sync(self._fd, new_in, self.size_bytes, self.pending)
        self._syncing.begin(self._under_way)


def _lock(fd: int, path: Path) -> None:
    """Lock the file until the descriptor is closed."""
    for _ in range(_LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)  # a `dyno compact` is looking whether it is locked, which takes some µs
        except OSError as error:
            _log.debug("'%s' can't be locked: %s", path, error)
            return
        else:
            return


def _sync_folder(folder: Path) -> None:
    """Make a new file's name outlive a power cut."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        # Some file systems know no sync of a folder; the file itself is synced.
        _log.debug("'%s' can't be synced: %s", folder, error)
