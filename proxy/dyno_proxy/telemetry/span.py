"""A record as an OpenTelemetry span, and a span as a row of the span files. Pure: no clock, no I/O.

    Record ──record_span──▶ ReadableSpan ──span_row──▶ row (a dict in COLUMNS' order) ──▶ a journal's line
                                                                                        │ stored_span.py
                                                                                        └──▶ ReadableSpan ──▶ OTLP

Names and types come from `attributes.py`. `span_row` takes any ReadableSpan, also one that somebody else made.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, Final

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
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

from dyno_proxy.attributes import ATTRIBUTES, BAGGAGE, RARER, SCHEMA_URL, SCOPE_NAME
from dyno_proxy.exchange.record import Record

from .column_types import FITTED, is_int64

SCHEMA_VERSION: Final = 2

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

# Clients and endpoints write these texts. A model's name of some megabytes must not make a span of that size.
TEXT_CHARACTERS: Final = 4096

FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
FIRST_EVENT: Final = "dyno.event.first_event_us"
# A number of chunks isn't a count of tokens: it is never exported under the conventions' name.
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
_CHUNK_COUNT: Final = "dyno.chunk.count"
USAGE_SOURCE: Final = "dyno.usage.source"
PATH: Final = "url.path"  # in an exported span at the endpoint, as its host is; in a row at the proxy
PROXY_PATH: Final = "dyno.path"  # in an exported span alone
ENDPOINT_PATH: Final = "dyno.endpoint.path"  # in a row alone
_PARENT_STATE: Final = "dyno.parent.tracestate"

SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
NOT_SAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
ERROR: Final = Status(StatusCode.ERROR)  # no description: error.type and the status code say it
UNSET: Final = Status(StatusCode.UNSET)


def scope(version: str) -> InstrumentationScope:
    """Who made our spans, and by which schema their attributes are named."""
    return InstrumentationScope(SCOPE_NAME, version, SCHEMA_URL)


def parent_context(
    trace_id: int, parent_span_id: int | None, *, sampled: bool, state: str | None
) -> SpanContext | None:
    """The client's span as its `traceparent` and `tracestate` (`state`) named it; None without one."""
    if parent_span_id is None:
        return None
    text = _state_text(state) if state else None
    return SpanContext(
        trace_id, parent_span_id, True, SAMPLED if sampled else NOT_SAMPLED, _trace_state(text) if text else None
    )


def span_name(record: Record) -> str:
    """`{operation} {model}`, by the GenAI conventions; the method alone for paths without an operation."""
    if record.operation is None:
        return _bounded(record.method)
    return f"{record.operation} {_bounded(record.model)}" if record.model else record.operation


def record_span(record: Record, *, resource: Resource, scope: InstrumentationScope, sampled: bool) -> ReadableSpan:
    """The record's span. OTLP and JSON can hold every value in it. What is unknown has no attribute."""
    span = RecordSpan(record, resource=resource, scope=scope, sampled=sampled)
    if _is_plain(record):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=resource,
        attributes=_mended_attributes(record),
        kind=span.kind,
        links=span.links,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=scope,
    )


class RecordSpan(ReadableSpan):
    """The span of a record that needs no mending.

    Its row is made from the record itself; what only OTLP reads is made when it is read.
    """

    def __init__(self, record: Record, *, resource: Resource, scope: InstrumentationScope, sampled: bool) -> None:
        start_ns = record.started_at_unix_us * 1000
        super().__init__(
            name=span_name(record),
            resource=resource,
            kind=SpanKind.CLIENT,
            links=links_to_original(record.mirror_trace_id, record.mirror_span_id),
            # The conventions count a cancelled request among the errors too; `dyno.outcome` keeps them apart.
            status=UNSET if record.outcome == "ok" else ERROR,
            start_time=start_ns,
            end_time=start_ns + record.duration_us * 1000,
            instrumentation_scope=scope,
        )
        self.record = record
        self._sampled = sampled

    @cached_property
    def parent(self) -> SpanContext | None:
        record = self.record
        return parent_context(
            record.trace_id, record.parent_span_id, sampled=record.sampled is True, state=record.tracestate
        )

    @cached_property
    def context(self) -> SpanContext:
        state = None if self.parent is None else self.parent.trace_state
        flags = SAMPLED if self._sampled else NOT_SAMPLED
        return SpanContext(self.record.trace_id, self.record.span_id, False, flags, state)

    def get_span_context(self) -> SpanContext:
        return self.context

    @cached_property
    def attributes(self) -> Mapping[str, AttributeValue]:
        return _attributes(self.record)


