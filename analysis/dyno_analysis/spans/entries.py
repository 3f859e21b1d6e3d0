"""Which entries of a spans folder may be opened: regular files, and links that stay inside. A link may lead anywhere,
and whoever may put one there must not choose what a statement reads. The spans folder itself may be a link.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_LEADS_OUT: Final = "is a link that leads out of the spans folder; put what it leads to there, or remove the link"


def entry_problem(entry: "os.DirEntry[str]", is_read: Callable[[str], bool]) -> str | None:
    """Why an entry of a folder of span files isn't opened: the rest of a sentence that begins with `it`; None if it is.

    `is_read` says of a name whether the file of that name in the same folder is read anyway.
    """
    try:
        if entry.is_file(follow_symlinks=False):
            return None
        if not entry.is_symlink():
            return _not_a_file(entry.stat(follow_symlinks=False).st_mode)
        folder, target = Path(entry.path).parent.resolve(), Path(entry.path).resolve()
        if not target.is_relative_to(folder):
            return _LEADS_OUT
        if target.parent == folder and target.name != entry.name and is_read(target.name) and target.exists():
            return f"is a link to '{target.name}', which is read by its own name; remove the link"
        return _not_a_file(target.stat().st_mode)
    except FileNotFoundError:
        return "can't be read: what it leads to is gone; remove it" if entry.is_symlink() else None
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        return f"can't be read: {getattr(error, 'strerror', None) or error}; correct that, or move it elsewhere"


def folder_problem(folder: Path, spans: Path) -> str | None:
    """Why a folder in the spans folder isn't read, in the same words; None if it is, or isn't there."""
    return _LEADS_OUT if folder.is_symlink() and leads_out(folder, spans) else None


def leads_out(path: Path, spans: Path) -> bool:
    """Whether the path, which stands in the spans folder, leads out of it by a link."""
    try:
        return not path.resolve().is_relative_to(spans.resolve())
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        return True


def _not_a_file(mode: int) -> str | None:
    if stat.S_ISREG(mode):
        return None
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
    return f"is {kind} and no file; move it elsewhere"
