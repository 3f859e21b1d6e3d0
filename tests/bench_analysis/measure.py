"""Each job in a child of its own, and the tables of what the children say."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from . import otlp_lines, spans

SIZES: Final = (1_000_000, 10_000_000, 100_000_000)
# Room that must be left on the disk for each span: its 70 bytes, and what DuckDB puts there while it works.
_ROOM_BYTES: Final = 150
# What nine exact distributions hold of each.
_PERCENTILES_BYTES: Final = 160
# Above these the others take too long, or too much memory, to be worth it.
_MOST_OTLP: Final = 1_000_000
_MOST_PANDAS: Final = 10_000_000
_MOST_REPORT: Final = 10_000_000
_EXTRA_SPANS: Final = 200_000
_TABLES: Final = ("comparison", "percentiles", "failures", "instrument")
_REPEATS: Final = 3


class Goal(NamedTuple):
    what: str
    limit: float
    unit: str
    measured: float | None  # None: not measured here


class Child(NamedTuple):
    seconds: float
    peak_mb: float
    said: dict[str, Any]


class Scale:
    """What was measured so far, and the goals it is held against."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.most = most
        self.goals: list[Goal] = []
        self.left_out: dict[int, str] = {}

    def sizes(self) -> list[int]:
        """The sizes up to the largest wanted; one that the disk can't hold is left out, and why."""
        fitting = [size for size in SIZES if size <= self.most] or [self.most]
        for size in fitting:
            room, free = size * _ROOM_BYTES, shutil.disk_usage(self.folder).free
            if room > free:
                self.left_out[size] = f"it wants {room / 1e9:.0f} GB of disk, {free / 1e9:.0f} are free"
        return [size for size in fitting if size not in self.left_out]

    def goal(self, what: str, limit: float, unit: str, measured: float | None) -> None:
        self.goals.append(Goal(what, limit, unit, measured))


def measure(folder: Path, most: int) -> str:
    """Prints each part as soon as it is there; returns the whole."""
    scale = Scale(folder, most)
    parts: Sequence[tuple[str, Callable[[Scale], str]]] = (
        ("Tables over all spans", _tables),
        ("The comparison, otherwise", _otherwise),
        ("Verdict over prompts", _verdict),
        ("Bytes a span", _stored),
    )
    sections = [_machine()]
    print(sections[0], flush=True)
    for title, part in parts:
        print(f"bench_analysis: {title}", file=sys.stderr, flush=True)
        sections.append(f"### {title}\n\n{part(scale)}")
        print(f"\n{sections[-1]}", flush=True)
    sections.append(f"### The goals\n\n{_goals(scale.goals)}")
    print(f"\n{sections[-1]}", flush=True)
    return "\n\n".join(sections) + "\n"


