"""Reads what OTLP/HTTP senders post to `/v1/traces` as spans, and makes the answers. Pure.

The format is that of https://opentelemetry.io/docs/specs/otlp/: protobuf or JSON, compressed or not. The answer has the
request's encoding. `opentelemetry-proto`'s own classes read the messages. OTLP's JSON has ids in hexadecimal, where
protobuf's JSON has base64.
"""

import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from dyno_proxy.attributes import ATTRIBUTES, SCOPE_NAME

from .mending import MENDED, json_document, mended_message, take_older_spans, with_scopes

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
# Content-Encoding → zlib's `wbits`. The specification asks for gzip; the Python SDK's exporter can send deflate too.
ENCODINGS: Final[dict[str, int | None]] = {
    "": None,
    "identity": None,
    "gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}

_MEMBERS: Final = 64  # of a compressed body: the rest is copied after each, so a million tiny ones would take hours
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_IDS: Final = ("traceId", "spanId", "parentSpanId")
_STATUS: Final = {trace_pb2.Status.STATUS_CODE_OK: "OK", trace_pb2.Status.STATUS_CODE_ERROR: "ERROR"}
_NOT_OTLP: Final = "not an ExportTraceServiceRequest"
_MAX_NS: Final = 2**63  # the largest time that a row can hold
_INVALID_ARGUMENT: Final = 3  # google.rpc.Code
_UNAVAILABLE: Final = 14
_CODES: Final = {503: _UNAVAILABLE, 429: _UNAVAILABLE}


class BadMessageError(ValueError):
    """A body that can't be read. `status` is that of the HTTP answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Received(NamedTuple):
    """A span, its trace's and its own id as bytes, and whether it is a request that another Dyno proxy measured."""

    span: ReadableSpan
    ids: bytes  # the trace's id and then the span's
    is_request: bool  # another Dyno proxy measured it


def plain_body(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body decompressed; `encoding` is one of ENCODINGS.

    Raises BadMessageError where it isn't of its encoding, breaks off, has too many members, or exceeds `max_bytes`.
    """
    wbits = ENCODINGS[encoding]
    if wbits is None:
        return body
    plain = bytearray()
    rest = body
    for _ in range(_MEMBERS):
        member = zlib.decompressobj(wbits)
        try:
            plain += member.decompress(rest, max_bytes + 1 - len(plain))
        except zlib.error as error:
            raise BadMessageError(400, f"the body isn't {encoding}, although Content-Encoding says so") from error
        if len(plain) > max_bytes:
            raise BadMessageError(
                413, f"the body is longer than {max_bytes} bytes once decompressed; send smaller batches"
            )
        if not member.eof:
            raise BadMessageError(400, f"the {encoding} body is cut off")
        rest = member.unused_data
        if not rest:
            return bytes(plain)
    raise BadMessageError(400, f"the {encoding} body has more than {_MEMBERS} members; compress it as one")


def read_message(body: bytes, content_type: str) -> ExportTraceServiceRequest:
    """The message of a PROTOBUF or JSON body. Raises BadMessageError where it is none, or a span in it is malformed."""
    message, malformed, _ = _read(body, content_type)
    if malformed:
        raise BadMessageError(400, f"{_NOT_OTLP}: {malformed[0]}")
    return message


def read_spans(body: bytes, content_type: str) -> tuple[list["Received | str"], str]:
    """The body's spans, and what its sender should know although they are taken; mostly an empty text.

    A text in the place of a span says why that one can't be stored. Raises BadMessageError where the body isn't OTLP.
    """
    message, malformed, mended = _read(body, content_type)
    return [*malformed, *received_spans(message)], MENDED if mended else ""


def _read(body: bytes, content_type: str) -> tuple[ExportTraceServiceRequest, list[str], bool]:
    """The message, what is wrong with spans that aren't in it, and whether texts were mended."""
    try:
        if content_type == JSON:
            document, mended = json_document(body)
            message, malformed = _of_document(document)
            if malformed and not any(scope.spans for each in message.resource_spans for scope in each.scope_spans):
                raise ValueError(malformed[0])
            return message, malformed, mended
        try:
            message, mended = ExportTraceServiceRequest.FromString(body), False
        except DecodeError:
            message, mended = mended_message(body), True
        take_older_spans(message)
    except (DecodeError, ParseError, RecursionError, UnicodeError, ValueError, TypeError, AttributeError) as error:
        raise BadMessageError(400, f"{_NOT_OTLP}: {str(error)[:200]}") from error
    return message, [], mended


def _of_document(document: Any) -> tuple[ExportTraceServiceRequest, list[str]]:
    """The JSON document as a message, and what is wrong with spans that aren't in it. Raises as `_read` expects."""
    malformed: list[str] = []
    resources = []
    for of_resource in document.get("resourceSpans") or ():
        of_scopes = []
        for of_scope in with_scopes(of_resource):
            spans = []
            for span in of_scope.get("spans") or ():
                try:
                    spans.append(_with_base64_ids(span))
                except (ValueError, TypeError, AttributeError) as error:
                    malformed.append(f"a span is malformed: {str(error)[:200]}")
            of_scopes.append({**of_scope, "spans": spans})
        resources.append({**of_resource, "scopeSpans": of_scopes})
    whole = {**document, "resourceSpans": resources}
    try:
        return _parsed(whole, ExportTraceServiceRequest()), malformed
    except (ParseError, UnicodeError, ValueError, TypeError, AttributeError):
        return _one_by_one(whole, malformed)


def _one_by_one(document: Any, malformed: list[str]) -> tuple[ExportTraceServiceRequest, list[str]]:
    """The same, where a span is malformed: each is read by itself."""
    message = ExportTraceServiceRequest()
    for of_resource in document["resourceSpans"]:
        into_resource = message.resource_spans.add()
        _parsed({"resource": of_resource.get("resource") or {}}, into_resource)
        for of_scope in of_resource["scopeSpans"]:
            into_scope = into_resource.scope_spans.add()
            _parsed({"scope": of_scope.get("scope") or {}}, into_scope)
            for span in of_scope["spans"]:
                try:
                    into_scope.spans.append(_parsed(span, trace_pb2.Span()))
                except (ParseError, UnicodeError, ValueError, TypeError, AttributeError) as error:
                    malformed.append(f"a span is malformed: {str(error)[:200]}")
    return message, malformed


_M = TypeVar("_M", bound=Message)


def _parsed(document: Any, into: _M) -> _M:
    return ParseDict(document, into, ignore_unknown_fields=True)


def received_spans(message: ExportTraceServiceRequest) -> Iterator[Received | str]:
    """The message's spans. A text in the place of one says why it can't be stored."""
    for of_resource in message.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                try:
                    yield _received(span, resource, of_scope.scope.name, of_scope.scope.version)
                except ValueError as error:
                    yield str(error)


def answer(content_type: str, rejected: int, reason: str) -> bytes:
    """The body of a 200: how many spans were rejected, and why the first of them was. A reason alone is a warning."""
    response = ExportTraceServiceResponse()
    if rejected or reason:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = reason
    return _encoded(response, content_type)


def refusal(content_type: str, status: int, message: str) -> bytes:
    """The body of any other answer: a google.rpc.Status, as the specification asks."""
    return _encoded(Status(code=_CODES.get(status, _INVALID_ARGUMENT), message=message), content_type)


def _encoded(message: Message, content_type: str) -> bytes:
    return MessageToJson(message, indent=None).encode() if content_type == JSON else message.SerializeToString()


def _received(span: trace_pb2.Span, resource: Mapping[str, object], scope: str, version: str) -> Received:
    context = SpanContext(
        _id(span.trace_id, _TRACE_ID_BYTES, "trace_id"),
        _id(span.span_id, _SPAN_ID_BYTES, "span_id"),
        is_remote=False,
        trace_flags=TraceFlags(span.flags & TraceFlags.SAMPLED),
    )
    parent = None
    if span.parent_span_id:
        parent_id = _id(span.parent_span_id, _SPAN_ID_BYTES, "parent_span_id")
        parent = SpanContext(context.trace_id, parent_id, is_remote=True)
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    if not 0 < start_ns < _MAX_NS or not start_ns <= end_ns < _MAX_NS:
        raise ValueError(f"span '{span.name[:60]}' has no start time, or ends before it")
    attributes = _values(span.attributes)
    is_request = scope == SCOPE_NAME and "dyno.outcome" in attributes
    if not is_request:
        attributes = {name: _typed(name, value) for name, value in attributes.items()}
        attributes |= _about(span, resource, scope, version)
    made = ReadableSpan(
        name=span.name,
        context=context,
        parent=parent,
        attributes=attributes,  # type: ignore[arg-type]  # a row can hold maps, which the SDK's attributes can't
        kind=SpanKind(span.kind - 1) if 1 <= span.kind <= len(SpanKind) else SpanKind.INTERNAL,
        start_time=start_ns,
        end_time=end_ns,
    )
    return Received(made, span.trace_id + span.span_id, is_request)


def _typed(name: str, value: object) -> object:
    """A value of its column's type, where a sender writes it in another one.

    Some send counts as texts or as numbers with a decimal point. LiteLLM sends booleans and lists as texts.
    """
    kind = _COLUMN_TYPES.get(name)
    if isinstance(value, float) and kind == "int" and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    if kind == "int" and _WHOLE.fullmatch(value):
        return int(float(value)) if "." in value else int(value)
    if kind == "float" and _NUMBER.fullmatch(value):
        return float(value)
    if kind == "bool":
        return {"true": True, "false": False}.get(value.lower(), value)
    return _texts(value) if kind == "string[]" else value


def _texts(value: str) -> object:
    """A list of texts that is written as JSON, or as Python shows it."""
    try:
        found = json.loads(value if '"' in value else value.replace("'", '"'))
    except ValueError:
        return [value]
    return found if isinstance(found, list) and all(isinstance(item, str) for item in found) else [value]


_COLUMN_TYPES: Final = {a.name: a.type for a in ATTRIBUTES if a.column is not None}
_WHOLE: Final = re.compile(r"-?\d{1,18}(?:\.0*)?", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,18}(?:\.\d{0,18})?(?:[eE][-+]?\d{1,2})?", re.ASCII)


def _about(span: trace_pb2.Span, resource: Mapping[str, object], scope: str, version: str) -> dict[str, object]:
    """What a span has beside its attributes, as attributes too. docs/collect.md lists them."""
    events = [
        {"name": event.name, "time_us": event.time_unix_nano // 1000, "attributes": _values(event.attributes)}
        for event in span.events
    ]
    links = [
        {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": _values(link.attributes)}
        for link in span.links
    ]
    about: dict[str, object] = {
        **{f"resource.{name}": value for name, value in resource.items()},
        "otel.scope.name": scope,
        "otel.scope.version": version,
        "otel.status_code": _STATUS.get(span.status.code),
        "otel.status_description": span.status.message,
        "otel.events": events,
        "otel.links": links,
    }
    return {name: value for name, value in about.items() if value not in (None, "", [])}


def _id(value: bytes, size_bytes: int, key: str) -> int:
    if len(value) != size_bytes or not any(value):
        raise ValueError(f"{key} must be {size_bytes} bytes, not all zero; this one has {len(value)} bytes")
    return int.from_bytes(value)


def _values(attributes: Any) -> dict[str, object]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: value for pair in pairs if (value := _value(pair.value)) is not None}


def _value(value: AnyValue) -> object:
    """The value in plain Python; None for an empty one, which OTLP allows."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            return _values(value.kvlist_value.values)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
    plain: object = getattr(value, kind)
    return plain


def _with_base64_ids(span: dict[str, Any]) -> dict[str, Any]:
    """The span with base64 ids, as protobuf's JSON has them. Raises ValueError where one isn't hexadecimal."""
    changed: dict[str, Any] = {key: _base64(span[key]) for key in _IDS if span.get(key)}
    if span.get("links"):
        changed["links"] = [
            {**link, **{key: _base64(link[key]) for key in _IDS if link.get(key)}} for link in span["links"]
        ]
    return {**span, **changed}


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()
