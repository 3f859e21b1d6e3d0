"""What `dyno compact` does to a folder, while proxies may write to it and readers may read it."""

import fcntl
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.database import in_memory
from dyno_analysis.errors import InputError
from dyno_analysis.folder_lock import held
from dyno_analysis.spans import file_names
from dyno_analysis.spans.counted import Counted, Source
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.footer import EXPIRED, Footer
from dyno_analysis.spans.held_rows import Held, one_range
from dyno_analysis.spans.journal_lines import FIRST_US, LAST_US
from dyno_analysis.spans.listing import Listing, list_folder
from dyno_analysis.spans.readable import Problem, footer_of
from dyno_analysis.spans.sql_text import as_glob

from . import convert, plan, retire
from .parquet import empty_expired, rewrite, stored_rows
from .retention import Keep, too_many

# If we can't find out whether a journal's writer lives, the journal counts as finished when it wasn't written to for
# this long. The writer itself begins a new journal after half of this time.
STALE_S: Final = 3600.0

_TIMES: Final = """
    SELECT filename, epoch_us(min(started_at)), epoch_us(max(started_at)), count(*)
    FROM read_parquet(?, filename = true) GROUP BY filename
"""

# How long a writer that may live has to see that its journal is sealed.
_UNSURE_S: Final = 3.0


