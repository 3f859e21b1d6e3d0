"""sampling.py decides as the SDK's samplers do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from dyno_proxy.telemetry.sampling import SAMPLERS, sampled_by
from rigs.records import record


@given(
    st.sampled_from(SAMPLERS),
    st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(1, 2**128 - 1),
    st.sampled_from([None, True, False]),
)
def test_as_the_sdk_does(name: str, ratio: float, trace_id: int, sampled: bool | None) -> None:
    """For each sampler, ratio, trace and client's flag."""
    of_sdk = {
        "always_on": sampling.ALWAYS_ON,
        "always_off": sampling.ALWAYS_OFF,
        "traceidratio": sampling.TraceIdRatioBased(ratio),
        "parentbased_always_on": sampling.DEFAULT_ON,
        "parentbased_always_off": sampling.DEFAULT_OFF,
        "parentbased_traceidratio": sampling.ParentBasedTraceIdRatio(ratio),
    }[name]
    context = Context()
    if sampled is not None:
        parent = SpanContext(trace_id, 7, is_remote=True, trace_flags=TraceFlags(int(sampled)))
        context = set_span_in_context(NonRecordingSpan(parent), context)
    decision = of_sdk.should_sample(context, trace_id, "chat").decision
    source = record(trace_id=trace_id, parent_span_id=None if sampled is None else 7, sampled=sampled)
    ours = sampled_by({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": str(ratio)})
    assert ours(source) is (decision is sampling.Decision.RECORD_AND_SAMPLE)


def test_the_default() -> None:
    """Without a variable the client's flag decides, and a request without one is sampled."""
    ours = sampled_by({})
    assert ours(record(parent_span_id=None, sampled=None))
    assert ours(record(sampled=True))
    assert not ours(record(sampled=False))


def test_every_sampler_of_the_sdk_is_known() -> None:
    """A new one of the SDK has to be taken up here."""
    assert set(sampling._KNOWN_SAMPLERS) == set(SAMPLERS)
    with pytest.raises(KeyError):
        sampled_by({"OTEL_TRACES_SAMPLER": "traceidratio"})  # checked settings have its argument
