"""The Collector's ClickHouse table for tests: its schema, and spans as the exporter stores them.

    Record ──record_span──▶ span ──OTLP's own encoder──▶ protobuf ──▶ a row of otel_traces

The exporter stores every attribute as the text that the Collector's `Value.AsString` returns.
"""

import json
from collections.abc import Iterable
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource

from dyno_proxy.exchange.record import Record
from dyno_proxy.telemetry.span import record_span, scope

# The columns that the exporter (0.161) makes, without its codecs and indexes.
TABLE = """
CREATE TABLE {table} (
    Timestamp DateTime64(9),
    TraceId String,
    SpanId String,
    ParentSpanId String,
    TraceState String,
    SpanName LowCardinality(String),
    SpanKind LowCardinality(String),
    ServiceName LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String),
    ScopeName String,
    ScopeVersion String,
    SpanAttributes Map(LowCardinality(String), String),
    Duration UInt64,
    StatusCode LowCardinality(String),
    StatusMessage String
) ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
"""


def insert_sql(table: str, records: Iterable[Record]) -> str:
    return f"INSERT INTO {table} FORMAT JSONEachRow\n" + "\n".join(map(json.dumps, rows(records)))


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """What the exporter inserts for each record, column by column."""
    resource = Resource({"service.name": "dyno"})
    spans = [record_span(record, resource=resource, scope=scope("0"), sampled=True) for record in records]
    return [
        _row(span, scoped.scope.name)
        for group in encode_spans(spans).resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]


def _row(span: Span, scope_name: str) -> dict[str, Any]:
    seconds, nanoseconds = divmod(span.start_time_unix_nano, 1_000_000_000)
    return {
        "Timestamp": f"{seconds}.{nanoseconds:09d}",
        "TraceId": span.trace_id.hex(),
        "SpanId": span.span_id.hex(),
        "ParentSpanId": span.parent_span_id.hex(),
        "SpanName": span.name,
        "SpanKind": "Client",
        "ServiceName": "dyno",
        "ScopeName": scope_name,
        "SpanAttributes": {pair.key: as_text(pair.value) for pair in span.attributes},
        "Duration": span.end_time_unix_nano - span.start_time_unix_nano,
        "StatusCode": "Error" if span.status.code else "Unset",
    }


def as_text(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind == "array_value":
        return json.dumps([item.string_value or item.int_value for item in value.array_value.values])
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "double_value":
        # Go writes 1 where Python writes 1.0.
        return repr(value.double_value).removesuffix(".0")
    return str(getattr(value, kind))