def child(job: str, folder: Path, *arguments: str) -> Child:
    """Run a job of jobs.py; RuntimeError with what it printed where it fails."""
    command = [sys.executable, "-m", "bench_analysis.jobs", job, str(folder), *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    said = json.loads(done.stdout.splitlines()[-1])
    return Child(said["seconds"], said["peak_mb"], said)


def _tables(scale: Scale) -> str:
    rows = []
    comparisons: dict[int, Child] = {}
    for size in scale.sizes():
        folder = scale.folder / f"spans{size}"
        begun_s = time.monotonic()
        spans.write(folder, size)
        generated = f"{time.monotonic() - begun_s:.0f} s"
        for table in _TABLES:
            if table == "percentiles" and size * _PERCENTILES_BYTES > _memory_bytes("MemAvailable"):
                rows.append([_count(size), f"{table}.sql", "left out: too little memory", "–"])
                continue
            runs = [child("table", folder, table) for _ in range(_REPEATS if size <= SIZES[1] else 1)]
            fastest = min(runs, key=lambda run: run.seconds)
            rows.append(
                [_count(size), f"{table}.sql", _seconds(fastest.seconds), _mb(max(run.peak_mb for run in runs))]
            )
            if table == "comparison":
                comparisons[size] = fastest
        if size <= _MOST_REPORT:
            whole = child("report", folder)
            rows.append([_count(size), "all of `dyno report`", _seconds(whole.seconds), _mb(whole.peak_mb)])
        run_id = f"run_{size // 2 // spans.REQUESTS_OF_A_RUN:06d}"
        points = [child("run", folder, run_id) for _ in range(_REPEATS)]
        point = min(points, key=lambda run: run.seconds)
        rows.append([_count(size), "mean latency of one run by its id", _seconds(point.seconds), _mb(point.peak_mb)])
        if size == SIZES[1]:
            scale.goal("a query by run id over 10 million", 0.3, "s", point.seconds)
            rows.append(_many_files(scale, size))
        print(f"bench_analysis: {_count(size)} generated in {generated}", file=sys.stderr, flush=True)
        if size > _MOST_PANDAS:
            shutil.rmtree(folder)
    for size, seconds, megabytes in ((SIZES[1], 5.0, 2000.0), (SIZES[2], 60.0, 8000.0)):
        found = comparisons.get(size)
        scale.goal(f"comparison table over {_count(size)}", seconds, "s", found and found.seconds)
        scale.goal("its memory", megabytes, "MB", found and found.peak_mb)
    growth = [
        f"{_count(b)} against {_count(a)}: {comparisons[b].seconds / comparisons[a].seconds:.1f}x the time, "
        f"{comparisons[b].peak_mb / comparisons[a].peak_mb:.1f}x the memory"
        for a, b in zip(comparisons, list(comparisons)[1:], strict=False)
    ]
    notes = [f"Growth of the comparison: {'; '.join(growth)}."] if growth else []
    notes += [f"{_count(size)} left out: {reason}." for size, reason in scale.left_out.items()]
    return "\n\n".join([_markdown(["spans", "what", "time, s", "peak memory, MB"], rows), *notes])


def _many_files(scale: Scale, size: int) -> list[str]:
    """The comparison over files as full journals become them, before `dyno compact` has made few of many."""
    folder = scale.folder / "as_written"
    spans.write(folder, size, spans.AS_WRITTEN)
    files = len(list(folder.iterdir()))
    found = child("table", folder, "comparison")
    shutil.rmtree(folder)
    return [_count(size), f"comparison.sql, uncompacted: {files} files", _seconds(found.seconds), _mb(found.peak_mb)]


def _otherwise(scale: Scale) -> str:
    rows = []
    for size in scale.sizes():
        folder = scale.folder / f"spans{size}"
        if size > _MOST_PANDAS:
            continue
        ways = [
            ("dyno, its Parquet", child("table", folder, "comparison")),
            ("pandas, the same Parquet", child("pandas", folder)),
        ]
        if size <= _MOST_OTLP:
            lines = scale.folder / f"otlp{size}"
            otlp_lines.write(lines, size)
            gigabytes = spans.stored_bytes(lines) / 1e9
            ways.append((f"DuckDB over OTLP JSON lines ({gigabytes:.1f} GB)", child("otlp", lines)))
            shutil.rmtree(lines)
        ours = ways[0][1]
        for name, found in ways:
            times = f"{found.seconds / ours.seconds:.1f}x"
            rows.append([_count(size), name, _seconds(found.seconds), times, _mb(found.peak_mb)])
    return _markdown(["spans", "comparison by", "time, s", "to dyno", "peak memory, MB"], rows)


def _verdict(scale: Scale) -> str:
    rows = []
    for prompts in (1_000, 10_000, 100_000, 1_000_000):
        found = child("verdict", scale.folder, str(prompts))
        rows.append([_count(prompts), _seconds(found.seconds), _mb(found.peak_mb)])
    return _markdown(["prompts", "time, s", "peak memory, MB"], rows)


def _stored(scale: Scale) -> str:
    rows = []
    sizes = {}
    for what, extras in (
        ("without response id and chunk times", spans.Extras()),
        ("with the response id", spans.Extras(response_id=True)),
        ("with the response id and 200 chunk times", spans.Extras(response_id=True, chunk_times=True)),
    ):
        folder = scale.folder / what.replace(" ", "_")
        spans.write(folder, min(_EXTRA_SPANS, scale.most), extras=extras)
        sizes[what] = spans.stored_bytes(folder) / min(_EXTRA_SPANS, scale.most)
        rows.append([what, f"{sizes[what]:.1f}"])
        shutil.rmtree(folder)
    scale.goal("bytes a span without response id and chunk times", 80, "B", next(iter(sizes.values())))
    return _markdown(["a span", "bytes"], rows)


def _machine() -> str:
    import duckdb

    cpus = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    model = cpus[0].partition(":")[2].strip() if cpus else platform.machine()
    gigabytes = _memory_bytes("MemTotal") / 1e9
    lines = (
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, over generated spans: simulated, all of them.",
        f"Machine: {model}, {os.cpu_count()} cores, {gigabytes:.0f} GB; Linux {platform.release()}.",
        f"Versions: Python {platform.python_version()}; DuckDB {duckdb.__version__}.",
    )
    return "\n".join(lines)


def _memory_bytes(name: str) -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _goals(goals: Sequence[Goal]) -> str:
    rows = []
    for goal in goals:
        met = "not measured" if goal.measured is None else "yes" if goal.measured <= goal.limit else "**no**"
        measured = "–" if goal.measured is None else f"{goal.measured:,.2f} {goal.unit}"
        rows.append([goal.what, f"≤ {goal.limit:g} {goal.unit}", measured, met])
    return _markdown(["figure", "goal", "measured", "met"], rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _count(n: int) -> str:
    return f"{n / 1e6:g} million" if n >= 1_000_000 else f"{n:,}"


def _seconds(value: float) -> str:
    return f"{value:.2f}"


def _mb(value: float) -> str:
    return f"{value:,.0f}"
