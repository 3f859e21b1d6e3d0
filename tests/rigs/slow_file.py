"""A file whose server doesn't answer: whoever opens it waits, deep in the kernel, until the test lets it go."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unanswered(path: Path) -> Iterator[None]:
    """Make the file, if it isn't there, and let nobody open it until the block ends, but for 45 s at most.

    A lease does that (fcntl(2)): another process's `open` waits until the holder gives it back.
    """
    path.touch()
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # so the kernel tells that somebody waits
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, before)


def waits_for_a_file(pid: int) -> bool:
    """Whether a thread of the process waits for such a file."""
    for thread in Path(f"/proc/{pid}/task").glob("*/wchan"):
        try:
            if "lease" in thread.read_text():
                return True
        except OSError:
            continue
    return False
