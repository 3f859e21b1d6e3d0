"""OTLP bodies as rows: what senders may write, and what is refused."""

import gzip
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_proxy.collect.otlp import (
    JSON,
    PROTOBUF,
    BadMessageError,
    Received,
    answer,
    plain_body,
    read_message,
    received_spans,
    refusal,
)
from dyno_proxy.exchange.record import Record
from dyno_proxy.telemetry import span as proxy_span
from rigs.collector_rig import START_NS, message
from rigs.otlp_files import in_otlp, json_line, protobuf, readable
from rigs.records import records


def spans_of(body: bytes, content_type: str = PROTOBUF) -> list[Received | str]:
    return list(received_spans(read_message(body, content_type)))


def row_of(received: Received | str) -> dict[str, object]:
    assert isinstance(received, Received), received
    return proxy_span.span_row(received.span, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(records().map(in_otlp), min_size=1, max_size=3))
def test_another_proxys_spans_are_the_rows_that_it_wrote_itself(made: list[Record]) -> None:
    """Any span of a proxy, sent as protobuf or JSON, becomes the row that the proxy's own span files have."""
    spans = [readable(one) for one in made]
    expected = [proxy_span.span_row(one, 1) for one in spans]
    for found in (spans_of(protobuf(spans)), spans_of(json_line(spans), JSON)):
        assert [row_of(one) for one in found] == expected
        assert all(one.is_request for one in found if isinstance(one, Received))


def test_a_span_of_others_keeps_all_it_has() -> None:
    """Attributes with a column go to it, all others go to the map, as docs/collect.md says."""
    link = {"trace_id": (7).to_bytes(16), "span_id": (8).to_bytes(8)}
    body = message(
        {
            "name": "llm_request",
            "parent_span_id": (9).to_bytes(8),
            "status": {"code": 2, "message": "out of memory"},
            "links": [link],
            "events": [{"name": "first", "time_unix_nano": START_NS + 5_000}],
            "attributes": [
                {"key": "gen_ai.request.model", "value": {"string_value": "m"}},
                {"key": "gen_ai.usage.output_tokens", "value": {"int_value": 12}},
                {"key": "gen_ai.latency.time_in_queue", "value": {"double_value": 0.25}},
                {"key": "a.list", "value": {"array_value": {"values": [{"int_value": 1}, {"bool_value": True}]}}},
                {"key": "a.map", "value": {"kvlist_value": {"values": [{"key": "k", "value": {"string_value": "v"}}]}}},
                {"key": "some.bytes", "value": {"bytes_value": b"\x00\xff"}},
                {"key": "empty", "value": {}},
            ],
        },
        scope="vllm.llm_engine",
        resource={"service.name": "vllm"},
    )
    (received,) = spans_of(body)
    assert row_of(received) == {
        "v": 2,
        "seq": 1,
        "trace_id": f"{1:032x}",
        "span_id": f"{1:016x}",
        "parent_span_id": f"{9:016x}",
        "name": "llm_request",
        "kind": "SERVER",
        "started_at_us": START_NS // 1000,
        "duration_us": 1000,
        "model": "m",
        "output_tokens": 12,
        "attributes": {
            "gen_ai.latency.time_in_queue": "0.25",
            "a.list": "[1,true]",
            "a.map": '{"k":"v"}',
            "some.bytes": "AP8=",
            "resource.service.name": "vllm",
            "otel.scope.name": "vllm.llm_engine",
            "otel.status_code": "ERROR",
            "otel.status_description": "out of memory",
            "otel.events": '[{"name":"first","time_us":1795557540000005,"attributes":{}}]',
            "otel.links": f'[{{"trace_id":"{7:032x}","span_id":"{8:016x}","attributes":{{}}}}]',
        },
    }
    assert not isinstance(received, str)
    assert not received.is_request


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"trace_id": b"\1" * 15}, "trace_id must be 16 bytes, not all zero; this one has 15 bytes"),
        ({"trace_id": bytes(16)}, "trace_id must be 16 bytes, not all zero"),
        ({"span_id": b""}, "span_id must be 8 bytes, not all zero; this one has 0 bytes"),
        ({"parent_span_id": b"\1"}, "parent_span_id must be 8 bytes, not all zero; this one has 1 bytes"),
        ({"start_time_unix_nano": 0}, "has no start"),
        ({"end_time_unix_nano": START_NS - 1}, "ends before it"),
        ({"end_time_unix_nano": 2**64 - 1}, "ends before it"),
    ],
)
def test_a_malformed_span_costs_only_itself(fields: dict[str, object], why: str) -> None:
    """The other spans of its batch are stored, and the sender is told why this one isn't."""
    good, bad, also_good = spans_of(message({}, fields, {}))
    assert isinstance(bad, str)
    assert why in bad
    assert isinstance(good, Received)
    assert isinstance(also_good, Received)


