"""A span of OTLP, whatever its encoding: ids in hex, times in Unix nanoseconds, plain values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

# At the index that is OTLP's number of the kind.
KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
ERROR = 2  # Status.StatusCode


@dataclass(frozen=True, slots=True)
class OtlpEvent:
    """An event of a span, at a Unix time."""

    name: str
    time_ns: int
    attributes: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class OtlpSpan:
    """A span. An id is empty and a time is 0 if the sender left it out.

    An attribute's value is a str, bool, int, float, list, dict, or None.
    """

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
