"""Defines every attribute of a request's span: its name, type, unit and meaning. No other place defines them.

The names follow OpenTelemetry's GenAI and HTTP semantic conventions 1.41 (as in `opentelemetry-semantic-conventions`
0.66b). What the conventions lack has a name of ours, which begins with `dyno.`. `column` is the attribute's column in
the span files; an attribute without a column is kept in their map `attributes`. `make sql` writes analysis' columns
from this table. Tests in `tests/contract/` compare Record, the driver's baggage, SQL, dashboards and docs/spans.md
with it.
"""

from typing import Final, NamedTuple

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"
SCOPE_NAME: Final = "dyno.proxy"


class Attribute(NamedTuple):
    """One attribute. Its value is that of a field of `exchange/record.py`'s Record."""

    name: str
    type: str  # string | int | float | bool | string[] | int[]
    column: str | None
    meaning: str
    field: str | None = None  # the field of Record, where its name isn't the column's
    since: int = 1  # the first version of rows that has the column; older ones have the value in their map, if at all

    @property
    def source(self) -> str:
        """The name of Record's field for the value. Where a record never holds the value, there is no such field."""
        return self.field or self.column or ""


_BAGGAGE: Final = "baggage"  # Record's field for all attributes that come from the request's baggage
_RARER: Final = "rarer"  # Record's field for attributes that few requests have

