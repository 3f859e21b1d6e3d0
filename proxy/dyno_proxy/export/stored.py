"""The stored rows beyond what was read, in Parquet and journals, as the analysis program prints them.

    python -m dyno export --after FILE --spans DIR     a row a line: WRITER, a space, and the journal's line

The programs don't import each other: the interface is a pipe with lines of span files. An installation without the
extra `analysis` makes no Parquet; then that of others can't be read, and the log says it once.
"""

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from dyno_proxy.telemetry.compaction import plain_environment

from .journals import Stored, stored_of

_MISSING: Final = 2  # the command's exit code where a package is missing

_END_S: Final = 5.0

_log = logging.getLogger(__name__)


class Asked:
    """One run of the program, read as it goes. `whole` is set at its end, if it has printed everything."""

    def __init__(self, folder: Path, read_to: Mapping[str, int], from_us: int) -> None:
        """`read_to`: each known writer's last row that was read. Rows of others count from `from_us` on."""
        self._after = tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8")  # noqa: SIM115
        json.dump({"from_us": from_us, "writers": dict(read_to)}, self._after)
        self._after.flush()
        self._problems = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.whole = self.missing = False
        self._process = subprocess.Popen(  # noqa: S603  # the command is ours
            [
                *(sys.executable, "-P", "-m", "dyno", "export"),
                *("--after", self._after.name, "--spans", str(folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._problems,
            env=plain_environment(),
        )

    def rows(self) -> Iterator[Stored]:
        """The rows, by writer and number."""
        assert self._process.stdout is not None  # noqa: S101
        for line in self._process.stdout:
            if (stored := split_line(line)) is not None:
                yield stored
        code = self._process.wait()
        self.missing = code == _MISSING and find_spec("duckdb") is None
        self.whole = code == 0
        if code:
            self._problems.seek(0)
            reason = (self._problems.read().strip().splitlines() or ["no reason given"])[-1]
            _log.warning("OTLP: rows in Parquet can't be read: %s", reason)

    def close(self) -> None:
        """End the program, if it still runs."""
        self._process.terminate()  # it has temporary files to remove
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._after.close()
        self._problems.close()


def split_line(line: bytes) -> Stored | None:
    """A line of the pipe; None where it isn't one."""
    writer, _, rest = line.partition(b" ")
    return stored_of(writer.decode("ascii", "replace"), rest)
