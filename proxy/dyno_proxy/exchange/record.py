"""A finished exchange, as the relay hands it to telemetry: plain values, no I/O, nothing computed twice."""

import msgspec


class Record(msgspec.Struct, gc=False):
    """One request, from received to its end. Offsets are microseconds after `received`; None is 'not known'."""

    trace_id: int
    span_id: int
    parent_span_id: int | None
    sampled: bool | None  # the client's traceparent flag; None without a traceparent
    tracestate: str | None
    started_at_unix_us: int
    duration_us: int

    endpoint: str | None  # None where no endpoint could be named (rejected)
    provider: str | None
    server_address: str | None
    server_port: int | None
    operation: str | None
    method: str
    path: str
    outcome: str
    error_type: str | None = None
    status: int | None = None
    simulated: bool = False

    model: str | None = None
    request_stream: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    response_model: str | None = None
    response_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    streamed: bool | None = None

    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    usage_source: str | None = None
    first_chunk_tokens: int | None = None
    reasoning_streamed: bool = False

    request_bytes: int = 0
    response_bytes: int = 0
    connection_reused: bool | None = None
    retries: int | None = None  # how often it was sent again; None where that isn't configured
    retry_after_s: float | None = None
    usage_asked: bool | None = None  # True: we added `stream_options.include_usage`
    reasoning_hidden: bool | None = None  # True: output tokens hold reasoning that nobody saw or counted: no TPOT
    cadence: str | None = None  # of the chunks: "gateway" where an intermediary's rhythm shows
    unread: str | None = None  # why the body wasn't looked into
    unreadable_events: int | None = None  # SSE events that weren't the API's JSON, or were too long to read

    body_received_us: int | None = None
    connected_us: int | None = None
    sent_us: int | None = None
    headers_us: int | None = None
    first_event_us: int | None = None
    first_token_us: int | None = None
    first_answer_us: int | None = None
    last_token_us: int | None = None
    done_us: int | None = None
    chunk_offsets_us: tuple[int, ...] = ()

    server_ttft_s: float | None = None
    server_latency_s: float | None = None
    server_queue_s: float | None = None
    server_prefill_s: float | None = None
    server_decode_s: float | None = None

    overhead_us: int | None = None
    overhead_end_us: int | None = None
    loop_lag_us: int | None = None
    gc_pause_us: int | None = None

    mirror: str | None = None  # "original" or "copy" of a mirrored request
    mirror_trace_id: str | None = None  # a copy's: the original's trace and span, in hexadecimal
    mirror_span_id: str | None = None

    baggage: dict[str, str | int | float | bool] = {}  # attribute name -> value, BAGGAGE's names only
