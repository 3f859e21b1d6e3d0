"""Figures of several workers, shared through files in memory."""

import os
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector


class Shared(NamedTuple):
    """Where workers keep their figures for one another.

    A slot's files outlive its process, and the next one in the slot counts on from them: no counter ever falls.
    """

    folder: Path
    slot: int

    def forget_live(self) -> None:
        """The slot's process is gone: what is true only of a living one, as its running requests, goes with it."""
        for path in self.folder.glob(f"gauge_live*_{self.slot}.db"):
            path.unlink(missing_ok=True)


def shared_registry(shared: Shared) -> CollectorRegistry:
    """All workers' figures: counters and histograms summed, gauges by their family's mode."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(shared.folder))  # type: ignore[no-untyped-call]
    return registry


def _keep_values(shared: Shared | None) -> None:
    """The library decides when it is imported, by an environment variable that may be meant for another program."""
    if shared is None:
        values.ValueClass = values.MutexValue
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared.folder)
    values.ValueClass = values.MultiProcessValue(lambda: shared.slot)  # type: ignore[no-untyped-call]
