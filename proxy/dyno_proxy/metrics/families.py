"""The families of `/metrics`: their names, labels and bounds."""

from typing import Final, Literal

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge

from .multiprocess import Shared, _keep_values
from .tallies import TallyHistogram

# The histograms' upper bounds, in seconds or tokens. They are those of OpenTelemetry's GenAI conventions
# (gen-ai-metrics.md). Finer ones are added, since fast endpoints need about 1 ms for a token, and longer ones, since a
# model may think for minutes.
_CONVENTIONAL_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FINER_S: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005)
DURATION_BOUNDS_S: Final = (*_CONVENTIONAL_S, 163.84, 327.68, 655.36)
FIRST_CHUNK_BOUNDS_S: Final = (0.001, 0.002, 0.005, *_CONVENTIONAL_S, 163.84)
CHUNK_BOUNDS_S: Final = (*_FINER_S, *_CONVENTIONAL_S)
# The next two have the conventions' bounds for gen_ai.server.time_to_first_token and time_per_output_token.
TTFT_BOUNDS_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(15.0, 30.0, 60.0, 120.0),
)
TPOT_BOUNDS_S: Final = (*_FINER_S, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
OVERHEAD_BOUNDS_S: Final = (5e-5, 0.0001, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
GC_BOUNDS_S: Final = (5e-5, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)

_OPERATION: Final = ("endpoint", "model", "operation")
_CLIENT: Final = "gen_ai_client_operation_"


class _Registrar:
    """Makes families and registers them: `/metrics` shows them in the order in which they are made."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def histogram(self, name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> TallyHistogram:
        return TallyHistogram(name, meaning, labels, buckets=bounds, registry=self._registry)

    def gauge(self, name: str, meaning: str, workers: Literal["livesum", "livemax", "max"], *labels: str) -> Gauge:
        """`workers`: how the text combines the values of several workers; `live…` leaves out those that have ended."""
        return Gauge(name, meaning, labels, registry=self._registry, multiprocess_mode=workers)


class Families:
    """Every family, in a registry. A process has one set at a time where workers share their figures."""

    def __init__(self, registry: CollectorRegistry, shared: Shared | None) -> None:
        # Otherwise each series gets one more, `…_created`, which nobody uses.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        _keep_values(shared)
        new = _Registrar(registry)
        self._make_times_and_tokens(new)
        self._make_traffic(new)
        self._make_own_state(new)
        self.simulated = new.gauge(
            "dyno_endpoint_simulated", "1 once a response said `Server: dyno-simulate`.", "max", "endpoint"
        )
        self.build_info = new.gauge("dyno_build_info", "Always 1; the label says the version.", "max", "version")

    def _make_times_and_tokens(self, new: _Registrar) -> None:
        """What the responses of an endpoint, model and operation say."""
        self.duration = new.histogram(
            _CLIENT + "duration_seconds",
            "From the request's arrival to its end, however it ended.",
            DURATION_BOUNDS_S,
            *_OPERATION,
            "outcome",
        )
        self.first_chunk = new.histogram(
            _CLIENT + "time_to_first_chunk_seconds",
            "Streamed requests that ended ok: from arrival to the first SSE event with choices.",
            FIRST_CHUNK_BOUNDS_S,
            *_OPERATION,
        )
        self.chunk = new.histogram(
            _CLIENT + "time_per_output_chunk_seconds",
            "Streamed requests that ended ok: the gap before each chunk but the first. A chunk is not a token.",
            CHUNK_BOUNDS_S,
            *_OPERATION,
        )
        self.tokens = new.histogram(
            "gen_ai_client_token_usage", "Tokens, as the server counts them.", TOKEN_BOUNDS, *_OPERATION, "token_type"
        )
        self.ttft = new.histogram(
            "dyno_ttft_seconds",
            "Streamed requests that ended ok: from arrival to the first output, reasoning included.",
            TTFT_BOUNDS_S,
            *_OPERATION,
        )
        self.tpot = new.histogram(
            "dyno_tpot_seconds",
            "Streamed requests that ended ok: time per output token after the first chunk.",
            TPOT_BOUNDS_S,
            *_OPERATION,
        )
        # These two are counters, since the conventions' label `token_type` knows only input and output.
        self.reasoning_tokens = new.counter("dyno_reasoning_tokens", "Output tokens that were reasoning.", *_OPERATION)
        self.cached_tokens = new.counter("dyno_cached_tokens", "Input tokens from the prefix cache.", *_OPERATION)

    def _make_traffic(self, new: _Registrar) -> None:
        """What passes through the proxy, by endpoint."""
        self.started = new.counter("dyno_requests_started", "Requests that came in.", "endpoint")
        self.requests = new.counter("dyno_requests", "Requests that ended.", *_OPERATION, "outcome")
        self.active = new.gauge("dyno_active_requests", "Requests that are running.", "livesum", "endpoint")
        self.request_bytes = new.counter("dyno_request_bytes", "Bytes of requests' bodies.", "endpoint")
        self.response_bytes = new.counter("dyno_response_bytes", "Bytes of responses' bodies, as sent.", "endpoint")
        self.retries = new.counter("dyno_retries", "How often requests were sent to the endpoint again.", "endpoint")
        self.mirrored = new.counter(
            "dyno_mirror_copies",
            "Copies of requests for a mirror: those that were sent, and why others weren't.",
            "endpoint",
            "result",
        )
        self.overhead = new.histogram(
            "dyno_overhead_seconds",
            "Time that the proxy added to the first token, or to the end where nothing is streamed.",
            OVERHEAD_BOUNDS_S,
            "endpoint",
        )

    def _make_own_state(self, new: _Registrar) -> None:
        """How the proxy itself is."""
        self.loop_lag = new.gauge(
            "dyno_loop_lag_seconds", "The event loop's largest lag of the last second.", "livemax"
        )
        self.gc_pause = new.histogram("dyno_gc_pause_seconds", "The garbage collector's pauses.", GC_BOUNDS_S)
        self.spans_written = new.counter("dyno_spans_written", "Spans in the span files.")
        self.spans_dropped = new.counter("dyno_spans_dropped", "Spans that were lost, and why.", "reason")
        self.journal_lag = new.gauge(
            "dyno_journal_lag_seconds",
            "How long ago the oldest request ended whose span isn't on disk yet; 0 without one.",
            "livemax",
        )
