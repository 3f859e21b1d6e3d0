"""stored_span.py: what OTLP sends of a row is what it would send of the request's own record."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from dyno_proxy.exchange.record import Record
from dyno_proxy.telemetry.journal import record_line
from dyno_proxy.telemetry.span import record_span, scope, span_row
from dyno_proxy.telemetry.stored_span import span_of_row, typed
from rigs.journal_rows import parsed
from rigs.records import record, records, unstreamed

RESOURCE = Resource({"service.name": "dyno-proxy"})
SCOPE = scope("0.1.0")
PROVIDER = "gen_ai.provider.name"
# Columns whose value an endpoint or the proxy gives as a finite number.
SECONDS = ("server_ttft_s", "server_latency_s", "server_queue_s", "retry_after_s")


def sent(span: ReadableSpan) -> dict[str, Any]:
    """All that OTLP sends of a span, but for the order of its attributes."""
    return {
        "context": whole(span.context),
        "parent": whole(span.parent),
        "name": span.name,
        "kind": span.kind,
        "times": (span.start_time, span.end_time),
        "status": (span.status.status_code, span.status.description),
        "links": [(whole(link.context), dict(link.attributes or {})) for link in span.links],
        "attributes": {name: comparable(value) for name, value in (span.attributes or {}).items()},
        "resource": span.resource,
        "scope": span.instrumentation_scope,
    }


def whole(context: SpanContext | None) -> tuple[Any, ...] | None:
    if context is None:
        return None
    state = context.trace_state.to_header()
    return context.trace_id, context.span_id, context.is_remote, int(context.trace_flags), state


def comparable(value: Any) -> Any:
    """A value with its type: 1, 1.0 and true are three values, and NaN is equal to itself."""
    if isinstance(value, float) and math.isnan(value):
        return "float", "NaN"
    return (type(value).__name__, tuple(value) if isinstance(value, list | tuple) else value)


def both(source: Record, *, sampled: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """What would be sent of the record, and of its line in a journal."""
    direct = sent(record_span(source, resource=RESOURCE, scope=SCOPE, sampled=sampled))
    row = parsed(record_line(source, 1).removesuffix(b"\n"))
    stored = sent(span_of_row(row, resource=RESOURCE, scope=SCOPE, sampled=sampled))
    direct["attributes"].setdefault(PROVIDER, ("str", "openai"))
    return direct, stored


@settings(max_examples=300, deadline=None)
@given(records())
def test_a_row_becomes_the_records_span(source: Record) -> None:
    """Whatever a client or an endpoint sent: ids, state, times, links, status, and each attribute with its type."""
    unmeasured = {name: None for name in SECONDS if not math.isfinite(getattr(source, name) or 0.0)}
    direct, stored = both(msgspec.structs.replace(source, **unmeasured))
    assert stored == direct


@pytest.mark.parametrize(
    "source",
    [
        record(),
        record(endpoint_path="/api/v1/chat/completions"),
        record(tracestate="a=1,b@c=2", sampled=False),
        record(parent_span_id=None, sampled=None),
        record(usage_source="chunks", output_tokens=5),
        record(outcome="http_error", error_type="500", status=500),
        record(outcome="rejected", error_type=None),
        record(mirror="copy", mirror_trace_id="0" * 31 + "7", mirror_span_id="0" * 15 + "9"),
        record(seed=10**30, model="gpt-\ud800"),
        record(temperature=1.0, top_p=1, retry_after_s=2.0),
        record(rarer={"gen_ai.request.top_k": 40, "gen_ai.request.presence_penalty": 0.5, "dyno.user": "12"}),
        unstreamed(),
    ],
)
def test_kinds_of_requests(source: Record) -> None:
    """Each kind of request that differs in how its row is written."""
    direct, stored = both(source)
    assert stored == direct


def test_the_path_is_the_endpoints() -> None:
    """In the exported span `url.path` fits `server.address`; the path at the proxy has a name of its own."""
    row = span_row(record_span(record(endpoint_path="/api/x"), resource=RESOURCE, scope=SCOPE, sampled=True), 1)
    assert (row["path"], row["attributes"]) == ("/metis/v1/chat/completions", row["attributes"])
    attributes = span_of_row(row, resource=RESOURCE, scope=SCOPE, sampled=True).attributes
    assert attributes is not None
    assert (attributes["url.path"], attributes["dyno.path"]) == ("/api/x", "/metis/v1/chat/completions")


def test_an_older_row_has_the_proxys_path() -> None:
    """Rows of version 1 have neither the endpoint's path nor the sampled flag: theirs counts as set."""
    row = parsed(record_line(record(), 1).removesuffix(b"\n"))
    for column in ("sampled", "provider"):
        del row[column]
    row["v"] = 1
    span = span_of_row(row, resource=RESOURCE, scope=SCOPE, sampled=True)
    assert span.attributes is not None
    assert span.attributes["url.path"] == "/metis/v1/chat/completions"
    assert span.attributes[PROVIDER] == "openai"
    assert span.parent is not None
    assert span.parent.trace_flags.sampled


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("12", "int", 12),
        ("-3", "int", -3),
        ("12", "float", 12),
        ("1e400", "float", math.inf),
        ("0.5", "float", 0.5),
        ("12", "string", "12"),
        ("true", "bool", True),
        ("yes", "bool", "yes"),
        (str(2**63), "int", str(2**63)),
        ("many", "int", "many"),
        ("many", "float", "many"),
        ("\u0663", "int", "\u0663"),
    ],
)
def test_texts_of_the_map(text: str, kind: str, value: object) -> None:
    """A text of the map has its attribute's type again; what isn't of the type stays a text."""
    assert typed(text, kind) == value
    assert type(typed(text, kind)) is type(value)


def test_a_row_from_parquet_is_the_same() -> None:
    """Parquet gives floats where JSON had integers, and lists where tuples were: OTLP's span is the same."""
    row = json.loads(json.dumps(span_row(record_span(record(), resource=RESOURCE, scope=SCOPE, sampled=True), 1)))
    direct = sent(record_span(record(), resource=RESOURCE, scope=SCOPE, sampled=True))
    assert sent(span_of_row(row, resource=RESOURCE, scope=SCOPE, sampled=True)) == direct