def links_to_original(trace_id: str | None, span_id: str | None) -> tuple[Link, ...]:
    """A mirrored copy's link to the original's span, whose ids are hexadecimal; none without them."""
    if trace_id is None or span_id is None:
        return ()
    original = SpanContext(int(trace_id, 16), int(span_id, 16), False)
    return (Link(original, {"dyno.mirror": "original"}),)


def span_row(span: ReadableSpan, seq: int) -> dict[str, object]:
    """The span as a row: keys in COLUMNS' order, what is unknown left out.

    An attribute whose value isn't of its column's type (a token count beyond 64 bits, a text where a number belongs)
    stands in the map `attributes` instead, as text. Raises ValueError for a span without context or start.
    """
    if isinstance(span, RecordSpan):
        row_of_record = msgspec.structs.asdict(_record_row(span.record, span.name, seq))
        return {
            column: list(value) if isinstance(value, tuple) else value
            for column, value in row_of_record.items()
            if value is not None
        }
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
    rest: dict[str, Any] = {name: value for name, value in (span.attributes or {}).items() if value is not None}
    if FIRST_EVENT in rest:
        rest.pop(FIRST_CHUNK, None)  # the same moment, in seconds
    if rest.get(USAGE_SOURCE) == "chunks" and _CHUNK_COUNT in rest:
        rest.setdefault(OUTPUT_TOKENS, rest[_CHUNK_COUNT])
    if PROXY_PATH in rest:
        rest[ENDPOINT_PATH] = rest.get(PATH, "")
        rest[PATH] = rest.pop(PROXY_PATH)
    for name, column, fitted in _FITTED_COLUMNS:
        stored = fitted(rest.get(name))
        if stored is not None:
            del rest[name]
            if stored != []:
                row[column] = stored
    if rest:
        row["attributes"] = {name: attribute_text(value) for name, value in rest.items()}
    return row


def record_row_json(record: Record, seq: int, *, chunk_times: bool = True) -> bytes | None:
    """The row of the record's span as JSON, made directly: every request pays for it. None where it needs mending.

    Without `chunk_times` it has the chunks' number alone.
    """
    if not _is_plain(record):
        return None
    row = _record_row(record, span_name(record), seq)
    if not chunk_times:
        row.chunk_offsets_us = None
    return _JSON.encode(row)


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


def _is_plain(record: Record) -> bool:
    """Whether nothing needs mending: the texts are short and ASCII, and every number fits its column."""
    texts = "".join(filter(None, _TEXTS(record) + record.finish_reasons))
    if len(texts) > TEXT_CHARACTERS or not texts.isascii():
        return False
    for number in _INTEGERS(record):
        if number is not None and not is_int64(number):
            return False
    if (record.baggage and not _are_plain(record.baggage)) or (record.rarer and not _are_plain(record.rarer)):
        return False
    # The conventions demand an error.type of every error.
    return record.outcome == "ok" or record.error_type is not None


def _are_plain(tags: Mapping[str, str | int | float | bool]) -> bool:
    return all(
        len(tag) <= TEXT_CHARACTERS and tag.isascii() if isinstance(tag, str) else _TAGS_FITTED[name](tag) is not None
        for name, tag in tags.items()
    )


def _record_row(record: Record, name: str, seq: int) -> Any:
    """A plain record's row, a _RecordRow, without the detour over attributes."""
    parent_span_id = None if record.parent_span_id is None else f"{record.parent_span_id:016x}"
    row: Any = _RecordRow(
        *(SCHEMA_VERSION, seq, f"{record.trace_id:032x}", f"{record.span_id:016x}", parent_span_id, name, "CLIENT"),
        *(record.started_at_unix_us, record.duration_us),
        *_COLUMN_VALUES(record),
    )
    if not record.finish_reasons:
        row.finish_reasons = None
    if record.streamed:
        row.chunk_count = len(record.chunk_offsets_us)
    else:
        row.reasoning_streamed = row.chunk_count = None  # nothing was streamed: there is nothing to say
    if not record.chunk_offsets_us:
        row.chunk_offsets_us = None
    if record.tracestate is not None:
        row.tracestate = _state_text(record.tracestate)
    rest = {
        # A plain record's integers are short.
        other: value if type(value) is str else str(value) if type(value) is int else attribute_text(value)
        for other, value in zip(_OTHER_NAMES, _OTHER_VALUES(record), strict=True)
        if value is not None
    }
    for tag, tagged in (record.baggage | record.rarer if record.rarer else record.baggage).items():
        column = _TAG_COLUMNS.get(tag)
        if column is not None:
            setattr(row, column, tagged)
        else:
            rest[tag] = attribute_text(tagged)
    if rest:
        row.attributes = rest
    return row


