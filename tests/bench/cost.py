"""What a process and its children cost, as Linux accounts for it."""

import asyncio
import os
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SETTLE_S: Final = 0.6  # what is written after the answer belongs to it: dyno's spans every 200 ms, say


async def cpu_of(pid: int, work: Awaitable[object]) -> int:
    """Nanoseconds of CPU that the process and its children took while the work was done, and just after."""
    before_ns = cpu_ns(pid)
    await work
    await asyncio.sleep(SETTLE_S)
    return cpu_ns(pid) - before_ns


def cpu_ns(pid: int) -> int:
    """User and system time so far of a process and its children, all their threads."""
    # The process's own clock in nanoseconds (clock_getcpuclockid(3)); /proc/PID/stat counts in hundredths of a second.
    return sum(time.clock_gettime_ns((~each << 3) | 2) for each in tree(pid))


def own_cpu_ns(pid: int) -> int:
    """The same of the process alone, all its threads: without what runs beside it, such as an exporter."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def main_thread_cpu_ns(pid: int) -> int:
    """Of the process's first thread alone: an event loop's, where there is one."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text(encoding="ascii").split()[0])


@dataclass(frozen=True)
class Memory:
    """Bytes; `pss`: what several processes share is counted once."""

    rss: int
    pss: int


def memory(pid: int) -> Memory:
    """Of a process and its children."""
    rolls = [Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii") for each in tree(pid)]
    fields = [dict(line.split()[:2] for line in roll.splitlines()[1:]) for roll in rolls]
    return Memory(
        rss=sum(int(each["Rss:"]) for each in fields) * 1024, pss=sum(int(each["Pss:"]) for each in fields) * 1024
    )


def tree(pid: int) -> list[int]:
    """The process and its children, and theirs."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


class Others:
    """How much of the machine other programs took since this was made: their share is the figures' noise."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self._busy_s = _busy_s()
        self._own_s = _own_s()

    def share(self) -> str:
        """A sentence. Children that still run count as others."""
        cores = os.cpu_count() or 1
        others_s = _busy_s() - self._busy_s - (_own_s() - self._own_s)
        percent = 100 * others_s / (time.monotonic() - self._begun_s) / cores
        return f"Meanwhile other programs took {max(0.0, percent):.0f} % of the machine's CPU time."


def _busy_s() -> float:
    """CPU time of the whole machine since it was started, with what its host took for others (steal)."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, file.readline().split()[1:])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
