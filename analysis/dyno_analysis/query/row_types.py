"""The rows of the tables in sql/: one class per file; its fields are the columns. None means 'not known', never 0."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class EndpointRow:
    """comparison.sql; times in seconds."""

    endpoint: str
    models: str | None
    simulated: bool | None
    imported: bool
    requests: int
    ok: int
    cancelled: int
    rejected: int
    lost: int
    warmups: int
    cut_by_length: int
    streamed: int
    counted_by_chunks: int
    with_output_tokens: int
    mean_latency_s: float | None
    median_latency_s: float | None
    min_latency_s: float | None
    max_latency_s: float | None
    stddev_latency_s: float | None
    output_tokens_per_s: float | None
    mean_output_tokens: float | None
    mean_input_tokens: float | None
    sum_input_tokens: int | None
    sum_output_tokens: int | None

    @property
    def counted(self) -> int:
        """The requests that the success rate counts: all but those that the client cancelled or the proxy rejected."""
        return self.requests - self.cancelled - self.rejected

    @property
    def failed(self) -> int:
        return self.counted - self.ok


def no_request(endpoint: str) -> EndpointRow:
    """The row of an endpoint that no request was sent to."""
    counts = {column.name: 0 for column in fields(EndpointRow) if column.type is int}
    unknown = {column.name: None for column in fields(EndpointRow) if column.name not in counts}
    return EndpointRow(**{**unknown, **counts, "endpoint": endpoint, "imported": False})  # type: ignore[arg-type]


@dataclass(frozen=True)
class PercentileRow:
    """percentiles.sql; each figure has its own unit."""

    endpoint: str
    figure: str
    n: int
    mean: float | None
    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True)
class InterChunkRow:
    """inter_chunk.sql; seconds."""

    endpoint: str
    streams: int
    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    share_of_one_read: float


@dataclass(frozen=True)
class LoadRow:
    """loads.sql: one endpoint under one load; exactly one of the two fields of the load is set."""

    endpoint: str
    load_concurrency: int | None
    load_rate_per_s: float | None
    requests: int
    ok: int
    ok_per_s: float | None
    output_tokens_per_s: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    tpot_p50_s: float | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    latency_p99_s: float | None
    ttft_p99_s: float | None
    tpot_p90_s: float | None
    tpot_p95_s: float | None
    tpot_p99_s: float | None
    window_s: float  # in which requests that count were under way
    due_latency_p50_s: float | None = None  # None: a closed loop, or the client said nothing of when it was due
    due_latency_p95_s: float | None = None


@dataclass(frozen=True)
class RunWorkloadRow:
    """run_workloads.sql: a workload of a run; without warm-ups."""

    run_id: str
    workload: str | None
    endpoints: list[str]
    ok: int
    concurrencies: int
    rates: int
    simulated: list[str]  # those of the endpoints that are


@dataclass(frozen=True)
class ServerTimesRow:
    """server_times.sql; medians in seconds."""

    endpoint: str
    ok: int
    told: int
    queue_s: float | None
    ttft_s: float | None
    latency_s: float | None


@dataclass(frozen=True)
class FailureRow:
    """failures.sql"""

    endpoint: str | None
    outcome: str
    error_type: str | None
    status: int | None
    n: int


@dataclass(frozen=True)
class MirrorRow:
    """mirrors.sql"""

    endpoint: str | None
    copied_to: str | None
    requests: int | None
    mirrored: int
    both_ok: int
    original_not_ok: int
    copy_not_ok: int
    neither_ok: int


@dataclass(frozen=True)
class PairBalanceRow:
    """pair_balance.sql"""

    first_endpoint: str
    second_endpoint: str
    pairs: int
    with_input_tokens: int
    different_input: int
    mean_more_input: float | None
    least_more_input: int | None
    most_more_input: int | None
    first_asked_first: int
    second_asked_first: int


@dataclass(frozen=True)
class InterleavingRow:
    """interleaving.sql"""

    run_id: str | None
    requests: int
    endpoints: int
    starts: int
    changes: int
    prompts: int
    repeats: int


@dataclass(frozen=True)
class DistributionRow:
    """distribution.sql"""

    endpoint: str
    n: int
    variance_s2: float | None
    coefficient_of_variation: float | None
    q1_s: float
    q3_s: float
    high_outliers: int
    low_outliers: int


@dataclass(frozen=True)
class InstrumentRow:
    """instrument.sql; a name's ending says microseconds (_us) or seconds (_s)."""

    endpoint: str
    n: int
    median_overhead_us: float | None
    median_overhead_streamed_us: float | None
    p99_overhead_us: float | None
    max_overhead_us: int | None
    median_overhead_end_us: float | None
    max_overhead_end_us: int | None
    with_lag: int
    median_lag_us: float | None
    max_lag_us: int | None
    share_lagging: float | None
    median_send_lag_s: float | None
    max_send_lag_s: float | None


@dataclass(frozen=True)
class ResultRow:
    """results.sql; `attributes` and `span` (the whole row) are JSON objects."""

    endpoint: str
    trace_id: str
    started_at_us: int | None
    model: str | None
    provider: str | None
    prompt_id: str | None
    repeat: int | None
    run_id: str | None
    outcome: str
    error_type: str | None
    status: int | None
    streamed: bool | None
    simulated: bool | None
    latency_s: float | None
    ttfb_s: float | None
    ttft_s: float | None
    ttfa_s: float | None
    tpot_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    usage_source: str | None
    finish_reason: str | None
    chunk_offsets_us: list[int] | None
    overhead_us: int | None
    loop_lag_us: int | None
    attributes: str
    span: str
    prompt: str | None
    question: str | None
    reference_answers: list[str] | None
    answer: str | None
    reasoning: str | None
    error: str | None


@dataclass(frozen=True)
class AnswerRow:
    """answers.sql"""

    endpoint: str
    prompt_id: str
    repeat: int
    question: str | None
    prompt: str | None
    reference_answers: list[str] | None
    answer: str
    reasoning: str | None
    latency_s: float
    output_tokens: int | None
    trace_id: str
    input_tokens: int | None
    domain: str | None


@dataclass(frozen=True)
class PromptTextsRow:
    """prompt_texts.sql"""

    run_id: str
    prompts: int
    distinct_prompts: int
    domains: str | None