class Compaction:
    """One run over a folder.

    `say` is called with each thing that is done, or, with `dry`, that would be done. `complain` is called with each
    problem; `problems` is their number.
    """

    def __init__(
        self, folder: Path, now: datetime, say: Callable[[str], None], complain: Callable[[str], None], dry: bool
    ) -> None:
        self._folder = folder
        self._now = now
        self._say = say
        self._complain = complain
        self._dry = dry
        self._complained: set[Path] = set()
        self._listing: Listing | None = None  # until a file is made
        self.problems = 0

    def convert(self) -> None:
        """Turn finished journals into Parquet."""
        listing = self._list()
        latest = _latest(listing)
        for counted in listing.counting:
            journal = counted.file
            if journal.last is not None:
                continue
            with self._contained(journal.name):
                if not self._finished(journal, latest.get(journal.writer, journal.first)):
                    continue
                self._say(f"{journal.name}: becomes Parquet")
                if self._dry:
                    continue
                self._listing = None
                done = convert.convert(self._folder, journal, counted.elsewhere)
                if done.rejected:
                    numbers = ", ".join(map(str, done.rejected[:5])) + (" …" if len(done.rejected) > 5 else "")
                    self._problem(
                        f"'{self._folder / journal.name}': {len(done.rejected)} broken lines ({numbers}) are set aside "
                        f"in '{Path(journal.name).with_suffix('.rejected')}'"
                    )

    def merge(self, keep: Keep | None = None) -> None:
        """Join small Parquet files into large ones, but not into larger ones than suit what is kept."""
        listing = self._list()
        for counted in listing.counting:
            if _claims_more(counted.file, listing.held[counted.file]):
                with self._contained(counted.file.name):
                    self._join([counted])
        counting = {counted.file: counted for counted in self._list().counting if counted.file.last is not None}
        candidates = [found for counted in counting.values() if (found := self._candidate(counted))]
        for group in plan.groups(candidates, plan.limits(keep)):
            with self._contained(group[0].file.name):
                self._join([counting[each.file] for each in group])

    def expire(self, keep: Keep) -> None:
        """Delete the spans that `keep` says are too old, or too many."""
        expire_all([self], keep, self._now)

    def expire_before(self, before: datetime) -> None:
        """Delete the spans that started before then, from all Parquet files."""
        before_us = _us(before)
        files = [
            counted
            for counted in self._list().counting
            if counted.file.last is not None
            and (counted.file.contents is None or counted.file.contents.may_start_before(before_us))
        ]
        for counted, (start_us, end_us, rows) in self._times(files).items():
            if start_us is not None and start_us < before_us:
                with self._contained(counted.file.name):
                    self._delete(counted, before_us, rows, whole=end_us is not None and end_us < before_us)

    def stored(self) -> list[tuple[Counted, datetime, int]]:
        """The Parquet files with rows: the file, when the newest span started, bytes."""
        found = []
        for counted, (_, end_us, _) in self._times(
            [c for c in self._list().counting if c.file.last is not None]
        ).items():
            if end_us is not None:
                newest_at = datetime.fromtimestamp(min(max(end_us, FIRST_US), LAST_US) // 1_000_000, UTC)
                found.append((counted, newest_at, counted.path.stat().st_size))
        return found

    def delete_oldest(self, counted: Counted, share: float) -> None:
        """Delete this share (0 to 1) of a file's spans, the oldest."""
        with self._contained(counted.file.name), in_memory() as connection:
            quantile = f"quantile_disc(started_at, {min(share, 1.0):.6f})"
            ((rows, before_us, end_us),) = connection.execute(
                f"SELECT count(*), epoch_us({quantile}), epoch_us(max(started_at)) FROM read_parquet(?)",  # noqa: S608
                [as_glob(str(counted.path))],
            ).fetchall()
            whole = share > 0.95 or before_us == end_us
            self._delete(counted, (end_us if whole else before_us) + 1, rows, whole=whole)

    def clean(self) -> None:
        """Empty the files that no longer count, and later remove them."""
        if not self._dry:
            retire.retire(self._list(), self._now, self._contained, self._problem)

    def _join(self, files: Sequence[Counted]) -> None:
        sources = [
            Source(counted, footer.columns) for counted in files if (footer := self._footer(counted.path)) is not None
        ]
        if len(sources) < len(files):
            return
        name = sources[0].path.name
        self._say(
            f"{len(sources)} files from {name} on: become one" if len(sources) > 1 else f"{name}: is written anew"
        )
        if self._dry:
            return
        self._listing = None
        convert.merge(self._folder, sources)

    def _delete(self, counted: Counted, before_us: int, rows: int, *, whole: bool) -> None:
        """Delete a file's spans that started before then. Its name and what it counts for stay."""
        held = self._list().held[counted.file]
        if whole:
            self._say(f"{counted.file.name}: {rows:,} spans go")
            if not self._dry:
                empty_expired(counted.path, held, before_us)
            return
        footer = self._footer(counted.path)
        if footer is None:
            return
        before, query = stored_rows([Source(Counted(counted.path, counted.file), footer.columns)])
        if self._dry:
            self._say(f"{counted.file.name}: some of its {rows:,} spans go")
            return
        kept = f"FROM ({query}) WHERE started_at >= make_timestamptz({before_us})"
        left = rewrite(counted.path, held, (before, kept), before_us)
        self._say(f"{counted.file.name}: {rows - left:,} of {rows:,} spans go")

    def _candidate(self, counted: Counted) -> plan.Candidate | None:
        """A file for plan.py. Files of format 1 don't say when their rows started; their writer and age do, nearly."""
        file = counted.file
        footer = self._footer(counted.path)
        if file.last is None or footer is None or footer.rowless:
            return None
        try:
            found = counted.path.stat()
        except OSError:
            return None  # another compaction has removed it
        if file.contents is not None:
            start_s, end_s = float(file.contents.start_s), float(file.contents.end_s)
        else:
            process = file_names.process(file.writer)
            end_s = found.st_mtime
            start_s = end_s if process is None else min(end_s, process.started_at.timestamp())
        return plan.Candidate(file, file.last - file.first + 1, found.st_size, start_s, end_s)

    def _times(self, files: Sequence[Counted]) -> Mapping[Counted, tuple[int | None, int | None, int]]:
        """When each file's first and last span started (Unix µs), and how many it has. Broken files are left out."""
        readable = {}
        for counted in files:
            footer = self._footer(counted.path)
            if footer is not None and footer.rowless != EXPIRED:
                readable[str(counted.path)] = counted
        if not readable:
            return {}
        with in_memory() as connection:
            try:
                found = connection.execute(
                    _TIMES, [[as_glob(str(counted.path)) for counted in readable.values()]]
                ).fetchall()
            except duckdb.Error:
                # One of them is broken: look at each.
                found = []
                for counted in readable.values():
                    with self._contained(counted.file.name):
                        found += connection.execute(_TIMES, [[as_glob(str(counted.path))]]).fetchall()
        return {readable[path]: (start_us, end_us, rows) for path, start_us, end_us, rows in found}

    def _finished(self, journal: SpanFile, latest: int) -> bool:
        """Whether the journal can't grow any more. `latest` is the last row of its writer that any file begins with."""
        if file_names.is_import(journal.writer) or latest > journal.first:
            return True
        locked = _locked(self._folder / journal.name)
        if locked:
            return False
        process = file_names.process(journal.writer)
        here = process is not None and process.host == re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname())
        if here and process is not None and not _lives(process.pid):
            if locked is None and not self._dry:
                # It may live in another container that has our host's name, and a lock would have told. The seal tells
                # it to go on in another journal, and it has a while to see that.
                convert.seal(self._folder / journal.name, _UNSURE_S)
            return True
        # The writer is on another machine, or a process with its number lives here. That may be another process:
        # in a container, the first one always has number 1.
        return self._age_s(journal.name) > STALE_S

    def _list(self) -> Listing:
        if self._listing is not None:
            return self._listing
        self._listing = listing = list_folder(self._folder)
        for path, problem in listing.problems.items():
            if file_names.parse(path.name) is not None:
                self._left_alone(path, problem)
        return listing

    def _footer(self, path: Path) -> Footer | None:
        """What the Parquet file says of itself; None, and a complaint, if it can't be read."""
        footer = footer_of(path)
        if isinstance(footer, Problem):
            if not footer.gone:
                self._left_alone(self._folder / path.name, footer.text)
            return None
        return footer

    def _left_alone(self, path: Path, problem: str) -> None:
        if path not in self._complained:
            self._complained.add(path)
            self._problem(f"'{path}' is left alone: it {problem}")

    def _age_s(self, name: str) -> float:
        return self._now.timestamp() - (self._folder / name).lstat().st_mtime

    @contextmanager
    def _contained(self, name: str) -> Iterator[None]:
        """An error with this file is reported as a problem, and the other files are still done.

        It is no problem if another compaction was faster, as it may be where the file system has no locks.
        """
        try:
            yield
        except convert.ReplacedError as error:
            self._say(str(error))
        except (convert.FutureError, convert.GrownError) as error:
            self._problem(str(error))
        except (OSError, duckdb.Error) as error:
            if not os.path.lexists(self._folder / name):
                self._say(f"{name}: is gone; another 'dyno compact' has removed it")
                return
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
            self._problem(f"'{self._folder / name}' stays as it is: {reason}")

    def _problem(self, text: str) -> None:
        self.problems += 1
        self._complain(text)


