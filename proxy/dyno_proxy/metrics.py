"""What `/metrics` shows: the GenAI conventions' histograms, and ours for what they lack.

A request is counted in three steps: `started` and `finished` at once, on the event loop (counters only); `observe`
later, in telemetry's thread (histograms). Labelled children are made once and kept: `labels()` takes a lock each time.
What isn't known is an empty label, which Prometheus takes as none.
"""

import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Final, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from .record import Record

MODELS_LIMIT: Final = 100  # distinct values of the label `model`; those beyond are OTHER
OTHER: Final = "other"
_MODEL_CHARACTERS: Final = 128

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


class _Endpoint(NamedTuple):
    """An endpoint's children."""

    started: Counter
    active: Gauge
    request_bytes: Counter
    response_bytes: Counter
    overhead: Histogram
    simulated: Gauge


class _Figures(NamedTuple):
    """The children of an endpoint, model and operation."""

    first_chunk: Histogram
    chunk: Histogram
    ttft: Histogram
    tpot: Histogram
    input_tokens: Histogram
    output_tokens: Histogram


class Metrics:
    """The proxy's metrics, in a registry of their own."""

    def __init__(self, version: str, endpoints: Iterable[str] = (), models: Iterable[str] = ()) -> None:
        """`endpoints` show up with zeros from the start; `models`, the configured ones, never become OTHER."""
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, unused
        self.registry = CollectorRegistry()
        self._make()
        Gauge("dyno_build_info", "Always 1; the label says the version.", ["version"], registry=self.registry).labels(
            version
        ).set(1)
        self._lock = threading.Lock()  # for a new model: loop and thread may both meet it
        self._models: dict[str | None, str] = {None: "", "": ""}
        self._endpoints: dict[str, _Endpoint] = {}
        self._figures: dict[tuple[str, str, str], _Figures] = {}
        self._requests: dict[tuple[str, str, str, str], Counter] = {}
        self._durations: dict[tuple[str, str, str, str], Histogram] = {}
        for model in models:
            self._model(model)
        for endpoint in endpoints:
            self._endpoint(endpoint)

    def started(self, endpoint: str | None) -> None:
        """A request has come in; None where no endpoint could be named. On the loop."""
        children = self._endpoint(endpoint or "")
        children.started.inc()
        children.active.inc()

    def finished(self, record: Record) -> None:
        """It is over: its outcome counts at once, so that started = active + the sum of outcomes. On the loop."""
        endpoint = record.endpoint or ""
        children = self._endpoint(endpoint)
        children.active.dec()
        children.request_bytes.inc(record.request_bytes)
        children.response_bytes.inc(record.response_bytes)
        if record.simulated:
            children.simulated.set(1)
        key = (endpoint, self._model(record.model), record.operation or "", record.outcome)
        counter = self._requests.get(key)
        if counter is None:
            counter = self._requests[key] = self._requests_family.labels(*key)
        counter.inc()

    def observe(self, record: Record) -> None:
        """Its durations and tokens, into the histograms. In telemetry's thread.

        Duration bears the outcome; the other times are those of `ok` requests, as in the tables. Tokens are the
        server's count, never a guess.
        """
        endpoint, model, operation = record.endpoint or "", self._model(record.model), record.operation or ""
        key = (endpoint, model, operation, record.outcome)
        duration = self._durations.get(key)
        if duration is None:
            duration = self._durations[key] = self._duration_family.labels(*key)
        duration.observe(record.duration_us / 1e6)
        if record.overhead_us is not None:
            self._endpoint(endpoint).overhead.observe(record.overhead_us / 1e6)
        if record.operation is None:
            return
        figures = self._figures_of((endpoint, model, operation))
        if record.usage_source == "server":
            if record.input_tokens is not None:
                figures.input_tokens.observe(record.input_tokens)
            if record.output_tokens is not None:
                figures.output_tokens.observe(record.output_tokens)
        if record.outcome != "ok" or not record.streamed:
            return
        if record.first_event_us is not None:
            figures.first_chunk.observe(record.first_event_us / 1e6)
        if record.first_token_us is not None:
            figures.ttft.observe(record.first_token_us / 1e6)
        tpot = tpot_s(record)
        if tpot is not None:
            figures.tpot.observe(tpot)
        # One by one, at 0.5 µs each: prometheus-client has no call for many. Counting the buckets ourselves in a
        # collector of our own would be five times cheaper, but is lost in its multiprocess mode (`--workers`).
        observe = figures.chunk.observe
        for earlier_us, later_us in pairwise(record.chunk_offsets_us):
            observe((later_us - earlier_us) / 1e6)

    def spans_written(self, count: int) -> None:
        self._spans_written.inc(count)

    def spans_dropped(self, reason: str, count: int) -> None:
        """`reason` is one of telemetry's few; OTLP's begin with `otlp_`, and are in the span files all the same."""
        self._spans_dropped.labels(reason).inc(count)

    def follow_loop_lag(self, worst_us: Callable[[], int]) -> None:
        """Let each scrape ask for the event loop's lag, in µs."""
        self._loop_lag.set_function(lambda: worst_us() / 1e6)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text of `/metrics` and its content type, as the request's Accept header asks.

        Takes about 3 µs a series: a few ms with many models, better spent in a thread than on the loop.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _make(self) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(name, meaning, labels, registry=self.registry)

        def histogram(name: str, meaning: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, meaning, labels, buckets=bounds, registry=self.registry)

        operation = ("endpoint", "model", "operation")
        client = "gen_ai_client_operation_"
        self._duration_family = histogram(
            client + "duration_seconds",
            "From the request's arrival to its end, whatever it was.",
            DURATION_BOUNDS_S,
            *operation,
            "outcome",
        )
        self._first_chunk_family = histogram(
            client + "time_to_first_chunk_seconds",
            "Streamed, ok: to the first SSE event with choices.",
            FIRST_CHUNK_BOUNDS_S,
            *operation,
        )
        self._chunk_family = histogram(
            client + "time_per_output_chunk_seconds",
            "Streamed, ok: the gap before each chunk but the first. A chunk is not a token.",
            CHUNK_BOUNDS_S,
            *operation,
        )
        self._token_family = histogram(
            "gen_ai_client_token_usage", "Tokens by the server's count.", TOKEN_BOUNDS, *operation, "token_type"
        )
        self._ttft_family = histogram(
            "dyno_ttft_seconds", "Streamed, ok: to the first output, reasoning included.", TTFT_BOUNDS_S, *operation
        )
        self._tpot_family = histogram(
            "dyno_tpot_seconds", "Streamed, ok: time per output token after the first chunk.", TPOT_BOUNDS_S, *operation
        )
        self._started = counter("dyno_requests_started", "Requests that came in.", "endpoint")
        self._requests_family = counter("dyno_requests", "Requests that ended.", *operation, "outcome")
        self._active = gauge("dyno_active_requests", "Requests that are running.", "endpoint")
        self._request_bytes = counter("dyno_request_bytes", "Bytes of requests' bodies.", "endpoint")
        self._response_bytes = counter("dyno_response_bytes", "Bytes of responses' bodies, as sent.", "endpoint")
        self._overhead = histogram(
            "dyno_overhead_seconds",
            "What the proxy added to the first token, or to the end where nothing is streamed.",
            OVERHEAD_BOUNDS_S,
            "endpoint",
        )
        self._loop_lag = gauge("dyno_loop_lag_seconds", "The event loop's largest lag of the last second.")
        self._spans_written = counter("dyno_spans_written", "Spans in the span files.")
        self._spans_dropped = counter("dyno_spans_dropped", "Spans that were lost, and why.", "reason")
        self._simulated = gauge(
            "dyno_endpoint_simulated", "1 once a response said `Server: dyno-simulate`.", "endpoint"
        )

    def _endpoint(self, endpoint: str) -> _Endpoint:
        children = self._endpoints.get(endpoint)
        if children is None:
            children = self._endpoints[endpoint] = _Endpoint(
                self._started.labels(endpoint),
                self._active.labels(endpoint),
                self._request_bytes.labels(endpoint),
                self._response_bytes.labels(endpoint),
                self._overhead.labels(endpoint),
                self._simulated.labels(endpoint),
            )
        return children

    def _figures_of(self, key: tuple[str, str, str]) -> _Figures:
        children = self._figures.get(key)
        if children is None:
            children = self._figures[key] = _Figures(
                self._first_chunk_family.labels(*key),
                self._chunk_family.labels(*key),
                self._ttft_family.labels(*key),
                self._tpot_family.labels(*key),
                self._token_family.labels(*key, "input"),
                self._token_family.labels(*key, "output"),
            )
        return children

    def _model(self, model: str | None) -> str:
        """The label for the model that a client asked for: clients write it, so it is bounded in number and length."""
        label = self._models.get(model)
        if label is None:
            with self._lock:
                # A name that finds no room stays out of the dict, or the dict would grow. (Two keys mean "unknown".)
                room = len(self._models) < MODELS_LIMIT + 2 or model in self._models
                if model is None or not room or not _is_label(model):
                    return OTHER
                label = self._models[model] = model
        return label


def tpot_s(record: Record) -> float | None:
    """Time per output token in s, as MEASURING.md defines it; None where it can't be known.

    (last_token - first_token) / (N_out - n_first): n_first is the first chunk's tokens, 1 if unknown; reasoning that
    was counted but not streamed is taken off N_out.
    """
    tokens, first_us, last_us = record.output_tokens, record.first_token_us, record.last_token_us
    if not record.streamed or tokens is None or first_us is None or last_us is None:
        return None
    if record.reasoning_tokens and not record.reasoning_streamed:
        tokens -= record.reasoning_tokens
    later = tokens - (1 if record.first_chunk_tokens is None else record.first_chunk_tokens)
    if tokens < 2 or later < 1:
        return None
    return (last_us - first_us) / 1e6 / later


def _is_label(model: str) -> bool:
    """Short enough, and UTF-8 can hold it: one lone surrogate would break all of `/metrics`."""
    return len(model) <= _MODEL_CHARACTERS and not any("\ud800" <= character <= "\udfff" for character in model)
