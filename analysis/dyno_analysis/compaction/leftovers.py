"""Removes what a compaction or an import that was killed has left in a spans folder."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dyno_analysis.interrupts import OURS

_BEGUN: Final = re.compile(
    r"\.([0-9a-f]{8}|\w+-\d{12}(-\d{12})?\.(jsonl|parquet|rejected))\.\d+_[0-9a-f]{8}\.(tmp|checked|spill)"
)
_RUN: Final = re.compile(r"\..+\.[a-z0-9_]{8}")


def clear(folder: Path) -> None:
    """Call it while the folder is held: no other compaction or import works in it, so each of these files is dead.

    A file that can't be removed stays; a compaction needs none of them gone.
    """
    for path in _left(folder):
        with contextlib.suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _left(folder: Path) -> Iterator[Path]:
    for path in list(folder.iterdir()):
        if (_BEGUN.fullmatch(path.name) and OURS not in path.name) or path.name.startswith(".import-"):
            yield path
    with contextlib.suppress(OSError):  # there may be no runs
        for path in list((folder / "runs").iterdir()):
            if _RUN.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                yield path
