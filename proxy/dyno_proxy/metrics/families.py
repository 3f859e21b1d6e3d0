"""The families of `/metrics`: their names, labels and bounds."""

from typing import Final, Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge

from .multiprocess import Shared, _keep_values
from .tallies import TallyHistogram

# Bounds in seconds and tokens: the conventions' (gen-ai-metrics.md), and finer and longer ones for what is faster and
# slower than these.
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


class Families:
    """Every family, in a registry. A process has one set at a time where workers share their figures."""

    def __init__(self, registry: CollectorRegistry, shared: Shared | None) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, unused
        _keep_values(shared)
        self._registry = registry
        self._of_operations()
        self._of_endpoints()
        self._of_the_proxy()

    def _of_operations(self) -> None:
        """What is known of a request by its endpoint, model and operation."""
        counter, histogram, operation = self._counter, self._histogram, ("endpoint", "model", "operation")
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
        self.requests = counter("dyno_requests", "Requests that ended.", *operation, "outcome")

    def _of_endpoints(self) -> None:
        """What is counted for an endpoint as a whole."""
        counter = self._counter
        self.started = counter("dyno_requests_started", "Requests that came in.", "endpoint")
        self.active = self._gauge("dyno_active_requests", "Requests that are running.", "livesum", "endpoint")
        self.request_bytes = counter("dyno_request_bytes", "Bytes of requests' bodies.", "endpoint")
        self.response_bytes = counter("dyno_response_bytes", "Bytes of responses' bodies, as sent.", "endpoint")
        self.retries = counter("dyno_retries", "Requests that were sent to the endpoint once more.", "endpoint")
        self.mirrored = counter(
            "dyno_mirror_copies", "Copies of requests for a mirror: sent, or why they weren't.", "endpoint", "result"
        )
        self.simulated = self._gauge(
            "dyno_endpoint_simulated", "1 once a response said `Server: dyno-simulate`.", "max", "endpoint"
        )

    def _of_the_proxy(self) -> None:
        """What the proxy costs, and how it fares."""
        counter, histogram, gauge = self._counter, self._histogram, self._gauge
        self.overhead = histogram(
            "dyno_overhead_seconds",
            "What the proxy added to the first token, or to the end where nothing is streamed.",
            OVERHEAD_BOUNDS_S,
            "endpoint",
        )
        self.loop_lag = gauge("dyno_loop_lag_seconds", "The event loop's largest lag of the last second.", "livemax")
        self.gc_pause = histogram("dyno_gc_pause_seconds", "The garbage collector's pauses.", GC_BOUNDS_S)
        self.spans_written = counter("dyno_spans_written", "Spans in the span files.")
        self.spans_dropped = counter("dyno_spans_dropped", "Spans that were lost, and why.", "reason")
        self.journal_lag = gauge(
            "dyno_journal_lag_seconds",
            "Since the oldest request ended whose span isn't on disk yet; 0 without one.",
            "livemax",
        )
        self.other_models = counter(
            "dyno_other_model_requests", "Requests whose model has no series of its own: their label says `other`."
        )
        self.build_info = gauge("dyno_build_info", "Always 1; the label says the version.", "max", "version")

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, workers: Literal["livesum", "livemax", "max"], *labels: str) -> Gauge:
        """`workers`: how the workers' values become one."""
        return Gauge(name, meaning, labels, registry=self._registry, multiprocess_mode=workers)

    def _histogram(self, name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> TallyHistogram:
        return TallyHistogram(name, meaning, labels, buckets=bounds, registry=self._registry)
