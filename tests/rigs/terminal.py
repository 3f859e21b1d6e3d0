"""A command of Dyno with a terminal of its own, as a person has it: what it shows, and what is typed."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rigs.until import LIMIT_S, until_in_thread

CTRL_C: Final = b"\x03"
CTRL_D: Final = b"\x04"
_MUCH_BYTES: Final = 300_000
# Gives the program that follows the terminal on its standard input as its own, so that Ctrl-C reaches it.
_OWN_TERMINAL: Final = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """The person's side of the terminal. `seen` is all that was shown."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: int) -> None:
        self.process = process
        self.seen = b""
        self._ours = ours

    def types(self, text: bytes) -> None:
        os.write(self._ours, text)

    def reads(self) -> bytes:
        """What was shown since the last time, if anything was; not all of it, if a command prints without end."""
        new = b""
        while len(new) < _MUCH_BYTES and select.select([self._ours], [], [], 0.05)[0]:
            try:
                new += os.read(self._ours, 65_536)
            except OSError:  # the command has ended
                break
        self.seen += new
        return new

    def shows(self, text: bytes) -> None:
        """Wait until the text was shown after what was waited for before."""
        looked_at = b""

        def look() -> bool:
            nonlocal looked_at
            looked_at += self.reads()
            return text in looked_at

        until_in_thread(look, f"{text!r}; shown: {self.seen[-2000:]!r}")

    def ends(self) -> tuple[int, float]:
        """Wait for the command's end; returns its exit code, and how long that took in seconds."""
        began_s = time.monotonic()
        until_in_thread(lambda: self.process.poll() is not None or self.reads() is None, "its end")
        took_s = time.monotonic() - began_s
        self.reads()
        return self.process.wait(LIMIT_S), took_s


def read_all(terminal: int) -> str:
    """What a program wrote to its terminal until it ended, or until nothing came for long."""
    parts = []
    while select.select([terminal], [], [], LIMIT_S)[0]:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # Linux says EIO where the other end is closed
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode().replace("\r\n", "\n")


@contextmanager
def in_a_terminal(folder: Path, *words: str | Path, environment: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """Run `dyno WORDS` in this folder until the block ends. Its temporary files are in `folder/tmp`."""
    (folder / "tmp").mkdir(exist_ok=True)
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, sys.executable, "-m", "dyno", *map(str, words)],
            cwd=folder,
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "TERM": "dumb", **(environment or {})},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            try:
                yield Terminal(process, ours)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
    finally:
        os.close(ours)
