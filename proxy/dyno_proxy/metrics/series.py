"""The numbers behind the series of `/metrics`: by endpoint, and by endpoint, model and operation.

Traffic writes them. `publish` hands on what came since the last time, and runs in one thread at a time.
"""

from collections.abc import Iterable
from typing import Final

from .families import (
    CHUNK_BOUNDS_S,
    DURATION_BOUNDS_S,
    FIRST_CHUNK_BOUNDS_S,
    OVERHEAD_BOUNDS_S,
    TOKEN_BOUNDS,
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
    Families,
)
from .tallies import Counted, Tally

_US: Final = 1e6  # in a second


def in_us(bounds_s: Iterable[float]) -> tuple[int, ...]:
    """A histogram's bounds in whole µs."""
    return tuple(round(bound_s * _US) for bound_s in bounds_s)


_DURATION_US: Final = in_us(DURATION_BOUNDS_S)
_OVERHEAD_US: Final = in_us(OVERHEAD_BOUNDS_S)
_FIRST_CHUNK_US: Final = in_us(FIRST_CHUNK_BOUNDS_S)
_CHUNK_US: Final = in_us(CHUNK_BOUNDS_S)
_TTFT_US: Final = in_us(TTFT_BOUNDS_S)


class EndpointNumbers:
    """What is counted for one endpoint. The event loop writes it; whoever calls `Metrics.observe` writes `overhead`."""

    __slots__ = (
        *("name", "overhead", "request_bytes", "response_bytes", "retries", "simulated", "started"),
        "_counters",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = self.request_bytes = self.response_bytes = self.retries = 0
        self.simulated = False
        self.overhead = Tally(_OVERHEAD_US, _US)
        self._counters = Counted()

    def publish(self, families: Families, ended: int) -> None:
        """Hand on what is new. `ended`: how many of its requests have an outcome, by the numbers published so far."""
        started, labels = self.started, (self.name,)
        self._counters.publish(families.started, labels, started)
        families.active.labels(*labels).set(started - ended)
        self._counters.publish(families.request_bytes, labels, self.request_bytes)
        self._counters.publish(families.response_bytes, labels, self.response_bytes)
        self._counters.publish(families.retries, labels, self.retries)
        families.simulated.labels(*labels).set(self.simulated)
        self.overhead.publish(families.overhead, labels)


class Series:
    """What is counted for an endpoint, model and operation.

    The event loop writes `outcomes`; whoever calls `Metrics.observe` writes the rest.
    """

    __slots__ = (
        *("_counters", "_labels", "_published"),
        *("durations", "endpoint", "figures", "is_other", "observed", "outcomes"),
    )

    def __init__(self, endpoint: EndpointNumbers, labels: tuple[str, str, str], *, is_other: bool) -> None:
        """`is_other`: it stands for many models that have no series of their own."""
        self.endpoint = endpoint
        self.is_other = is_other
        self.outcomes: dict[str, int] = {}
        self.observed = 0  # records that went into `durations` and `figures`
        self.durations: dict[str, Tally] = {}
        self.figures = Figures() if labels[2] else None  # a path without an operation has no chunks and tokens
        self._labels = labels
        self._counters = Counted()
        self._published = (-1, -1)

    def duration(self, outcome: str) -> Tally:
        """The tally of the durations of requests with this outcome, in µs."""
        tally = self.durations.get(outcome)
        if tally is None:
            tally = self.durations[outcome] = Tally(_DURATION_US, _US)
        return tally

    def publish(self, families: Families) -> int:
        """Hand on what is new; returns how many requests have an outcome."""
        observed, outcomes = self.observed, self.outcomes.copy()
        ended = sum(outcomes.values())
        if (ended, observed) == self._published:
            return ended
        for outcome, count in outcomes.items():
            self._counters.publish(families.requests, (*self._labels, outcome), count)
        for outcome, duration in self.durations.copy().items():
            duration.publish(families.duration, (*self._labels, outcome))
        figures = self.figures
        if figures is not None:
            figures.first_chunk.publish(families.first_chunk, self._labels)
            figures.chunk.publish(families.chunk, self._labels)
            figures.ttft.publish(families.ttft, self._labels)
            figures.tpot.publish(families.tpot, self._labels)
            figures.input_tokens.publish(families.tokens, (*self._labels, "input"))
            figures.output_tokens.publish(families.tokens, (*self._labels, "output"))
            self._counters.publish(families.reasoning_tokens, self._labels, figures.reasoning_tokens)
            self._counters.publish(families.cached_tokens, self._labels, figures.cached_tokens)
        self._published = (ended, observed)
        return ended


class Figures:
    """What the responses of an operation say: chunks, times and tokens."""

    __slots__ = (
        *("cached_tokens", "chunk", "first_chunk", "input_tokens"),
        *("output_tokens", "reasoning_tokens", "tpot", "ttft"),
    )

    def __init__(self) -> None:
        self.first_chunk = Tally(_FIRST_CHUNK_US, _US)
        self.chunk = Tally(_CHUNK_US, _US)
        self.ttft = Tally(_TTFT_US, _US)
        self.tpot = Tally(TPOT_BOUNDS_S, 1)
        self.input_tokens = Tally(TOKEN_BOUNDS, 1)
        self.output_tokens = Tally(TOKEN_BOUNDS, 1)
        self.reasoning_tokens = self.cached_tokens = 0
