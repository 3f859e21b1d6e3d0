"""What `/metrics` shows of the export by OTLP, from the file in which the exporter's process says how far it is.

    .dyno.otlp.json     line 1: Figures, and line 2: what was sent of each writer (export/state.py), both as JSON

The figures are the spans folder's: proxies that share it show the same ones.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

STATE: Final = ".dyno.otlp.json"

# Why spans aren't sent
TOO_OLD: Final = "too_old"  # older than [otlp] keep
REFUSED: Final = "refused"  # the collector took others, but not these
NOT_STORED: Final = "not_stored"  # the journal lost them, or they were deleted before they were sent
REASONS: Final = (TOO_OLD, REFUSED, NOT_STORED)


class Figures(msgspec.Struct):
    """How many spans were sent and dropped since the first export from this folder."""

    version: int = 1
    from_us: int = 0  # rows that ended before are the past, which only `dyno export --otlp` sends; Unix µs
    sent: int = 0
    unsampled: int = 0
    dropped: dict[str, int] = {}
    oldest_us: int | None = None  # when the oldest span ended that waits; Unix µs


class OtlpFigures(Collector):
    """The export's families, read when they are asked for."""

    def __init__(self, spans: Path) -> None:
        self._path = spans / STATE

    def collect(self) -> Iterator[Metric]:
        figures = read_figures(self._path)
        sent = CounterMetricFamily("dyno_otlp_spans_sent", "Spans of the folder that OTLP's collector has taken.")
        sent.add_metric([], figures.sent)
        yield sent
        dropped = CounterMetricFamily(
            "dyno_otlp_spans_dropped", "Spans that OTLP's collector won't get, and why.", labels=["reason"]
        )
        for reason in REASONS:
            dropped.add_metric([reason], figures.dropped.get(reason, 0))
        yield dropped
        lag_s = 0.0 if figures.oldest_us is None else max(0.0, time.time() - figures.oldest_us / 1e6)
        yield GaugeMetricFamily(
            "dyno_otlp_lag_seconds", "Since the oldest request ended whose span waits for the collector.", lag_s
        )


def read_figures(path: Path) -> Figures:
    """The first line of the state's file; zeros where there is none yet."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.readline(), type=Figures)
    except (OSError, msgspec.DecodeError):
        return Figures()
