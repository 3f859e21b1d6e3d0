"""Reads what a Parquet span file says of itself: the format's version, its columns, the rows that it holds.

These are key-value pairs at the end of the file's footer. They are found there by their keys, without the rest of the
footer being parsed: a folder may have thousands of files, and DuckDB takes ten times as long for each.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

from .held_rows import NOTHING_HELD, Held, from_text

# The keys. The first one's value is the version of the format; older versions of Dyno look at it too.
VERSION_KEY: Final = "dyno_spans"
HELD_KEY: Final = "dyno_rows"
KEPT_FROM_KEY: Final = "dyno_kept_from_us"
ROWLESS_KEY: Final = "dyno_rowless"

# Why a file has no rows.
EXPIRED: Final = "expired"
REPLACED: Final = "replaced"

_MAGIC: Final = b"PAR1"
_READ_BYTES: Final = 16_384


class BrokenError(Exception):
    """The file isn't a whole Parquet span file. The message is the rest of a sentence that begins with `it`."""


@dataclass(frozen=True)
class Footer:
    """`columns` is the same for files with the same columns.

    `held` is what the file says that it holds; files of format 1 don't say it. `kept_from_us`: rows that started before
    (Unix µs) were deleted. `rowless`: EXPIRED or REPLACED if all its rows went.
    """

    version: str
    columns: bytes
    held: Held
    kept_from_us: int | None
    rowless: str


def read_footer(path: Path) -> Footer:
    """What the file says of itself. Raises BrokenError, or OSError if it can't be read at all."""
    footer = _footer(path)
    version = _value(footer, VERSION_KEY)
    if version is None or not version.isdecimal():
        raise BrokenError("is a Parquet file that isn't Dyno's; move it elsewhere")
    kept_from = _value(footer, KEPT_FROM_KEY)
    try:
        held = from_text(_value(footer, HELD_KEY) or "") or NOTHING_HELD
        kept_from_us = None if kept_from is None else int(kept_from)
    except ValueError as error:
        raise BrokenError("is broken: it doesn't say which rows it holds; remove it, or restore it") from error
    return Footer(version, _columns(footer), held, kept_from_us, _value(footer, ROWLESS_KEY) or "")


def _footer(path: Path) -> bytes:
    """The footer's bytes. A Parquet file ends with the footer, its length in four bytes, and PAR1."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(fd).st_size
        end = os.pread(fd, _READ_BYTES, max(0, size_bytes - _READ_BYTES))
        length = int.from_bytes(end[-8:-4], "little")
        if size_bytes < 12 or end[-4:] != _MAGIC or length > size_bytes - 12:
            raise BrokenError("is broken: a Parquet file's end is missing; remove it, or restore it from a backup")
        if length + 8 > len(end):
            end = os.pread(fd, length + 8, size_bytes - length - 8)
        return end[-8 - length : -8]
    finally:
        os.close(fd)


# The columns of all files that were read, as their footers begin. There are as many as there were versions of Dyno.
_known_columns: list[bytes] = []


def _columns(footer: bytes) -> bytes:
    """The footer's beginning, which has the names and types of the columns and nothing else."""
    for known in _known_columns:
        if footer.startswith(known):
            return known
    try:
        found = footer[: _columns_end(footer)]
    except IndexError as error:
        raise BrokenError("is broken: its list of columns is cut off; remove it, or restore it") from error
    _known_columns.append(found)
    return found


def _columns_end(footer: bytes) -> int:
    """Where the first two fields end, the version and the columns. Both are parsed by Thrift's compact protocol.

    Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
    """
    at = _after_varint(footer, 1)  # the first byte is the first field's type
    size, at = footer[at + 1] >> 4, at + 2
    if size == 15:
        size, at = _varint(footer, at)
    for _ in range(size):
        at = _after_struct(footer, at)
    return at


# Parquet's types of values, its older and its newer names for what they mean, in our words. Both come from
# https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
_PHYSICAL: Final = {0: "bool", 1: "int", 2: "int", 3: "time", 4: "float", 5: "float", 6: "bytes"}
_CONVERTED: Final = {
    0: "text",
    1: "map",
    2: "map",
    3: "list",
    9: "time",
    10: "time",
    15: "int",
    16: "int",
    17: "int",
    18: "int",
}
_LOGICAL: Final = {1: "text", 2: "map", 3: "list", 8: "time", 10: "int"}


