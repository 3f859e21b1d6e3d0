"""How much of the machine a command may take: a login node has neighbours.

By default DuckDB takes at most a quarter of the machine's memory, or of what a control group allows, if that is less.
What doesn't fit is spilled to disk.
"""

import argparse
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_SHARE: Final = 4
_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUPS: Final = Path("/proc/self/cgroup")

_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?) ?([KMGT]i?B)", re.ASCII | re.IGNORECASE)
_UNITS_BYTES: Final = {
    **{f"{unit}B": 1000**power for power, unit in enumerate("KMGT", start=1)},
    **{f"{unit}IB": 1024**power for power, unit in enumerate("KMGT", start=1)},
}
_LEAST_BYTES: Final = 32_000_000  # with less, DuckDB can't read one Parquet file
_MOST_THREADS: Final = 1024
_LONGEST_S: Final = 1_000_000.0


@cache
def default_memory_bytes() -> int:
    """The memory that DuckDB takes at most where nobody says it."""
    machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        member_of = _OWN_GROUPS.read_text(encoding="utf-8")
    except OSError:
        member_of = ""  # no Linux
    return min([machine_bytes, *group_limits_bytes(member_of, _GROUPS)]) // _SHARE


def memory_limit(most_bytes: int | None = None) -> str:
    """DuckDB's setting `memory_limit` for the default, or for `most_bytes` if that is less."""
    default_bytes = default_memory_bytes()
    return f"{default_bytes if most_bytes is None else min(most_bytes, default_bytes)}B"


def group_limits_bytes(member_of: str, root: Path) -> Iterator[int]:
    """The memory limits of a process's control groups, and of those above them, of version 1 or 2.

    `member_of` is the text of /proc/PID/cgroup. In a container its paths may not exist below `root`, and then what
    holds for the container stands in `root` itself.
    """
    for line in member_of.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        names: tuple[str, ...]
        if not controllers:
            folder, names = root, ("memory.max", "memory.high")
        elif "memory" in controllers.split(","):
            folder, names = root / "memory", ("memory.limit_in_bytes",)
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            for name in names:
                if (limit_bytes := _number(folder.joinpath(*parts[:depth], name))) is not None:
                    yield limit_bytes


def _number(path: Path) -> int | None:
    """The file's number; None if it says that there is no limit, or isn't there."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() and int(text) > 0 else None


def limit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --timeout, --memory and --threads."""
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds, help="stop after this time, with exit code 124 (default: never)"
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        type=size_bytes,
        help="take at most this much memory, as 500MB or 2GB, and spill the rest to disk (default: a quarter of what "
        "the machine has and the control group allows)",
    )
    parser.add_argument(
        "--threads", metavar="N", type=threads, help="use at most so many threads (default: one for each core)"
    )


def size_bytes(text: str) -> int:
    """The value of --memory. ArgumentTypeError if it isn't a size, or is too small to work with."""
    found = _SIZE.fullmatch(text.strip())
    size = round(float(found[1]) * _UNITS_BYTES[found[2].upper()]) if found else 0
    if size < _LEAST_BYTES:
        raise argparse.ArgumentTypeError(f"'{text}' must be a size from 32MB on, as 500MB, 2GB or 1GiB")
    return size


def threads(text: str) -> int:
    """The value of --threads. ArgumentTypeError if it isn't a number of threads."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else 0
    if not 1 <= number <= _MOST_THREADS:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number from 1 to {_MOST_THREADS}")
    return number


def seconds(text: str) -> float:
    """The value of --timeout. ArgumentTypeError if it isn't a time above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number of seconds above 0, and at most {_LONGEST_S:,.0f}")
    return value
