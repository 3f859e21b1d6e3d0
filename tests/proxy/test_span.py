"""span.py: a record's span and row have the record's values in the columns' types, whatever a client sent."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags

from dyno_proxy.attributes import ATTRIBUTES, BAGGAGE, RARER, SCHEMA_URL, SCOPE_NAME, Attribute
from dyno_proxy.exchange.record import Record
from dyno_proxy.outcomes import OUTCOMES
from dyno_proxy.telemetry.journal import journal_line
from dyno_proxy.telemetry.span import (
    COLUMNS,
    TEXT_CHARACTERS,
    RecordSpan,
    mended_text,
    record_row_json,
    record_span,
    scope,
    span_row,
)
from rigs.journal_rows import parsed
from rigs.records import RUN_ID, record, records, unstreamed

RESOURCE = Resource({"service.name": "dyno-proxy"})
SCOPE = scope("0.1.0")
TYPES = dict(COLUMNS)


def span_of(source: Record, *, sampled: bool = False) -> ReadableSpan:
    return record_span(source, resource=RESOURCE, scope=SCOPE, sampled=sampled)


def row_of(source: Record) -> dict[str, Any]:
    return span_row(span_of(source), 1)


def foreign(**attributes: Any) -> ReadableSpan:
    """A span that another program's SDK made."""
    ids = RandomIdGenerator()
    context = SpanContext(ids.generate_trace_id(), ids.generate_span_id(), is_remote=False)
    return ReadableSpan(
        "theirs", context, attributes=attributes, kind=SpanKind.SERVER, start_time=5_000, end_time=9_999
    )


# The span


def test_a_span_is_what_the_conventions_ask() -> None:
    """The span has kind CLIENT, a name from operation and model, the client's span as parent, times in ns, and our
    scope."""
    span = span_of(record(), sampled=True)
    assert span.kind is SpanKind.CLIENT
    assert span.name == "chat gpt-oss-120b"
    assert span.start_time == 1_795_557_540_000_001_000
    assert span.end_time == span.start_time + 300_500_000
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.context.span_id) == (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert (span.parent.trace_id, span.parent.span_id) == (span.context.trace_id, 0x00F067AA0BA902B7)
    assert span.parent.is_remote
    assert not span.context.is_remote
    assert span.resource is RESOURCE
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == (SCOPE_NAME, "0.1.0")
    assert span.instrumentation_scope.schema_url == SCHEMA_URL
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "chat gpt-oss-120b"),
        ({"model": None}, "chat"),
        ({"operation": None}, "POST"),
        ({"operation": None, "method": "GET", "model": None}, "GET"),
    ],
)
def test_the_name(changes: dict[str, Any], name: str) -> None:
    """A name is operation and model, the operation alone, or for other paths the method."""
    assert span_of(record(**changes)).name == name


@pytest.mark.parametrize("sampled", [False, True])
def test_the_callers_decision_is_the_spans_flag(sampled: bool) -> None:
    """The parent keeps the client's sampled flag. The sampler decides the span's own flag."""
    span = span_of(record(sampled=not sampled), sampled=sampled)
    assert span.context is not None
    assert span.parent is not None
    assert span.context.trace_flags.sampled is sampled
    assert span.parent.trace_flags.sampled is not sampled


