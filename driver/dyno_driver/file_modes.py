"""Who may read a run's files: its user alone, or also a group.

Prompts and answers are in them, and a login node has many users. So a file is 0600 in folders of 0700, whatever the
umask is. The driver doesn't read the proxy's configuration. A group may read a run if DYNO_SPANS_GROUP names it, or if
the spans folder is a group's: 2750, as the proxy makes it for one, or 2770. Then a file is 0640, and a folder 2750.
Folders that exist already keep their mode.
"""

import contextlib
import errno
import grp
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import WrongUseError

OWN_FILE: Final = 0o600
OWN_FOLDER: Final = 0o700
GROUP_FILE: Final = 0o640
GROUP_FOLDER: Final = 0o2750
GROUP_VARIABLE: Final = "DYNO_SPANS_GROUP"

_GROUPS_BITS: Final = stat.S_ISGID | stat.S_IRGRP | stat.S_IXGRP
# From a file system without modes (FAT, some of FUSE). Who mounts it says who may read.
_NO_MODES: Final = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True)
class Access:
    """Who may read new files: the user, and the group if there is one."""

    group_id: int | None = None

    def write(self, path: Path, content: bytes) -> None:
        """Write a new file. Raises OSError."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWN_FILE)
        with os.fdopen(fd, "wb") as file:
            self._settle(fd, OWN_FILE if self.group_id is None else GROUP_FILE)
            file.write(content)

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those above it that are missing. Raises OSError, also if it is there already."""
        with contextlib.suppress(FileExistsError):  # those above may be there, or come from another process
            if not folder.parent.is_dir() and folder.parent != folder:
                self.make_folder(folder.parent)
        folder.mkdir(OWN_FOLDER)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._settle(fd, OWN_FOLDER if self.group_id is None else GROUP_FOLDER)
        finally:
            os.close(fd)

    def _settle(self, fd: int, mode: int) -> None:
        if self.group_id is not None:
            os.fchown(fd, -1, self.group_id)
        found = stat.S_IMODE(os.fstat(fd).st_mode)
        # A folder below one of a group keeps that group's bit (2000): quotas are counted by it.
        mode |= found & stat.S_ISGID
        if found != mode:
            try:
                os.fchmod(fd, mode)
            except OSError as error:
                if error.errno not in _NO_MODES:
                    raise


PRIVATE: Final = Access()


def access_in(folder: Path) -> Access:
    """The access to new files in a folder, which may not exist yet. WrongUseError for a group that can't be used."""
    if (group := os.environ.get(GROUP_VARIABLE)) is not None:
        return Access(_group_id(group))
    try:
        found = folder.stat()
    except OSError:
        return PRIVATE  # it isn't there; or it can't be used, which whoever writes to it will say
    others = found.st_mode & stat.S_IRWXO
    return Access(found.st_gid) if found.st_mode & _GROUPS_BITS == _GROUPS_BITS and not others else PRIVATE


def _group_id(name: str) -> int:
    try:
        found = grp.getgrnam(name).gr_gid
    except KeyError:
        if not name.isascii() or not name.isdigit():
            raise WrongUseError(
                f"{GROUP_VARIABLE}: there is no group '{name}' on this machine; `id -Gn` lists yours"
            ) from None
        found = int(name)
    if os.geteuid() and found not in {os.getegid(), *os.getgroups()}:
        raise WrongUseError(f"{GROUP_VARIABLE}: you aren't in the group '{name}'; `id -Gn` lists yours")
    return found
