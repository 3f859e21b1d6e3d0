"""Records for tests: one ordinary streamed chat, and any record at all."""

from types import UnionType
from typing import Any, get_args, get_type_hints

import msgspec
from hypothesis import strategies as st

from dyno_proxy.exchange.record import Record
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.outcomes import OUTCOMES

RUN_ID = "20261123_215900_0a1b"

HINTS = get_type_hints(Record)  # each field's type
# A record's values if nothing was measured
_UNKNOWN: dict[str, Any] = dict.fromkeys(HINTS) | {"simulated": False, "reasoning_streamed": False}


def record(**changes: Any) -> Record:
    """A streamed chat: TTFT 0.2 s, 5 chunks 20 ms apart, 6 tokens by the server's count."""
    values: dict[str, Any] = {
        "trace_id": 0x0AF7651916CD43DD8448EB211C80319C,
        "span_id": 0xB7AD6B7169203331,
        "parent_span_id": 0x00F067AA0BA902B7,
        "sampled": True,
        "tracestate": None,
        "started_at_unix_us": 1_795_557_540_000_001,
        "duration_us": 300_500,
        "endpoint": "metis",
        "provider": "sambanova",
        "server_address": "inference-api.alcf.anl.gov",
        "server_port": 443,
        "operation": "chat",
        "method": "POST",
        "path": "/metis/v1/chat/completions",
        "outcome": "ok",
        "status": 200,
        "model": "gpt-oss-120b",
        "request_stream": True,
        "max_tokens": 64,
        "temperature": 0.0,
        "response_model": "gpt-oss-120b",
        "response_id": "chatcmpl-1",
        "finish_reasons": ("stop",),
        "streamed": True,
        "input_tokens": 12,
        "output_tokens": 6,
        "usage_source": "server",
        "request_bytes": 150,
        "response_bytes": 1500,
        "connection_reused": False,
        "body_received_us": 90,
        "connected_us": 400,
        "sent_us": 450,
        "headers_us": 199_000,
        "first_event_us": 199_500,
        "first_token_us": 200_000,
        "first_answer_us": 220_000,
        "last_token_us": 280_000,
        "done_us": 300_000,
        "chunk_offsets_us": (200_000, 220_000, 240_000, 260_000, 280_000),
        "overhead_us": 80,
        "overhead_end_us": 60,
        "loop_lag_us": 30,
        "baggage": {"dyno.run.id": RUN_ID, "dyno.prompt.id": "q1", "dyno.repeat": 1, "dyno.warmup": False},
    }
    return Record(**_UNKNOWN | values | changes)


def unstreamed(**changes: Any) -> Record:
    """An answer in one piece: it has no events except its head and its end."""
    times = dict.fromkeys(("first_event_us", "first_token_us", "first_answer_us", "last_token_us"))
    return record(**{"streamed": False, "chunk_offsets_us": (), **times} | changes)


def seen(metrics: Metrics, *sources: Record) -> Metrics:
    """The metrics, which have seen these requests begin and end."""
    for source in sources:
        metrics.started(source.endpoint)
        metrics.finished(source)
        metrics.observe(source)
    return metrics


# Texts and numbers that the worst client or endpoint could send: any code point, lone surrogates, any size.
_texts = st.text(st.characters(exclude_categories=()), max_size=30) | st.just("x" * 10_000)
_numbers = st.integers(-(10**3), 10**6) | st.integers(-(10**40), 10**40)
_seconds = st.floats()
_offsets = st.integers(0, 10**10)
_tags: dict[str, st.SearchStrategy[str | int | float | bool]] = {
    "dyno.run.id": _texts,
    "dyno.workload": _texts,
    "dyno.prompt.id": _texts,
    "dyno.repeat": _numbers,
    "dyno.warmup": st.booleans(),
    "dyno.due_at_unix_us": _numbers,
    "dyno.send_lag_s": _seconds,
    "session.id": _texts,
}


_rarer: dict[str, st.SearchStrategy[str | int | float | bool]] = {
    **dict.fromkeys(("dyno.user", "gen_ai.request.reasoning.level"), _texts),
    **dict.fromkeys(("gen_ai.request.top_k", "gen_ai.request.choice.count"), _numbers),
    **dict.fromkeys(("gen_ai.request.frequency_penalty", "gen_ai.request.presence_penalty"), _seconds),
}


_TYPES: dict[object, st.SearchStrategy[Any]] = {
    int: _numbers,
    str: _texts,
    float: _seconds,
    bool: st.booleans(),
    tuple[str, ...]: st.lists(_texts, max_size=3).map(tuple),
    tuple[int, ...]: st.lists(_offsets, max_size=5).map(sorted).map(tuple),
}
# The fields that the proxy itself writes, or that have a shape. Any other may hold the worst that a client or an
# endpoint sends, so a new field that span.py doesn't mend shows itself in test_span.py.
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **{name: _offsets for name in HINTS if name.endswith(("_us", "_bytes")) and name != "chunk_offsets_us"},
    **dict.fromkeys(("retries", "unreadable_events"), _offsets),
    **dict.fromkeys(("endpoint", "provider", "server_address"), st.sampled_from(["metis", "vllm"])),
    "client": st.just("alice"),
    "client_address": st.just("::1"),
    "usage_source": st.sampled_from(["server", "chunks"]),
    "cadence": st.just("gateway"),
    "unread": st.sampled_from(["no_reader", "encoding", "too_long", "too_complex", "no_memory"]),
    "request_unread": st.sampled_from(["encoding", "too_long", "too_complex", "no_memory"]),
    "choice_count": st.integers(2, 9),
    "rarer": st.fixed_dictionaries({}, optional=_rarer),
    "mirror": st.sampled_from(["original", "copy"]),
    "seed": _numbers | st.just(10**5000),
    "trace_id": st.integers(1, 2**128 - 1),
    "span_id": st.integers(1, 2**64 - 1),
    "parent_span_id": st.integers(1, 2**64 - 1),
    "tracestate": _texts | st.sampled_from(["a=1", "a=1,b@c=2 3,", "a=1,a=2", "=", ",".join(["k=v"] * 40)]),
    "started_at_unix_us": st.integers(0, 2**51),
    "server_port": st.integers(1, 65535),
    "status": st.integers(100, 599),
    "operation": st.sampled_from(["chat", "text_completion"]),
    "outcome": st.sampled_from(OUTCOMES),
    "mirror_trace_id": st.integers(1, 2**128 - 1).map("{:032x}".format),
    "mirror_span_id": st.integers(1, 2**64 - 1).map("{:016x}".format),
    "baggage": st.fixed_dictionaries({}, optional=_tags),
}


def _values(name: str) -> st.SearchStrategy[Any]:
    """Any value of the field, also None if its type allows that."""
    kinds = get_args(HINTS[name]) if isinstance(HINTS[name], UnionType) else (HINTS[name],)
    some = _FIELDS[name] if name in _FIELDS else _TYPES[kinds[0]]
    return st.none() | some if type(None) in kinds else some


def records() -> st.SearchStrategy[Record]:
    """Any record that an exchange could make."""
    return st.builds(Record, **{name: _values(name) for name in HINTS}).map(_with_whole_parent)


def _with_whole_parent(source: Record) -> Record:
    """A traceparent gives the client's span and its flag, and without one nobody looks for a tracestate."""
    if source.parent_span_id is None:
        return msgspec.structs.replace(source, sampled=None, tracestate=None)
    return msgspec.structs.replace(source, sampled=source.sampled is True)
