"""Starts `dyno compact`, which turns journals into Parquet and deletes old spans, in a process of its own.

It is started when a journal is full; when the proxy starts and something is to be done; when finished journals wait (it
is looked hourly: a quiet site fills no journal); and daily, since `keep` is a promise. Several proxies on one folder
may start it at once: one works, and the others return at once.

DuckDB writes the files. A proxy that is installed alone doesn't have it: then the journals stay as they are, and can be
read all the same. Neither the event loop nor telemetry's thread waits for any of this, and nor does the proxy's end: a
compaction goes on without the proxy that started it.
"""

import logging
import os
import random
import re
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from dyno_proxy.config.schema import SpansConfig

_JOURNAL: Final = re.compile(r"[A-Za-z0-9_]+-\d{12}\.jsonl")
# Of journals that earlier proxies left. For less, no process is started beside the first requests.
_WORTH_BYTES: Final = 1_000_000
_MANY: Final = 8  # so many finished journals are converted, however young they are
_MANY_AT_START: Final = 32
_FINISHED_S: Final = 3600.0  # nobody writes any more to a journal that rested so long (docs/spans.md)
_SLOW_S: Final = 3600.0
_MISSING: Final = 2  # the command's exit code where a package is missing, or where it is called wrongly
# What a Python needs. Other variables are kept from it, since they may hold tokens.
_VARIABLES: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ")

_random: Final = random.Random()  # noqa: S311  # it spreads starts, and keeps no secret
_log = logging.getLogger(__name__)


class Intervals(NamedTuple):
    """How long is waited, in seconds. Each wait is up to a fifth longer or shorter, as several proxies wait."""

    first_s: float = 1.0  # from the proxy's start
    look_s: float = 3600.0  # from one look for finished journals to the next
    daily_s: float = 86_400.0  # from one run for `keep` to the next
    slow_s: float = _SLOW_S  # until the log says that a compaction takes long


class Waiting(NamedTuple):
    """A journal that hasn't become a Parquet file yet."""

    name: str
    size_bytes: int
    age_s: float  # since its last write
    followed: bool  # its writer has begun a later one


