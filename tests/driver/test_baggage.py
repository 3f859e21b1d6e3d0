from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage as otel_baggage
from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dyno_driver import baggage
from dyno_driver.load.schedule import Turn

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(TEXT)
def test_any_text_survives_the_header(text: str) -> None:
    """A value of any text is printable ASCII on the wire, in baggage's own alphabet, and comes back as it was."""
    header = baggage.encode({"key": text, "other": "x"})
    assert header.isascii()
    assert not set(header) & set(' "\\;\t')
    first, second = header.split(",")
    assert second == "other=x"
    assert unquote(first.removeprefix("key=")) == text


def test_another_implementation_reads_it() -> None:
    """OpenTelemetry's propagators read the same run, prompt and trace from the headers."""
    turn = Turn("metis", "Wärme & co, 50 %; ok", 2, warmup=True)
    headers = baggage.headers(
        "20261123_120000_ab12", "single", turn, "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    )
    context = W3CBaggagePropagator().extract(headers)
    assert otel_baggage.get_all(context) == {
        "dyno.run.id": "20261123_120000_ab12",
        "dyno.workload": "single",
        "dyno.prompt.id": "Wärme & co, 50 %; ok",
        "dyno.repeat": "2",
        "dyno.warmup": "true",
        "dyno.load.concurrency": "1",
    }
    span = trace.get_current_span(TraceContextTextMapPropagator().extract(headers)).get_span_context()
    assert trace.format_trace_id(span.trace_id) == "0af7651916cd43dd8448eb211c80319c"
    assert trace.format_span_id(span.span_id) == "b7ad6b7169203331"
    assert span.trace_flags.sampled
