"""OTLP's protobuf as spans. A message is a TracesData (the Collector's files) or an ExportTraceServiceRequest, which is
encoded the same. Pure.
"""

import base64
from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from .span import KINDS, OtlpEvent, OtlpSpan


def protobuf_spans(message: bytes) -> Iterator[OtlpSpan | str]:
    """The message's spans. For a malformed span, it yields a text instead that says what is wrong.

    Raises ValueError if this isn't such a message.
    """
    try:
        data = TracesData.FromString(message)
    except DecodeError as error:
        raise ValueError("it isn't a protobuf message of spans") from error
    for resource_spans in data.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope.name
            for number, span in enumerate(scope_spans.spans, start=1):
                try:
                    yield _span(span, resource, scope)
                except ValueError as error:
                    yield f"span {number} of scope '{scope}': {error}"


def _span(span: Span, resource: dict[str, object], scope: str) -> OtlpSpan:
    return OtlpSpan(
        trace_id=_hex(span.trace_id, "trace_id", 16),
        span_id=_hex(span.span_id, "span_id", 8),
        parent_span_id=_hex(span.parent_span_id, "parent_span_id", 8),
        name=span.name,
        kind=KINDS[span.kind] if 0 <= span.kind < len(KINDS) else KINDS[0],
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events=tuple(OtlpEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events),
        status_code=span.status.code,
        status_message=span.status.message,
        resource=resource,
        scope=scope,
    )


def _attributes(entries: Iterable[KeyValue]) -> dict[str, object]:
    return {entry.key: _value(entry.value) for entry in entries}


def _value(value: AnyValue) -> object:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            return _attributes(value.kvlist_value.values)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()  # as OTLP's JSON has it
    return None


def _hex(binary: bytes, name: str, size_bytes: int) -> str:
    if len(binary) not in (0, size_bytes):
        raise ValueError(f"'{name}' has {len(binary)} bytes, not {size_bytes}")
    # An id of zeros means that there is none.
    return binary.hex() if any(binary) else ""
