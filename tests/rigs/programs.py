"""A program that runs beside a test. It is started, it is ready when it prints a certain line, and it is stopped."""

import queue
import re
import resource
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

START_LIMIT_S: Final = 120.0


@contextmanager
def running(
    command: Sequence[str | Path], ready: str, log: Path, environment: Mapping[str, str] | None = None, lines: int = 1
) -> Iterator[list[re.Match[str]]]:
    """Run `command` until the block ends. Yields the matches of `ready` in the first `lines` lines that contain it.

    Both its streams go to `log`. SIGTERM ends it. Raises RuntimeError with the log if the program isn't ready in time.
    """
    # The program has its own session, so Ctrl-C reaches only the test, which then ends its programs in order.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )
    found: queue.Queue[re.Match[str] | None] = queue.Queue()
    reader = threading.Thread(target=_follow, args=(process, re.compile(ready), log, found))
    reader.start()
    try:
        yield [_next(found, log) for _ in range(lines)]
    finally:
        process.terminate()
        process.wait()
        reader.join()


def children_cpu_s() -> float:
    """CPU time of all programs that have ended. It doesn't include the time for which a busy machine let them wait."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _next(found: "queue.Queue[re.Match[str] | None]", log: Path) -> re.Match[str]:
    try:
        match = found.get(timeout=START_LIMIT_S)
    except queue.Empty:
        match = None
    if match is None:
        raise RuntimeError(f"it didn't start:\n{log.read_text(encoding='utf-8')}")
    return match


def _follow(
    process: "subprocess.Popen[str]", ready: re.Pattern[str], log: Path, found: "queue.Queue[re.Match[str] | None]"
) -> None:
    """Copy the program's lines to the log, and hand on those that match the pattern. At its end, hand on None."""
    assert process.stdout is not None
    with process.stdout, log.open("w", encoding="utf-8") as copy:
        for line in process.stdout:
            copy.write(line)
            copy.flush()
            if match := ready.search(line):
                found.put(match)
    found.put(None)
