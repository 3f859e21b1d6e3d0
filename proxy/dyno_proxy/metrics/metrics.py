"""What `/metrics` shows: the GenAI conventions' histograms, and our own for what they lack.

    event loop ──started, finished──▶ plain numbers ─┐
               ──observe────────────▶ tallies ───────┴──publish──▶ prometheus-client ──render──▶ text

The event loop never calls prometheus-client. `publish` hands over what came since the last time: before each text is
made, and ten times a second where workers share their figures (one worker's text then holds the sum of all).
An unknown value is an empty label, which Prometheus treats as no label.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from operator import sub
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder

from dyno_proxy.exchange.record import Record

from .families import GC_BOUNDS_S, Families
from .multiprocess import Shared, shared_registry
from .otlp_figures import OtlpFigures
from .scrape import CollectedRegistry, Unhurried, unhurried
from .series import EndpointNumbers, Figures, Series, in_us
from .tallies import Counted, Mark, Tally

# How many triples of endpoint, model and operation have series of their own, beside those of configured models; in
# further ones the model becomes OTHER. Each triple has up to 350 lines, most of them buckets.
SERIES_LIMIT: Final = 100
_LEAST_SERIES: Final = 25  # of one worker, however many share SERIES_LIMIT
OTHER: Final = "other"
_MODEL_CHARACTERS: Final = 128

_SORTED_GAPS: Final = 10_000  # gaps that are sorted at a time, which takes 0.6 ms

_COUNT_LIMIT: Final = 2**63  # a server's count beyond this is ignored


class Metrics:
    """The proxy's metrics, in a registry of their own.

    Only the event loop's thread calls `started`, `finished` and `mirrored`. Any thread may call `observe`.
    """

    def __init__(
        self,
        version: str,
        endpoints: Mapping[str, str | None] | None = None,
        shared: Shared | None = None,
        workers: int = 1,
        *,
        exported: Callable[[Record], bool] | None = None,
        otlp_of: Path | None = None,
    ) -> None:
        """`endpoints`: each one's name and configured model. `workers`: how many share their figures.

        `exported`: whether a request's span is sent by OTLP, where any is: else it is no exemplar. `otlp_of`: the spans
        folder whose export is shown.
        """
        self.registry: CollectorRegistry = CollectedRegistry(self._collected)
        self._families = Families(self.registry, shared)
        self._families.build_info.labels(version).set(1)
        # With several workers there are no exemplars: the library's files have no place for them.
        self._exemplars = shared is None
        self._exported = exported
        self._shown = None if shared is None else shared_registry(shared)
        if otlp_of is not None:
            (self._shown or self.registry).register(OtlpFigures(otlp_of))
        self._lock = threading.Lock()  # held to make a series: the loop and a thread may both need a new one
        self._publishing = threading.Lock()
        # Nearly always free, since only a long stream's figures come from another thread.
        self._observing = threading.Lock()
        self._configured: set[tuple[str, str]] = set()  # endpoints and their models
        self._series_left = max(SERIES_LIMIT // workers, _LEAST_SERIES)
        self._endpoints: dict[str, EndpointNumbers] = {}
        self._series: dict[tuple[str | None, str | None, str | None], Series] = {}
        self._overflowed = 0  # requests whose model became OTHER
        self._mirrored: dict[tuple[str, str], int] = {}
        self._counters = Counted()
        self._gc_pauses = Tally(in_us(GC_BOUNDS_S), 1e6)
        self._loop_lag_us: Callable[[], int] = lambda: 0
        self._journal_lag_s: Callable[[], float] = lambda: 0.0
        self.expect(endpoints or {})

    def expect(self, endpoints: Mapping[str, str | None]) -> None:
        """Endpoints and their configured models: they are shown from now on, with zeros, and never become OTHER."""
        with self._lock:
            for endpoint, model in endpoints.items():
                self._endpoint(endpoint)
                if model is not None and _is_label(model):
                    self._configured.add((endpoint, model))

    def started(self, endpoint: str | None) -> None:
        """A request has come in for this endpoint; None where it names no known one."""
        numbers = self._endpoints.get(endpoint or "")
        if numbers is None:
            with self._lock:
                numbers = self._endpoint(endpoint or "")
        numbers.started += 1

    def finished(self, record: Record) -> None:
        """A request is over. Its outcome counts at once, so that started = active + the sum of outcomes."""
        series = self._series.get((record.endpoint, record.model, record.operation)) or self._series_of(record)
        outcomes, outcome = series.outcomes, record.outcome
        if series.is_other:
            self._overflowed += 1
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        numbers = series.endpoint
        numbers.request_bytes += record.request_bytes
        numbers.response_bytes += record.response_bytes
        if record.retries:
            numbers.retries += record.retries
        if record.simulated:
            numbers.simulated = True

    def mirrored(self, endpoint: str, result: str) -> None:
        """A request to `endpoint` was chosen for its mirror. `result`: "sent", or one of few reasons why it wasn't."""
        key = (endpoint, result)
        self._mirrored[key] = self._mirrored.get(key, 0) + 1

    def observe(self, record: Record) -> None:
        """Put a request's durations and tokens into the histograms.

        The duration has the outcome as a label. The other times are those of `ok` requests alone, as in reports.
        Tokens are the server's count, never a guess.
        """
        series = self._series.get((record.endpoint, record.model, record.operation)) or self._series_of(record)
        mark: Mark | None = None
        if self._exemplars and (self._exported is None or self._exported(record)):
            mark = (record.trace_id, record.span_id, record.started_at_unix_us + record.duration_us)
        gaps = _sorted_gaps(record) if series.figures is not None else []
        with self._observing:
            try:
                series.duration(record.outcome).observe(record.duration_us, mark)
                if record.overhead_us is not None:
                    series.endpoint.overhead.observe(record.overhead_us, mark)
                if series.figures is not None:
                    _observe_figures(series.figures, record, gaps, mark)
            finally:
                series.observed += 1  # last: `publish` skips a series until this has changed

    def spans_written(self, count: int) -> None:
        """So many spans are in the span files now."""
        self._families.spans_written.inc(count)

    def spans_dropped(self, reason: str, count: int) -> None:
        """`reason` is one of telemetry's few."""
        self._families.spans_dropped.labels(reason).inc(count)

    def gc_paused(self, pause_ns: int) -> None:
        """A garbage collection took so long. It may interrupt any code, so this takes no lock."""
        self._gc_pauses.observe(pause_ns // 1000)

    def follow_loop_lag(self, worst_us: Callable[[], int]) -> None:
        """Have each `publish` ask `worst_us` for the event loop's lag, in µs."""
        self._loop_lag_us = worst_us

    def follow_journal_lag(self, lag_s: Callable[[], float]) -> None:
        """Have each `publish` ask `lag_s` for the span files' lag, in s."""
        self._journal_lag_s = lag_s

    def active(self) -> int:
        """How many requests are running."""
        return sum(numbers.started for numbers in list(self._endpoints.values())) - sum(
            sum(series.outcomes.copy().values()) for series in list(self._series.values())
        )

    def publish(self) -> None:
        """Hand what is new to prometheus-client, and so to the other workers where figures are shared."""
        with self._publishing:
            self._publish()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text of `/metrics` and its content type, as the request's Accept header asks.

        Takes about 10 µs a line, a few ms with few models. So a thread calls it, and gives way to the event loop.
        """
        encode, content_type = choose_encoder(accept)
        if self._shown is None:
            return encode(Unhurried(self.registry)), content_type
        self.publish()
        return encode(Unhurried(self._shown)), content_type

    def _collected(self, collect: Callable[[], Iterable[Metric]]) -> list[Metric]:
        """All families, up to date and of one moment, even while another scrape runs."""
        with self._publishing:
            self._publish()
            return list(unhurried(collect()))

    def _publish(self) -> None:
        families = self._families
        families.loop_lag.set(self._loop_lag_us() / 1e6)
        families.journal_lag.set(self._journal_lag_s())
        self._gc_pauses.publish(families.gc_pause, ())
        self._counters.publish(families.other_models, (), self._overflowed)
        for key, count in self._mirrored.copy().items():
            self._counters.publish(families.mirrored, key, count)
        # Outcomes are read first, then starts: so the difference is never less than the requests that run.
        ended: dict[str, int] = {}
        for series in list(self._series.values()):
            name = series.endpoint.name
            ended[name] = ended.get(name, 0) + series.publish(families)
        for numbers in list(self._endpoints.values()):
            numbers.publish(families, ended.get(numbers.name, 0))

    def _series_of(self, record: Record) -> Series:
        """The record's series: a new one, or that of OTHER.

        Clients write models' names. So they are bounded in number and length, and a name gets series of its own only
        after an endpoint answered it with success. A name that a client made up mostly gets a 404.
        """
        model = record.model
        earned = record.status is not None and 200 <= record.status < 300
        with self._lock:
            key = (record.endpoint, model, record.operation)
            if model and key not in self._series and (record.endpoint, model) not in self._configured:
                if earned and self._series_left and _is_label(model):
                    self._series_left -= 1
                else:
                    model = OTHER
                    key = (record.endpoint, model, record.operation)
            series = self._series.get(key)
            if series is None:
                labels = (record.endpoint or "", model or "", record.operation or "")
                series = self._series[key] = Series(self._endpoint(labels[0]), labels, is_other=model == OTHER)
            return series

    def _endpoint(self, name: str) -> EndpointNumbers:
        numbers = self._endpoints.get(name)
        if numbers is None:
            numbers = self._endpoints[name] = EndpointNumbers(name)
        return numbers


def _sorted_gaps(record: Record) -> list[list[int]]:
    """The µs between chunks, in sorted lists. A long stream has several: no other thread runs during a sort."""
    offsets = record.chunk_offsets_us
    if record.outcome != "ok" or len(offsets) < 2:
        return []
    gaps = list(map(sub, offsets[1:], offsets))
    return [sorted(gaps[begin : begin + _SORTED_GAPS]) for begin in range(0, len(gaps), _SORTED_GAPS)]


def _observe_figures(figures: Figures, record: Record, gaps: list[list[int]], mark: Mark | None) -> None:
    if record.usage_source == "server":
        if record.input_tokens is not None and record.input_tokens < _COUNT_LIMIT:
            figures.input_tokens.observe(record.input_tokens, mark)
        if record.output_tokens is not None and record.output_tokens < _COUNT_LIMIT:
            figures.output_tokens.observe(record.output_tokens, mark)
        if record.reasoning_tokens and 0 < record.reasoning_tokens < _COUNT_LIMIT:
            figures.reasoning_tokens += record.reasoning_tokens
        if record.cached_tokens and 0 < record.cached_tokens < _COUNT_LIMIT:
            figures.cached_tokens += record.cached_tokens
    if record.outcome != "ok" or not record.streamed:
        return
    if record.first_event_us is not None:
        figures.first_chunk.observe(record.first_event_us, mark)
    if record.first_token_us is not None:
        figures.ttft.observe(record.first_token_us, mark)
    tpot = tpot_s(record)
    if tpot is not None:
        figures.tpot.observe(tpot, mark)
    for piece in gaps:
        figures.chunk.observe_sorted(piece, mark)


def tpot_s(record: Record) -> float | None:
    """Time per output token in s, as docs/spans.md defines it; None where it can't be known.

    (last_token - first_token) / (N_out - n_first), where n_first is the tokens of the first read that had output. Of
    several choices N_out and n_first are those of one: the time that one reader sees. Reasoning that was counted but
    not streamed is subtracted from N_out. With hidden reasoning that isn't counted, nobody knows how many tokens came
    between the first and the last. With all tokens in one read, nobody knows how far apart they were.
    """
    tokens, first_us, last_us = record.output_tokens, record.first_token_us, record.last_token_us
    if not record.streamed or tokens is None or first_us is None or last_us is None or record.reasoning_hidden:
        return None
    if record.reasoning_tokens and not record.reasoning_streamed:
        tokens -= record.reasoning_tokens
    later = tokens - (record.first_read_tokens or record.first_chunk_tokens or 1)
    if later < 1 or last_us == first_us:
        return None
    return (last_us - first_us) / 1e6 * (record.choice_count or 1) / later


def _is_label(model: str) -> bool:
    """Whether it may be a label: short, and without lone surrogates, one of which would break all of `/metrics`."""
    return len(model) <= _MODEL_CHARACTERS and not any("\ud800" <= character <= "\udfff" for character in model)
