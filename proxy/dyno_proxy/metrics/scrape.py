"""Makes the text of /metrics in short stretches, so that traffic never waits for it."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

# The thread that renders /metrics works for at most this long, then yields the GIL and its core to the event loop. On a
# machine whose cores are all busy, a read waits for a core until the stretch is over.
_STRETCH_S: Final = 0.00005
_PAUSE_S: Final = 0.0001
Item = TypeVar("Item")


class CollectedRegistry(CollectorRegistry):
    """A registry whose owner brings the figures up to date before they are collected."""

    def __init__(self, around: Callable[[Callable[[], Iterable[Metric]]], Iterable[Metric]]) -> None:
        super().__init__()
        self._around = around

    def collect(self) -> Iterable[Metric]:
        return self._around(super().collect)


def unhurried(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, in stretches: between two of them other threads get the interpreter."""
    pause_s = time.monotonic() + _STRETCH_S
    for item in items:
        yield item
        if time.monotonic() > pause_s:
            time.sleep(_PAUSE_S)
            pause_s = time.monotonic() + _STRETCH_S


class Unhurried(Collector):
    """A registry's families, whose samples are read in stretches."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = _UnhurriedSamples(family.samples)
            yield family


class _UnhurriedSamples(list[Sample]):
    def __iter__(self) -> Iterator[Sample]:
        return unhurried(super().__iter__())
