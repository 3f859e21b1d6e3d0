"""A finished exchange, as the relay hands it to telemetry: plain values, no I/O, nothing computed twice.

Record's fields are grouped in sections by their source in `Exchange.finish`. `attributes.py` says which attribute of
the span each field becomes. (A base class for each section would make each read of a field 20 ns slower.)
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from dyno_proxy.outcomes import Outcome
from dyno_proxy.readers import Content


class Record(msgspec.Struct, gc=False):
    """One request, from received to its end. Offsets are microseconds after `received`; None is 'not known'."""

    # AS_EXCHANGE
    trace_id: int
    span_id: int
    parent_span_id: int | None
    sampled: bool | None  # the client's traceparent flag; None without a traceparent
    tracestate: str | None
    started_at_unix_us: int

    client: str | None  # the name of its key
    client_address: str | None
    user_agent: str | None
    request_id: str | None  # the endpoint's, by its headers
    endpoint: str | None  # None where no endpoint could be named (rejected)
    provider: str | None
    server_address: str | None
    server_port: int | None
    operation: str | None
    method: str
    path: str
    endpoint_path: str | None  # at the endpoint
    status: int | None
    simulated: bool
    streamed: bool | None

    request_bytes: int
    response_bytes: int
    connection_reused: bool | None
    retries: int | None  # how often it was sent again; None where that isn't configured
    resent: bool | None  # True: it met the end of an idle connection, and was sent once more
    rtt_us: int | None  # of the upstream's connection at the response's first byte, by the kernel
    min_rtt_us: int | None
    retry_after_s: float | None
    usage_asked: bool | None  # True: we added `stream_options.include_usage`
    unread: str | None  # why the body wasn't looked into
    request_unread: str | None  # why the request's body wasn't

    mirror: str | None  # "original" or "copy" of a mirrored request
    mirror_trace_id: str | None  # a copy's: the original's trace and span, in hexadecimal
    mirror_span_id: str | None

    rarer: dict[str, str | int | float | bool] | None  # attribute name -> value, of what few requests have
    baggage: dict[str, str | int | float | bool]  # attribute name -> value, BAGGAGE's names only

    # AS_CONTENT
    response_model: str | None
    response_id: str | None
    finish_reasons: tuple[str, ...]
    input_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    first_chunk_tokens: int | None
    server_ttft_s: float | None
    server_latency_s: float | None
    server_queue_s: float | None
    server_prefill_s: float | None
    server_decode_s: float | None

    # STAMPED
    body_received_us: int | None
    connected_us: int | None
    sent_us: int | None
    headers_us: int | None
    first_event_us: int | None
    first_token_us: int | None
    first_answer_us: int | None
    last_token_us: int | None
    done_us: int | None

    # As the request asked: RequestBody.parameters
    model: str | None
    request_stream: bool | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None

    # As `Exchange.finish` works them out
    duration_us: int
    outcome: Outcome
    error_type: str | None
    output_tokens: int | None
    usage_source: str | None
    first_read_tokens: int | None  # that came with the first read that had output
    choice_count: int | None  # of the answer; None for one
    reasoning_streamed: bool
    reasoning_hidden: bool | None  # True: output tokens hold reasoning that nobody saw or counted: no TPOT
    cadence: str | None  # of the chunks: "gateway" where an intermediary's rhythm shows
    unreadable_events: int | None  # SSE events that weren't the API's JSON, or were too long to read
    chunk_offsets_us: tuple[int, ...]
    overhead_us: int | None
    overhead_end_us: int | None
    loop_lag_us: int | None
    gc_pause_us: int | None


_FIELDS: Final = Record.__struct_fields__
_CONTENT: Final = _FIELDS.index("response_model")
_STAMPS: Final = _FIELDS.index("body_received_us")
_ASKED: Final = _FIELDS.index("model")

# Fields that an Exchange has under the same name; fields that its Content has; the stamps: `x_ns` there, `x_us` here.
AS_EXCHANGE: Final = _FIELDS[:_CONTENT]
AS_CONTENT: Final = _FIELDS[_CONTENT:_STAMPS]
STAMPED: Final = _FIELDS[_STAMPS:_ASKED]


def _handing_over() -> Callable[[Any, Content], tuple[Any, ...]]:
    """The function that takes Record's first three sections from an exchange and its content.

    It is written out from Record's names, as dataclasses write their __init__: attrgetter would take 1.5 µs longer.
    """
    stamps = [f"exchange.{name.removesuffix('_us')}_ns" for name in STAMPED]
    values = [
        *(f"exchange.{name}" for name in AS_EXCHANGE),
        *(f"content.{name}" for name in AS_CONTENT),
        *(f"None if {stamp} is None else ({stamp} - exchange.received_ns) // 1000" for stamp in stamps),
    ]
    written: Callable[[Any, Content], tuple[Any, ...]] = eval(  # noqa: S307  # of names in our own source
        f"lambda exchange, content: ({', '.join(values)})"
    )
    return written


handed_over: Final = _handing_over()
