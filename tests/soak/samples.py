"""The soak's samples of a running proxy, and what they must show."""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from rigs.running_proxy import RunningProxy

from .process import process_figures

GROWTH_LIMIT_BYTES: Final = 1_000_000  # in GROWTH_S, after warm-up
GROWTH_S: Final = 600.0
SLOPE_FROM_S: Final = 300.0  # what is left of a shorter run after its warm-up can't tell a slope from noise,
SHORT_GROWTH_LIMIT_BYTES: Final = 30_000_000  # so it is held to this from its start, first uses included


class Sample(NamedTuple):
    at_s: float  # since the run's beginning
    rss_bytes: int
    fds: int
    threads: int
    started: int
    ended: int
    active: int
    written: int
    dropped: int


class Line(NamedTuple):
    """One row of the report."""

    figure: str
    start: str
    warm: str  # after the warm-up
    end: str
    limit: str
    holds: bool


def take_sample(proxy: RunningProxy, pid: int, begun_s: float) -> Sample:
    """Now; `begun_s` by the monotonic clock. Blocks for a scrape."""
    totals: dict[str, float] = {}
    for line in proxy.metrics().splitlines():
        if not line.startswith("#"):
            name, value = line.partition("{")[0].partition(" ")[0], line.rpartition(" ")[2]
            totals[name] = totals.get(name, 0.0) + float(value)

    def total(name: str) -> int:
        return int(totals.get(f"dyno_{name}", 0))

    figures = process_figures(pid)
    return Sample(
        at_s=time.monotonic() - begun_s,
        rss_bytes=figures.rss_bytes,
        fds=figures.fds,
        threads=figures.threads,
        started=total("requests_started_total"),
        ended=total("requests_total"),
        active=total("active_requests"),
        written=total("spans_written_total"),
        dropped=total("spans_dropped_total"),
    )


def warm_up_s(duration_s: float) -> float:
    """Three tenths of a run, 5 minutes at most: until then pools, labels and buffers grow to their size."""
    return min(0.3 * duration_s, 300.0)


def judge(start: Sample, loaded: Sequence[Sample], end: Sample) -> list[Line]:
    """The report. `start`: idle, after a few requests; `loaded`: under load; `end`: idle again, the upstream gone."""
    warm = [sample for sample in loaded if sample.at_s >= warm_up_s(loaded[-1].at_s)]
    earlier, later = warm[: len(warm) // 2], warm[len(warm) // 2 :]

    def line(figure: str, of: Callable[[Sample], int], limit: str, *, holds: bool) -> Line:
        return Line(figure, f"{of(start):,}", f"{of(warm[0]):,}", f"{of(end):,}", limit, holds)

    fds_before, fds_after = (statistics.median(sample.fds for sample in half) for half in (earlier, later))
    most_threads = max(sample.threads for sample in earlier)
    return [
        _memory(start, warm, end),
        line("file descriptors", lambda sample: sample.fds, "as at the start", holds=end.fds <= start.fds),
        Line(
            "file descriptors under load, median of each half",
            "",
            f"{fds_before:,.0f}",
            f"{fds_after:,.0f}",
            "+10 % and 10",
            fds_after <= fds_before * 1.1 + 10,
        ),
        line(
            "threads",
            lambda sample: sample.threads,
            f"{most_threads}, the first half's most",
            holds=max(sample.threads for sample in (*later, end)) <= most_threads,
        ),
        line("requests running", lambda sample: sample.active, "0", holds=end.active == 0),
        line("requests started", lambda sample: sample.started, "", holds=True),
        line("the sum of outcomes", lambda sample: sample.ended, "= started", holds=end.ended == end.started),
        line("spans written", lambda sample: sample.written, "= started", holds=end.written == end.started),
        line("spans dropped", lambda sample: sample.dropped, "0", holds=end.dropped == 0),
    ]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between any two points (Theil and Sen): a few outliers don't move it."""
    return statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))


def _memory(start: Sample, warm: Sequence[Sample], end: Sample) -> Line:
    before, after, last = (f"{sample.rss_bytes / 1e6:.1f} MB" for sample in (start, warm[0], end))
    if warm[-1].at_s - warm[0].at_s < SLOPE_FROM_S:
        limit = f"+{SHORT_GROWTH_LIMIT_BYTES / 1e6:.0f} MB: too short for a slope"
        return Line(
            "memory (RSS)", before, after, last, limit, end.rss_bytes - start.rss_bytes <= SHORT_GROWTH_LIMIT_BYTES
        )
    growth_bytes = slope([(sample.at_s, sample.rss_bytes) for sample in warm]) * GROWTH_S
    limit = f"+{GROWTH_LIMIT_BYTES / 1e6:.0f} MB in {GROWTH_S / 60:.0f} min after warm-up: {growth_bytes / 1e6:+.2f}"
    return Line("memory (RSS)", before, after, last, limit, growth_bytes <= GROWTH_LIMIT_BYTES)
