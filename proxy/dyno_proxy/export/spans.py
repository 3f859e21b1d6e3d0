"""Makes OTLP's spans of rows: their resource, their scope, the sampler's decision, and the SDK's limits."""

from collections.abc import Mapping
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context

from dyno_proxy.telemetry.span import scope
from dyno_proxy.telemetry.stored_span import parent_of_row, span_of_row


class Spans:
    """The SDK reads its variables from the process's environment when this is made. `environ` is the same."""

    def __init__(self, version: str, environ: Mapping[str, str]) -> None:
        self._resource = _resource(version)
        self._scope = scope(version)
        # Reading OTEL_TRACES_SAMPLER is the SDK's business; of its provider we need no more, since it builds no span.
        self._sampler = TracerProvider(resource=self._resource, shutdown_on_exit=False).sampler
        limited = any(name.startswith(("OTEL_SPAN_", "OTEL_ATTRIBUTE_")) for name in environ)
        self._limits = SpanLimits() if limited else None

    def is_sampled(self, row: Mapping[str, Any]) -> bool:
        """Ask the sampler, as the SDK does when it starts a span."""
        parent = parent_of_row(row)
        context = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
        answer = self._sampler.should_sample(context, int(row["trace_id"], 16), row["name"], SpanKind.CLIENT)
        return answer.decision is Decision.RECORD_AND_SAMPLE

    def span(self, row: Mapping[str, Any]) -> ReadableSpan:
        """The row's span. Raises KeyError, ValueError or TypeError for a row that isn't one of ours."""
        span = span_of_row(row, resource=self._resource, scope=self._scope, sampled=True)
        limits = self._limits
        if limits is None:
            return span
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=BoundedAttributes(
                limits.max_span_attributes, span.attributes, max_value_len=limits.max_span_attribute_length
            ),
            links=() if limits.max_links == 0 else span.links,
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )


def _resource(version: str) -> Resource:
    """The spans' resource: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, else our own name and version."""
    given = Resource.create()
    ours: dict[str, str] = {}
    if str(given.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):  # the SDK's own default
        ours[SERVICE_NAME] = "dyno-proxy"
    if SERVICE_VERSION not in given.attributes:
        ours[SERVICE_VERSION] = version
    return given.merge(Resource(ours))
