"""The file that --output names: never one that is being read."""

import contextlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dyno_analysis.atomic_file import replacing
from dyno_analysis.errors import InputError

_OF_SPANS = (".jsonl", ".parquet", ".rejected")


def check_output(output: Path, spans: Path) -> None:
    """Raise InputError if the output is a file of the spans folder, by whatever name, or would count as one."""
    kept = [folder for folder in (spans, spans / "collected", spans / "training") if folder.is_dir()]
    runs = spans / "runs"
    targets = (output, output.resolve())  # a link is replaced where it stands, and may lead to a span file too
    for target in targets:
        is_there = any(_same(target.parent, folder) for folder in kept)
        if is_there and (target.suffix in _OF_SPANS or target.name.startswith(".")):
            raise InputError(f"--output '{output}' would be a span file of '{spans}'; choose another folder")
        if any(_same(parent, runs) for parent in target.parents):
            raise InputError(f"--output '{output}' is in the folder of the runs; choose another folder")
    try:
        found = output.stat()
    except OSError:
        return  # a new file
    if stat.S_ISREG(found.st_mode) and found in _Inodes([*kept, *(runs.iterdir() if runs.is_dir() else ())]):
        raise InputError(f"--output '{output}' is a file that is being read; choose another one")


@contextmanager
def written(output: Path) -> Iterator[BinaryIO]:
    """The output as a file that appears whole. A device or a pipe, /dev/null say, is written to and not replaced."""
    is_special = False
    with contextlib.suppress(OSError):
        is_special = not stat.S_ISREG(output.stat().st_mode)
    if not is_special:
        with replacing(output) as file:
            yield file
        return
    with output.open("wb") as file:
        yield file


class _Inodes:
    """The files of some folders, whatever they are called."""

    def __init__(self, folders: list[Path]) -> None:
        self._known: set[tuple[int, int]] = set()
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        found = Path(entry.path).stat()
                        self._known.add((found.st_dev, found.st_ino))

    def __contains__(self, found: os.stat_result) -> bool:
        return (found.st_dev, found.st_ino) in self._known


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
