"""A record as an OpenTelemetry span, and a span as a row of the span files. Pure: no clock, no I/O.

    Record ──record_span──▶ ReadableSpan ──span_row──▶ row (a dict in COLUMNS' order) ──▶ a journal's line
                                 └───────▶ OTLP

Names and types come from `attributes.py`. `span_row` takes any ReadableSpan, also one that somebody else made.
"""

import json
import math
import re
from array import array
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
)
from opentelemetry.util.types import AttributeValue

from .attributes import ATTRIBUTES, BAGGAGE, SCHEMA_URL, SCOPE_NAME
from .record import Record

SCHEMA_VERSION: Final = 1

# A row's columns in order, with their types: attributes.py's, and `map` (string -> string).
COLUMNS: Final[tuple[tuple[str, str], ...]] = (
    ("v", "int"),
    ("seq", "int"),
    ("trace_id", "string"),
    ("span_id", "string"),
    ("parent_span_id", "string"),
    ("name", "string"),
    ("kind", "string"),
    ("started_at_us", "int"),
    ("duration_us", "int"),
    *((attribute.column, attribute.type) for attribute in ATTRIBUTES if attribute.column is not None),
    ("attributes", "map"),
)

# Clients and endpoints write these texts: a model's name of some megabytes must not become a span of that size.
TEXT_CHARACTERS: Final = 4096

_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
_FIRST_EVENT: Final = "dyno.event.first_event_us"

# Attribute -> the field of Record that it is taken from as it is. Most fields bear their column's name.
_FIELDS: Final[dict[str, str]] = {
    **{
        a.name: a.column
        for a in ATTRIBUTES
        if a.column is not None and a.column in Record.__struct_fields__ and not a.type.endswith("[]")
    },
    "gen_ai.request.stream": "request_stream",
    "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.request.temperature": "temperature",
    "gen_ai.request.top_p": "top_p",
    "gen_ai.request.seed": "seed",
    "server.address": "server_address",
    "server.port": "server_port",
    "dyno.retry_after_s": "retry_after_s",
    "dyno.server.prefill_s": "server_prefill_s",
    "dyno.server.decode_s": "server_decode_s",
}
_NAMES: Final = tuple(_FIELDS)
_VALUES: Final[Callable[[Record], tuple[AttributeValue | None, ...]]] = attrgetter(*_FIELDS.values())

# What others write: everything else in a record is ours, and fits.
_TEXTS: Final = (
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.response.id",
    "http.request.method",
    "url.path",
    "error.type",
)
_INTEGERS: Final = (
    "gen_ai.request.max_tokens",
    "gen_ai.request.seed",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "dyno.usage.first_chunk_tokens",
)

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NOT_SAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
_ERROR: Final = Status(StatusCode.ERROR)  # no description: error.type and the status code say it
_UNSET: Final = Status(StatusCode.UNSET)


class RecordSpan(ReadableSpan):
    """A span that `record_span` built of fitting values: a row takes them into its columns without a second look."""


def scope(version: str) -> InstrumentationScope:
    """Who made our spans, and by which schema their attributes are named."""
    return InstrumentationScope(SCOPE_NAME, version, SCHEMA_URL)


def parent_context(record: Record) -> SpanContext | None:
    """The client's span as its `traceparent` and `tracestate` named it; None without one."""
    if record.parent_span_id is None:
        return None
    flags = _SAMPLED if record.sampled else _NOT_SAMPLED
    state = _trace_state(record.tracestate) if record.tracestate else None
    return SpanContext(record.trace_id, record.parent_span_id, True, flags, state)


def span_name(record: Record) -> str:
    """`{operation} {model}`, by the GenAI conventions; the method alone for paths without an operation."""
    if record.operation is None:
        return _bounded(record.method)
    return f"{record.operation} {_bounded(record.model)}" if record.model else record.operation


def record_span(record: Record, *, resource: Resource, scope: InstrumentationScope, sampled: bool) -> ReadableSpan:
    """The record's span. OTLP and JSON can hold its values; what is unknown has no attribute."""
    attributes, fitting = _attributes(record)
    parent = parent_context(record)
    start_ns = record.started_at_unix_us * 1000
    kind = RecordSpan if fitting else ReadableSpan
    return kind(
        name=span_name(record),
        context=SpanContext(
            record.trace_id,
            record.span_id,
            False,
            _SAMPLED if sampled else _NOT_SAMPLED,
            None if parent is None else parent.trace_state,
        ),
        parent=parent,
        resource=resource,
        attributes=attributes,
        kind=SpanKind.CLIENT,
        # The conventions count a cancelled request among the errors too; `dyno.outcome` keeps them apart.
        status=_UNSET if record.outcome == "ok" else _ERROR,
        start_time=start_ns,
        end_time=start_ns + record.duration_us * 1000,
        instrumentation_scope=scope,
    )


def span_row(span: ReadableSpan, seq: int) -> dict[str, object]:
    """The span as a row: keys in COLUMNS' order, what is unknown left out.

    An attribute whose value isn't of its column's type (a token count beyond 64 bits, a text where a number belongs)
    stands in the map `attributes` instead, as text. Raises ValueError for a span without context or start.
    """
    context, start_ns, end_ns = span.get_span_context(), span.start_time, span.end_time
    if context is None or start_ns is None:
        raise ValueError(f"span {span.name!r} has no context or no start")
    row: dict[str, object] = {
        "v": SCHEMA_VERSION,
        "seq": seq,
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
    }
    if span.parent is not None:
        row["parent_span_id"] = format_span_id(span.parent.span_id)
    row["name"] = span.name
    row["kind"] = span.kind.name
    row["started_at_us"] = start_ns // 1000
    if end_ns is not None:
        row["duration_us"] = (end_ns - start_ns) // 1000
    attributes = span.attributes or {}
    if isinstance(span, RecordSpan):
        row |= {column: attributes[name] for name, column in _COLUMN_NAMES if name in attributes}
        rest = {name: attribute_text(attributes[name]) for name in _OTHER_NAMES if name in attributes}
    else:
        rest = _fit(attributes, row)
    if _FIRST_EVENT in attributes:
        rest.pop(_FIRST_CHUNK, None)  # the same moment, in seconds
    if rest:
        row["attributes"] = rest
    return row


