"""The families that `/metrics` is made of: names, labels, bounds; and where prometheus-client keeps their values."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from .tallies import TallyHistogram

# Bounds: the conventions' (gen-ai-metrics.md), with finer and longer ones as ENDPOINTS.md asks; seconds and tokens.
_CONVENTIONAL_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FINER_S: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005)
DURATION_BOUNDS_S: Final = (*_CONVENTIONAL_S, 163.84, 327.68, 655.36)
FIRST_CHUNK_BOUNDS_S: Final = (0.001, 0.002, 0.005, *_CONVENTIONAL_S, 163.84)
CHUNK_BOUNDS_S: Final = (*_FINER_S, *_CONVENTIONAL_S)
# gen_ai.server.time_to_first_token's and time_per_output_token's.
TTFT_BOUNDS_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(15.0, 30.0, 60.0, 120.0),
)
TPOT_BOUNDS_S: Final = (*_FINER_S, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
OVERHEAD_BOUNDS_S: Final = (5e-5, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
GC_BOUNDS_S: Final = (5e-5, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


# Who makes a text computes so long at a stretch, then lets the event loop have the interpreter's lock, and the core: on
# a machine whose cores are busy, a read waits for one until the stretch is over.
_STRETCH_S: Final = 0.00005
_PAUSE_S: Final = 0.0001

Item = TypeVar("Item")


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


class Families:
    """Every family, in a registry. One set at a time where workers share their figures."""

    def __init__(self, registry: CollectorRegistry, shared: Shared | None) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, unused
        _keep_values(shared)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> TallyHistogram:
            return TallyHistogram(name, meaning, labels, buckets=bounds, registry=registry)

        operation = ("endpoint", "model", "operation")
        client = "gen_ai_client_operation_"
        self.duration = histogram(
            client + "duration_seconds",
            "From the request's arrival to its end, whatever it was.",
            DURATION_BOUNDS_S,
            *operation,
            "outcome",
        )
        self.first_chunk = histogram(
            client + "time_to_first_chunk_seconds",
            "Streamed, ok: to the first SSE event with choices.",
            FIRST_CHUNK_BOUNDS_S,
            *operation,
        )
        self.chunk = histogram(
            client + "time_per_output_chunk_seconds",
            "Streamed, ok: the gap before each chunk but the first. A chunk is not a token.",
            CHUNK_BOUNDS_S,
            *operation,
        )
        self.tokens = histogram(
            "gen_ai_client_token_usage", "Tokens by the server's count.", TOKEN_BOUNDS, *operation, "token_type"
        )
        self.ttft = histogram(
            "dyno_ttft_seconds", "Streamed, ok: to the first output, reasoning included.", TTFT_BOUNDS_S, *operation
        )
        self.tpot = histogram(
            "dyno_tpot_seconds", "Streamed, ok: time per output token after the first chunk.", TPOT_BOUNDS_S, *operation
        )
        # The conventions' token types are input and output; these two are parts of them.
        self.reasoning_tokens = counter("dyno_reasoning_tokens", "Output tokens that were reasoning.", *operation)
        self.cached_tokens = counter("dyno_cached_tokens", "Input tokens from the prefix cache.", *operation)
        self.started = counter("dyno_requests_started", "Requests that came in.", "endpoint")
        self.requests = counter("dyno_requests", "Requests that ended.", *operation, "outcome")
        self.active = Gauge(
            "dyno_active_requests",
            "Requests that are running.",
            ["endpoint"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.request_bytes = counter("dyno_request_bytes", "Bytes of requests' bodies.", "endpoint")
        self.response_bytes = counter("dyno_response_bytes", "Bytes of responses' bodies, as sent.", "endpoint")
        self.retries = counter("dyno_retries", "Requests that were sent to the endpoint once more.", "endpoint")
        self.mirrored = counter(
            "dyno_mirror_copies", "Copies of requests for a mirror: sent, or why they weren't.", "endpoint", "result"
        )
        self.overhead = histogram(
            "dyno_overhead_seconds",
            "What the proxy added to the first token, or to the end where nothing is streamed.",
            OVERHEAD_BOUNDS_S,
            "endpoint",
        )
        self.loop_lag = Gauge(
            "dyno_loop_lag_seconds",
            "The event loop's largest lag of the last second.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.gc_pause = histogram("dyno_gc_pause_seconds", "The garbage collector's pauses.", GC_BOUNDS_S)
        self.spans_written = counter("dyno_spans_written", "Spans in the span files.")
        self.spans_dropped = counter("dyno_spans_dropped", "Spans that were lost, and why.", "reason")
        self.journal_lag = Gauge(
            "dyno_journal_lag_seconds",
            "Since the oldest request ended whose span isn't on disk yet; 0 without one.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.simulated = Gauge(
            "dyno_endpoint_simulated",
            "1 once a response said `Server: dyno-simulate`.",
            ["endpoint"],
            registry=registry,
            multiprocess_mode="max",
        )
        self.build_info = Gauge(
            "dyno_build_info",
            "Always 1; the label says the version.",
            ["version"],
            registry=registry,
            multiprocess_mode="max",
        )


class CollectedRegistry(CollectorRegistry):
    """A registry that lets its owner bring the figures up to date before they are collected."""

    def __init__(self, around: Callable[[Callable[[], Iterable[Metric]]], Iterable[Metric]]) -> None:
        super().__init__()
        self._around = around

    def collect(self) -> Iterable[Metric]:
        return self._around(super().collect)


def unhurried(items: Iterable[Item]) -> Iterator[Item]:
    """The items; their reader lets other threads go first every so often."""
    pause_s = time.monotonic() + _STRETCH_S
    for item in items:
        yield item
        if time.monotonic() > pause_s:
            time.sleep(_PAUSE_S)
            pause_s = time.monotonic() + _STRETCH_S


class Unhurried(Collector):
    """A registry's families, each of whose samples are read unhurried."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = _UnhurriedSamples(family.samples)
            yield family


class _UnhurriedSamples(list[Sample]):
    def __iter__(self) -> Iterator[Sample]:
        return unhurried(super().__iter__())


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
