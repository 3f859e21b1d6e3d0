"""The readers of responses, messages and embeddings. test_readers.py tests that of chat."""

import json
from typing import Any, get_args

import pytest
from anthropic.types import MessageStopEvent, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent

from dyno_proxy.readers import ANSWER, APIS, DONE, EVENT, REASONING, Content

ALL = sorted(APIS)


def event(api: str, payload: Any, content: Content | None = None) -> tuple[int, Content]:
    content = content or Content()
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return APIS[api].reader.event(data, content), content


def body(api: str, payload: Any) -> Content:
    content = Content()
    APIS[api].reader.body(payload if isinstance(payload, bytes) else json.dumps(payload).encode(), content)
    return content


RESPONSE: dict[str, Any] = {
    "id": "r1",
    "object": "response",
    "model": "m",
    "status": "in_progress",
    "error": None,
    "output": [],
}
MESSAGE: dict[str, Any] = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "c",
    "content": [],
    "stop_reason": None,
}
COUNTS = {"input_tokens": 25, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 7, "output_tokens": 2}


def response_event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": 1, **more}


def block_delta(**delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def block_start(**block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": block}


EVENTS: list[tuple[str, Any, int]] = [
    ("/responses", b"[DONE]", DONE),
    ("/responses", response_event("response.created", response=RESPONSE), 0),
    ("/responses", response_event("response.queued", response=RESPONSE | {"status": "queued"}), 0),
    ("/responses", response_event("response.in_progress", response=RESPONSE), 0),
    ("/responses", response_event("response.output_item.added", item={"type": "message", "content": []}), EVENT),
    ("/responses", response_event("response.output_item.added", item={"type": "reasoning"}), EVENT),
    ("/responses", response_event("response.output_item.added", item={"type": "function_call", "name": "f"}),
     EVENT | ANSWER),
    ("/responses", response_event("response.content_part.added", part={"type": "output_text", "text": ""}), EVENT),
    ("/responses", response_event("response.output_text.delta", delta="Hi"), EVENT | ANSWER),
    ("/responses", response_event("response.output_text.delta", delta=""), EVENT),
    ("/responses", response_event("response.refusal.delta", delta="no"), EVENT | ANSWER),
    ("/responses", response_event("response.function_call_arguments.delta", delta="{"), EVENT | ANSWER),
    ("/responses", response_event("response.reasoning_text.delta", delta="hm"), EVENT | REASONING),
    ("/responses", response_event("response.reasoning_summary_text.delta", delta="It thought."), EVENT),
    ("/responses", response_event("response.output_text.done", text="Hi"), EVENT),
    ("/responses", response_event("response.output_item.done", item={"type": "function_call", "name": "f"}), EVENT),
    ("/responses", response_event("response.completed", response=RESPONSE | {"status": "completed"}), DONE),
    ("/responses", response_event("response.incomplete", response=RESPONSE | {"status": "incomplete"}), DONE),
    ("/responses", response_event("response.failed", response=RESPONSE | {"status": "failed"}), DONE),
    ("/responses", response_event("error", code="x", message="x"), 0),
    ("/messages", {"type": "message_start", "message": MESSAGE | {"usage": COUNTS}}, 0),
    ("/messages", {"type": "ping"}, 0),
    ("/messages", block_start(type="text", text=""), EVENT),
    ("/messages", block_start(type="thinking", thinking="", signature=""), EVENT),
    ("/messages", block_start(type="redacted_thinking", data="eJx="), EVENT),
    ("/messages", block_start(type="tool_use", id="t", name="f", input={}), EVENT | ANSWER),
    ("/messages", block_start(type="web_search_tool_result", content=[{"type": "web_search_result"}]), EVENT),
    ("/messages", block_delta(type="text_delta", text="Hi"), EVENT | ANSWER),
    ("/messages", block_delta(type="thinking_delta", thinking="hm"), EVENT | REASONING),
    ("/messages", block_delta(type="input_json_delta", partial_json=""), EVENT),
    ("/messages", block_delta(type="input_json_delta", partial_json='{"a"'), EVENT | ANSWER),
    ("/messages", block_delta(type="signature_delta", signature="abc"), EVENT),
    ("/messages", block_delta(type="citations_delta", citation={"type": "char_location"}), EVENT),
    ("/messages", {"type": "content_block_stop", "index": 0}, 0),
    ("/messages", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}, 0),
    ("/messages", {"type": "message_stop"}, DONE),
    ("/messages", {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, 0),
]  # fmt: skip


@pytest.mark.parametrize(("api", "payload", "flags"), EVENTS)
def test_what_an_event_carries(api: str, payload: Any, flags: int) -> None:
    """Output is distinguished from events that open, close or repeat it. The first event opens an item or a block."""
    found, content = event(api, payload)
    assert found == flags
    assert content.unreadable_events == 0


def test_every_event_of_the_sdks_is_known() -> None:
    """Every event that OpenAI's or Anthropic's own types know is recognised."""
    openai_kinds = {
        get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(get_args(ResponseStreamEvent)[0])
    }
    assert len(openai_kinds) > 40
    for kind in openai_kinds:
        assert event("/responses", response_event(kind))[1].unreadable_events == 0, kind
    anthropic_kinds = {
        get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(get_args(RawMessageStreamEvent)[0])
    }
    assert MessageStopEvent.model_fields["type"].annotation is not None
    for kind in anthropic_kinds:
        assert event("/messages", {"type": kind})[1].unreadable_events == 0, kind


def test_a_response_streamed() -> None:
    """The counts come with the end. The finish_reason is the response's status, or the reason why it is incomplete."""
    content = Content()
    event("/responses", response_event("response.created", response=RESPONSE), content)
    event("/responses", response_event("response.output_text.delta", delta="Hé"), content)
    assert (content.finished, content.response_id, content.response_model) == (False, "r1", "m")
    usage = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 12,
             "output_tokens_details": {"reasoning_tokens": 8}}  # fmt: skip
    end = RESPONSE | {"status": "completed", "usage": usage}
    event("/responses", response_event("response.completed", response=end), content)
    assert (content.finished, content.finish_reasons, content.error_type) == (True, ("completed",), None)
    assert (content.input_tokens, content.output_tokens, content.reasoning_tokens) == (9, 12, 8)
    assert (content.cached_tokens, content.output_bytes, content.hides_reasoning(configured=True)) == (4, 3, False)


@pytest.mark.parametrize(
    ("status", "more", "finished", "reasons", "error_type"),
    [
        ("completed", {}, True, ("completed",), None),
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, True, ("max_output_tokens",), None),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, True, ("content_filter",), None),
        ("incomplete", {"incomplete_details": None}, True, ("incomplete",), None),
        ("queued", {}, True, ("queued",), None),
        ("failed", {"error": {"code": "server_error"}}, False, ("failed",), "response_failed"),
        ("cancelled", {}, False, ("cancelled",), "response_failed"),
    ],
)
def test_how_a_whole_response_ends(
    status: str, more: dict[str, Any], finished: bool, reasons: tuple[str, ...], error_type: str | None
) -> None:
    """A response's status is its end. A response that runs in the background is complete too, and says so."""
    content = body("/responses", RESPONSE | {"status": status} | more)
    assert (content.finished, content.finish_reasons, content.error_type) == (finished, reasons, error_type)