def test_without_a_traceparent_there_is_no_parent() -> None:
    """A request without a trace gets a root span, and its row has no parent."""
    source = record(parent_span_id=None, sampled=None)
    assert span_of(source).parent is None
    assert "parent_span_id" not in row_of(source)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_but_ok_is_an_error_with_a_type(outcome: str) -> None:
    """The conventions demand an error.type for each error. If the record has none, it is the outcome."""
    plain = span_of(record(outcome=outcome))
    assert plain.attributes is not None
    assert plain.status.status_code is (StatusCode.UNSET if outcome == "ok" else StatusCode.ERROR)
    assert plain.attributes.get("error.type") == (None if outcome == "ok" else outcome)
    typed = span_of(record(outcome=outcome, error_type="504"))
    assert typed.attributes is not None
    assert typed.attributes["error.type"] == "504"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("congo=t61rcWkgMzE, rojo=00f067aa0ba902b7", {"congo": "t61rcWkgMzE", "rojo": "00f067aa0ba902b7"}),
        ("a=1,,b=2", {"a": "1", "b": "2"}),
        ("a=1,a=2", {}),
        ("no member", {}),
        (",".join(f"k{number}=v" for number in range(33)), {}),
    ],
)
def test_tracestate_passes_on(header: str, kept: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """The span has the client's tracestate. A malformed one is dropped without a line in the log."""
    span = span_of(record(tracestate=header))
    assert span.context is not None
    assert dict(span.context.trace_state) == kept
    assert not caplog.records


# The row


def test_the_row_of_an_ordinary_chat() -> None:
    """Every column is written out here by hand: this is the format that the analysis reads."""
    assert row_of(record()) == {
        "v": 2,
        "seq": 1,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "parent_span_id": "00f067aa0ba902b7",
        "name": "chat gpt-oss-120b",
        "kind": "CLIENT",
        "started_at_us": 1_795_557_540_000_001,
        "duration_us": 300_500,
        "operation": "chat",
        "provider": "sambanova",
        "model": "gpt-oss-120b",
        "response_model": "gpt-oss-120b",
        "response_id": "chatcmpl-1",
        "finish_reasons": ["stop"],
        "input_tokens": 12,
        "output_tokens": 6,
        "method": "POST",
        "status": 200,
        "request_bytes": 150,
        "response_bytes": 1500,
        "path": "/metis/v1/chat/completions",
        "endpoint": "metis",
        "outcome": "ok",
        "streamed": True,
        "sampled": True,
        "simulated": False,
        "usage_source": "server",
        "reasoning_streamed": False,
        "connection_reused": False,
        "body_received_us": 90,
        "connected_us": 400,
        "sent_us": 450,
        "headers_us": 199_000,
        "first_event_us": 199_500,
        "first_token_us": 200_000,
        "first_answer_us": 220_000,
        "last_token_us": 280_000,
        "done_us": 300_000,
        "chunk_offsets_us": [200_000, 220_000, 240_000, 260_000, 280_000],
        "chunk_count": 5,
        "overhead_us": 80,
        "overhead_end_us": 60,
        "loop_lag_us": 30,
        "run_id": RUN_ID,
        "prompt_id": "q1",
        "repeat": 1,
        "warmup": False,
        "attributes": {
            "gen_ai.request.stream": "true",
            "gen_ai.request.max_tokens": "64",
            "gen_ai.request.temperature": "0.0",
            "server.address": "inference-api.alcf.anl.gov",
            "server.port": "443",
        },
    }


def test_what_is_not_streamed_says_nothing_of_chunks() -> None:
    """The row has no chunk count and no streamed reasoning: an unknown value is absent, never 0."""
    row = row_of(unstreamed())
    assert row["streamed"] is False
    assert not {"chunk_count", "chunk_offsets_us", "reasoning_streamed", "first_token_us"} & set(row)


def test_time_to_first_chunk_is_in_the_span_and_not_stored_twice() -> None:
    """OTLP gets the conventions' attribute in seconds. The row has only the event's offset."""
    span = span_of(record())
    assert span.attributes is not None
    assert span.attributes["gen_ai.response.time_to_first_chunk"] == 0.1995
    assert "gen_ai.response.time_to_first_chunk" not in str(span_row(span, 1))
    theirs = span_row(foreign(**{"gen_ai.response.time_to_first_chunk": 0.25}), 1)
    assert theirs["attributes"] == {"gen_ai.response.time_to_first_chunk": "0.25"}


def test_an_integer_beyond_64_bits_stands_in_the_map() -> None:
    """`seed: 10**30` and an absurd usage spoil only their own columns."""
    row = row_of(record(seed=10**30, input_tokens=-(10**20), output_tokens=2**63 - 1))
    assert "input_tokens" not in row
    assert row["output_tokens"] == 2**63 - 1
    assert row["attributes"]["gen_ai.request.seed"] == "1" + "0" * 30
    assert row["attributes"]["gen_ai.usage.input_tokens"] == "-1" + "0" * 20


def test_a_text_is_bounded() -> None:
    """A model's name is cut, so a client can't make a span of megabytes with it."""
    row = row_of(record(model="m" * 10_000_000))
    assert row["model"] == "m" * TEXT_CHARACTERS
    assert len(row["name"]) < TEXT_CHARACTERS + 10


@pytest.mark.parametrize(
    ("text", "mended"),
    [("plain", "plain"), ("a\ud800b", "a\ufffdb"), ("\udc00", "\ufffd"), ("\ud83d\ude00", "😀"), ("😀", "😀")],
)
def test_lone_surrogates_are_mended(text: str, mended: str) -> None:
    """A lone surrogate, which UTF-8 can't hold, becomes U+FFFD. Two halves of a pair become their character."""
    assert mended_text(text) == mended


def test_a_foreign_span_keeps_everything() -> None:
    """Attributes with our names go to their columns if their values fit. All others go to the map as text."""
    row = span_row(
        foreign(
            **{
                "gen_ai.request.model": "m",
                "http.response.status_code": "200",  # a text where a number belongs
                "gen_ai.usage.input_tokens": 7,
                "gen_ai.usage.output_tokens": True,  # a bool is no number
                "dyno.server.ttft_s": 2,  # an integer is one
                "dyno.server.queue_s": math.nan,
                "gen_ai.response.finish_reasons": ["stop", "length"],
                "dyno.chunk.offsets_us": [1, 2**70],
                "their.text": "t",
                "their.number": 0.5,
                "their.flag": False,
                "their.list": ["a", "b"],
                "their.infinity": math.inf,
            }
        ),
        9,
    )
    assert row["kind"] == "SERVER"
    assert (row["seq"], row["started_at_us"], row["duration_us"]) == (9, 5, 4)
    assert row["model"] == "m"
    assert row["input_tokens"] == 7
    assert row["server_ttft_s"] == 2
    assert row["finish_reasons"] == ["stop", "length"]
    assert row["attributes"] == {
        "http.response.status_code": "200",
        "gen_ai.usage.output_tokens": "true",
        "dyno.server.queue_s": "NaN",
        "dyno.chunk.offsets_us": f"[1,{2**70}]",
        "their.text": "t",
        "their.number": "0.5",
        "their.flag": "false",
        "their.list": '["a","b"]',
        "their.infinity": "Infinity",
    }


def test_a_foreign_span_without_a_start_is_refused() -> None:
    """A span without a start is refused, because it has no place in a table of times."""
    context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(0))
    with pytest.raises(ValueError, match="no start"):
        span_row(ReadableSpan("x", context), 1)


