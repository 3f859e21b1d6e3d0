"""What a killed process had open: counted as `lost` by its supervisor, or by the next proxy on its spans folder.

A process is dead if nobody holds the lock on its notes (open_requests.py). Whoever takes them renames the file first,
which only one of several can do: so nothing is counted twice.
"""

import fcntl
import logging
import os
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from dyno_proxy.exchange.record import Record
from dyno_proxy.outcomes import OUTCOMES, Ending

from .open_requests import (
    COUNTS_AT,
    COUNTS_EACH,
    DROPPED,
    FORMAT,
    MAX_NAMES,
    MAX_SLOTS,
    NAMES,
    NAMES_AT,
    NAMES_BYTES,
    PREFIX,
    SEEN_AT_US,
    SIZE,
    SLOT,
    SLOT_BYTES,
    SLOTS_AT,
    SLOTS_USED,
    VERSION,
    WRITING_SEQ,
    WRITTEN,
    memory_path,
)

_DEAD_AFTER_S: Final = 3600.0  # where nobody can tell by a lock: as long as `dyno compact` waits
_LOST: Final[Ending] = ("lost", "proxy_died")
_SEQ: Final = re.compile(rb'\{"v":\d+,"seq":(\d+),[^\n]*\}\n')
_TAKEN: Final = ".taken"
_WRITER: Final = re.compile(r"\w+_(?P<pid>\d+)_\d{8}T\d{12}Z")
_IDS: Final = random.Random()  # noqa: S311 - ids need to be unique, not unguessable; the system seeds it

_log = logging.getLogger(__name__)


class LeftBehind(NamedTuple):
    """What a dead process had counted, and what it had open."""

    pid: int
    started: Mapping[str, int]  # endpoint → requests; "" where none was named
    ended: Mapping[tuple[str, str], int]  # (endpoint, outcome) → requests
    lost: list[Record]  # a record of each request that was open, with what is known of it
    unwritten: int  # requests that had ended, and whose spans were neither written nor counted as dropped

    def in_words(self, what: str) -> str:
        """A line for the log. `what`: which process this was."""
        return (
            f"{what}: requests that it had open and that are now counted as 'lost': {len(self.lost)}; "
            f"finished ones that have no row: {self.unwritten}"
        )


def take_all(folder: Path) -> Iterator[LeftBehind]:
    """Take over what dead processes have left in this spans folder. Never raises."""
    for writer in _writers(folder):
        left = _take(folder, writer)
        if left is not None:
            yield left


def take_of(folder: Path, pid: int) -> LeftBehind | None:
    """The same of this machine's process that has just ended; None if it left nothing, or another took it."""
    ours = re.sub(r"\W", "_", f"{socket.gethostname()}_{pid}_")
    for writer in sorted(_writers(folder), reverse=True):  # the number may have been another process's before
        if writer.startswith(ours):
            return _take(folder, writer)
    return None


def _writers(folder: Path) -> list[str]:
    try:
        names = [name for name in os.listdir(folder) if name.startswith(PREFIX)]  # noqa: PTH208  # names are wanted
    except OSError as error:
        _log.debug("'%s' can't be listed: %s", folder, error)
        return []
    return [writer for name in names if _WRITER.fullmatch(writer := name.removeprefix(PREFIX))]


def _take(folder: Path, writer: str) -> LeftBehind | None:
    path, memory = folder / f"{PREFIX}{writer}", memory_path(writer)
    taken = path.with_name(f"{path.name}{_TAKEN}")
    try:
        if not (_unlocked(memory) if memory.exists() else _unlocked(path)):
            return None
        path.rename(taken)  # of several who try only one can
        content = taken.read_bytes()
        if memory.exists():
            content = memory.read_bytes()
            memory.unlink()
        left = read_left(content, _WRITER.fullmatch(writer), folder, writer)
        taken.unlink()
    except OSError as error:
        _log.debug("'%s' can't be taken over: %s", path, error)
        return None
    return left


