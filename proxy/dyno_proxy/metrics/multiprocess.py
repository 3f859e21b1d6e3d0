"""How several workers share their figures: through files in memory."""

import os
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector


class Shared(NamedTuple):
    """Where workers keep their figures for each other.

    A slot's files outlive its process. The next process in the slot counts on from them, so no counter ever falls.
    """

    folder: Path  # all workers' files
    slot: int  # this worker's number, from 0

    def forget_live(self) -> None:
        """The slot's process has ended: remove what is true only of a living one, such as its running requests."""
        for path in self.folder.glob(f"gauge_live*_{self.slot}.db"):
            path.unlink(missing_ok=True)


def shared_registry(shared: Shared) -> CollectorRegistry:
    """A registry of all workers' figures. It sums counters and histograms, and combines gauges as their family says."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(shared.folder))  # type: ignore[no-untyped-call]
    return registry


def _keep_values(shared: Shared | None) -> None:
    """Tell prometheus-client where values live. It would follow a variable that may be meant for another program."""
    if shared is None:
        values.ValueClass = values.MutexValue
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(shared.folder)
    values.ValueClass = values.MultiProcessValue(lambda: shared.slot)  # type: ignore[no-untyped-call]
