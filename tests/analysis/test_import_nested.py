"""Spans of frameworks, gateways and SDKs: one call to a model is one row, whatever else the trace holds."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.ingest.otlp.genai import genai_row
from dyno_analysis.ingest.otlp.nesting import Said, left_out
from dyno_analysis.ingest.otlp.span import OtlpSpan
from rigs.imports import imported, rows

TRACE = "0a" * 16
START_NS = 1_790_000_000_000_000_000
USAGE = {"gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 7}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


def value(content: object) -> dict[str, Any]:
    if isinstance(content, bool):
        return {"boolValue": content}
    return {"intValue": str(content)} if isinstance(content, int) else {"stringValue": str(content)}


def span(number: int, parent: int | None, name: str, attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A span of OTLP's JSON; span ids are made from the numbers."""
    return {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        **({} if parent is None else {"parentSpanId": f"{parent:016x}"}),
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(START_NS + number * 1_000_000),
        "endTimeUnixNano": str(START_NS + 1_000_000_000 - number * 1_000_000),
        "attributes": [{"key": key, "value": value(content)} for key, content in attributes.items()],
        **more,
    }


def otlp(*spans: dict[str, Any], scope: str = "s", key: str = "resourceSpans") -> str:
    scoped = {"scopeSpans": [{"scope": {"name": scope}, "spans": list(spans)}]}
    return json.dumps({key: [{"resource": {}, **scoped}]}) + "\n"


def litellm(operation: str = "acompletion") -> list[dict[str, Any]]:
    """A request through LiteLLM's proxy: what its callback writes, and the spans of its services."""
    model = {"gen_ai.request.model": "gpt-4o"}
    answered = {
        **model,
        "llm.request.type": operation,
        "gen_ai.operation.name": operation,
        "gen_ai.system": "openai",
        "llm.is_streaming": "True",
        "gen_ai.response.finish_reasons": '["stop"]',
        "gen_ai.response.model": "gpt-4o",
        **USAGE,
    }
    return [
        span(1, None, "Received Proxy Server Request", {**model, "http.method": "POST", "http.route": "/v1/chat"}),
        span(2, 1, "auth /v1/chat/completions", {**model, "call_type": "auth", "service": "auth"}),
        span(3, 1, "redis", {**model, "call_type": "async_get_cache", "service": "redis"}),
        span(4, 1, "postgres", {**model, "db.system": "postgresql"}),
        span(5, 1, "litellm_request", answered),
        span(6, 5, "raw_gen_ai_request", {"llm.openai.model": "gpt-4o"}),
    ]


def test_litellm(tmp_path: Path) -> None:
    """One request, with its operation, streaming and finish reason as the conventions have them."""
    path = tmp_path / "t.jsonl"
    path.write_text(otlp(*litellm(), scope="litellm"))
    assert "1 request added; 5 other spans left out" in imported(tmp_path / "s", path)
    columns = "span_id, operation, streamed, finish_reason, input_tokens, output_tokens"
    assert rows(tmp_path / "s", columns) == [(f"{5:016x}", "chat", True, "stop", 12, 7)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"service": "redis"},
        {"service": "x", "call_type": "async_set_cache"},
        {"db.system.name": "postgresql"},
        {"http.request.method": "POST"},
        {"messaging.system": "kafka"},
        {"openinference.span.kind": "CHAIN"},
        {"langfuse.observation.type": "span"},
        {"gen_ai.operation.name": "invoke_agent"},
    ],
)
def test_what_is_no_request(attributes: dict[str, Any]) -> None:
    """The name of a model makes no request of a span that says that it is of something else."""
    assert genai_row(plain({"gen_ai.request.model": "m", **attributes})) is None


