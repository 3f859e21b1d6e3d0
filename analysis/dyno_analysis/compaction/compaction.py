"""What `dyno compact` does to a folder, while proxies may write to it and readers may read it."""

import fcntl
import os
import re
import shutil
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.errors import InputError
from dyno_analysis.folder_lock import held
from dyno_analysis.spans import file_names
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.readable import unreadable
from dyno_analysis.spans.sql_text import as_glob

from . import convert
from .retention import Keep, expired

ROWS_OF_A_FILE: Final = 1_000_000
# If we can't find out whether a journal's writer lives, the journal counts as finished when it wasn't written to for
# this long. The writer itself begins a new journal after half of this time.
STALE_S: Final = 3600.0
# A file that no longer counts may still be read by a reader that listed the folder before. After GRACE_S it is
# emptied, so that a scan which reaches it later finds no rows. After REMOVED_S it is removed.
GRACE_S: Final = 600.0
REMOVED_S: Final = 86_400.0

# How long a writer that may live has to see that its journal is sealed.
_UNSURE_S: Final = 3.0

_LEFT: Final = re.compile(r"\..+\.(tmp|checked|spill)")


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
        self._rows: dict[str, int] = {}
        self.problems = 0

    def convert(self) -> None:
        """Turn finished journals into Parquet."""
        counting, _ = self._files()
        for journal in [file for file in counting if file.last is None]:
            with self._contained(journal.name):
                if not self._finished(journal, counting):
                    continue
                self._say(f"{journal.name}: becomes Parquet")
                if self._dry:
                    continue
                done = convert.convert(self._folder, journal)
                if done.rejected:
                    numbers = ", ".join(map(str, done.rejected[:5])) + (" …" if len(done.rejected) > 5 else "")
                    self._problem(
                        f"'{self._folder / journal.name}': {len(done.rejected)} broken lines ({numbers}) are set aside "
                        f"in '{Path(journal.name).with_suffix('.rejected')}'"
                    )

    def merge(self) -> None:
        """Join small Parquet files into large ones."""
        counting, _ = self._files()
        parquet = self._readable([file for file in counting if file.last is not None])
        rows = self._row_counts([file.name for file in parquet])
        # Unreadable files and journals stay in the list, since files on both sides of one must not be joined.
        counted = [(file, rows.get(file.name, ROWS_OF_A_FILE + 1)) for file in counting]
        for group in file_names.together(counted, ROWS_OF_A_FILE):
            self._say(f"{len(group)} files from {group[0].name} on: become one")
            if not self._dry:
                with self._contained(group[0].name):
                    convert.merge(self._folder, group)

    def expire(self, keep: Keep) -> None:
        """Delete the spans of the files that `keep` says are too old, or too many."""
        expire_all([self], keep, self._now)

    def stored(self) -> list[tuple[str, datetime, int]]:
        """The Parquet files with rows: name, when the newest span started, bytes."""
        counting, _ = self._files()
        parquet = self._readable([file for file in counting if file.last is not None])
        self._rows = self._row_counts([file.name for file in parquet])
        return [
            (file.name, self._newest_at(file.name), (self._folder / file.name).stat().st_size)
            for file in parquet
            if self._rows[file.name]
        ]

    def empty(self, name: str) -> None:
        """Delete the spans of one file that `stored` has returned."""
        self._say(f"{name}: {self._rows[name]:,} spans go")
        if not self._dry:
            with self._contained(name):
                convert.empty_parquet(self._folder / name)

    def clean(self) -> None:
        """Empty the files that no longer count, and later remove them. Remove what a killed process has left."""
        if self._dry:
            return
        counting, covered = self._files()
        ages_s: dict[SpanFile, float] = {}
        for file in (*counting, *covered):
            if file.last is not None:
                with self._contained(file.name):
                    ages_s[file] = self._age_s(file.name)
        for file in covered:
            # The age of the first file that replaced this one: since then no reader has listed this one.
            age_s = max((age_s for other, age_s in ages_s.items() if other.covers(file)), default=0.0)
            if age_s > GRACE_S:
                with self._contained(file.name):
                    self._retire(file, age_s)
        for file in self._readable([each for each in counting if each.last is not None]):
            hides = any(file.covers(other) for other in covered)
            with self._contained(file.name):
                if self._age_s(file.name) > REMOVED_S and not hides and not self._row_counts([file.name])[file.name]:
                    (self._folder / file.name).unlink()
        for path in self._folder.iterdir():
            with self._contained(path.name):
                if _LEFT.fullmatch(path.name) and self._age_s(path.name) > STALE_S:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _retire(self, file: SpanFile, age_s: float) -> None:
        path = self._folder / file.name
        if age_s > REMOVED_S:
            path.unlink()
        elif file.last is None:
            if path.stat().st_size:
                path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IWUSR)  # it was sealed
                os.truncate(path, 0)
        elif self._row_counts([file.name])[file.name]:
            convert.empty_parquet(path)

    def _finished(self, journal: SpanFile, counting: Sequence[SpanFile]) -> bool:
        if file_names.finished(journal, counting):
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

    def _files(self) -> tuple[list[SpanFile], list[SpanFile]]:
        return file_names.sort_out(path.name for path in self._folder.iterdir())

    def _readable(self, files: Sequence[SpanFile]) -> list[SpanFile]:
        problems = unreadable([self._folder / file.name for file in files])
        for path, problem in problems.items():
            self._problem(f"'{path}' is left alone: it {problem}")
        return [file for file in files if self._folder / file.name not in problems]

    def _row_counts(self, names: Sequence[str]) -> dict[str, int]:
        if not names:
            return {}
        with duckdb.connect() as connection:
            found = connection.execute(
                "SELECT file_name, num_rows FROM parquet_file_metadata(?)",
                [[as_glob(str(self._folder / name)) for name in names]],
            ).fetchall()
        return {Path(path).name: rows for path, rows in found}

    def _newest_at(self, name: str) -> datetime:
        with duckdb.connect() as connection:
            ((newest_us,),) = connection.execute(
                "SELECT epoch_us(max(started_at)) FROM read_parquet(?)", [as_glob(str(self._folder / name))]
            ).fetchall()
        return datetime.fromtimestamp(newest_us / 1e6, UTC)

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
    """Apply a limit to all folders together: a size is that of all files, and the oldest of all are emptied."""
    stored = [((one, name), newest_at, size) for one in compactions for name, newest_at, size in one.stored()]
    for one, name in expired(stored, keep, now):
        one.empty(name)


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