def _attributes(record: Record) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        name: value
        for name, value in zip(_TAKEN_NAMES, _VALUES(record), strict=True)
        if value is not None and value != ()
    }
    if record.outcome != "ok" and record.error_type is None:
        attributes["error.type"] = record.outcome
    if record.first_event_us is not None:
        attributes[FIRST_CHUNK] = record.first_event_us / 1e6
    if record.streamed:
        attributes["dyno.chunk.count"] = len(record.chunk_offsets_us)
    else:
        attributes.pop("dyno.chunk.count", None)
        attributes.pop("dyno.reasoning.streamed", None)
    if record.usage_source == "chunks":
        attributes.pop(OUTPUT_TOKENS, None)
    if record.endpoint_path is None:
        attributes.pop(PROXY_PATH, None)
    else:
        attributes[PATH] = attributes.pop(ENDPOINT_PATH)
    if record.tracestate is not None:
        attributes.pop(_PARENT_STATE, None)
        if (state := _state_text(record.tracestate)) is not None:
            attributes[_PARENT_STATE] = state
    attributes.update(record.rarer or {})
    attributes.update(record.baggage)
    return attributes


def _mended_attributes(record: Record) -> dict[str, AttributeValue]:
    """The attributes with texts bounded and valid; an integer that 64 bits can't hold becomes a text."""
    mended: dict[str, AttributeValue] = {}
    for name, value in _attributes(record).items():
        if isinstance(value, str):
            mended[name] = _bounded(value)
        elif isinstance(value, int) and not is_int64(value):
            mended[name] = _integer_text(value)
        else:
            mended[name] = value
    if record.finish_reasons:
        mended["gen_ai.response.finish_reasons"] = tuple(map(_bounded, record.finish_reasons))
    return mended


def _bounded(text: str | None) -> str:
    if not text:
        return ""
    text = text[:TEXT_CHARACTERS]
    return text if text.isascii() else mended_text(text)


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


def _state_text(header: str) -> str | None:
    """The header's members in one form; None if one is malformed, or if it is very long."""
    state = _trace_state(header)
    text = state.to_header() if state else ""
    return text if 0 < len(text) <= TEXT_CHARACTERS else None


_FITTED_COLUMNS: Final = tuple((a.name, a.column, FITTED[a.type]) for a in ATTRIBUTES if a.column is not None)
_TAGS: Final = frozenset((*BAGGAGE, *RARER))  # of these a record has only what was said
_TAGS_FITTED: Final = {a.name: FITTED[a.type] for a in ATTRIBUTES if a.name in _TAGS}
_TAG_COLUMNS: Final = {a.name: a.column for a in ATTRIBUTES if a.name in _TAGS and a.column is not None}

# The attributes that a record has a field for. Baggage, and what not every request has, are fields of several.
_TAKEN: Final = tuple(a for a in ATTRIBUTES if a.source in Record.__struct_fields__ and a.name not in _TAGS)
_TAKEN_NAMES: Final = tuple(a.name for a in _TAKEN)
_OTHERS: Final = tuple(a for a in _TAKEN if a.column is None and a.name != PROXY_PATH)
_OTHER_NAMES: Final = tuple(a.name for a in _OTHERS)


def _values_of(names: Iterable[str | None]) -> Callable[[Record], tuple[Any, ...]]:
    """The function that takes these fields of a record, and None for None.

    It is written out as `handed_over` is: attrgetter takes longer.
    """
    taken = "".join("None, " if name is None else f"record.{name}, " for name in names)
    written: Callable[[Record], tuple[Any, ...]] = eval(f"lambda record: ({taken})")  # noqa: S307  # our own names
    return written


_VALUES: Final = _values_of(a.source for a in _TAKEN)
# Of every column: the tags' are set where a record has any.
_COLUMN_VALUES: Final = _values_of(a.source if a in _TAKEN else None for a in ATTRIBUTES if a.column is not None)
_OTHER_VALUES: Final = _values_of(a.source for a in _OTHERS)
# A row without what is unknown, written as JSON in C: its fields are the columns, the leading ones by position.
_RecordRow: Final = msgspec.defstruct(
    "_RecordRow", [(column, Any, None) for column, _ in COLUMNS], omit_defaults=True, gc=False
)
_JSON: Final = msgspec.json.Encoder()
# The fields that clients and endpoints write; everything else in a record is the proxy's own, and plain.
_TEXTS: Final = _values_of(
    ("model", "response_model", "response_id", "method", "path", "error_type", "user_agent", "request_id")
)
_INTEGERS: Final = _values_of(name for name in Record.__struct_fields__ if name.endswith("_tokens") or name == "seed")