def _unlocked(path: Path) -> bool:
    """Whether the process that wrote the file is dead. Raises OSError where the file can't be opened."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid() and os.geteuid() != 0:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # this file system has no locks
        return time.time() - found.st_mtime > _DEAD_AFTER_S
    finally:
        os.close(descriptor)
    return True


def read_left(content: bytes, named: "re.Match[str] | None", folder: Path, writer: str) -> LeftBehind | None:
    """What the notes say; None if they say nothing that this version understands."""
    content = content.ljust(SIZE, b"\0")
    numbers = memoryview(content).cast("q")
    if numbers[VERSION] != FORMAT or named is None:
        return None
    texts = content[NAMES_AT : NAMES_AT + numbers[NAMES_BYTES]].decode("utf-8", "replace").split("\n")
    names = texts[: min(numbers[NAMES], MAX_NAMES)]
    started: dict[str, int] = {}
    ended: dict[tuple[str, str], int] = {}
    for number, name in enumerate(names):
        at = COUNTS_AT // 8 + number * COUNTS_EACH
        if numbers[at]:
            started[name] = numbers[at]
            for position, outcome in enumerate(OUTCOMES, start=1):
                if numbers[at + position]:
                    ended[name, outcome] = numbers[at + position]
    seen_at_us = numbers[SEEN_AT_US] or time.time_ns() // 1000
    open_count = Counter(started)
    for (name, _), count in ended.items():
        open_count[name] -= count
    lost = [record for record in _open(content, names, seen_at_us) if _takes_one(open_count, record.endpoint or "")]
    # Those that began after the last look have no slot.
    for name, count in open_count.items():
        lost += [_nameless(name, seen_at_us) for _ in range(count)]
    unwritten = sum(ended.values()) - numbers[WRITTEN] - numbers[DROPPED]
    if numbers[WRITING_SEQ] and unwritten > 0:
        unwritten -= _rows_from(folder, writer, numbers[WRITING_SEQ])
    return LeftBehind(int(named["pid"]), started, ended, lost, max(0, unwritten))


def _takes_one(open_count: Counter[str], endpoint: str) -> bool:
    open_count[endpoint] -= 1
    return open_count[endpoint] >= 0


def _open(content: bytes, names: list[str], seen_at_us: int) -> Iterator[Record]:
    used = int.from_bytes(content[SLOTS_USED * 8 : SLOTS_USED * 8 + 8], "little")
    for slot in range(min(used, MAX_SLOTS)):
        trace, span_id, parent, started_at_us, *numbers, is_open = SLOT.unpack_from(
            content, SLOTS_AT + slot * SLOT_BYTES
        )
        if is_open == 1:
            endpoint, operation, method = (names[number] if number < len(names) else "" for number in numbers)
            yield lost_record(
                trace_id=int.from_bytes(trace, "big"),
                span_id=span_id,
                parent_span_id=parent or None,
                started_at_unix_us=started_at_us,
                duration_us=max(0, seen_at_us - started_at_us),
                endpoint=endpoint or None,
                operation=operation or None,
                method=method,
            )


def _nameless(endpoint: str, seen_at_us: int) -> Record:
    """Of a request that is known by its number alone. Its ids are new ones."""
    return lost_record(
        trace_id=_IDS.getrandbits(128) or 1,
        span_id=_IDS.getrandbits(64) or 1,
        started_at_unix_us=seen_at_us,
        duration_us=0,
        endpoint=endpoint or None,
        method="",
    )


def lost_record(**known: Any) -> Record:
    """A record whose outcome is `lost`, with what is known of the request."""
    unknown: dict[str, Any] = dict.fromkeys(Record.__struct_fields__)
    unknown.update(path="", simulated=False, reasoning_streamed=False, request_bytes=0, response_bytes=0, baggage={})
    unknown.update(finish_reasons=(), chunk_offsets_us=(), outcome=_LOST[0], error_type=_LOST[1])
    return Record(**unknown | known)


def _rows_from(folder: Path, writer: str, first_seq: int) -> int:
    """How many whole rows of the batch that was being written are in the writer's journals."""
    try:
        journals = [path.read_bytes() for path in folder.glob(f"{writer}-*.jsonl")]
    except OSError as error:
        _log.debug("the journals of '%s' can't be read: %s", writer, error)
        return 0
    return sum(int(line[1]) >= first_seq for journal in journals for line in _SEQ.finditer(journal))