def attribute_text(value: object) -> str:
    """An attribute's value in the map: a string as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer_text(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return json.dumps(value, separators=(",", ":"), default=str)


def mended_text(text: str) -> str:
    """The text without lone surrogates, which UTF-8 can't hold: U+FFFD in their place."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# From the record


def _attributes(record: Record) -> tuple[dict[str, AttributeValue], bool]:
    """The attributes, mended where needed, and whether each is still of its column's type."""
    attributes: dict[str, AttributeValue] = {
        name: value for name, value in zip(_NAMES, _VALUES(record), strict=True) if value is not None
    }
    fitting = True
    for name in _TEXTS:
        text = attributes.get(name)
        if isinstance(text, str) and (len(text) > TEXT_CHARACTERS or not text.isascii()):
            attributes[name] = _bounded(text)
    for name in _INTEGERS:
        number = attributes.get(name)
        if isinstance(number, int) and not _is_int64(number):
            attributes[name] = _integer_text(number)
            fitting = False
    if record.outcome != "ok" and record.error_type is None:
        attributes["error.type"] = record.outcome  # the conventions demand one of every error
    if record.chunk_offsets_us:
        attributes["dyno.chunk.offsets_us"] = record.chunk_offsets_us
    if record.finish_reasons:
        attributes["gen_ai.response.finish_reasons"] = tuple(map(_bounded, record.finish_reasons))
    if record.first_event_us is not None:
        attributes[_FIRST_CHUNK] = record.first_event_us / 1e6
    if record.streamed:
        attributes["dyno.chunk.count"] = len(record.chunk_offsets_us)
    else:
        attributes.pop("dyno.reasoning.streamed", None)  # nothing was streamed: there is nothing to say
    for name, tag in record.baggage.items():
        attributes[name] = _bounded(tag) if isinstance(tag, str) else tag
        fitting = fitting and _BAGGAGE_FITTED[name](tag) is not None
    return attributes, fitting


def _bounded(text: str | None) -> str:
    if not text:
        return ""
    text = text[:TEXT_CHARACTERS]
    return text if text.isascii() else mended_text(text)


def _is_int64(value: int) -> bool:
    return -(2**63) <= value < 2**63


def _integer_text(value: int) -> str:
    # Python refuses to write more than 4,300 decimal digits, and takes its time before.
    return str(value) if value.bit_length() <= 1024 else hex(value)[:TEXT_CHARACTERS]


_MEMBER: Final = re.compile(
    r"([a-z0-9][a-z0-9_\-*/@]{0,255})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)


def _trace_state(header: str) -> TraceState | None:
    """The header's members; None if one is malformed. (TraceState's own parser logs a client's every mistake.)"""
    members = [_MEMBER.fullmatch(member.strip(" \t")) for member in header.split(",") if member.strip(" \t")]
    pairs = {member[1]: member[2] for member in members if member is not None}
    if len(pairs) != len(members) or len(pairs) > 32:
        return None
    return TraceState(list(pairs.items()))


# To the row


def _fit(attributes: Mapping[str, AttributeValue], row: dict[str, object]) -> dict[str, str]:
    """Put anybody's attributes into the row's columns. Returns those without one, or of another type, as text."""
    rest = {name: value for name, value in attributes.items() if value is not None}
    for name, column, fitted in _FITTED_COLUMNS:
        stored = fitted(attributes.get(name))
        if stored is not None:
            del rest[name]
            if stored != []:
                row[column] = stored
    return {name: attribute_text(value) for name, value in rest.items()}


# Each returns the value as its column holds it, None where it doesn't fit.


def _fitted_string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _fitted_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _fitted_int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and _is_int64(value) else None


def _fitted_float(value: object) -> float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _fitted_int(value)


def _fitted_strings(value: object) -> list[str] | None:
    return list(value) if isinstance(value, tuple | list) and all(isinstance(item, str) for item in value) else None


def _fitted_ints(value: object) -> list[int] | None:
    if not isinstance(value, tuple | list):
        return None
    try:
        return array("q", value).tolist()  # a million offsets are checked in C
    except (TypeError, OverflowError):
        return None


_FITTED: Final[dict[str, Callable[[object], object | None]]] = {
    "string": _fitted_string,
    "bool": _fitted_bool,
    "int": _fitted_int,
    "float": _fitted_float,
    "string[]": _fitted_strings,
    "int[]": _fitted_ints,
}

_BAGGAGE_FITTED: Final = {a.name: _FITTED[a.type] for a in ATTRIBUTES if a.name in BAGGAGE}
_COLUMN_NAMES: Final = tuple((a.name, a.column) for a in ATTRIBUTES if a.column is not None)
_OTHER_NAMES: Final = tuple(a.name for a in ATTRIBUTES if a.column is None)
_FITTED_COLUMNS: Final = tuple((a.name, a.column, _FITTED[a.type]) for a in ATTRIBUTES if a.column is not None)
