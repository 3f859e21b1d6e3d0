"""Files that are written whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from . import interrupts
from .file_modes import Access, access_to

OURS: Final = interrupts.OURS  # a part of temporary files' names that no other process uses


@contextmanager
def replacing(path: Path, access: Access | None = None) -> Iterator[BinaryIO]:
    """A file that replaces `path` when the block ends, synced to disk. If the block fails, nothing changes.

    Without `access` it gets the mode of the file that it replaces; a new one, what `access_to` says.
    """
    with replacing_path(path, access) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def replacing_path(path: Path, access: Access | None = None) -> Iterator[Path]:
    """As `replacing`, but it gives the path of an empty file, for a writer such as DuckDB that opens the file itself.

    The file is its user's alone until it is complete.
    """
    access = access_to(path) if access is None else access
    temporary = interrupts.temporary(path.with_name(f".{path.name}.{OURS}.tmp"))
    access.create(temporary)
    try:
        yield temporary
        access.settle(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
        interrupts.kept(temporary)


class Draft:
    """A file that is being written under a temporary name. It gets its real one with `name`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name: str | None = None


@contextmanager
def drafted(folder: Path, access: Access) -> Iterator[Draft]:
    """As `replacing_path`, for a file whose name depends on its content: the block sets `name`, or nothing is kept."""
    draft = Draft(interrupts.temporary(folder / f".{secrets.token_hex(4)}.{OURS}.tmp"))
    access.create(draft.path)
    try:
        yield draft
        if draft.name is not None:
            access.settle(draft.path)
            with draft.path.open("rb") as file:
                os.fsync(file.fileno())
            draft.path.replace(folder / draft.name)
            sync_folder(folder)
    finally:
        draft.path.unlink(missing_ok=True)
        interrupts.kept(draft.path)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder outlive a power cut, where the file system can."""
    # Some can't sync a folder, and a folder may be closed to readers. The files themselves are synced.
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