def plain_environment() -> dict[str, str]:
    """The environment for a program of ours that shall not see this one's tokens."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


class Conversion:
    """One process at a time. Any thread may call."""

    def __init__(self, folder: Path, config: SpansConfig, intervals: Intervals | None = None) -> None:
        self._config = config
        self._folder = folder.absolute()
        self._intervals = intervals or Intervals()
        self._lock = threading.Lock()
        self._running = False
        self._again = False
        self._failed = False
        self._ended = threading.Event()
        self._tried: frozenset[tuple[str, int, bool]] = frozenset()  # journals that the last run found

    def start(self) -> None:
        """Start a conversion; where one runs, start the next when it ends."""
        if not self._config.compact or self._ended.is_set():
            return
        with self._lock:
            if self._running:
                self._again = True
                return
            self._running = True
        threading.Thread(target=self._run, name="dyno-conversion", daemon=True).start()

    def begin(self) -> None:
        """Start conversions from now on whenever something is to be done. One process of a proxy is enough for this."""
        threading.Thread(target=self._look_on, name="dyno-conversion-looks", daemon=True).start()

    def end(self) -> None:
        """Start none any more. One that runs goes on: nothing is lost by it, also without this process."""
        self._ended.set()

    def replace(self, config: SpansConfig) -> None:
        """Go on with another configuration. A new limit holds at once."""
        former, self._config = self._config, config
        if config.keep is not None and config.keep != former.keep:
            self.start()

    def _look_on(self) -> None:
        """A thread looks, as a file server may be slow."""
        times = self._intervals
        if self._ended.wait(times.first_s * _about_one()):
            return
        if self._config.keep is not None or self._waits(is_worth_a_start):
            self.start()
        next_s = time.monotonic() + times.daily_s * _about_one()
        while not self._ended.wait(times.look_s * _about_one()):
            daily = time.monotonic() >= next_s
            if daily:
                next_s = time.monotonic() + times.daily_s * _about_one()
            if daily or self._waits(is_due):
                self.start()

    def _waits(self, enough: Callable[[list[Waiting]], bool]) -> bool:
        """Whether journals wait that the last run didn't see as they are now. If it couldn't convert one, it stays."""
        try:
            found = waiting(self._folder, time.time())
        except OSError as error:
            _log.debug("'%s' can't be listed: %s", self._folder, error)
            return False
        seen = frozenset((each.name, each.size_bytes, each.followed) for each in found)
        if not enough([each for each in found if (each.name, each.size_bytes, each.followed) not in self._tried]):
            return False
        self._tried = seen
        return True

    def _run(self) -> None:
        while True:
            self._convert()
            with self._lock:
                if not self._again or self._ended.is_set():
                    self._running = False
                    return
                self._again = False

    def _convert(self) -> None:
        command = [sys.executable, "-P", "-m", "dyno", "compact", "--background", "--spans", str(self._folder)]
        if self._config.keep is not None:
            command += ["--keep", self._config.keep]
        environment = plain_environment()
        if self._config.group is not None:
            environment["DYNO_SPANS_GROUP"] = self._config.group
        slow = threading.Timer(self._intervals.slow_s, self._say_slow)
        slow.daemon = True
        try:
            # A file and no pipe: without this process nobody reads a pipe, and a compaction that complains would end.
            with tempfile.TemporaryFile("w+", errors="replace") as problems:
                process = subprocess.Popen(  # noqa: S603  # the command is ours
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=problems,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for the proxy
                )
                slow.start()
                code = process.wait()
                problems.seek(0)
                reason = (problems.read().strip().splitlines() or ["no reason given"])[-1]
        except OSError as error:
            self._fail(logging.WARNING, str(error))
            return
        finally:
            slow.cancel()
        if code == 0:
            self._failed = False
        else:
            self._fail(logging.INFO if code == _MISSING else logging.WARNING, reason)

    def _say_slow(self) -> None:
        _log.warning(
            "'dyno compact' in '%s' has taken more than %g s; it goes on, and readers find each row meanwhile",
            self._folder,
            self._intervals.slow_s,
        )

    def _fail(self, level: int, reason: str) -> None:
        """Said once, until it has worked again."""
        if not self._failed:
            _log.log(level, "journals stay as they are, which costs disk and nothing else: %s", reason)
        self._failed = True


def waiting(folder: Path, now_s: float) -> list[Waiting]:
    """The folder's journals that no compaction has converted: it makes each read-only before. `now_s`: Unix time.

    Raises OSError.
    """
    with os.scandir(folder) as listed:
        entries = {each.name: each for each in listed}
    journals = sorted(name for name in entries if _JOURNAL.fullmatch(name))
    followed = {name for name, later in pairwise(journals) if _writer(name) == _writer(later)}
    found: list[Waiting] = []
    for name in journals:
        try:
            status = entries[name].stat()
        except FileNotFoundError:  # a compaction has removed it just now
            continue
        if status.st_size and status.st_mode & stat.S_IWUSR:
            found.append(Waiting(name, status.st_size, now_s - status.st_mtime, name in followed))
    return found


def is_due(journals: list[Waiting]) -> bool:
    """Whether a running proxy starts a conversion: there are many finished journals, or one has waited for an hour."""
    return any(each.age_s > _FINISHED_S for each in journals) or sum(each.followed for each in journals) >= _MANY


def is_worth_a_start(journals: list[Waiting]) -> bool:
    """Whether a proxy that has just started does so, although its first requests come meanwhile."""
    return sum(each.size_bytes for each in journals) >= _WORTH_BYTES or len(journals) >= _MANY_AT_START


def _writer(journal: str) -> str:
    return journal.rpartition("-")[0]


def _about_one() -> float:
    return _random.uniform(0.8, 1.2)
