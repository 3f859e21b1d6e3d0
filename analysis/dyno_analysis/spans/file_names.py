"""What span files' names say: who wrote a file, which files of a folder count, which can be joined. Pure.

    WRITER-FIRST.jsonl            a journal; FIRST is its first row's sequence number, 12 digits
    WRITER-FIRST-LAST.parquet     the rows FIRST to LAST of that writer

A file counts unless a Parquet file of the same writer covers its range. So a conversion or a compaction takes effect by
one rename, and the files that it replaces may stay as long as somebody reads them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

_NAME = re.compile(r"(?P<writer>[A-Za-z0-9_]+)-(?P<first>\d{12})(?:-(?P<last>\d{12})\.parquet|\.jsonl)")
# The proxy's telemetry/journal.py makes the writer's name of these parts.
_PROCESS = re.compile(r"(?P<host>.+)_(?P<pid>\d+)_(?P<started>\d{8}T\d{6})\d{6}Z")
# Files without rows. With them a user's own DuckDB, which needs a file of each kind, can read every folder.
SEEDS = ("seed-000000000000.jsonl", "seed-000000000000-000000000000.parquet")
_IMPORT = re.compile(r"import_[0-9a-f]+")


@dataclass(frozen=True, order=True)
class SpanFile:
    """A span file's name in its parts. `last` is None for a journal, since it may still grow."""

    writer: str
    first: int
    last: int | None

    @property
    def name(self) -> str:
        """The file's name."""
        last = "" if self.last is None else f"-{self.last:012d}"
        return f"{self.writer}-{self.first:012d}{last}{'.jsonl' if self.last is None else '.parquet'}"

    def covers(self, other: "SpanFile") -> bool:
        """Whether this is a Parquet file that holds the other's rows, so that the other doesn't count."""
        if self.last is None or self == other or self.writer != other.writer:
            return False
        return self.first <= other.first and self.last >= (other.first if other.last is None else other.last)


@dataclass(frozen=True)
class Process:
    """The process that a writer's name stands for."""

    host: str
    pid: int
    started_at: datetime


def parse(name: str) -> SpanFile | None:
    """The parts of a file's name; None if it isn't a span file's name."""
    found = _NAME.fullmatch(name)
    if found is None or name in SEEDS:
        return None
    return SpanFile(found["writer"], int(found["first"]), int(found["last"]) if found["last"] else None)


def sort_out(names: Iterable[str]) -> tuple[list[SpanFile], list[SpanFile]]:
    """The span files that count, and those that another one covers, both in order of writer and number."""
    counting: list[SpanFile] = []
    covered: list[SpanFile] = []
    files = sorted(filter(None, map(parse, names)), key=lambda file: (file.writer, file.first, -(file.last or 0)))
    for _, of_writer in groupby(files, key=lambda file: file.writer):
        reached = 0  # the last row that a Parquet file so far has
        for file in of_writer:
            (covered if reached >= (file.last or file.first) else counting).append(file)
            reached = max(reached, file.last or 0)
    return counting, covered


def finished(journal: SpanFile, counting: Sequence[SpanFile]) -> bool:
    """Whether the journal can't grow any more: its writer has begun another file, or an import wrote it whole."""
    if _IMPORT.fullmatch(journal.writer):
        return True
    return any(other.writer == journal.writer and other.first > journal.first for other in counting)


def process(writer: str) -> Process | None:
    """The process behind a writer's name; None for an import."""
    found = _PROCESS.fullmatch(writer)
    if found is None:
        return None
    started_at = datetime.strptime(found["started"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return Process(found["host"], int(found["pid"]), started_at)


def together(counting: Sequence[tuple[SpanFile, int]], most_rows: int) -> list[list[SpanFile]]:
    """Groups of Parquet files, each of which can be joined into one file of at most `most_rows` rows.

    `counting` has each file that counts, with its number of rows. Only neighbours of one writer are joined: otherwise
    the new file would cover the files between them.
    """
    groups: list[list[SpanFile]] = []
    rows_of_last = 0
    before: SpanFile | None = None
    for file, rows in sorted(counting, key=lambda pair: (pair[0].writer, pair[0].first)):
        if file.last is not None:
            fits = before is not None and before.last is not None and before.writer == file.writer
            if fits and rows_of_last + rows <= most_rows:
                groups[-1].append(file)
                rows_of_last += rows
            else:
                groups.append([file])
                rows_of_last = rows
        before = file
    return [group for group in groups if len(group) > 1]
