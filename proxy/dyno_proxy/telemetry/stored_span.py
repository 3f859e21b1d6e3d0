"""A row of the span files as the OpenTelemetry span that it was made of: the inverse of span.py. Pure.

What a row doesn't hold isn't in the span either, but for the provider, which the conventions demand. Older rows have no
path at the endpoint, so theirs is the proxy's.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind
from opentelemetry.util.types import AttributeValue

from dyno_proxy.attributes import ATTRIBUTES
from dyno_proxy.readers import OPENAI

from .column_types import is_int64
from .span import (
    ENDPOINT_PATH,
    ERROR,
    FIRST_CHUNK,
    FIRST_EVENT,
    NOT_SAMPLED,
    OUTPUT_TOKENS,
    PATH,
    PROXY_PATH,
    SAMPLED,
    UNSET,
    USAGE_SOURCE,
    links_to_original,
    parent_context,
)

Row = Mapping[str, Any]

_NAMES: Final = tuple((a.column, a.name) for a in ATTRIBUTES if a.column is not None)
_TYPES: Final = {a.name: a.type for a in ATTRIBUTES}
_PROVIDER: Final = "gen_ai.provider.name"
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_BOOLEANS: Final = {"true": True, "false": False}
_NOT_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def span_of_row(row: Row, *, resource: Resource, scope: InstrumentationScope, sampled: bool) -> ReadableSpan:
    """The row's span, with the attributes that OTLP sends. Raises KeyError, ValueError or TypeError."""
    parent = parent_of_row(row)
    attributes = attributes_of_row(row)
    start_ns: int = row["started_at_us"] * 1000
    duration_us: int | None = row.get("duration_us")
    context = SpanContext(
        int(row["trace_id"], 16),
        int(row["span_id"], 16),
        False,
        SAMPLED if sampled else NOT_SAMPLED,
        None if parent is None else parent.trace_state,
    )
    of_map: Mapping[str, str] = row.get("attributes") or {}
    return ReadableSpan(
        name=row["name"],
        context=context,
        parent=parent,
        resource=resource,
        attributes=attributes,
        links=links_to_original(of_map.get("dyno.mirror.trace_id"), of_map.get("dyno.mirror.span_id")),
        kind=SpanKind[row["kind"]],
        status=UNSET if row.get("outcome") == "ok" else ERROR,
        start_time=start_ns,
        end_time=None if duration_us is None else start_ns + duration_us * 1000,
        instrumentation_scope=scope,
    )


def parent_of_row(row: Row) -> SpanContext | None:
    """The client's span. Rows of version 1 don't say whether it was sampled: then it counts as such."""
    parent: str | None = row.get("parent_span_id")
    of_map: Mapping[str, str] = row.get("attributes") or {}
    return parent_context(
        int(row["trace_id"], 16),
        None if parent is None else int(parent, 16),
        sampled=row.get("sampled", of_map.get("dyno.parent.sampled")) not in (False, "false"),
        state=row.get("tracestate"),
    )


def attributes_of_row(row: Row) -> dict[str, AttributeValue]:
    """The span's attributes, each with the type that attributes.py gives it."""
    attributes: dict[str, AttributeValue] = {}
    for column, name in _NAMES:
        value = row.get(column)
        if value is not None:
            attributes[name] = tuple(value) if type(value) is list else value
    for name, text in (row.get("attributes") or {}).items():
        if name not in attributes:
            attributes[name] = typed(text, _TYPES.get(name, "string"))
    if (endpoint_path := attributes.pop(ENDPOINT_PATH, None)) is not None:
        attributes[PROXY_PATH] = attributes.get(PATH, "")
        attributes[PATH] = endpoint_path
    first_event_us = attributes.get(FIRST_EVENT)
    if isinstance(first_event_us, int):
        attributes[FIRST_CHUNK] = first_event_us / 1e6
    if attributes.get(USAGE_SOURCE) == "chunks":
        attributes.pop(OUTPUT_TOKENS, None)  # it is the number of chunks
    attributes.setdefault(_PROVIDER, OPENAI)
    return attributes


def typed(text: str, kind: str) -> AttributeValue:
    """A text of the map as a value of this type; the text itself, where it isn't of the type."""
    if kind == "bool":
        return _BOOLEANS.get(text, text)
    if kind in ("int", "float") and _INTEGER.fullmatch(text) and is_int64(int(text)):
        return int(text)
    if kind == "float":
        try:
            return _NOT_FINITE[text] if text in _NOT_FINITE else float(text)
        except ValueError:
            return text
    return text
