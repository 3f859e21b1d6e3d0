"""Who may read what the proxy writes: its own user alone, or also one group that the configuration names.

A login node has many users, and span files say what each of them asks. So a file is 0600 in folders of 0700, whatever
the umask is. With `[spans] group` it is 0640 in folders of 2750, and belongs to that group. Folders that exist already
keep their mode: somebody chose it.
"""

import errno
import grp
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

OWN_FILE: Final = 0o600
OWN_FOLDER: Final = 0o700
GROUP_FILE: Final = 0o640
GROUP_FOLDER: Final = 0o2750  # the 2: what is made in it gets the folder's group

# From a file system without modes (FAT, some of FUSE). Who mounts it says who may read.
_NO_MODES: Final = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class Access(NamedTuple):
    """Who may read new files: the proxy's user, and the group if there is one."""

    group_id: int | None = None

    def create(self, path: Path, flags: int = 0) -> int:
        """A new file, open for writing; returns its descriptor. `flags` are further ones of os.open. Raises OSError."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | flags, OWN_FILE)
        try:
            self.settle(fd)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return fd

    def make_folder(self, folder: Path) -> None:
        """Make the folder and those above it that are missing. One that is there stays as it is. Raises OSError."""
        missing: list[Path] = []
        while not folder.is_dir() and folder not in missing:  # a current folder that was removed is its own parent
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            try:
                each.mkdir(OWN_FOLDER)
            except FileExistsError:
                if not each.is_dir():
                    raise
                continue  # another process has made it meanwhile
            fd = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._settle(fd, OWN_FOLDER if self.group_id is None else GROUP_FOLDER)
            finally:
                os.close(fd)

    def settle(self, fd: int) -> None:
        """Give an open file the group and the mode. Raises OSError where the group can't be given."""
        self._settle(fd, OWN_FILE if self.group_id is None else GROUP_FILE)

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


def access_of(group: str | None) -> Access:
    """The access that `[spans] group` asks for. ValueError says why the group can't be used."""
    return PRIVATE if group is None else Access(_group_id(group))


def _group_id(name: str) -> int:
    try:
        found = grp.getgrnam(name).gr_gid
    except KeyError:
        if not name.isascii() or not name.isdigit():
            raise ValueError(f"there is no group '{name}' on this machine; `id -Gn` lists yours") from None
        found = int(name)
    if os.geteuid() and found not in {os.getegid(), *os.getgroups()}:
        raise ValueError(f"you aren't in the group '{name}'; `id -Gn` lists yours")
    return found