@settings(deadline=None)
@given(records())
def test_any_record_comes_back_from_its_line(source: Record) -> None:
    """A record becomes a span, a row and a line.

    Parsed, each field is as before or repaired as documented, in order.
    """
    row = parsed(journal_line(row_of(source))[:-1])
    columns = [column for column, _ in COLUMNS]
    assert [column for column in columns if column in row] == list(row)
    assert row["trace_id"] == f"{source.trace_id:032x}"
    assert row["started_at_us"] == source.started_at_unix_us
    assert row["duration_us"] == source.duration_us
    for attribute in ATTRIBUTES:
        # A number of chunks isn't exported as tokens. What needs mending comes back by way of the span's attributes.
        if attribute.column != "output_tokens" or source.usage_source != "chunks":
            assert found(row, attribute.name, attribute.column) == expected(source, attribute), attribute.name


@settings(deadline=None)
@given(records())
def test_a_row_holds_each_column_in_its_type(source: Record) -> None:
    """Each value has its column's type.

    DuckDB reads with fixed types, and one wrong value would make it reject the file.
    """
    row = parsed(journal_line(row_of(source))[:-1])
    for column, value in row.items():
        assert fits(value, TYPES[column]), column


@settings(deadline=None)
@given(records())
def test_own_spans_and_foreign_ones_become_the_same_row(source: Record) -> None:
    """The fast way for the proxy's records and the general way for any span give the same row."""
    span = span_of(source)
    theirs = ReadableSpan(
        span.name,
        span.context,
        span.parent,
        attributes=span.attributes,
        kind=span.kind,
        start_time=span.start_time,
        end_time=span.end_time,
    )
    ours, other = (parsed(journal_line(span_row(each, 1))[:-1]) for each in (span, theirs))
    assert without_null(ours) == without_null(other)
    if isinstance(span, RecordSpan):
        assert json.loads(record_row_json(span.record, 1) or b"") == ours


