"""Who may read what the analysis writes: its user alone, or also a group.

Span files say what people ask, and a login node has many users. So a file is 0600 in folders of 0700, whatever the
umask is. The analysis doesn't read dyno.toml, where the proxy finds its group. A group may read what is written if

- DYNO_SPANS_GROUP names it, or
- the folder is one that the proxy makes for a group, or that a user makes so: 2750 or 2770. What is made in it gets its
  group.

Then a file is 0640, and a folder 2750. Folders that exist already keep their mode. A file that replaces another one
gets that one's mode and group.
"""

import contextlib
import errno
import grp
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import InputError

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
    """A new file's mode, and its group and owner where they aren't the process's own. A folder's mode follows."""

    mode: int = OWN_FILE
    group_id: int | None = None
    owner_id: int | None = None

    def create(self, path: Path) -> None:
        """Make an empty file. Raises OSError if there is one. It gets its group and mode by `settle`."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWN_FILE))

    def settle(self, path: Path) -> None:
        """Give a file its owner, its group and its mode. Where the group can't be given, it gets no rights either."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _settle(fd, self.mode, self.group_id, self.owner_id)
        finally:
            os.close(fd)

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
            self.settle_folder(each)

    def settle_folder(self, folder: Path) -> None:
        """Give a folder that we made its group and its mode."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            shared = self.mode & stat.S_IRGRP
            _settle(fd, GROUP_FOLDER if shared else OWN_FOLDER, self.group_id, self.owner_id)
        finally:
            os.close(fd)


PRIVATE: Final = Access()


def access_in(folder: Path) -> Access:
    """The access to new files in a folder, which may not exist yet. InputError for a group that can't be used."""
    if (group := os.environ.get(GROUP_VARIABLE)) is not None:
        return Access(GROUP_FILE, _group_id(group))
    try:
        found = folder.stat()
    except OSError:
        return PRIVATE  # it isn't there; or it can't be used, which whoever writes to it will say
    others = found.st_mode & stat.S_IRWXO
    if found.st_mode & _GROUPS_BITS == _GROUPS_BITS and not others:
        return Access(GROUP_FILE, found.st_gid)
    return PRIVATE


def access_like(*files: Path) -> Access:
    """The access to a span file that is made of these: that of their group, if all of them are that group's.

    A file that everybody may read comes from an earlier version, and says nothing. Root's files stay their user's.
    """
    found = [file.stat() for file in files]
    owner_id = found[0].st_uid if os.geteuid() == 0 else None
    if {each.st_mode & (stat.S_IRGRP | stat.S_IROTH) for each in found} == {stat.S_IRGRP}:
        group_ids = {each.st_gid for each in found}
        if len(group_ids) == 1:
            return Access(GROUP_FILE, group_ids.pop(), owner_id)
    chosen = access_in(files[0].parent)
    return Access(chosen.mode, chosen.group_id, owner_id)


def access_to(path: Path) -> Access:
    """The access to a file that a person asks for: that of the one that it replaces, or of a new one in its folder."""
    try:
        found = path.stat()
    except OSError:
        return access_in(path.parent)
    return Access(stat.S_IMODE(found.st_mode) & 0o777 | OWN_FILE, found.st_gid, None)


def private_from_now_on() -> None:
    """Make this process's files its user's alone, also those that DuckDB makes itself: COPY's, and what it spills."""
    os.umask(0o077)


def _settle(fd: int, mode: int, group_id: int | None, owner_id: int | None) -> None:
    found = os.fstat(fd)
    if owner_id not in (None, found.st_uid):
        with contextlib.suppress(OSError):  # a file server that doesn't trust root: then the file is root's
            os.fchown(fd, owner_id or 0, -1)
    if group_id not in (None, found.st_gid):
        try:
            os.fchown(fd, -1, group_id or 0)
        except OSError:
            mode &= ~(stat.S_ISGID | stat.S_IRWXG)
    found = os.fstat(fd)
    # A folder below one of a group keeps that group's bit (2000): quotas are counted by it.
    mode |= found.st_mode & stat.S_ISGID
    if stat.S_IMODE(found.st_mode) != mode:
        try:
            os.fchmod(fd, mode)
        except OSError as error:
            if error.errno not in _NO_MODES:
                raise


def _group_id(name: str) -> int:
    try:
        found = grp.getgrnam(name).gr_gid
    except KeyError:
        if not name.isascii() or not name.isdigit():
            raise InputError(
                f"{GROUP_VARIABLE}: there is no group '{name}' on this machine; `id -Gn` lists yours"
            ) from None
        found = int(name)
    if os.geteuid() and found not in {os.getegid(), *os.getgroups()}:
        raise InputError(f"{GROUP_VARIABLE}: you aren't in the group '{name}'; `id -Gn` lists yours")
    return found