def test_a_bare_model_name_yields_to_a_request_of_its_trace(tmp_path: Path) -> None:
    """A span that has a model's name and nothing else is a request only if no other span of its trace is one."""
    path = tmp_path / "t.jsonl"
    bare = [span(number, 1, name, {"gen_ai.request.model": "m"}) for number, name in ((2, "auth"), (3, "cache"))]
    path.write_text(otlp(*bare, span(4, 1, "chat m", {**CHAT, **USAGE})))
    assert "1 request added; 2 other spans left out" in imported(tmp_path / "s", path)
    assert rows(tmp_path / "s", "span_id") == [(f"{4:016x}",)]
    alone = tmp_path / "alone.jsonl"
    alone.write_text(otlp(bare[0]))
    assert "1 request added" in imported(tmp_path / "other", alone)


def test_a_frameworks_span_and_an_sdks_are_one_request(tmp_path: Path) -> None:
    """The innermost caller's span with tokens is kept, whatever lies between them; again: nothing new."""
    path = tmp_path / "t.jsonl"
    framework = span(1, None, "ChatOpenAI.chat", {**CHAT, **USAGE})
    http = span(2, 1, "RunnableSequence", {})
    sdk = span(3, 2, "openai.chat", {**CHAT, **USAGE}, kind=3)
    engine = span(4, 3, "llm_request", {"gen_ai.latency.e2e": "0.5", **USAGE}, kind=2)
    path.write_text(otlp(sdk) + otlp(engine) + otlp(framework, http))
    assert "1 request added; 1 other span left out (not requests to a model); 2 nested spans left out" in imported(
        tmp_path / "s", path
    )
    assert rows(tmp_path / "s", "span_id, output_tokens") == [(f"{3:016x}", 7)]
    assert "0 requests added; 1 already stored" in imported(tmp_path / "s", path)
    later = tmp_path / "later.jsonl"
    later.write_text(otlp(http, span(5, 3, "chat m", {**CHAT, **USAGE})))
    assert "0 requests added" in imported(tmp_path / "s", later)


def test_a_span_beside_the_sdks_is_the_same_request(tmp_path: Path) -> None:
    """Spans of one trace with the same answer's id are one call, though none is in the other; other answers aren't."""
    answer = {**CHAT, **USAGE, "gen_ai.response.id": "chatcmpl-1"}
    beside = [span(1, None, "LangChain", {}), span(2, 1, "ChatOpenAI.chat", answer), span(3, 1, "openai.chat", answer)]
    other = span(4, 1, "openai.chat", {**answer, "gen_ai.response.id": "chatcmpl-2"})
    path = tmp_path / "t.jsonl"
    path.write_text(otlp(*beside, other))
    assert "2 requests added; 1 other span left out" in imported(tmp_path / "s", path)
    assert rows(tmp_path / "s", "span_id") == [(f"{3:016x}",), (f"{4:016x}",)]


def said(number: int, parent: int | None, **more: Any) -> Said:
    return Said(str(number), None if parent is None else str(parent), number, **{"request": True, **more})


@pytest.mark.parametrize(
    ("trace", "dropped"),
    [
        ([said(1, None, usage=True), said(2, 1, usage=True)], {1}),
        ([said(1, None, usage=True), said(2, 1)], {2}),  # only the outer one knows the tokens
        ([said(1, None), said(2, 1)], {1}),
        ([said(1, None, usage=True), said(2, 1), said(3, 1, usage=True)], {1}),  # a retry: two calls to a model
        ([said(1, None, usage=True), said(2, 1, usage=True, server=True)], {2}),  # the engine's own view
        ([said(1, None, usage=True, server=True), said(2, 1, usage=True)], {1}),  # a gateway's, and its own call
        ([said(1, None, usage=True), said(2, 1, settled=True), said(3, 2, usage=True, server=True)], {1, 3}),
        ([said(1, None, settled=True), said(2, 1, settled=True)], set()),  # a request and its mirrored copy
        ([said(1, 2, usage=True), said(2, 1, usage=True)], set()),  # each other's parents: malformed
        ([said(1, None, usage=True), said(2, None, usage=True)], set()),
    ],
)
def test_which_span_of_a_call_is_kept(trace: list[Said], dropped: set[int]) -> None:
    """The table of nesting.py's docstring."""
    assert left_out(trace) == (dropped, set())
    assert left_out(trace[::-1]) == (dropped, set())


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans(), st.booleans(), st.booleans(), st.booleans()), max_size=8))
def test_every_trace_with_a_request_keeps_one(drawn: list[tuple[int, bool, bool, bool, bool]]) -> None:
    """Whatever the nesting, some request stays, and what is settled always does."""
    trace = [
        Said(str(number), str(parent), number, request, settled and request, usage, server)
        for number, (parent, request, settled, usage, server) in enumerate(drawn)
    ]
    nested, none = left_out(trace)
    requests = {each.seq for each in trace if each.request}
    assert not none
    assert nested <= requests
    assert not requests or requests - nested
    assert not nested & {each.seq for each in trace if each.settled}