# fmt: off
ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    # The GenAI conventions
    Attribute("gen_ai.operation.name", "string", "operation", "chat, text_completion, embeddings, …"),
    Attribute("gen_ai.provider.name", "string", "provider",
              "the endpoint's provider, from the configuration; else whose API it is: openai, anthropic"),
    Attribute("gen_ai.request.model", "string", "model", "the model that the client asked for"),
    Attribute("gen_ai.request.stream", "bool", None, "the client asked for a stream", "request_stream"),
    Attribute("gen_ai.request.max_tokens", "int", None, "limit on output tokens", "max_tokens"),
    Attribute("gen_ai.request.temperature", "float", None, "sampling temperature", "temperature"),
    Attribute("gen_ai.request.top_p", "float", None, "nucleus sampling", "top_p"),
    Attribute("gen_ai.request.seed", "int", None, "sampling seed", "seed"),
    Attribute("gen_ai.request.top_k", "int", None, "sampling from the likeliest k tokens", _RARER),
    Attribute("gen_ai.request.frequency_penalty", "float", None, "penalty on tokens by their number so far", _RARER),
    Attribute("gen_ai.request.presence_penalty", "float", None, "penalty on tokens that came before", _RARER),
    Attribute("gen_ai.request.choice.count", "int", None, "choices that the client asked for (`n`)", _RARER),
    Attribute("gen_ai.request.reasoning.level", "string", "reasoning_level",
              "the level of reasoning that the client asked for", _RARER, since=2),
    Attribute("gen_ai.response.model", "string", "response_model", "the model that the endpoint says it ran"),
    Attribute("gen_ai.response.id", "string", "response_id", "the endpoint's id of the response"),
    Attribute("gen_ai.response.finish_reasons", "string[]", "finish_reasons", "one for each choice, in order of index"),
    Attribute("gen_ai.response.time_to_first_chunk", "float", None,
              "s from `received` to the first SSE event with choices"),
    Attribute("gen_ai.usage.input_tokens", "int", "input_tokens", "tokens of the prompt"),
    Attribute("gen_ai.usage.output_tokens", "int", "output_tokens", "tokens of the output, reasoning included"),
    Attribute("gen_ai.usage.reasoning.output_tokens", "int", "reasoning_tokens", "reasoning's share of the output"),
    Attribute("gen_ai.usage.cache_read.input_tokens", "int", "cached_tokens", "prompt tokens from the prefix cache"),
    # The HTTP conventions
    Attribute("http.request.method", "string", "method", "the method that the client sent"),
    Attribute("http.response.status_code", "int", "status",
              "the upstream's status, or the proxy's own where it refused the request"),
    Attribute("http.request.body.size", "int", "request_bytes", "bytes of the request's body"),
    Attribute("http.response.body.size", "int", "response_bytes", "bytes of the response's body, as sent (compressed)"),
    # In exported spans, whose `server.address` is the endpoint's, this is the path at the endpoint.
    Attribute("url.path", "string", "path", "the path at the proxy, without the query"),
    Attribute("dyno.path", "string", None, "the path at the proxy; only in exported spans", "path"),
    Attribute("dyno.endpoint.path", "string", None, "the path at the endpoint; only in rows", "endpoint_path"),
    Attribute("user_agent.original", "string", "user_agent", "the client's User-Agent", since=2),
    Attribute("client.address", "string", "client_address", "the address that the client's connection comes from",
              since=2),
    Attribute("server.address", "string", None, "the endpoint's host", "server_address"),
    Attribute("server.port", "int", None, "the endpoint's port", "server_port"),
    Attribute("error.type", "string", "error_type",
              "what went wrong: one of a few values, or the HTTP status that says it"),
    # Ours: what it was
    Attribute("dyno.endpoint", "string", "endpoint", "the endpoint's name in the configuration"),
    Attribute("dyno.client", "string", "client", "the name of the key that the client showed", since=2),
    Attribute("dyno.user", "string", "user",
              "who asks, by the request's `user`: its HMAC with this installation's key, or the text itself", _RARER,
              since=2),
    Attribute("session.id", "string", "session_id", "the client's session, by the request's baggage", _BAGGAGE,
              since=2),
    Attribute("dyno.request_id", "string", "request_id", "the endpoint's `x-request-id` of the response", since=2),
    # Of the client's trace context: with them, spans can be exported from span files too.
    Attribute("dyno.parent.sampled", "bool", "sampled", "the sampled flag of the client's `traceparent`", since=2),
    Attribute("dyno.parent.tracestate", "string", "tracestate", "the client's `tracestate`, if it is well formed",
              since=2),
    Attribute("dyno.outcome", "string", "outcome",
              "how the request ended: one of the outcomes that docs/proxy.md lists"),
    Attribute("dyno.streamed", "bool", "streamed", "the response came as an event stream; absent without a response"),
    Attribute("dyno.simulated", "bool", "simulated", "the response said `Server: dyno-simulate`"),
    Attribute("dyno.usage.source", "string", "usage_source",
              "who counted the tokens: server; or chunks, where the number of chunks stands in"),
    Attribute("dyno.usage.first_chunk_tokens", "int", "first_chunk_tokens",
              "tokens of the first chunk, where the server says it"),
    Attribute("dyno.usage.first_read_tokens", "int", "first_read_tokens",
              "tokens of the first read that had output: as the server says, else the chunks in it", since=2),
    Attribute("dyno.choice.count", "int", "choice_count", "choices of the answer, where it has several", since=2),
    Attribute("dyno.reasoning.streamed", "bool", "reasoning_streamed", "a chunk carried reasoning"),
    Attribute("dyno.connection.reused", "bool", "connection_reused", "the upstream connection was already open"),
    Attribute("dyno.retries", "int", "retries",
              "how often the proxy sent the request again; absent where no retry is configured", since=2),
    Attribute("dyno.resent", "bool", "resent",
              "sent once more, because the endpoint had closed the idle connection before it came", since=2),
    Attribute("dyno.connection.rtt_us", "int", "rtt_us",
              "round trip of the upstream connection at the response's first byte, smoothed, by the kernel (Linux)",
              since=2),
    Attribute("dyno.connection.min_rtt_us", "int", "min_rtt_us",
              "its shortest round trip lately, at the same moment", since=2),
    Attribute("dyno.usage.asked", "bool", None,
              "the proxy added stream_options.include_usage to the request", "usage_asked"),
    Attribute("dyno.reasoning.hidden", "bool", None,
              "output tokens hold reasoning that was neither shown nor counted", "reasoning_hidden"),
    Attribute("dyno.chunk.cadence", "string", None,
              "gateway, where an intermediary sets the rhythm of the chunks", "cadence"),
    Attribute("dyno.unread", "string", None,
              "why the response's content is unknown: no_reader, encoding, too_long, too_complex, no_memory", "unread"),
    Attribute("dyno.request.unread", "string", None,
              "why the request's parameters are unknown: encoding, too_long, too_complex, no_memory", "request_unread"),
    Attribute("dyno.sse.unreadable_events", "int", None,
              "SSE events that were not the API's JSON, or too long", "unreadable_events"),
    Attribute("dyno.mirror", "string", None,
              "original, where this request was mirrored; copy, where it is the mirrored copy", "mirror"),
    Attribute("dyno.mirror.trace_id", "string", None, "on a copy: the original's trace", "mirror_trace_id"),
    Attribute("dyno.mirror.span_id", "string", None,
              "on a copy: the original's span; the copy's span also links to it", "mirror_span_id"),
    Attribute("dyno.retry_after_s", "float", "retry_after_s",
              "s that the response asks to wait, by Retry-After or its body", since=2),
    # Ours: the events, microseconds after `received`
    Attribute("dyno.event.body_received_us", "int", "body_received_us", "the last byte of the client's body was read"),
    Attribute("dyno.event.connected_us", "int", "connected_us", "a connection to the upstream was ready"),
    Attribute("dyno.event.sent_us", "int", "sent_us", "the first byte was handed to the upstream's socket"),
    Attribute("dyno.event.headers_us", "int", "headers_us", "the upstream's response head was parsed"),
    Attribute("dyno.event.first_event_us", "int", "first_event_us", "first SSE event with non-empty choices"),
    Attribute("dyno.event.first_token_us", "int", "first_token_us", "first SSE event with output"),
    Attribute("dyno.event.first_answer_us", "int", "first_answer_us", "first output that is not reasoning"),
    Attribute("dyno.event.last_token_us", "int", "last_token_us", "last SSE event with output"),
    Attribute("dyno.event.done_us", "int", "done_us", "`[DONE]`, or the end of the body"),
    Attribute("dyno.chunk.offsets_us", "int[]", "chunk_offsets_us",
              "arrival of each chunk; two equal ones in a row came in the same network read"),
    Attribute("dyno.chunk.count", "int", "chunk_count", "SSE events that carried output", "chunk_offsets_us"),
    # Ours: what the server says of itself
    Attribute("dyno.server.ttft_s", "float", "server_ttft_s", "time to first token, as the server says"),
    Attribute("dyno.server.latency_s", "float", "server_latency_s", "the whole time, as the server says"),
    Attribute("dyno.server.queue_s", "float", "server_queue_s", "time in the server's queue"),
    Attribute("dyno.server.prefill_s", "float", None, "time on the prompt", "server_prefill_s"),
    Attribute("dyno.server.decode_s", "float", None, "time on the output", "server_decode_s"),
    # Ours: the instrument's own state
    Attribute("dyno.overhead_us", "int", "overhead_us",
              "time that the proxy added to the first token, or to the end where nothing was streamed"),
    Attribute("dyno.overhead.end_us", "int", "overhead_end_us", "time that the proxy added to the last byte"),
    Attribute("dyno.loop_lag_us", "int", "loop_lag_us", "the event loop's largest lag in its newest reading"),
    Attribute("dyno.gc_pause_us", "int", "gc_pause_us",
              "time that garbage collections took while the request ran", since=2),
    # Ours: from the request's W3C baggage, under the same names
    Attribute("dyno.run.id", "string", "run_id", "the run that the request belongs to", _BAGGAGE),
    Attribute("dyno.workload", "string", "workload", "the shape of the traffic", _BAGGAGE),
    Attribute("dyno.prompt.id", "string", "prompt_id", "the prompt's id, the same on every endpoint", _BAGGAGE),
    Attribute("dyno.repeat", "int", "repeat", "the number of the prompt's repetition, from 1", _BAGGAGE),
    Attribute("dyno.warmup", "bool", "warmup", "true for a warm-up request: its row is kept, and left out of tables",
              _BAGGAGE),
    Attribute("dyno.load.concurrency", "int", "load_concurrency",
              "requests that a closed loop held open at once at the endpoint", _BAGGAGE, since=2),
    Attribute("dyno.load.rate_per_s", "float", "load_rate_per_s",
              "new requests a second that an open loop sent to the endpoint", _BAGGAGE, since=2),
    Attribute("dyno.due_at_unix_us", "int", "due_at_unix_us", "when an open loop's request was due", _BAGGAGE),
    Attribute("dyno.send_lag_s", "float", "send_lag_s",
              "how late the request left (left - due), by the driver's monotonic clock", _BAGGAGE),
    # Ours: set on entry, by `dyno import`
    Attribute("dyno.imported_from", "string", "imported_from", "the file that the row came from"),
)
# fmt: on

RARER: Final = tuple(attribute.name for attribute in ATTRIBUTES if attribute.field == _RARER)
BAGGAGE: Final = tuple(attribute.name for attribute in ATTRIBUTES if attribute.field == _BAGGAGE)
