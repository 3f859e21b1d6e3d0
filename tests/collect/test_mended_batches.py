"""Batches with something in them that a strict reader refuses: the sound spans are stored, and the sender is told."""

import json
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from dyno_proxy.collect.otlp import JSON, PROTOBUF, Received, read_spans
from dyno_proxy.telemetry.span import span_row
from rigs.collector_rig import START_NS, message, own_collector, post, running_collector
from rigs.until import until_in_thread


def json_span(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat",
        "kind": 3,
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(START_NS + 1_000_000),
        **fields,
    }


def batch(*spans: Any, key: str = "scopeSpans", scope: str = "scope") -> bytes:
    return json.dumps({"resourceSpans": [{key: [{scope: {"name": "tests"}, "spans": list(spans)}]}]}).encode()


def rows(body: bytes, content_type: str = JSON) -> tuple[list[dict[str, object]], list[str], str]:
    found, warning = read_spans(body, content_type)
    stored = [span_row(each.span, 1) for each in found if isinstance(each, Received)]
    return stored, [each for each in found if isinstance(each, str)], warning


SURROGATE = r'"attributes":[{"key":"a","value":{"stringValue":"x\ud83d"}}]'


async def test_a_lone_surrogate_costs_no_span(tmp_path: Path) -> None:
    """Of ten spans, one with a lone surrogate, ten are stored. The answer is a partial success that says what was
    mended."""
    spans = [json_span(number) for number in range(1, 10)]
    body = batch(*spans, json_span(10, marked=1)).replace(b'"marked": 1', SURROGATE.encode())
    async with own_collector(tmp_path) as collector, aiohttp.ClientSession() as session:
        status, answer, _ = await post(session, collector.url, body, JSON)
        assert status == 200
        said = json.loads(answer)["partialSuccess"]
        assert "U+FFFD" in said["errorMessage"]
        assert int(said.get("rejectedSpans", 0)) == 0
        stored = collector.rows()
    assert len(stored) == 10
    assert stored[9]["attributes"]["a"] == "x\ufffd"


@pytest.mark.parametrize(
    "odd",
    [
        {"traceId": "zz"},
        {"traceId": 7},
        {"kind": {}},
        {"attributes": "x"},
        {"startTimeUnixNano": "soon"},
        {"attributes": [{"key": 5}]},
    ],
)
def test_a_malformed_span_costs_itself_alone(odd: dict[str, Any]) -> None:
    """The other spans of the batch are stored, and the sender is told of the one."""
    stored, rejected, _ = rows(batch(json_span(1), json_span(2, **odd), json_span(3)))
    assert [row["span_id"] for row in stored] == [f"{1:016x}", f"{3:016x}"]
    assert len(rejected) == 1


def test_bytes_that_arent_utf8() -> None:
    """They cost no span either, in JSON or in protobuf."""
    stored, rejected, warning = rows(batch(json_span(1, name="caf?")).replace(b"caf?", b"caf\xe9"))
    assert ([row["name"] for row in stored], rejected) == (["caf\ufffd"], [])
    assert "U+FFFD" in warning
    stored, rejected, warning = rows(message({"name": "caf?"}, {"name": "b"}).replace(b"caf?", b"caf\xe9"), PROTOBUF)
    assert ([row["name"] for row in stored], rejected) == (["caf\ufffd", "b"], [])
    assert "U+FFFD" in warning


def test_the_names_of_older_versions() -> None:
    """Spans in `instrumentationLibrarySpans`, as OTLP before 0.16 had them, are read, in JSON and in protobuf."""
    body = batch(json_span(1), key="instrumentationLibrarySpans", scope="instrumentationLibrary")
    (row,), _, _ = rows(body)
    assert isinstance(row["attributes"], dict)
    assert row["attributes"]["otel.scope.name"] == "tests"
    scope = trace_pb2.ScopeSpans()
    scope.spans.add(trace_id=bytes(15) + b"\1", span_id=bytes(7) + b"\1", start_time_unix_nano=START_NS,
                    end_time_unix_nano=START_NS)  # fmt: skip
    inner = scope.SerializeToString()
    of_resource = b"\xc2\x3e" + bytes([len(inner)]) + inner  # field 1000
    (row,), _, _ = rows(b"\x0a" + bytes([len(of_resource)]) + of_resource, PROTOBUF)
    assert row["span_id"] == f"{1:016x}"


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        ({"intValue": "12"}, 12),
        ({"stringValue": "12"}, 12),
        ({"doubleValue": 12.0}, 12),
        ({"stringValue": "12.0"}, 12),
        ({"stringValue": "many"}, None),
        ({"doubleValue": 1.5}, None),
    ],
)
def test_counts_in_other_types(value: dict[str, Any], tokens: int | None) -> None:
    """A count that is written as a text or with a decimal point is read; what is no count stays an attribute."""
    attribute = {"key": "gen_ai.usage.input_tokens", "value": value}
    (row,), _, _ = rows(batch(json_span(1, attributes=[attribute])))
    assert row.get("input_tokens") == tokens
    assert tokens is not None or "gen_ai.usage.input_tokens" in str(row["attributes"])


def test_lists_and_booleans_as_texts() -> None:
    """LiteLLM writes finish reasons as a text."""
    attribute = {"key": "gen_ai.response.finish_reasons", "value": {"stringValue": "['stop']"}}
    (row,), _, _ = rows(batch(json_span(1, attributes=[attribute])))
    assert row["finish_reasons"] == ["stop"]


def test_grpc_at_the_collectors_port(tmp_path: Path) -> None:
    """A sender that speaks HTTP/2 gets a 400. The log has one line that says what to set, however often it tries."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00"
    with running_collector(tmp_path) as running:
        host, _, port = running.url.removeprefix("http://").partition(":")
        for _ in range(3):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(preface)
                assert connection.recv(100).startswith(b"HTTP/1.0 400")
        log = tmp_path / "collector.log"
        until_in_thread(lambda: "HTTP/2" in log.read_text(), "the line in the log")
    lines = log.read_text().splitlines()
    assert len([line for line in lines if "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in line]) == 1
    assert not any("Traceback" in line for line in lines)
