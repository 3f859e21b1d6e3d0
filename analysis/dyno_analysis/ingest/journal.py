"""Span files as the proxy writes them, for spans that come from elsewhere: JSON lines, each with its checksum."""

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

SCHEMA_VERSION = 1
# The order of a line's keys; `attributes` and the checksum come last.
LEADING_KEYS = (
    "v",
    "seq",
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "kind",
    "started_at_us",
    "duration_us",
    "operation",
    "provider",
    "model",
    "response_model",
    "response_id",
    "finish_reasons",
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cached_tokens",
    "method",
    "status",
    "request_bytes",
    "response_bytes",
    "path",
    "error_type",
    "endpoint",
    "outcome",
    "streamed",
    "simulated",
    "usage_source",
    "first_chunk_tokens",
    "reasoning_streamed",
    "connection_reused",
    "body_received_us",
    "connected_us",
    "sent_us",
    "headers_us",
    "first_event_us",
    "first_token_us",
    "first_answer_us",
    "last_token_us",
    "done_us",
    "chunk_offsets_us",
    "chunk_count",
    "server_ttft_s",
    "server_latency_s",
    "server_queue_s",
    "overhead_us",
    "overhead_end_us",
    "loop_lag_us",
    "run_id",
    "workload",
    "prompt_id",
    "repeat",
    "warmup",
    "due_at_unix_us",
    "send_lag_s",
    "imported_from",
)


def journal_lines(spans: Iterable[Mapping[str, Any]]) -> bytes:
    """The bytes of a journal with these spans; what is NULL or empty is left out."""
    return b"".join(journal_line(span) for span in spans)


def journal_line(span: Mapping[str, Any]) -> bytes:
    """One line; ValueError for a span with a key that the format doesn't have."""
    if unknown := span.keys() - {*LEADING_KEYS, "attributes"}:
        raise ValueError(f"no column for {', '.join(sorted(unknown))}")
    kept: dict[str, Any] = {"v": SCHEMA_VERSION}
    kept |= {key: span[key] for key in LEADING_KEYS[1:] if span.get(key) not in (None, [])}
    if span.get("attributes"):
        kept["attributes"] = dict(span["attributes"])
    body = orjson.dumps(kept)[:-1]
    return body + b',"crc32":%d}\n' % zlib.crc32(body)
