"""Lists a spans folder: which files count, which of their rows, which files others have replaced, and what is wrong.

Only a file that can be read, of a known version, counts for another one's rows. So the footer of each Parquet file is
read that holds the same rows as another file; of the others, only the names are looked at here.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

import duckdb
import orjson

from dyno_analysis.database import in_memory
from dyno_analysis.errors import InputError

from . import file_names
from .counted import Counted
from .entries import entry_problem
from .file_names import SpanFile
from .footer import REPLACED
from .held_rows import NOTHING_HELD, OPEN, Held, Range, common, count, joined, one_range, together, what_counts
from .readable import Problem, footer_of
from .sql_text import as_glob

_TAIL_BYTES: Final = 65_536


@dataclass(frozen=True)
class Listing:
    """What is in a folder. `held` has the rows of each file that can be read, also of those that don't count."""

    folder: Path
    counting: Sequence[Counted]
    covered: Sequence[SpanFile]
    held: Mapping[SpanFile, Held]
    problems: Mapping[Path, str]


def list_folder(folder: Path, only: str | None = None) -> Listing:
    """List the folder's span files. With `only`, only those that may hold rows of this writer.

    What is no regular file is a problem, and isn't opened. InputError if the folder doesn't exist or can't be listed.
    """
    problems: dict[Path, str] = {}
    files = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if (file := file_names.parse(name)) is None:
                    if name.endswith(".parquet") and name[0] != "." and name not in file_names.SEEDS:
                        problems[folder / name] = "isn't named as Dyno's span files are; move it elsewhere"
                elif (why := entry_problem(entry, _is_span_file)) is None:
                    files.append(file)
                else:
                    problems[folder / name] = why
    except FileNotFoundError as error:
        raise InputError(f"the spans folder '{folder}' doesn't exist; name one with --spans DIR") from error
    except OSError as error:
        raise InputError(f"the spans folder '{folder}' can't be listed: {error.strerror}") from error
    if only is not None:
        files = [file for file in files if file.is_merged or file.writer == only]
    held, counting = _settled(folder, _held(folder, files, problems), problems)
    resolved = folder.resolve()
    return Listing(
        folder,
        [Counted(resolved / file.name, file, elsewhere) for file, elsewhere in counting.items()],
        sorted((file for file in held if file not in counting), key=lambda file: (file.writer, file.first, file.name)),
        held,
        problems,
    )


def _is_span_file(name: str) -> bool:
    return file_names.parse(name) is not None


def _held(folder: Path, files: Iterable[SpanFile], problems: dict[Path, str]) -> dict[SpanFile, Held]:
    """What each file holds: as its name says, or as a merged file says itself, but for those that can't be read."""
    held: dict[SpanFile, Held] = {}
    journals: list[SpanFile] = []
    for file in files:
        if file.last is None:
            journals.append(file)
        elif not file.is_merged:
            held[file] = one_range(file.writer, file.first, file.last)
        elif (found := _from_footer(folder, file, problems)) is not None:
            held[file] = found
    in_parquet = together(held.values())
    for file, end in _ends(journals).items():
        rows = one_range(file.writer, file.first, end)
        held[file] = _of_journal(folder / file.name, file, rows) if common(rows, in_parquet) else rows
    return held


def _settled(
    folder: Path, held: dict[SpanFile, Held], problems: dict[Path, str]
) -> tuple[dict[SpanFile, Held], dict[SpanFile, Held]]:
    """What each file holds, and which files count, once each file that counts for others' rows has been looked at.

    A broken one is left out, and then others may count. The name of a merged file of format 1 may claim rows between
    its parts that it doesn't hold.
    """
    shared = _overlapping(held)
    looked_at: set[SpanFile] = set()
    while True:
        counting = what_counts(held)
        unsure = [
            file
            for file in counting
            if file in shared and file not in looked_at and file.last is not None and not file.is_merged
        ]
        if not unsure:
            return held, counting
        for file in unsure:
            looked_at.add(file)
            found = _from_footer(folder, file, problems)
            if found is None:
                del held[file]
            else:
                held[file] = found


def _from_footer(folder: Path, file: SpanFile, problems: dict[Path, str]) -> Held | None:
    """What the Parquet file really holds; None if it can't be read."""
    path = folder / file.name
    footer = footer_of(path)
    if isinstance(footer, Problem):
        if not footer.gone:
            problems[path] = footer.text
        return None
    if footer.rowless == REPLACED:
        return NOTHING_HELD
    if int(footer.version) > 1:  # since then they say it
        return footer.held
    try:
        return _of_first_format(path, file)
    except duckdb.Error as error:
        problems[path] = f"is broken: {str(error).splitlines()[0]}; restore it from a backup"
        return None


def _of_first_format(path: Path, file: SpanFile) -> Held:
    with in_memory() as connection:
        source = as_glob(str(path))
        ((rows,),) = connection.execute("SELECT num_rows FROM parquet_file_metadata(?)", [source]).fetchall()
        whole = one_range(file.writer, file.first, file.last or 0)
        if rows == count(whole):
            return whole
        islands = connection.execute(
            "SELECT min(seq), max(seq) FROM (SELECT seq, seq - row_number() OVER (ORDER BY seq) AS island "
            "FROM read_parquet(?)) GROUP BY island",
            [source],
        ).fetchall()
    return {file.writer: joined(islands)} if islands else NOTHING_HELD


def _ends(journals: Iterable[SpanFile]) -> dict[SpanFile, int]:
    """The last number that a journal can have: its writer's next journal begins behind it."""
    ends: dict[SpanFile, int] = {}
    ordered = sorted(journals, key=lambda file: (file.writer, file.first))
    for _, of_writer in groupby(ordered, key=lambda file: file.writer):
        files = list(of_writer)
        ends |= {one: other.first - 1 for one, other in pairwise(files)}
        ends[files[-1]] = OPEN
    return ends


def _overlapping(held: Mapping[SpanFile, Held]) -> set[SpanFile]:
    """The files that share rows with another one."""
    of_writer: dict[str, list[tuple[Range, SpanFile]]] = {}
    for file, rows in held.items():
        for writer, ranges in rows.items():
            of_writer.setdefault(writer, []).extend((each, file) for each in ranges)
    found: set[SpanFile] = set()
    for pairs in of_writer.values():
        pairs.sort(key=lambda pair: pair[0])
        (_, reached), reaching = pairs[0]
        for (first, last), file in pairs[1:]:
            if first <= reached:
                found |= {file, reaching}
            if last > reached:
                reached, reaching = last, file
    return found


def _of_journal(path: Path, file: SpanFile, rows: Held) -> Held:
    """What a journal holds up to its last row. Of one that was emptied nothing is left."""
    try:
        last = _last_number(path)
    except OSError:
        return rows  # reading it will say why
    return NOTHING_HELD if last is None else one_range(file.writer, file.first, last)


def _last_number(path: Path) -> int | None:
    """The sequence number of the journal's last whole row; None if it has none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        start = end
        tail = b""
        while start:
            size = min(start, max(_TAIL_BYTES, len(tail)))  # a line may have millions of bytes
            start -= size
            file.seek(start)
            tail = file.read(size) + tail
            lines = tail.split(b"\n")
            for line in reversed(lines if start == 0 else lines[1:]):
                if (number := _number(line)) is not None:
                    return number
    return None


def _number(line: bytes) -> int | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    number = row.get("seq") if isinstance(row, dict) and row.get("span_id") is not None else None
    return number if isinstance(number, int) else None
