"""What span files' names say: who wrote a file, which rows it holds, from what time they are. Pure.

    WRITER-FIRST.jsonl                          a journal; FIRST is its first row's sequence number, 12 digits
    START_END_MARKS_WRITER-FIRST-LAST.parquet   the rows FIRST to LAST of that writer; the requests in it started
                                                between the two times (UTC, whole seconds)
    START_END_MARKS_merged_ID-FIRST-LAST.parquet    rows of several writers, or not in one piece: LAST is how many, and
                                                    the file itself lists the ranges that it holds (footer.py)
    WRITER-FIRST-LAST.parquet                   the same without times, as Dyno wrote it before format 2

MARKS is a Bloom filter of 64 bits over the endpoints and runs in the file. So a listing tells which files a question by
time, endpoint or run needs; the others aren't opened.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import Final

# START_END_MARKS_, before the writer's name. The last part of it is empty.
PREFIX: Final = r"\d{8}T\d{6}Z_\d{8}T\d{6}Z_[0-9a-f]{16}_"
_NAME = re.compile(
    rf"(?P<prefix>{PREFIX})?"
    r"(?P<writer>[A-Za-z0-9_]+)-(?P<first>\d{12})(?:-(?P<last>\d{12})\.parquet|\.jsonl)"
)
# The proxy's telemetry/journal.py makes the writer's name of these parts.
_PROCESS = re.compile(r"(?P<host>.+)_(?P<pid>\d+)_(?P<started>\d{8}T\d{6})\d{6}Z")
# Files without rows. With them a user's own DuckDB, which needs a file of each kind, can read every folder.
SEEDS = ("seed-000000000000.jsonl", "seed-000000000000-000000000000.parquet")
_IMPORT = re.compile(r"import_[0-9a-f]+")
_MERGED: Final = "merged_"

_FORM: Final = "%Y%m%dT%H%M%SZ"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The first and the last second that a name can have. They stand for all that is before and after, too.
_FIRST_S: Final = int((datetime(1000, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds())
_LAST_S: Final = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH).total_seconds())


@dataclass(frozen=True)
class Contents:
    """What a name says of a file's rows: the Unix seconds between which they started, and the filter's bits."""

    start_s: int
    end_s: int
    marks: int

    def may_start_from(self, us: int) -> bool:
        """Whether a request in the file may have started then (Unix µs) or later."""
        return self.end_s >= _LAST_S or self.end_s * 1_000_000 >= us

    def may_start_before(self, us: int) -> bool:
        """Whether a request in the file may have started before then (Unix µs)."""
        return self.start_s <= _FIRST_S or self.start_s * 1_000_000 < us

    def may_hold(self, mark: int) -> bool:
        """Whether the file may have rows with this `endpoint_mark` or `run_mark`."""
        return self.marks & mark == mark


@dataclass(frozen=True)
class SpanFile:
    """A span file's name in its parts. `last` is None for a journal, since it may still grow."""

    writer: str
    first: int
    last: int | None
    contents: Contents | None = None

    @cached_property
    def name(self) -> str:
        """The file's name."""
        last = "" if self.last is None else f"-{self.last:012d}"
        prefix = "" if self.contents is None else _prefix(self.contents)
        return f"{prefix}{self.writer}-{self.first:012d}{last}{'.jsonl' if self.last is None else '.parquet'}"

    def __hash__(self) -> int:
        return hash((self.writer, self.first, self.last))

    @property
    def is_merged(self) -> bool:
        """Whether only the file itself says which rows it holds."""
        return self.last is not None and self.writer.startswith(_MERGED)


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
    contents = None
    if found["prefix"] is not None:
        start, end, marks, _ = found["prefix"].split("_")
        try:
            contents = Contents(_seconds(start), _seconds(end), int(marks, 16))
        except ValueError:
            return None
        if found["last"] is None:
            return None
    file = SpanFile(found["writer"], int(found["first"]), int(found["last"]) if found["last"] else None, contents)
    vars(file)["name"] = name  # a folder may have thousands, and each name is asked for often
    return file


def contents(start_us: int, end_us: int, endpoints: Iterable[str], runs: Iterable[str]) -> Contents:
    """What the name says of rows that started between these times, of these endpoints and runs."""
    marks = 0
    for mark in (*map(endpoint_mark, endpoints), *map(run_mark, runs)):
        marks |= mark
    start_s, end_s = start_us // 1_000_000, -(-end_us // 1_000_000)
    return Contents(max(_FIRST_S, min(start_s, _LAST_S)), max(_FIRST_S, min(end_s, _LAST_S)), marks)


def endpoint_mark(endpoint: str) -> int:
    """The bits of an endpoint's name in the filter."""
    return _mark(f"endpoint {endpoint}")


def run_mark(run_id: str) -> int:
    """The bits of a run's id in the filter."""
    return _mark(f"run {run_id}")


def merged(held: str, rows: int, contents: Contents) -> SpanFile:
    """The name of a file that lists the ranges of its rows itself. `held` is that list."""
    name = blake2b(f"{held} {contents}".encode(), digest_size=8).hexdigest()
    return SpanFile(f"{_MERGED}{name}", 1, min(rows, 10**12 - 1), contents)


def may_have_any_time(file: SpanFile) -> bool:
    """Whether the name leaves it open that requests in the file started before 1970, or after 9999."""
    said = file.contents
    return said is None or said.start_s < 0 or said.end_s >= _LAST_S


def is_import(writer: str) -> bool:
    """Whether `dyno import` wrote these files, each of them whole."""
    return _IMPORT.fullmatch(writer) is not None


def process(writer: str) -> Process | None:
    """The process behind a writer's name; None for an import."""
    found = _PROCESS.fullmatch(writer)
    if found is None:
        return None
    try:
        started_at = datetime.strptime(found["started"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Process(found["host"], int(found["pid"]), started_at)


def _mark(text: str) -> int:
    one, other = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=2).digest()
    return 1 << one % 64 | 1 << other % 64


def _prefix(contents: Contents) -> str:
    start, end = (f"{_EPOCH + timedelta(seconds=each_s):{_FORM}}" for each_s in (contents.start_s, contents.end_s))
    return f"{start}_{end}_{contents.marks:016x}_"


def _seconds(text: str) -> int:
    return int((datetime.strptime(text, _FORM).replace(tzinfo=UTC) - _EPOCH).total_seconds())
