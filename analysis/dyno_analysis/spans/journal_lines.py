"""Finds the lines of a journal that no row is made of though they are whole, so that somebody says it.

DuckDB skips a line that isn't JSON. It fails at one that is too long for it, whatever the other files hold, and at a
time that is none. A torn last line is normal: its writer was killed, or is at work.
"""

import codecs
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

# DuckDB's read_json fails for the whole statement at a line of 16 MiB.
LINE_BYTES: Final = 16_000_000
# The times that a request can have: 1970 to 9999, in Unix µs. Python has no later date.
FIRST_US: Final = 0
LAST_US: Final = 253_402_300_799_999_999

_TIME: Final = b'"started_at_us":'
_USUAL: Final = _TIME + b"1"
_AFTER: Final = (b",", b"}")
_TIME_BYTES: Final = len(_TIME) + 16 + 1  # the digits of a time from 2001 to 2286, and what follows
_PIECE_BYTES: Final = 1 << 20


@dataclass
class BadLines:
    """The numbers of the lines, from 1: too long, no text in UTF-8, or with a time that is none."""

    long: list[int] = field(default_factory=list)
    no_text: list[int] = field(default_factory=list)
    no_time: list[int] = field(default_factory=list)

    def said(self, path: Path) -> list[str]:
        """A sentence for each kind that there is."""
        return [
            _said(path, numbers, why)
            for numbers, why in (
                (self.long, f"longer than {LINE_BYTES // 1_000_000} MB"),
                (self.no_text, "not text in UTF-8"),
                (self.no_time, "from no time between 1970 and 9999 (started_at_us)"),
            )
            if numbers
        ]


def bad_lines(path: Path) -> BadLines:
    """The journal's bad lines. Raises OSError if it can't be read."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return BadLines()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _among(content)


def copy_without(path: Path, numbers: list[int], target: BinaryIO) -> None:
    """Write the journal's other lines to the target."""
    left_out = set(numbers)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for number, (start, end) in enumerate(_lines(content), start=1):
            if number not in left_out:
                target.write(content[start : end + 1])


def _among(content: mmap.mmap) -> BadLines:
    found = BadLines()
    is_text = content.find(b"\0") < 0 and _is_text(content)
    find, size = content.find, len(content)
    start = number = offset = 0
    while start < size:
        end = find(b"\n", start)
        if end < 0:
            end = size
        number += 1
        # Nearly every line has its time where the one before has it, and that has 16 digits and begins with 1.
        here = content[start + offset : start + offset + _TIME_BYTES]
        usual = here.startswith(_USUAL) and here[-1:] in _AFTER and here[len(_TIME) : -1].isdigit()
        if not usual or not is_text or end - start > LINE_BYTES:
            if end - start > LINE_BYTES:
                found.long.append(number)
            elif not is_text and not _is_text_line(content[start:end]):
                found.no_text.append(number)
            elif (at := find(_TIME, start, end)) >= 0:
                offset = at - start
                if not _is_time(content[at + len(_TIME) : min(end, at + 400)]):
                    found.no_time.append(number)
        start = end + 1
    return found


def _lines(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where each line begins and ends, without its newline."""
    start, size = 0, len(content)
    while start < size:
        end = content.find(b"\n", start)
        if end < 0:
            end = size
        yield start, end
        start = end + 1


def _is_text(content: mmap.mmap) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    pending = False
    for start in range(0, len(content), _PIECE_BYTES):
        piece = content[start : start + _PIECE_BYTES]
        if pending or not piece.isascii():
            try:
                decoder.decode(piece)
            except UnicodeDecodeError:
                return False
            pending = bool(decoder.getstate()[0])
    return True


def _is_text_line(line: bytes) -> bool:
    if b"\0" in line:
        return False
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_time(rest: bytes) -> bool:
    """False if what follows the column's name is a time that the reader leaves out.

    What DuckDB can't take for a number of 64 bits is an unknown value, as it is in every other column.
    """
    value = rest.split(b",", 1)[0].split(b"}", 1)[0].strip()
    try:
        us = int(value)
    except ValueError:
        return True
    return FIRST_US <= us <= LAST_US or not -(2**63) <= us < 2**63


def _said(path: Path, numbers: list[int], why: str) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (" …" if len(numbers) > 5 else "")
    what, are = ("line", "is") if len(numbers) == 1 else (f"{len(numbers):,} lines", "are")
    named = f"{what} {shown}" if len(numbers) == 1 else f"{what} ({shown})"
    return f"{named} of '{path}' {are} left out: {why}"