@dataclass
class _Element:
    """A column, or a group of columns, as the footer lists them: each group stands before its columns."""

    numbers: dict[int, int] = field(default_factory=dict)  # of the fields that are numbers
    name: str = ""
    logical: int | None = None

    @property
    def meaning(self) -> str:
        """In our words; `other` for what Dyno never writes."""
        if self.logical is not None:
            return _LOGICAL.get(self.logical, "other")
        if 6 in self.numbers:
            return _CONVERTED.get(self.numbers[6], "other")
        return _PHYSICAL.get(self.numbers.get(1, -1), "other")


@lru_cache(maxsize=64)
def column_kinds(columns: bytes) -> Mapping[str, str]:
    """The name and kind of each column: int, float, bool, text, time, bytes, text[], int[], map, other.

    `columns` are those of a Footer. Raises BrokenError if they can't be understood.
    """
    try:
        elements = _elements(columns)
        root = next(elements)
        return dict(_column(elements) for _ in range(root.numbers.get(5, 0)))
    except (IndexError, StopIteration, RuntimeError) as error:  # RuntimeError: it goes too deep, or ends too soon
        raise BrokenError("is broken: its list of columns can't be understood; remove it, or restore it") from error


def _column(elements: Iterator[_Element]) -> tuple[str, str]:
    element = next(elements)
    inner = [_column(elements)[1] for _ in range(element.numbers.get(5, 0))]
    if not inner:
        return element.name, element.meaning
    meaning = element.meaning
    if meaning == "list" and len(inner) == 1:
        return element.name, f"{inner[0]}[]"
    if meaning == "map" and inner == ["text, text"]:
        return element.name, "map"
    # The repeated group between a list or a map and its values.
    return element.name, ", ".join(inner)


def _elements(columns: bytes) -> Iterator[_Element]:
    at = _after_varint(columns, 1)
    size, at = columns[at + 1] >> 4, at + 2
    if size == 15:
        size, at = _varint(columns, at)
    for _ in range(size):
        element, number = _Element(), 0
        while head := columns[at]:
            at += 1
            if head >> 4:
                number += head >> 4
            else:
                number, at = _signed(columns, at)
            kind = head & 0x0F
            if kind in (4, 5, 6):
                element.numbers[number], at = _signed(columns, at)
            elif kind == 8:
                length, at = _varint(columns, at)
                element.name = columns[at : at + length].decode("utf-8", "replace")
                at += length
            elif kind == 12:
                element.logical = columns[at] >> 4
                at = _after_struct(columns, at)
            elif kind == 3:
                at += 1
        at += 1
        yield element


def _signed(footer: bytes, at: int) -> tuple[int, int]:
    found, at = _varint(footer, at)
    return found >> 1 ^ -(found & 1), at


def _after_struct(footer: bytes, at: int) -> int:
    while head := footer[at]:
        at += 1
        if not head >> 4:  # else the number of the field is in the same byte
            at = _after_varint(footer, at)
        kind = head & 0x0F
        if kind in (5, 6, 4):  # an integer
            at = _after_varint(footer, at)
        elif kind == 8:  # a name
            length, at = _varint(footer, at)
            at += length
        elif kind == 12:
            at = _after_struct(footer, at)
        elif kind == 3:
            at += 1
        elif kind not in (1, 2):  # true and false have no more bytes
            raise BrokenError("is broken: its list of columns can't be understood; remove it, or restore it")
    return at + 1


def _after_varint(footer: bytes, at: int) -> int:
    return _varint(footer, at)[1]


def _varint(footer: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    found = shift = 0
    while True:
        byte = footer[at]
        at += 1
        found |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return found, at


def _value(footer: bytes, key: str) -> str | None:
    """The value of a key. Thrift's compact protocol writes both as 0x18, the length as a varint, and the bytes.

    The pairs stand behind all statistics of columns, whose values could look like them; so the last one counts.
    """
    encoded = key.encode()
    at = footer.rfind(b"\x18" + bytes([len(encoded)]) + encoded + b"\x18")
    if at < 0:
        return None
    try:
        length, at = _varint(footer, at + len(encoded) + 3)
    except IndexError:
        return None
    return footer[at : at + length].decode("utf-8", "replace")
