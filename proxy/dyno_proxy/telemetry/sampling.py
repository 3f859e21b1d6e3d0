"""Which spans OTLP will get, decided as the SDK's samplers do it, at the cost of a comparison. Pure.

The exporter asks the SDK's own sampler. The proxy only has to know which trace ids `/metrics` may show as exemplars.
"""

from collections.abc import Callable, Mapping
from typing import Final

from dyno_proxy.exchange.record import Record

_PARENT_BASED: Final = "parentbased_"
# The values of OTEL_TRACES_SAMPLER that the SDK knows.
SAMPLERS: Final = (
    *("always_on", "always_off", "traceidratio"),
    *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
)
# The bits of a trace id that a ratio is compared with: TraceIdRatioBased.TRACE_ID_LIMIT.
_TRACE_BITS: Final = (1 << 64) - 1


def sampled_by(environ: Mapping[str, str]) -> Callable[[Record], bool]:
    """The decision of OTEL_TRACES_SAMPLER's sampler. `environ` is that of checked settings."""
    name = environ.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower()
    of_parent = name.startswith(_PARENT_BASED)
    kind = name.removeprefix(_PARENT_BASED)
    ratio = {"always_on": 1.0, "always_off": 0.0}.get(kind)
    if ratio is None:
        ratio = float(environ["OTEL_TRACES_SAMPLER_ARG"])
    bound = round(ratio * (_TRACE_BITS + 1))

    def sampled(record: Record) -> bool:
        if of_parent and record.parent_span_id is not None:
            return record.sampled is True
        return (record.trace_id & _TRACE_BITS) < bound

    return sampled
