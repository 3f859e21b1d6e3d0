"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

# A part of temporary files' names, so that no two processes use the same name. The process id alone isn't enough:
# several containers may share a folder, and the first process of each has number 1.
OURS: Final = f"{os.getpid()}_{secrets.token_hex(4)}"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that replaces `path` when the block ends, synced to disk. If the block fails, nothing changes."""
    with replacing_path(path) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """As `replacing`, but it gives a path, for a writer such as DuckDB that opens the file itself."""
    temporary = path.with_name(f".{path.name}.{OURS}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)
