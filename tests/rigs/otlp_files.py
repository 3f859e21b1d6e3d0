"""OTLP files in the form of the OpenTelemetry Collector's file exporter, made by OpenTelemetry's own encoder."""

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from dyno_proxy.exchange.record import Record
from dyno_proxy.telemetry import span

RESOURCE = Resource.create({"service.name": "dyno"})
IDS = ("traceId", "spanId", "parentSpanId")


def readable(made: Record) -> ReadableSpan:
    """The record's span, as the proxy exports it."""
    return span.record_span(made, resource=RESOURCE, scope=span.scope("0.1"), sampled=True)


def in_otlp(made: Record) -> Record:
    """In OTLP, 0 means that there is no time."""
    made.started_at_unix_us += 1
    return made


def protobuf(spans: Sequence[ReadableSpan]) -> bytes:
    """One message, in the form in which it is also sent over the network."""
    message: bytes = encode_spans(spans).SerializeToString()
    return message


def json_line(spans: Sequence[ReadableSpan]) -> bytes:
    """One line, without the line end."""
    document = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    return json.dumps(_as_otlp(document), separators=(",", ":"), ensure_ascii=False).encode()


def framed(*messages: bytes) -> bytes:
    """The messages, each with its length before it."""
    return b"".join(struct.pack(">I", len(message)) + message for message in messages)


def _as_otlp(value: Any) -> Any:
    """Turn protobuf's JSON into OTLP's: ids are in hex, and doubles are as Go writes them (1 for 1.0)."""
    if isinstance(value, list):
        return [_as_otlp(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _as_otlp(item) for key, item in value.items()}
    for key in IDS:
        if key in made:
            made[key] = base64.b64decode(made[key]).hex()
    double = made.get("doubleValue")
    if isinstance(double, float) and double.is_integer() and 0 < abs(double) < 1e15:
        made["doubleValue"] = int(double)
    return made
