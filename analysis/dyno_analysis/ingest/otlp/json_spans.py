"""OTLP's JSON, an object `{"resourceSpans": […]}`, as spans. The Collector's file exporter writes one per line. Pure.

By OTLP's specification ids are hex (Tempo's API writes base64, which is read too), 64-bit integers may be strings,
enums are numbers, and unknown keys are ignored. Enums by name, as in protobuf's own JSON, are read too.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from .span import KINDS, OtlpEvent, OtlpSpan

_STATUS_CODES = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}


def json_spans(document: Mapping[str, Any]) -> Iterator[OtlpSpan | str]:
    """The document's spans. For a malformed span, it yields a text instead that says what is wrong.

    Raises ValueError if the document's structure is malformed, so that the spans can't be found.
    """
    if isinstance(document.get("trace"), dict):
        document = document["trace"]  # of Tempo's API
    for resource_spans in (*_objects(document, "resourceSpans"), *_objects(document, "batches")):
        resource = _attributes(_object(resource_spans, "resource"))
        # OTLP before 0.16 had other names.
        older = _objects(resource_spans, "instrumentationLibrarySpans")
        for scope_spans in (*_objects(resource_spans, "scopeSpans"), *older):
            named = _object(scope_spans, "scope") or _object(scope_spans, "instrumentationLibrary")
            scope = str(named.get("name") or "")
            for number, span in enumerate(_objects(scope_spans, "spans"), start=1):
                try:
                    yield _span(span, resource, scope)
                except (ValueError, TypeError, OverflowError) as error:
                    yield f"span {number} of scope '{scope}': {error}"


def _span(span: Mapping[str, Any], resource: Mapping[str, object], scope: str) -> OtlpSpan:
    status = _object(span, "status")
    code = status.get("code", 0)
    return OtlpSpan(
        trace_id=_hex(span, "traceId", 16),
        span_id=_hex(span, "spanId", 8),
        parent_span_id=_hex(span, "parentSpanId", 8),
        name=str(span.get("name") or ""),
        kind=_kind(span.get("kind", 0)),
        start_ns=int(span.get("startTimeUnixNano") or 0),
        end_ns=int(span.get("endTimeUnixNano") or 0),
        attributes=_attributes(span),
        events=tuple(
            OtlpEvent(str(event.get("name") or ""), int(event.get("timeUnixNano") or 0), _attributes(event))
            for event in _objects(span, "events")
        ),
        status_code=_STATUS_CODES[code] if isinstance(code, str) else int(code),
        status_message=str(status.get("message") or ""),
        resource=resource,
        scope=scope,
    )


def _kind(kind: object) -> str:
    if isinstance(kind, str):
        return kind.removeprefix("SPAN_KIND_")
    return KINDS[kind] if isinstance(kind, int) and 0 <= kind < len(KINDS) else KINDS[0]


def _attributes(holder: Mapping[str, Any]) -> dict[str, object]:
    return {str(entry["key"]): _value(_object(entry, "value")) for entry in _objects(holder, "attributes")}


def _value(value: Mapping[str, Any]) -> object:
    """The plain value; None for an empty one, which OTLP allows."""
    for kind, content in value.items():
        match kind:
            case "stringValue" | "bytesValue":
                return str(content)
            case "boolValue":
                return bool(content)
            case "intValue":
                return int(content)
            case "doubleValue":
                return float(content)  # NaN and Infinity too, which are strings in JSON
            case "arrayValue":
                return [_value(item) for item in _objects(content, "values")]
            case "kvlistValue":
                return {str(entry["key"]): _value(_object(entry, "value")) for entry in _objects(content, "values")}
    return None


def _hex(span: Mapping[str, Any], key: str, size_bytes: int) -> str:
    text = str(span.get(key) or "").lower()
    if not text:
        return ""
    try:
        # Protobuf's own JSON, which Tempo's API answers with, has ids in base64; their length tells them from hex.
        text = text if len(text) == 2 * size_bytes else _from_base64(str(span[key]), size_bytes) or text
        binary = bytes.fromhex(text)
    except ValueError as error:
        raise ValueError(f"'{key}' must be hex, not '{text[:40]}'") from error
    if len(binary) != size_bytes:
        raise ValueError(f"'{key}' has {len(binary)} bytes, not {size_bytes}")
    # An id of zeros means that there is none.
    return text if any(binary) else ""


def _from_base64(text: str, size_bytes: int) -> str | None:
    try:
        binary = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return binary.hex() if len(binary) == size_bytes else None


def _objects(holder: object, key: str) -> list[Mapping[str, Any]]:
    if not isinstance(holder, dict):
        raise ValueError(f"'{key}' is missing: what should have it isn't an object")
    items = holder.get(key)
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"'{key}' must be a list of objects")
    return items


def _object(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"'{key}' must be an object")
    return value