def test_kinds_and_what_newer_senders_add() -> None:
    """An unspecified kind becomes INTERNAL, as the specification allows. Unknown fields are accepted."""
    document = json.loads(
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c",'
        '"spanId":"b7ad6b7169203331","name":"x","startTimeUnixNano":"1","endTimeUnixNano":"2","of":{"tomorrow":1}}]}]}]}'
    )
    (received,) = spans_of(json.dumps(document).encode(), JSON)
    row = row_of(received)
    assert (row["kind"], row["trace_id"], row["span_id"]) == (
        "INTERNAL",
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"1",
        b"{",
        b"\xff\xfe",
        b'{"resourceSpans":1}',
        b'{"resourceSpans":[1]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":1}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":-1}]}]}]}',
        b"[" * 100_000,
    ],
)
def test_json_that_is_none_of_otlps(body: bytes) -> None:
    with pytest.raises(BadMessageError, match="not an ExportTraceServiceRequest") as refused:
        spans_of(body, JSON)
    assert refused.value.status == 400


def taken(body: bytes, content_type: str) -> list[Received | str] | int:
    """The spans, or the status of the refusal."""
    try:
        return spans_of(body, content_type)
    except BadMessageError as refused:
        return refused.status


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([JSON, PROTOBUF]))
def test_junk_is_a_bounded_error(junk: bytes, content_type: str) -> None:
    """Any bytes give spans, rejected spans, or a 400. No other exception is raised."""
    found = taken(junk, content_type)
    assert found == 400 or isinstance(found, list)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_message_with_flipped_bytes_is_a_bounded_error(data: st.DataObject) -> None:
    """Whatever still is a valid span makes a row."""
    body = bytearray(message({"attributes": [{"key": "k", "value": {"string_value": "v"}}]}, {}))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    found = taken(bytes(body), PROTOBUF)
    assert found == 400 or isinstance(found, list)
    for one in found if isinstance(found, list) else []:
        assert isinstance(one, str) or row_of(one)["name"] is not None


def test_gzip() -> None:
    """Compressed bodies are complete, have several members, break off at any byte, or are longer than the limit."""
    body = message({})
    packed = gzip.compress(body, mtime=0)
    assert plain_body(packed, "gzip", 1000) == body
    assert plain_body(gzip.compress(body[:9], mtime=0) + gzip.compress(body[9:], mtime=0), "gzip", 1000) == body
    for cut in range(len(packed)):
        with pytest.raises(BadMessageError, match="cut off") as refused:
            plain_body(packed[:cut], "gzip", 1000)
        assert refused.value.status == 400
    with pytest.raises(BadMessageError, match="isn't gzip"):
        plain_body(body, "gzip", 1000)
    assert plain_body(zlib.compress(body), "deflate", 1000) == body
    bomb = gzip.compress(bytes(100_000_000), mtime=0)
    with pytest.raises(BadMessageError, match="longer than 1000 bytes") as refused:
        plain_body(bomb, "gzip", 1000)
    assert refused.value.status == 413
    with pytest.raises(BadMessageError, match="more than 64 members"):
        plain_body(gzip.compress(b"", mtime=0) * 500_000, "gzip", 1000)


def test_answers_have_the_encoding_of_the_request() -> None:
    assert answer(PROTOBUF, 0, "") == b""
    assert json.loads(answer(JSON, 0, "")) == {}
    assert json.loads(answer(JSON, 2, "why")) == {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "why"}}
    assert json.loads(refusal(JSON, 400, "why")) == {"code": 3, "message": "why"}
    assert json.loads(refusal(JSON, 503, "why")) == {"code": 14, "message": "why"}
