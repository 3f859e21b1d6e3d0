"""What the kernel says of a running proxy: memory, file descriptors, threads, its sockets. Linux alone (/proc)."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    virtual_bytes: int
    rss_bytes: int
    fds: int
    threads: int


def proxy_pid(spans: Path) -> int:
    """The `dyno proxy` that writes to this folder; with workers, their parent. Raises LookupError."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended just now
            if b"proxy" in words and os.fsencode(spans) in words:
                return int(entry.name)
    raise LookupError(f"no proxy writes to {spans}")


def process_figures(pid: int) -> ProcessFigures:
    """Raises OSError where the process is gone."""
    process = Path(f"/proc/{pid}")
    virtual_pages, resident_pages, *_ = map(int, (process / "statm").read_text(encoding="ascii").split())
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return ProcessFigures(
        virtual_pages * page_bytes,
        resident_pages * page_bytes,
        len(os.listdir(process / "fd")),  # noqa: PTH208 - a Path for each of thousands
        len(os.listdir(process / "task")),  # noqa: PTH208
    )


def connecting_to(port: int) -> int:
    """How many of this machine's IPv4 connections to a port still wait for its first answer (SYN_SENT)."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(1 for each in fields if each[3] == "02" and int(each[2].rpartition(":")[2], 16) == port)
