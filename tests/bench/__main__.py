"""`make bench`: the proxy measured beside others of its kind, in one go, on this machine. Linux alone (/proc).

    python -m bench                            everything: some twelve minutes on two cores
    python -m bench --quick                    everything, less exactly: some three
    python -m bench --parts requests,streams   a part of it
    python -m bench --only bare,dyno           some contestants
    python -m bench --write docs/benchmarks.md into the file's measured part as well

docs/benchmarks.md says how each figure is measured.
"""

import argparse
import gc
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop

from . import disturbances, memory, requests, starts, storage, streams, timing
from .contestants import CONTESTANTS
from .cost import Others
from .goals import goals, goals_table
from .results import Results, Setting

_PARTS: Final[dict[str, tuple[str, Callable[[Setting, Results], Awaitable[str]]]]] = {
    "starts": ("Start, and one request at a time", starts.measure),
    "requests": ("CPU per request", requests.measure),
    "streams": ("Streams: CPU per chunk, first token, transit", streams.measure),
    "memory": ("Memory", memory.measure),
    "timing": ("Timing error", timing.measure),
    "disturbances": ("Disturbances", disturbances.measure),
    "storage": ("Bytes a span", storage.measure),
}
_BEGIN: Final = "<!-- measured: written by `make bench` -->\n"
_END: Final = "<!-- end of what was measured -->\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter ones")
    parser.add_argument("--parts", type=_names_of(_PARTS), default=list(_PARTS), help=f"of {', '.join(_PARTS)}")
    parser.add_argument("--only", type=_names_of(CONTESTANTS), help=f"of {', '.join(CONTESTANTS)}")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the result between the file's two marks")
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("bench: it reads /proc, which Linux alone has", file=sys.stderr)
        return 2
    if arguments.write is not None and _BEGIN not in arguments.write.read_text(encoding="utf-8"):
        print(f"bench: {arguments.write} has no line {_BEGIN.strip()}", file=sys.stderr)
        return 2
    _allow_many_sockets()
    gc.disable()  # the clients' own pauses would be in the figures
    with tempfile.TemporaryDirectory(prefix="dyno-bench-") as name:
        only = None if arguments.only is None else frozenset(arguments.only)
        setting = Setting(Path(name), arguments.quick, only)
        report = uvloop.run(measure(arguments.parts, setting))
    if arguments.write is not None:
        _write(arguments.write, report)
    return 0


async def measure(parts: list[str], setting: Setting) -> str:
    """Prints each part as soon as it is there; returns the whole."""
    results = Results()
    others = Others()
    sections = [describe_machine(setting)]
    print(sections[0], flush=True)
    begun_s = time.monotonic()
    for part in parts:
        title, measured = _PARTS[part]
        print(f"bench: {part}", file=sys.stderr, flush=True)
        sections.append(f"### {title}\n\n{await measured(setting, results)}")
        print(f"\n{sections[-1]}", flush=True)
    taken = f"It took {time.monotonic() - begun_s:.0f} s. {others.share()}"
    sections.append(f"### The goals\n\n{goals_table(goals(results))}\n\n{taken}")
    print(f"\n{sections[-1]}", flush=True)
    return "\n\n".join(sections) + "\n"


def describe_machine(setting: Setting) -> str:
    """Where and with what it was measured."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    model = cpus[0].partition(":")[2].strip() if cpus else platform.machine()
    with Path("/proc/meminfo").open(encoding="ascii") as file:
        gigabytes = int(file.readline().split()[1]) / 1e6
    names = setting.names(name for name in ("nginx", "bare", "dyno", "mitmproxy", "litellm"))
    versions = [f"Python {platform.python_version()}", *(CONTESTANTS[name].version() for name in names)]
    lines = (
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC{', the quick variant' if setting.quick else ''}.",
        f"Machine: {model}, {os.cpu_count()} cores, {gigabytes:.0f} GB; Linux {platform.release()}.",
        f"Versions: {'; '.join(versions)}.",
    )
    return "\n".join(lines)


def _names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """An argument's type: some of these names, with commas between."""
    every = list(known)

    def read(argument: str) -> list[str]:
        names = argument.split(",")
        for name in names:
            if name not in every:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(every)}")
        return names

    return read


def _allow_many_sockets() -> None:
    """As many as this user may have: a thousand streams have two thousand in this process alone."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _write(path: Path, report: str) -> None:
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    path.write_text(f"{before}{_BEGIN}\n{report}\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
