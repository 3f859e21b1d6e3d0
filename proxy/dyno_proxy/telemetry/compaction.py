"""Turns full journals into Parquet, by `dyno compact` in a process of its own that lives for some seconds.

DuckDB writes the files. A proxy that is installed alone doesn't have it: then the journals stay as they are, and can be
read all the same. Neither the event loop nor telemetry's thread waits for any of this.
"""

import logging
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

from dyno_proxy.config.schema import SpansConfig

_JOURNAL: Final = re.compile(r"[A-Za-z0-9_]+-\d{12}\.jsonl")
# Of journals that earlier proxies left. For less, no process is started beside the first requests.
_WORTH_BYTES: Final = 1_000_000
_TIME_LIMIT_S: Final = 3600.0
_MISSING: Final = 2  # the command's exit code where a package is missing, or where it is called wrongly
# What a Python needs. Other variables are kept from it, since they may hold tokens.
_VARIABLES: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "TZ")

_log = logging.getLogger(__name__)


def plain_environment() -> dict[str, str]:
    """The environment for a program of ours that shall not see this one's tokens."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


class Conversion:
    """One process at a time. `config` may be replaced by a newer one."""

    def __init__(self, folder: Path, config: SpansConfig) -> None:
        self.config = config
        self._folder = folder.absolute()
        self._lock = threading.Lock()
        self._running = False
        self._again = False
        self._failed = False

    def start(self) -> None:
        """Start a conversion; where one runs, start the next when it ends. Any thread may call."""
        if not self.config.compact:
            return
        with self._lock:
            if self._running:
                self._again = True
                return
            self._running = True
        threading.Thread(target=self._run, name="dyno-conversion", daemon=True).start()

    def start_if_worth(self) -> None:
        """Start a conversion if earlier proxies left many journals. A thread looks, as a file server may be slow."""
        threading.Thread(target=self._start_if_worth, name="dyno-conversion", daemon=True).start()

    def _start_if_worth(self) -> None:
        try:
            with os.scandir(self._folder) as listed:
                sizes = [each.stat().st_size for each in listed if _JOURNAL.fullmatch(each.name)]
        except OSError as error:
            _log.debug("'%s' can't be listed: %s", self._folder, error)
            return
        if sum(sizes) >= _WORTH_BYTES:
            self.start()

    def _run(self) -> None:
        while True:
            self._convert()
            with self._lock:
                if not self._again:
                    self._running = False
                    return
                self._again = False

    def _convert(self) -> None:
        command = [sys.executable, "-m", "dyno", "compact", "--background", "--spans", str(self._folder)]
        if self.config.keep is not None:
            command += ["--keep", self.config.keep]
        environment = plain_environment()
        if self.config.group is not None:
            environment["DYNO_SPANS_GROUP"] = self.config.group
        try:
            done = subprocess.run(  # noqa: S603  # the command is ours
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                start_new_session=True,  # Ctrl-C is for the proxy
                timeout=_TIME_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._fail(logging.WARNING, str(error))
            return
        if done.returncode == 0:
            self._failed = False
        else:
            level = logging.INFO if done.returncode == _MISSING else logging.WARNING
            self._fail(level, (done.stderr.strip().splitlines() or ["no reason given"])[-1])

    def _fail(self, level: int, reason: str) -> None:
        """Said once, until it has worked again."""
        if not self._failed:
            _log.log(level, "journals stay as they are, which costs disk and nothing else: %s", reason)
        self._failed = True