def test_a_whole_responses_output_is_weighed() -> None:
    """Text, reasoning and calls count as visible output."""
    output = [
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "name": "f", "arguments": "{}"},
    ]
    content = body("/responses", RESPONSE | {"status": "completed", "output": output})
    assert (content.reasoning_seen, content.output_bytes) == (True, 2 + 2 + 2 + 1 + 2 + 32)


def test_a_message_streamed() -> None:
    """Input tokens include those read from and written to the cache. Output tokens are the last count, never
    message_start's."""
    content = Content()
    event("/messages", {"type": "message_start", "message": MESSAGE | {"usage": COUNTS}}, content)
    assert (content.input_tokens, content.cached_tokens, content.output_tokens) == (132, 100, None)
    event("/messages", block_delta(type="thinking_delta", thinking="hm"), content)
    event("/messages", block_delta(type="signature_delta", signature="abc"), content)
    event("/messages", block_delta(type="text_delta", text="Hi"), content)
    usage = {"output_tokens": 300, "output_tokens_details": {"thinking_tokens": 280}}
    event("/messages", {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": usage}, content)
    assert (content.finished, content.finish_reasons) == (False, ("max_tokens",))
    event("/messages", {"type": "message_stop"}, content)
    assert (content.finished, content.response_id, content.response_model) == (True, "m1", "c")
    assert (content.input_tokens, content.output_tokens, content.reasoning_tokens) == (132, 300, 280)
    assert (content.reasoning_seen, content.reasoning_withheld) == (True, False)


@pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal"])
def test_a_whole_message(reason: str) -> None:
    """The stop_reason is the answer's end, in Anthropic's own words."""
    blocks = [{"type": "text", "text": "Hi"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]
    content = body("/messages", MESSAGE | {"content": blocks, "stop_reason": reason, "usage": COUNTS})
    assert (content.finished, content.finish_reasons, content.output_tokens) == (True, (reason,), 2)
    assert content.output_bytes == 2 + 1 + len('{"a":1}') + 32
    assert not body("/messages", MESSAGE | {"content": blocks}).finished


@pytest.mark.parametrize(
    "blocks",
    [
        [block_start(type="redacted_thinking", data="eJx=")],
        [block_start(type="thinking", thinking="", signature="abc")],
        [block_start(type="thinking", thinking="", signature=""), block_delta(type="signature_delta", signature="abc")],
    ],
    ids=["redacted", "only signed, whole", "only signed"],
)
def test_thinking_that_is_withheld(blocks: list[Any]) -> None:
    """A block of thinking without text means hidden tokens: there is no TPOT, unless they are counted."""
    content = Content()
    for each in [*blocks, block_delta(type="text_delta", text="Hi")]:
        event("/messages", each, content)
    content.output_tokens = 20
    assert content.hides_reasoning(configured=False)
    content.reasoning_tokens = 18
    assert not content.hides_reasoning(configured=False)


def test_embeddings() -> None:
    """An embedding's end is its data. It has no finish_reason and no output tokens."""
    content = body("/embeddings", {"data": [{"embedding": [0.25]}], "model": "e", "usage": {"prompt_tokens": 5}})
    assert (content.finished, content.finish_reasons, content.input_tokens) == (True, (), 5)
    assert (content.output_tokens, content.response_model, content.hides_reasoning(configured=True)) == (
        None,
        "e",
        False,
    )
    assert body("/embeddings", {"data": [], "usage": None}).finished
    assert not body("/embeddings", {"object": "list"}).readable


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize(
    "payload",
    [
        {"error": {"message": "x"}},
        {"error": {}},
        {"error": "x", "error_code": 1},
        {"object": "error", "message": "x"},
        {"type": "error", "error": {"type": "x"}},
        {"detail": "x"},
        {"detail": [{"loc": []}]},
        {"message": "x", "type": "x", "param": None, "code": None},
    ],
)
def test_an_errors_dress_is_known_in_every_api(api: str, payload: Any) -> None:
    """An error is an error in a stream and in a whole answer."""
    assert event(api, payload)[1].error_type == "error_event"
    assert body(api, payload).error_type == "error_event"


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("payload", [{}, {"error": None}, {"error": ""}, {"message": "x"}, {"x": 1}, [], 7, None])
def test_what_is_no_error(api: str, payload: Any) -> None:
    """JSON of no API's form counts as unreadable, and not as an error."""
    _, content = event(api, payload)
    assert (content.error_type, content.unreadable_events, content.readable) == (None, 1, False)
    assert (body(api, payload).error_type, body(api, payload).readable) == (None, False)


@pytest.mark.parametrize("api", ALL)
def test_a_body_that_breaks_off(api: str) -> None:
    """The beginning of JSON is distinguished from bytes that never were JSON."""
    assert body(api, b'{"id": "r1", "outp').broken_off
    assert not body(api, b"<html>").broken_off
    assert not body(api, b'{"id": }').broken_off
    assert not body(api, b'{"a": 1}').broken_off


# JSON as no API sends it: the right keys, with anything in them

KEYS = [
    *("type", "id", "model", "choices", "delta", "message", "content", "usage", "error", "object", "finish_reason"),
    *("index", "text", "reasoning", "tool_calls", "function", "name", "arguments", "response", "item", "status"),
    *("output", "content_block", "thinking", "stop_reason", "data", "input_tokens", "output_tokens", "detail"),
    *("completion_tokens", "completion_tokens_details", "reasoning_tokens", "time_info", "timings", "prompt_ms"),
]
VALUES = st.sampled_from(
    [response for _, payload, _ in EVENTS if isinstance(payload, dict) for response in payload.values()]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    | st.sampled_from(["error", "response.completed", "message_stop", "\n\n[ERROR]", "chatcmpl-api-error"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@given(api=st.sampled_from(ALL), payload=ODD | st.dictionaries(st.sampled_from(KEYS), VALUES | ODD, max_size=6))
def test_any_json_is_read_or_counted(api: str, payload: Any) -> None:
    """Whatever an endpoint sends, no exception is raised, and the error.type is one of the few that exist."""
    flags, content = event(api, payload)
    assert 0 <= flags <= EVENT | REASONING | ANSWER | DONE
    assert content.error_type in (None, "error_event", "response_failed", "gateway_error_text")
    assert body(api, payload).error_type in (None, "error_event", "response_failed")


@given(api=st.sampled_from(ALL), junk=st.binary(max_size=200))
def test_any_bytes_are_counted(api: str, junk: bytes) -> None:
    """An event that isn't JSON, or is nested without end, is one unreadable event, and raises no exception."""
    flags, content = event(api, junk)
    assert content.unreadable_events == 1 or flags == DONE or content.readable
    assert event(api, b"[" * 100_000)[1].unreadable_events == 1
    assert event(api, b'{"error":' * 50_000)[1].unreadable_events == 1
