"""Lets several workers share their figures, through files in memory."""

import os
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector


class Shared(NamedTuple):
    """Where a worker keeps its figures, so that the others can read them.

    A slot's files outlive its process. The slot's next process counts on from them, so no counter ever falls.
    """

    folder: Path  # all workers' files
    slot: int  # this worker's number, from 0

    def forget_live(self) -> None:
        """Remove the gauges that are true only of a running process, such as its active requests: it has ended."""
        for path in self.folder.glob(f"gauge_live*_{self.slot}.db"):
            path.unlink(missing_ok=True)


def shared_registry(shared: Shared) -> CollectorRegistry:
    """A registry of all workers' figures. It sums counters and histograms, and combines gauges as their family says."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(shared.folder))  # type: ignore[no-untyped-call]
    return registry


def _keep_values(shared: Shared | None) -> None:
    """Have prometheus-client keep values in memory, or in `shared`'s files.

    By itself the library decides when it is imported, by an environment variable that may be meant for another program.
    """
    if shared is None:
        values.ValueClass = values.MutexValue
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared.folder)
    values.ValueClass = values.MultiProcessValue(lambda: shared.slot)  # type: ignore[no-untyped-call]
