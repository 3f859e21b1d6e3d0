"""A span as OTLP hands it over, whatever its encoding: ids in hex, times in Unix nanoseconds, plain values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

# By OTLP's number.
KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
ERROR = 2  # Status.StatusCode


@dataclass(frozen=True, slots=True)
class OtlpEvent:
    name: str
    time_ns: int
    attributes: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class OtlpSpan:
    """Ids are empty and times 0 where the sender left them out; a value is a str, bool, int, float, list or dict."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, object]
    events: tuple[OtlpEvent, ...]
    status_code: int
    status_message: str
    resource: Mapping[str, object]
    scope: str
