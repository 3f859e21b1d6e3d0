"""One compaction or import at a time in a folder: by a locked file, or by a name where the file system has no locks.

    .dyno.lock     open for writing, and locked (flock) until the process ends; NFS locks no folder, and no file that is
                   open for reading
    .dyno.claim    where flock fails (Lustre without flock, NFS without lockd): made with O_EXCL, and says who made it

A claim outlives a process that is killed. It is taken over if its process is known to be gone, or if it wasn't touched
for STALE_S: its holder touches it every BEAT_S. Ages are read from the file server's clock alone. Both files are
removed at the end. Even two compactions at once would lose or double no row; the lock saves work, and an import needs
it to know which rows are new.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .file_modes import OWN_FILE

LOCK: Final = ".dyno.lock"
CLAIM: Final = ".dyno.claim"
STALE_S: Final = 600.0
BEAT_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.1
_SAID_AFTER_S: Final = 1.0
_TAKEOVER_S: Final = 60.0  # longer than it takes to remove a stale claim
_TRIES: Final = 10


class Hold:
    """Says that the folder is ours. This one holds nothing: the folder can't be written to, and nor can others."""

    def kept(self) -> bool:
        """Whether nobody has taken the folder over meanwhile."""
        return True

    def release(self) -> None:
        """Let others in."""


@contextmanager
def held(folder: Path, *, wait: bool, waiting: Callable[[], None] = lambda: None) -> Iterator[Hold | None]:
    """Hold the folder until the block ends. Gives None if another process holds it; with `wait`, waits for its end.

    `waiting` is called once when that takes more than a second.
    """
    hold = _take(folder)
    began_s, said = time.monotonic(), False
    while hold is None and wait:
        if not said and time.monotonic() - began_s > _SAID_AFTER_S:
            waiting()
            said = True
        time.sleep(_LOOK_AGAIN_S)
        hold = _take(folder)
    try:
        yield hold
    finally:
        if hold is not None:
            hold.release()


def _take(folder: Path) -> Hold | None:
    path = folder / LOCK
    for _ in range(_TRIES):
        try:
            fd = _open(path, folder)
        except OSError:
            return Hold()  # no file can be made here; whoever goes on to write will say why
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_named(fd, path):
                return _Locked(fd, path)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError:  # EBADF, ENOSYS, ENOLCK, EOPNOTSUPP, EINVAL: each file system has its own for "no locks"
            os.close(fd)
            with contextlib.suppress(OSError):  # another user's, in a folder where only he may remove it
                path.unlink(missing_ok=True)
            return _claim(folder)
        os.close(fd)  # the process before us has just removed the file that we locked
    return None


def _open(path: Path, folder: Path) -> int:
    # Nothing is in it. Who may write to the folder may lock it too.
    mode = OWN_FILE
    found = folder.stat().st_mode
    if found & stat.S_IWGRP:
        mode |= stat.S_IRGRP | stat.S_IWGRP
    if found & stat.S_IWOTH:
        mode |= stat.S_IROTH | stat.S_IWOTH
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    with contextlib.suppress(OSError):  # it is another user's, who has done this
        os.fchmod(fd, mode)
    return fd


def _is_named(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


class _Locked(Hold):
    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path

    def release(self) -> None:
        # Removed while it is locked: another process that has opened it sees then that it has no name.
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        os.close(self._fd)


class _Claimed(Hold):
    """A thread touches the claim, so that it doesn't become stale however long the work takes."""

    def __init__(self, path: Path, token: str) -> None:
        self._path = path
        self._token = token
        self._ended = threading.Event()
        threading.Thread(target=self._beat, name="dyno-claim", daemon=True).start()

    def kept(self) -> bool:
        return _read(self._path).get("token") == self._token

    def release(self) -> None:
        self._ended.set()
        if self.kept():
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            if self.kept():
                with contextlib.suppress(OSError):  # the file server is away for now, for others too
                    os.utime(self._path)


def _claim(folder: Path) -> Hold | None:
    path = folder / CLAIM
    token = secrets.token_hex(8)
    for _ in range(2):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWN_FILE)
        except FileExistsError:
            if not _remove_stale(path):
                return None
            continue
        except OSError:
            return Hold()  # as above
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                pid = os.getpid()
                json.dump({"token": token, "machine": _where(), "pid": pid, "began": _began(pid)}, file)
        except OSError:  # the disk is full
            path.unlink(missing_ok=True)
            return Hold()
        return _Claimed(path, token)
    return None


def _remove_stale(path: Path) -> bool:
    """Remove the claim if it is stale; returns whether nobody claims the folder now.

    Only who has made the second file may remove a claim that isn't his, so no claim is removed that has just been made.
    """
    if not _is_stale(path):
        return False
    takeover = path.with_name(f"{path.name}.takeover")
    try:
        os.close(os.open(takeover, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWN_FILE))
    except FileExistsError:
        if _age_s(takeover) > _TAKEOVER_S:  # of a process that was killed just here
            takeover.unlink(missing_ok=True)
        return False
    try:
        if not _is_stale(path):
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        takeover.unlink(missing_ok=True)


def _is_stale(path: Path) -> bool:
    claim = _read(path)
    pid = claim.get("pid")
    if claim.get("machine") == _where() and isinstance(pid, int):
        return _began(pid) != claim.get("began")
    return _age_s(path) > STALE_S


def _read(path: Path) -> dict[str, object]:
    """What the claim says; empty where there is none, or where it is being written."""
    try:
        claim = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return claim if isinstance(claim, dict) else {}


def _age_s(path: Path) -> float:
    """How long ago the file was touched, by the clock of the file server, which ours may differ from."""
    now = path.with_name(f".dyno.{secrets.token_hex(8)}.tmp")
    try:
        os.close(os.open(now, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWN_FILE))
        try:
            return now.stat().st_mtime - path.stat().st_mtime
        finally:
            now.unlink(missing_ok=True)
    except OSError:
        return 0.0


def _where() -> str:
    """This machine since its start, and its space of process numbers: there, a number stands for one process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  # it isn't the path of a file
    except OSError:
        return socket.gethostname()


def _began(pid: int) -> str | None:
    """When a process of this machine began, in the kernel's words; None if there is none."""
    try:
        # The second field is the program's name in brackets, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self").exists():
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return "alive"
    return None if re.match("[ZX]", fields[0]) else fields[19]