def expire_all(compactions: Sequence[Compaction], keep: Keep, now: datetime) -> None:
    """Apply a limit to all folders together: a size is that of all files, and the oldest of all are deleted."""
    if keep.age is not None:
        for one in compactions:
            one.expire_before(now - keep.age)
        return
    stored = [((one, file), newest_at, size) for one in compactions for file, newest_at, size in one.stored()]
    for (one, file), share in too_many(stored, keep.size_bytes or 0):
        one.delete_oldest(file, share)


def _latest(listing: Listing) -> dict[str, int]:
    """For each writer, the last number with which a file of its begins, as far as that is known."""
    latest: dict[str, int] = {}
    for file, rows in listing.held.items():
        for writer, ranges in rows.items():
            number = file.first if file.last is None else ranges[-1][file.is_merged]
            latest[writer] = max(latest.get(writer, 0), number)
    return latest


def _claims_more(file: SpanFile, held: Held) -> bool:
    """Whether the name of a file of format 1 claims rows that it doesn't hold, as a pasted view would believe."""
    first_format = file.last is not None and file.contents is None
    return first_format and held != one_range(file.writer, file.first, file.last or 0)


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


@contextmanager
def alone(folder: Path, *, dry: bool = False) -> Iterator[bool]:
    """Hold the folder until the block ends; gives False if another compaction or import holds it.

    With `dry` nothing is written, so nothing is held. Proxies and readers don't ask for this. InputError if the folder
    doesn't exist or can't be read.
    """
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError as error:
        raise InputError(f"the spans folder '{folder}' doesn't exist; name one with --spans DIR") from error
    except OSError as error:
        raise InputError(f"the spans folder '{folder}' can't be read: {error.strerror}") from error
    if dry:
        yield True
        return
    with held(folder, wait=False) as hold:
        yield hold is not None


def _locked(journal: Path) -> bool | None:
    """Whether the journal's writer lives and holds its lock; None if the file system has no locks.

    This works across containers, and across machines if the file system's locks do.
    """
    try:
        opened = os.open(journal, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # it is gone or can't be read; the conversion will report that
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(opened)
    return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
