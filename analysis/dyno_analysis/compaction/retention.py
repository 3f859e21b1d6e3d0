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


def expired(files: Sequence[tuple[File, datetime, int]], keep: Keep, now: datetime) -> list[File]:
    """The files whose spans must be deleted, the oldest first.

    `files` has for each file: any value that identifies it, when its newest request started, its bytes.
    """
    oldest_first = sorted(files, key=lambda file: file[1])
    if keep.age is not None:
        return [name for name, newest_at, _ in oldest_first if newest_at < now - keep.age]
    too_many_bytes = sum(size_bytes for _, _, size_bytes in files) - (keep.size_bytes or 0)
    gone: list[File] = []
    for name, _, size_bytes in oldest_first:
        if too_many_bytes <= 0:
            break
        gone.append(name)
        too_many_bytes -= size_bytes
    return gone
