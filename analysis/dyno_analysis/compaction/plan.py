"""Which Parquet files become one. Pure.

Cost follows the number of files, so small ones are joined: those of one writer always, and those of all writers where
they are many. A file is written again only with others that have at least half of its rows. So a row is written again a
few times in a year, and not at each run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Final

from dyno_analysis.spans.file_names import SpanFile

from .retention import Keep

ROWS_OF_A_FILE: Final = 1_000_000
# Up to so many, the files of different writers stay apart.
FEW_FILES: Final = 32
# What is kept only for some time, or in some space, is in files of at most this share of it. So little is written again
# when the oldest rows are deleted.
_SHARE: Final = 10


@dataclass(frozen=True)
class Candidate:
    """A Parquet file, about how many rows and exactly how many bytes it has, and when its requests started (Unix s)."""

    file: SpanFile
    rows: int
    size_bytes: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Limits:
    """The largest file that is made: rows, bytes, and the time between its first and its last request."""

    rows: int = ROWS_OF_A_FILE
    size_bytes: float = float("inf")
    span_s: float = float("inf")


def limits(keep: Keep | None) -> Limits:
    """How large files may become where only so much is kept."""
    if keep is None:
        return Limits()
    if keep.age is not None:
        return Limits(span_s=keep.age / timedelta(seconds=_SHARE))
    return Limits(size_bytes=(keep.size_bytes or 0) / _SHARE)


def groups(candidates: Iterable[Candidate], limit: Limits, few: int = FEW_FILES) -> list[list[Candidate]]:
    """The groups of files each of which becomes one file."""
    by_writer = sorted(candidates, key=lambda each: (each.file.is_merged, each.file.writer, each.file.first))
    found: list[list[Candidate]] = []
    single: list[Candidate] = []
    for merged, of_writers in groupby(by_writer, key=lambda each: each.file.is_merged):
        if merged:
            single += of_writers
            continue
        for _, of_writer in groupby(of_writers, key=lambda each: each.file.writer):
            files = list(of_writer)
            joined = _of_one_order(files, limit)
            found += joined
            inside = {each.file for group in joined for each in group}
            single += [each for each in files if each.file not in inside]
    if len(single) + len(found) <= few:
        return found
    return _of_one_order(sorted(by_writer, key=lambda each: (each.start_s, each.file.name)), limit)


def _of_one_order(files: Iterable[Candidate], limit: Limits) -> list[list[Candidate]]:
    """Groups of neighbours within the limits."""
    found: list[list[Candidate]] = []
    group: list[Candidate] = []
    rows = size_bytes = 0
    start_s, end_s = float("inf"), float("-inf")
    for each in files:
        rows, size_bytes = rows + each.rows, size_bytes + each.size_bytes
        start_s, end_s = min(start_s, each.start_s), max(end_s, each.end_s)
        if rows > limit.rows or size_bytes > limit.size_bytes or end_s - start_s > limit.span_s:
            found += _worthwhile(group)
            group = []
            rows, size_bytes, start_s, end_s = each.rows, each.size_bytes, each.start_s, each.end_s
        group.append(each)
    return found + _worthwhile(group)


def _worthwhile(group: Sequence[Candidate]) -> list[list[Candidate]]:
    """The group, or what is left of it on both sides of a file that is too large to be written again."""
    if len(group) < 2:
        return []
    largest = max(range(len(group)), key=lambda index: group[index].rows)
    if 3 * group[largest].rows <= 2 * max(1, sum(each.rows for each in group)):
        return [list(group)]
    return _worthwhile(group[:largest]) + _worthwhile(group[largest + 1 :])
