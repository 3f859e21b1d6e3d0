"""What `dyno compact` does to a folder, beside proxies that write and readers that read."""

import fcntl
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.errors import InputError
from dyno_analysis.spans import file_names
from dyno_analysis.spans.file_names import SpanFile
from dyno_analysis.spans.readable import unreadable
from dyno_analysis.spans.sql_text import as_glob

from . import convert
from .retention import Keep, expired

ROWS_OF_A_FILE: Final = 1_000_000
# A journal of a writer that can't be asked is finished when nothing has come for so long; the writer itself begins a
# new one after half of it.
STALE_S: Final = 3600.0
# A file that counts no longer is read by those who listed the folder before; then it is emptied, and an open scan that
# comes to it finds nothing; at last it is removed.
GRACE_S: Final = 600.0
REMOVED_S: Final = 86_400.0

_LEFT: Final = re.compile(r"\..+\.(tmp|checked|spill)")


class Compaction:
    """One run over a folder. `say` hears each thing that was done; `problems`, what couldn't be."""

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
        """Journals that are finished become Parquet."""
        counting, _ = self._files()
        for journal in [file for file in counting if file.last is None]:
            if not self._finished(journal, counting):
                continue
            self._say(f"{journal.name}: becomes Parquet")
            if self._dry:
                continue
            with self._contained(journal.name):
                done = convert.convert(self._folder, journal)
                if done.rejected:
                    numbers = ", ".join(map(str, done.rejected[:5])) + (" …" if len(done.rejected) > 5 else "")
                    self._problem(
                        f"'{self._folder / journal.name}': {len(done.rejected)} broken lines ({numbers}) are set aside "
                        f"in '{Path(journal.name).with_suffix('.rejected')}'"
                    )

    def merge(self) -> None:
        """Small Parquet files become large ones."""
        counting, _ = self._files()
        parquet = self._readable([file for file in counting if file.last is not None])
        rows = self._row_counts([file.name for file in parquet])
        # What can't be read, and journals, stay in the list: nothing may be merged across them.
        counted = [(file, rows.get(file.name, ROWS_OF_A_FILE + 1)) for file in counting]
        for group in file_names.together(counted, ROWS_OF_A_FILE):
            self._say(f"{len(group)} files from {group[0].name} on: become one")
            if not self._dry:
                with self._contained(group[0].name):
                    convert.merge(self._folder, group)

    def expire(self, keep: Keep) -> None:
        """Files whose spans are too old, or too many, lose them."""
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
        """One of these loses its spans."""
        self._say(f"{name}: {self._rows[name]:,} spans go")
        if not self._dry:
            with self._contained(name):
                convert.empty_parquet(self._folder / name)

    def clean(self) -> None:
        """What counts no longer is emptied, later removed; so is what a kill has left."""
        if self._dry:
            return
        counting, covered = self._files()
        ages_s = {file: self._age_s(file.name) for file in (*counting, *covered) if file.last is not None}
        for file in covered:
            # Of the first file that took its place: since then nobody has listed this one.
            age_s = max(age_s for other, age_s in ages_s.items() if other.covers(file))
            if age_s > GRACE_S:
                with self._contained(file.name):
                    self._retire(file, age_s)
        for file in self._readable([each for each in counting if each.last is not None]):
            hides = any(file.covers(other) for other in covered)
            if self._age_s(file.name) > REMOVED_S and not hides and not self._row_counts([file.name])[file.name]:
                (self._folder / file.name).unlink()
        for path in self._folder.iterdir():
            if _LEFT.fullmatch(path.name) and self._age_s(path.name) > STALE_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _retire(self, file: SpanFile, age_s: float) -> None:
        path = self._folder / file.name
        if age_s > REMOVED_S:
            path.unlink()
        elif file.last is None:
            if path.stat().st_size:
                path.chmod(0o644)
                os.truncate(path, 0)
        elif self._row_counts([file.name])[file.name]:
            convert.empty_parquet(path)

    def _finished(self, journal: SpanFile, counting: Sequence[SpanFile]) -> bool:
        if file_names.finished(journal, counting):
            return True
        if _locked(self._folder / journal.name):
            return False
        process = file_names.process(journal.writer)
        here = process is not None and process.host == re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname())
        if here and process is not None and not _lives(process.pid):
            return True
        # Another machine's; or another process has the number by now, as a container's first one always has.
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
        """One file's trouble doesn't keep the others from being done."""
        try:
            yield
        except (convert.FutureError, convert.GrownError) as error:
            self._problem(str(error))
        except (OSError, duckdb.Error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
            self._problem(f"'{self._folder / name}' stays as it is: {reason}")

    def _problem(self, text: str) -> None:
        self.problems += 1
        self._complain(text)


def expire_all(compactions: Sequence[Compaction], keep: Keep, now: datetime) -> None:
    """A limit holds for all the folders together: a size is that of all files, and the oldest go, of whichever."""
    stored = [((one, name), newest_at, size) for one in compactions for name, newest_at, size in one.stored()]
    for one, name in expired(stored, keep, now):
        one.empty(name)


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether no other compaction or import is at work here, nor begins until the block ends.

    Proxies and readers take no notice of it.
    """
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError as error:
        raise InputError(f"the spans folder '{folder}' doesn't exist; name one with --spans DIR") from error
    except OSError as error:
        raise InputError(f"the spans folder '{folder}' can't be read: {error.strerror}") from error
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(opened)


def _locked(journal: Path) -> bool:
    """Its writer lives, and holds it: in whatever container, on any machine where the file system's locks reach.

    False where there are no locks.
    """
    try:
        opened = os.open(journal, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # gone, or not to be read: the conversion says so
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
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
