"""Which rows a span file holds, and which of several files' rows count, so that each counts exactly once. Pure.

A row is known by its writer and its sequence number. Where several files hold a row, the largest Parquet file counts
for it, and a journal only for what no Parquet file holds. So a conversion or a merge takes effect by one rename, and
the files that it replaces may stay as long as somebody reads them; copies of a folder at different ages can be joined.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .file_names import SpanFile

# The first and the last sequence number of rows that follow each other.
Range = tuple[int, int]
# The ranges of each writer whose rows a file holds, in order and apart from each other.
Held = Mapping[str, Sequence[Range]]

NOTHING_HELD: Final[Held] = {}
# A journal's end, where it isn't known.
OPEN: Final = 10**12


def one_range(writer: str, first: int, last: int) -> Held:
    """The rows FIRST to LAST of one writer; nothing if there are none."""
    return {writer: ((first, last),)} if last >= first else NOTHING_HELD


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The ranges in order, with those joined that overlap or follow each other."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def together(parts: Iterable[Held]) -> Held:
    """All that any of the parts holds."""
    ranges: dict[str, list[Range]] = {}
    for part in parts:
        for writer, of_writer in part.items():
            ranges.setdefault(writer, []).extend(of_writer)
    return {writer: joined(of_writer) for writer, of_writer in sorted(ranges.items())}


def common(one: Held, other: Held) -> Held:
    """What both hold."""
    found = {}
    for writer, ranges in one.items():
        if shared := [
            (max(first, low), min(last, high))
            for low, high in other.get(writer, ())
            for first, last in _near(ranges, low, high)
        ]:
            found[writer] = joined(shared)
    return found


def without(one: Held, other: Held) -> Held:
    """What the first holds and the second doesn't."""
    found: dict[str, list[Range]] = {}
    for writer, ranges in one.items():
        rest: list[Range] = []
        for begin, end in ranges:
            first = begin
            for low, high in _near(other.get(writer, ()), begin, end):
                if low > first:
                    rest.append((first, low - 1))
                first = max(first, high + 1)
            if first <= end:
                rest.append((first, end))
        if rest:
            found[writer] = rest
    return found


def count(held: Held) -> int:
    """How many sequence numbers that are. A file may have fewer rows, as some were lost."""
    return sum(last - first + 1 for ranges in held.values() for first, last in ranges)


def what_counts(held: Mapping[SpanFile, Held]) -> dict[SpanFile, Held]:
    """The files that count, each with those of its rows that don't, since another one counts for them.

    The result doesn't depend on the order of `held`. It has first the Parquet files and then the journals, each by
    writer and number.
    """
    taken: dict[str, list[Range]] = {}
    found: dict[SpanFile, Held] = {}
    ranks = {file: (file.last is None, -count(rows), file.contents is None, file.name) for file, rows in held.items()}
    for file in sorted(held, key=ranks.__getitem__):
        rows = held[file]
        elsewhere = common(rows, taken)
        if not without(rows, elsewhere):
            continue
        found[file] = elsewhere
        for writer, ranges in rows.items():
            of_writer = taken.setdefault(writer, [])
            for first, last in ranges:
                _add(of_writer, first, last)
    return dict(sorted(found.items(), key=lambda pair: (pair[0].last is None, pair[0].writer, pair[0].first)))


def as_text(held: Held) -> str:
    """The ranges as a merged file lists them: `WRITER:FIRST-LAST`, separated by commas."""
    return ",".join(f"{writer}:{first}-{last}" for writer, ranges in held.items() for first, last in ranges)


def from_text(text: str) -> Held:
    """The ranges that a file lists; ValueError if that isn't such a list."""
    ranges: dict[str, list[Range]] = {}
    for part in filter(None, text.split(",")):
        writer, _, numbers = part.rpartition(":")
        first, _, last = numbers.partition("-")
        ranges.setdefault(writer, []).append((int(first), int(last)))
    return {writer: joined(of_writer) for writer, of_writer in ranges.items()}


def _add(ranges: list[Range], first: int, last: int) -> None:
    """Add a range to ranges that are in order."""
    near = _near(ranges, first - 1, last + 1)
    at = bisect_right(ranges, (first - 1, OPEN))
    if near:
        at = bisect_right(ranges, near[0]) - 1
        first, last = min(first, near[0][0]), max(last, near[-1][1])
    ranges[at : at + len(near)] = [(first, last)]


def _near(ranges: Sequence[Range], low: int, high: int) -> Sequence[Range]:
    """Those of the ranges, which are in order, that have a number between the two."""
    begin = bisect_right(ranges, (low, OPEN)) - 1
    if begin < 0 or ranges[begin][1] < low:
        begin += 1
    end = bisect_right(ranges, (high, OPEN), lo=begin)
    return ranges[begin:end]
