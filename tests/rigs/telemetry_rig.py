"""Telemetry in the test's process that writes into a folder, with its metrics: what was written or dropped, and why."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from dyno_proxy.exchange.record import Record
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.telemetry.telemetry import Telemetry

WAIT_S: Final = 60.0


class TelemetryRig:
    """Telemetry that writes into a folder."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.metrics = Metrics("0.1.0")
        self.telemetry = Telemetry(folder, self.metrics, **options)

    def put(self, *sources: Record) -> None:
        for source in sources:
            self.telemetry.started(source)
            self.telemetry.record(source)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def dropped(self, reason: str) -> float:
        return self.value("dyno_spans_dropped_total", reason=reason)


@contextmanager
def telemetry_rigs(folder: Path) -> Iterator[Callable[..., TelemetryRig]]:
    """Makes rigs on this folder, or on another, and closes them at the end."""
    made: list[TelemetryRig] = []

    def make(folder: Path = folder, **options: Any) -> TelemetryRig:
        made.append(TelemetryRig(folder, **options))
        return made[-1]

    yield make
    for each in made:
        each.telemetry.close(1.0)