# What the line must hold, said a second time and without span.py


def expected(source: Record, attribute: Attribute) -> object:
    value: Any
    name = attribute.name
    if name in ("gen_ai.response.time_to_first_chunk", "dyno.imported_from"):
        return None  # not stored beside first_event_us; not a proxy's
    if name == "dyno.path":
        return None  # in exported spans alone
    if name in (*BAGGAGE, *RARER):
        value = source.baggage.get(name, (source.rarer or {}).get(name))
    elif name == "dyno.chunk.count":
        value = len(source.chunk_offsets_us) if source.streamed else None
    elif name == "dyno.reasoning.streamed":
        value = source.reasoning_streamed if source.streamed else None
    elif name == "error.type" and source.error_type is None and source.outcome != "ok":
        value = source.outcome
    elif name == "dyno.parent.tracestate":
        context = span_of(source).context
        value = None if context is None else context.trace_state.to_header() or None
        return value if value is None else str(value)
    else:
        value = getattr(source, attribute.source)
    return plain(value)


def plain(value: Any) -> object:
    """The value in the form that text and JSON can hold."""
    if isinstance(value, str):
        return mended_text(value[:TEXT_CHARACTERS])
    if isinstance(value, float) and not math.isfinite(value):
        return None  # compared apart: a column has none, the map its name
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return hex(value)[:TEXT_CHARACTERS] if value.bit_length() > 1024 else str(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value] or None
    return value


def found(row: dict[str, Any], name: str, column: str | None) -> object:
    if column is not None and row.get(column) is not None:
        return row[column]
    text = row.get("attributes", {}).get(name)
    if text in ("NaN", "Infinity", "-Infinity", None):
        return None
    kind = next(attribute.type for attribute in ATTRIBUTES if attribute.name == name)
    if column is not None:
        return text  # it didn't fit
    if kind == "int":
        number = int(text, 0)
        return number if -(2**63) <= number < 2**63 else text
    if kind == "bool":
        return {"true": True, "false": False}[text]
    return float(text) if kind == "float" else text


def fits(value: object, kind: str) -> bool:
    if value is None:
        return True
    if kind.endswith("[]"):
        return isinstance(value, list) and all(fits(item, kind[:-2]) for item in value)
    if kind == "map":
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "bool": bool}[kind])


def without_null(row: dict[str, Any]) -> dict[str, Any]:
    """The row without all that means NULL: nulls, absent keys, and the names of numbers that aren't finite."""
    kept = {
        name: text for name, text in row.get("attributes", {}).items() if text not in ("NaN", "Infinity", "-Infinity")
    }
    return {column: value for column, value in row.items() if value is not None and column != "attributes"} | kept


def test_a_number_of_chunks_is_no_exported_count() -> None:
    """An exported span has it as `dyno.chunk.count` alone. A span file's row has it as output tokens, as before,
    whether or not the span needed mending."""
    for model in ("m", "m\u00f6"):
        source = record(model=model, output_tokens=5, usage_source="chunks")
        span = record_span(source, resource=RESOURCE, scope=scope("0"), sampled=True)
        attributes = span.attributes or {}
        assert "gen_ai.usage.output_tokens" not in attributes
        assert attributes["dyno.chunk.count"] == 5
        assert span_row(span, 1)["output_tokens"] == 5


def test_an_exported_span_pairs_the_endpoints_host_with_its_path() -> None:
    """`url.path` is then the path at the endpoint; the row keeps that at the proxy."""
    for model in ("m", "m\u00f6"):
        source = record(model=model, path="/metis/v1/chat/completions", endpoint_path="/api/v1/chat/completions")
        span = record_span(source, resource=RESOURCE, scope=scope("0"), sampled=True)
        attributes = span.attributes or {}
        assert (attributes["url.path"], attributes["dyno.path"]) == ("/api/v1/chat/completions", source.path)
        assert span_row(span, 1)["path"] == source.path
    refused = record_span(record(), resource=RESOURCE, scope=scope("0"), sampled=True).attributes or {}
    assert refused["url.path"] == record().path