@pytest.mark.parametrize(
    ("attributes", "operation"),
    [
        ({"gen_ai.operation.name": "acompletion"}, "chat"),
        ({"gen_ai.operation.name": "aembedding"}, "embeddings"),
        ({"gen_ai.operation.name": "atext_completion"}, "text_completion"),
        ({"llm.request.type": "completion"}, "text_completion"),
        ({"gen_ai.operation.name": "aresponses"}, "chat"),
    ],
)
def test_operations(attributes: dict[str, Any], operation: str) -> None:
    """Call types become the conventions' operations; LiteLLM's completion is a chat."""
    made = genai_row(plain(attributes))
    assert made is not None
    assert made["operation"] == operation
    lite = genai_row(plain({"gen_ai.operation.name": "completion"}, scope="litellm"))
    assert lite is not None
    assert lite["operation"] == "chat"


@pytest.mark.parametrize(
    ("text", "reasons"),
    [('["stop"]', ["stop"]), ("['stop', 'length']", ["stop", "length"]), ("('stop',)", ["stop"]), ("stop", ["stop"])],
)
def test_finish_reasons_in_a_text(text: str, reasons: list[str]) -> None:
    """A list that is written as a text is a list."""
    made = genai_row(plain({**CHAT, "gen_ai.response.finish_reasons": text}))
    assert made is not None
    assert made["finish_reasons"] == reasons


@pytest.mark.parametrize(("text", "streamed"), [("True", True), ("false", False), ("perhaps", None), (True, True)])
def test_streamed_in_a_text(text: object, streamed: bool | None) -> None:
    """A truth value that is written as a text is one."""
    made = genai_row(plain({**CHAT, "llm.is_streaming": text}))
    assert made is not None
    assert made["streamed"] is streamed


@pytest.mark.parametrize("wrapped", [False, True])
def test_tempo(tmp_path: Path, wrapped: bool) -> None:
    """A trace as Tempo's API answers it: 'batches', ids in base64, enums by name; in newer ones within 'trace'."""
    made = span(1, None, "chat m", {**CHAT, **USAGE}, kind="SPAN_KIND_CLIENT")
    for key in ("traceId", "spanId"):
        made[key] = base64.b64encode(bytes.fromhex(made[key])).decode()
    document = json.loads(otlp(made, key="resourceSpans" if wrapped else "batches"))
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"trace": document} if wrapped else document, indent=2))
    assert "1 request added" in imported(tmp_path / "s", path)
    assert rows(tmp_path / "s", "trace_id, span_id, output_tokens") == [(TRACE, f"{1:016x}", 7)]


def plain(attributes: dict[str, Any], scope: str = "") -> OtlpSpan:
    return OtlpSpan(
        *(TRACE, "0b" * 8, "", "chat m", "CLIENT", START_NS, START_NS + 1_000_000),
        attributes=attributes,
        events=(),
        status_code=0,
        status_message="",
        resource={},
        scope=scope,
    )
