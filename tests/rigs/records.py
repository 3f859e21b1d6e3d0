"""Records for tests: one ordinary streamed chat, and any record at all."""

from typing import Any

from hypothesis import strategies as st

from dyno_proxy.attributes import OUTCOMES
from dyno_proxy.exchange.record import Record

RUN_ID = "20261123_215900_0a1b"


def record(**changes: Any) -> Record:
    """A streamed chat: TTFT 0.2 s, 5 chunks of 20 ms, 6 tokens by the server's count."""
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
    return Record(**values | changes)


def unstreamed(**changes: Any) -> Record:
    """An answer in one piece: no event but its head and its end."""
    times = dict.fromkeys(("first_event_us", "first_token_us", "first_answer_us", "last_token_us"))
    return record(**{"streamed": False, "chunk_offsets_us": (), **times} | changes)


# Texts and numbers as the worst client or endpoint would send them: any code point, lone surrogates, any size.
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
}


def records() -> st.SearchStrategy[Record]:
    """Any record that the relay could hand over."""
    none = st.none()
    return st.builds(
        Record,
        trace_id=st.integers(1, 2**128 - 1),
        span_id=st.integers(1, 2**64 - 1),
        parent_span_id=none | st.integers(1, 2**64 - 1),
        sampled=none | st.booleans(),
        tracestate=none | _texts | st.sampled_from(["a=1", "a=1,b@c=2 3,", "a=1,a=2", "=", ",".join(["k=v"] * 40)]),
        started_at_unix_us=st.integers(0, 2**51),
        duration_us=_offsets,
        endpoint=none | st.sampled_from(["metis", "sophia"]),
        provider=none | st.just("vllm"),
        server_address=none | st.just("127.0.0.1"),
        server_port=none | st.integers(1, 65535),
        operation=none | st.sampled_from(["chat", "text_completion"]),
        method=st.sampled_from(["GET", "POST"]) | _texts,
        path=_texts,
        outcome=st.sampled_from(OUTCOMES),
        error_type=none | _texts,
        status=none | st.integers(100, 599),
        simulated=st.booleans(),
        model=none | _texts,
        request_stream=none | st.booleans(),
        max_tokens=none | _numbers,
        temperature=none | _seconds,
        top_p=none | _seconds,
        seed=none | _numbers | st.just(10**5000),
        response_model=none | _texts,
        response_id=none | _texts,
        finish_reasons=st.lists(_texts, max_size=3).map(tuple),
        streamed=none | st.booleans(),
        input_tokens=none | _numbers,
        output_tokens=none | _numbers,
        reasoning_tokens=none | _numbers,
        cached_tokens=none | _numbers,
        usage_source=st.sampled_from([None, "server", "chunks"]),
        first_chunk_tokens=none | _numbers,
        reasoning_streamed=st.booleans(),
        request_bytes=_offsets,
        response_bytes=_offsets,
        connection_reused=none | st.booleans(),
        retries=none | st.integers(0, 5),
        retry_after_s=none | _seconds,
        usage_asked=st.sampled_from([None, True]),
        reasoning_hidden=st.sampled_from([None, True]),
        cadence=st.sampled_from([None, "gateway"]),
        unread=st.sampled_from([None, "no_reader", "encoding", "too_long"]),
        unreadable_events=none | _offsets,
        body_received_us=none | _offsets,
        connected_us=none | _offsets,
        sent_us=none | _offsets,
        headers_us=none | _offsets,
        first_event_us=none | _offsets,
        first_token_us=none | _offsets,
        first_answer_us=none | _offsets,
        last_token_us=none | _offsets,
        done_us=none | _offsets,
        chunk_offsets_us=st.lists(_offsets, max_size=5).map(sorted).map(tuple),
        server_ttft_s=none | _seconds,
        server_latency_s=none | _seconds,
        server_queue_s=none | _seconds,
        server_prefill_s=none | _seconds,
        server_decode_s=none | _seconds,
        overhead_us=none | _offsets,
        overhead_end_us=none | _offsets,
        loop_lag_us=none | _offsets,
        gc_pause_us=none | _offsets,
        mirror=st.sampled_from([None, "original", "copy"]),
        mirror_trace_id=none | st.integers(1, 2**128 - 1).map("{:032x}".format),
        mirror_span_id=none | st.integers(1, 2**64 - 1).map("{:016x}".format),
        baggage=st.fixed_dictionaries({}, optional=_tags),
    )
