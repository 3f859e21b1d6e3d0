"""The column of each attribute in the span files, and the values that a column can have. Pure.

The names and types come from the proxy's attributes.py. `make sql` writes them here; a contract test checks them.
"""

import json
import math
from collections.abc import Callable
from typing import Final

# begin: columns of a journal's row, written by make sql
# The columns of a row that don't come from an attribute, with their types. The map is a row's last column.
OWN_COLUMNS: Final = (
    ("v", "int"),
    ("seq", "int"),
    ("trace_id", "string"),
    ("span_id", "string"),
    ("parent_span_id", "string"),
    ("name", "string"),
    ("kind", "string"),
    ("started_at_us", "int"),
    ("duration_us", "int"),
    ("attributes", "map"),
)
# An attribute, its column and the column's type, in the order of the columns.
ATTRIBUTE_COLUMNS: Final = (
    ("gen_ai.operation.name", "operation", "string"),
    ("gen_ai.provider.name", "provider", "string"),
    ("gen_ai.request.model", "model", "string"),
    ("gen_ai.request.reasoning.level", "reasoning_level", "string"),
    ("gen_ai.response.model", "response_model", "string"),
    ("gen_ai.response.id", "response_id", "string"),
    ("gen_ai.response.finish_reasons", "finish_reasons", "string[]"),
    ("gen_ai.usage.input_tokens", "input_tokens", "int"),
    ("gen_ai.usage.output_tokens", "output_tokens", "int"),
    ("gen_ai.usage.reasoning.output_tokens", "reasoning_tokens", "int"),
    ("gen_ai.usage.cache_read.input_tokens", "cached_tokens", "int"),
    ("http.request.method", "method", "string"),
    ("http.response.status_code", "status", "int"),
    ("http.request.body.size", "request_bytes", "int"),
    ("http.response.body.size", "response_bytes", "int"),
    ("url.path", "path", "string"),
    ("user_agent.original", "user_agent", "string"),
    ("client.address", "client_address", "string"),
    ("error.type", "error_type", "string"),
    ("dyno.endpoint", "endpoint", "string"),
    ("dyno.client", "client", "string"),
    ("dyno.user", "user", "string"),
    ("session.id", "session_id", "string"),
    ("dyno.request_id", "request_id", "string"),
    ("dyno.parent.sampled", "sampled", "bool"),
    ("dyno.parent.tracestate", "tracestate", "string"),
    ("dyno.outcome", "outcome", "string"),
    ("dyno.streamed", "streamed", "bool"),
    ("dyno.simulated", "simulated", "bool"),
    ("dyno.usage.source", "usage_source", "string"),
    ("dyno.usage.first_chunk_tokens", "first_chunk_tokens", "int"),
    ("dyno.usage.first_read_tokens", "first_read_tokens", "int"),
    ("dyno.choice.count", "choice_count", "int"),
    ("dyno.reasoning.streamed", "reasoning_streamed", "bool"),
    ("dyno.connection.reused", "connection_reused", "bool"),
    ("dyno.retries", "retries", "int"),
    ("dyno.resent", "resent", "bool"),
    ("dyno.connection.rtt_us", "rtt_us", "int"),
    ("dyno.connection.min_rtt_us", "min_rtt_us", "int"),
    ("dyno.retry_after_s", "retry_after_s", "float"),
    ("dyno.event.body_received_us", "body_received_us", "int"),
    ("dyno.event.connected_us", "connected_us", "int"),
    ("dyno.event.sent_us", "sent_us", "int"),
    ("dyno.event.headers_us", "headers_us", "int"),
    ("dyno.event.first_event_us", "first_event_us", "int"),
    ("dyno.event.first_token_us", "first_token_us", "int"),
    ("dyno.event.first_answer_us", "first_answer_us", "int"),
    ("dyno.event.last_token_us", "last_token_us", "int"),
    ("dyno.event.done_us", "done_us", "int"),
    ("dyno.chunk.offsets_us", "chunk_offsets_us", "int[]"),
    ("dyno.chunk.count", "chunk_count", "int"),
    ("dyno.server.ttft_s", "server_ttft_s", "float"),
    ("dyno.server.latency_s", "server_latency_s", "float"),
    ("dyno.server.queue_s", "server_queue_s", "float"),
    ("dyno.overhead_us", "overhead_us", "int"),
    ("dyno.overhead.end_us", "overhead_end_us", "int"),
    ("dyno.loop_lag_us", "loop_lag_us", "int"),
    ("dyno.gc_pause_us", "gc_pause_us", "int"),
    ("dyno.run.id", "run_id", "string"),
    ("dyno.workload", "workload", "string"),
    ("dyno.prompt.id", "prompt_id", "string"),
    ("dyno.repeat", "repeat", "int"),
    ("dyno.warmup", "warmup", "bool"),
    ("dyno.load.concurrency", "load_concurrency", "int"),
    ("dyno.load.rate_per_s", "load_rate_per_s", "float"),
    ("dyno.due_at_unix_us", "due_at_unix_us", "int"),
    ("dyno.send_lag_s", "send_lag_s", "float"),
    ("dyno.imported_from", "imported_from", "string"),
)
# end
COLUMN_TYPES: Final = {column: kind for _, column, kind in ATTRIBUTE_COLUMNS}


def fitted(column: str, value: object) -> object | None:
    """The value as its column stores it; None if it doesn't have the column's type."""
    return _FITTED[COLUMN_TYPES[column]](value)


def attribute_text(value: object) -> str:
    """An attribute's value as text for the map: a string as it is, anything else as JSON. The proxy writes the same."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return json.dumps(value, separators=(",", ":"), default=str)


def _string(value: object) -> object | None:
    return value if isinstance(value, str) else None


def _bool(value: object) -> object | None:
    return value if isinstance(value, bool) else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None


def _float(value: object) -> object | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _int(value)


def _strings(value: object) -> object | None:
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _ints(value: object) -> object | None:
    return value if isinstance(value, list) and all(_int(item) is not None for item in value) else None


_FITTED: Final[dict[str, Callable[[object], object | None]]] = {
    "string": _string,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "string[]": _strings,
    "int[]": _ints,
}
