"""`--keep 30d`, `--keep 10GB`: how long spans stay, or how many bytes of them. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from dyno_analysis.errors import InputError

File = TypeVar("File")

# At most 273 years, so that the moment before which spans go has a date.
_FORM = re.compile(r"[1-9]\d{0,5}h|[1-9]\d{0,4}d|[1-9]\d{0,8}(MB|GB|TB)", re.ASCII)
_PARTS = re.compile(r"(?P<number>\d+)(?P<unit>\w+)")
_AGES = {"h": timedelta(hours=1), "d": timedelta(days=1)}
_SIZES_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class Keep:
    """How long, or how much. Exactly one of the two fields is set."""

    age: timedelta | None = None
    size_bytes: int | None = None


def parse_keep(text: str) -> Keep:
    """The value of --keep; InputError if it is neither an age nor a size."""
    found = _PARTS.fullmatch(text) if _FORM.fullmatch(text) else None
    if found is None:
        raise InputError(f"--keep: '{text}' must be an age or a size, as 12h, 30d, 500MB or 10GB, and at most 99999d")
    number, unit = int(found["number"]), found["unit"]
    if unit in _AGES:
        return Keep(age=number * _AGES[unit])
    return Keep(size_bytes=number * _SIZES_BYTES[unit])


def too_many(files: Sequence[tuple[File, datetime, int]], size_bytes: int) -> list[tuple[File, float]]:
    """What must go so that at most `size_bytes` stay: files, the oldest first, each with its share that goes (0 to 1].

    `files` has for each file: any value that identifies it, when its newest request started, its bytes. The newest file
    stays whole, however large it is. Of a file that is more than a tenth of what is kept, no more goes than must.
    """
    oldest_first = sorted(files, key=lambda file: file[1])
    excess_bytes = sum(file[2] for file in files) - size_bytes
    gone: list[tuple[File, float]] = []
    for file, _, of_file_bytes in oldest_first[:-1]:
        if excess_bytes <= 0:
            break
        share = excess_bytes / of_file_bytes if 10 * of_file_bytes > size_bytes else 1.0
        gone.append((file, min(1.0, share)))
        excess_bytes -= of_file_bytes
    return gone
