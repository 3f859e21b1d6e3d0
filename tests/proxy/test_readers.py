import json
from typing import Any

import pytest

from dyno_proxy.readers import (
    ANSWER,
    DONE,
    EVENT,
    REASONING,
    Content,
    read_request,
    read_retry_after,
    seconds_said,
)
from dyno_proxy.readers.chat import read_body, read_event


def event(payload: object, content: Content | None = None) -> tuple[int, Content]:
    content = content or Content()
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_event(data, content), content


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta} | more]}


@pytest.mark.parametrize(
    ("payload", "flags"),
    [
        (b"[DONE]", DONE),
        (chunk({"role": "assistant"}), EVENT),
        (chunk({"role": "assistant", "content": ""}), EVENT),
        (chunk({"content": "Hi"}), EVENT | ANSWER),
        (chunk({"reasoning": "hm"}), EVENT | REASONING),
        (chunk({"reasoning_content": "hm"}), EVENT | REASONING),
        (chunk({"reasoning": "hm", "content": "Hi"}), EVENT | REASONING | ANSWER),
        (chunk({"reasoning": None, "content": None}), EVENT),
        (chunk({"channel": "analysis", "reasoning": "hm"}), EVENT | REASONING),
        (chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "add"}}]}), EVENT | ANSWER),
        (chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{\""}}]}), EVENT | ANSWER),
        (chunk({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}), EVENT),
        (chunk({"function_call": {"name": "add"}}), EVENT | ANSWER),
        (chunk({"refusal": "no"}), EVENT | ANSWER),
        ({"choices": [{"index": 0, "text": "Hi"}]}, EVENT | ANSWER),
        ({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}, 0),
        ({"choices": None}, 0),
    ],
)  # fmt: skip
def test_what_an_event_carries(payload: object, flags: int) -> None:
    """Output in each form is distinguished from an event that only names a role, or only has counts."""
    assert event(payload)[0] == flags


@pytest.mark.parametrize(
    "payload",
    [
        {"error": {"message": "boom", "code": 500}},
        {"error": "boom", "error_code": 7},
        {"object": "error", "message": "boom"},
        {"error": {"message": "boom"}, "status_code": 503, "choices": []},
    ],
)
def test_errors_inside_a_200(payload: object) -> None:
    """An error in each of its forms is an error."""
    assert event(payload)[1].error_type == "error_event"


def test_the_gateways_error_text() -> None:
    """ALCF's gateway to Metis writes an error as an answer with finish_reason stop. Its id or its text shows it."""
    dressed = chunk({"content": "\n\n[ERROR] upstream"}, finish_reason="stop") | {"id": "chatcmpl-api-error"}
    assert event(dressed)[1].error_type == "gateway_error_text"
    assert event(dressed | {"id": "c1"})[1].error_type == "gateway_error_text"
    assert event(b'{"id":"c1","choicesdata: ' + json.dumps(dressed).encode())[1].error_type == "gateway_error_text"
    for answer in ("The log said [ERROR].", "\n\n[ERROR]"):  # a model may say so
        assert event(chunk({"content": answer}))[1].error_type is None


def test_a_finish_reason_may_be_an_error() -> None:
    """If the engine died, the finish_reason says so."""
    assert event(chunk({}, finish_reason="error"))[1].error_type == "error_event"


def test_sambanovas_usage() -> None:
    """SambaNova's usage carries its own timings, and `created` as a float."""
    _, content = event(
        {"created": 1.5, "model": "gpt-oss-120b", "choices": [], "usage": {
            "prompt_tokens": 249, "completion_tokens": 53, "total_tokens": 302, "time_to_first_token": 0.21,
            "total_latency": 0.35, "completion_tokens_details": {"reasoning_tokens": 20},
            "prompt_tokens_details": {"cached_tokens": 128}, "is_last_response": True}}
    )  # fmt: skip
    assert (content.input_tokens, content.output_tokens) == (249, 53)
    assert (content.reasoning_tokens, content.cached_tokens) == (20, 128)
    assert (content.server_ttft_s, content.server_latency_s) == (0.21, 0.35)


def test_other_vendors_timings() -> None:
    """Cerebras', llama.cpp's and vLLM's timings, and the gateway's, each in seconds."""
    _, content = event(
        {"time_info": {"queue_time": 0.1, "prompt_time": 0.2, "completion_time": 0.3, "total_time": 0.6}}
    )
    assert (content.server_queue_s, content.server_latency_s) == (0.1, 0.6)
    _, content = event({"timings": {"prompt_n": 5, "prompt_ms": 250, "predicted_ms": 500.0}})
    assert (content.server_prefill_s, content.server_decode_s) == (0.25, 0.5)
    _, content = event({"metrics": {"time_to_first_token_ms": 120, "queue_time_ms": None}})
    assert (content.server_ttft_s, content.server_queue_s) == (0.12, None)
    content = Content()
    read_body(b'{"response_time": 1.25, "choices": []}', content)
    assert content.server_latency_s == 1.25


def test_continuous_usage_tells_the_first_chunks_tokens() -> None:
    """With usage on every chunk, the first chunk's count is known, and the last one's is the total."""
    content = Content()
    event(chunk({"role": "assistant"}), content)
    event(chunk({"content": "a b c"}) | {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}, content)
    event(chunk({"content": "d"}) | {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}, content)
    assert (content.first_chunk_tokens, content.output_tokens) == (3, 4)


def test_the_first_chunks_tokens_are_its_own() -> None:
    """A chunk with a role may count 0 before the first chunk.

    Reasoning that was counted but isn't shown is none of the first chunk's tokens.
    """
    content = Content()
    event(chunk({"role": "assistant"}) | {"usage": {"prompt_tokens": 9, "completion_tokens": 0}}, content)
    event(chunk({"content": "a b"}) | {"usage": {"prompt_tokens": 9, "completion_tokens": 2}}, content)
    assert content.first_chunk_tokens == 2
    details = {"completion_tokens": 52, "completion_tokens_details": {"reasoning_tokens": 50}}
    assert event(chunk({"content": "a b"}) | {"usage": details})[1].first_chunk_tokens == 2
    assert event(chunk({"reasoning": "a b"}) | {"usage": details})[1].first_chunk_tokens == 52
    assert event(chunk({"content": "a b"}))[1].first_chunk_tokens is None


def test_output_is_weighed() -> None:
    """The count has the UTF-8 bytes of all visible output: text, reasoning, refusals, calls."""
    content = Content()
    for delta in (
        {"content": "é"},
        {"reasoning": "ab"},
        {"refusal": "no"},
        {"content": [{"type": "text"}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    ):
        event(chunk(delta), content)
    assert content.output_bytes == 2 + 2 + 2 + len('[{"type":"text"}]') + (1 + 2 + 32)


@pytest.mark.parametrize(
    ("usage", "seen", "hidden"),
    [
        ({"completion_tokens": 17}, "x", False),  # markup may be that much
        ({"completion_tokens": 18}, "x", True),
        ({"completion_tokens": 1000}, "word " * 197, False),
        ({"completion_tokens": 1000}, "word " * 196, True),
        ({"completion_tokens": 1000, "completion_tokens_details": {"reasoning_tokens": 900}}, "x", False),
        ({"completion_tokens": 1000, "completion_tokens_details": {"reasoning_tokens": 0}}, "x", False),
        ({"completion_tokens": 1000, "completion_tokens_details": None}, "x", True),
    ],
)
def test_tokens_beyond_the_bytes_were_hidden(usage: dict[str, Any], seen: str, hidden: bool) -> None:
    """A token has at least one byte.

    If there are more tokens than bytes and no count of reasoning, reasoning is hidden.
    """
    content = Content()
    event(chunk({"content": seen}), content)
    event({"choices": [], "usage": usage}, content)
    assert content.hides_reasoning(configured=False) is hidden


def test_an_endpoint_that_is_configured_to_hide_reasoning() -> None:
    """The configured `hidden_reasoning` counts if an answer came, but neither reasoning nor its count did."""
    content = Content()
    assert not content.hides_reasoning(configured=True)
    event(chunk({"content": "Hi"}), content)
    assert content.hides_reasoning(configured=True)
    event(chunk({"reasoning": "hm"}), content)
    assert not content.hides_reasoning(configured=True)


def test_finished_needs_every_choice() -> None:
    """With two choices, one finish_reason isn't the end."""
    content = Content()
    event({"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]}, content)
    assert not content.finished
    event({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}, content)
    assert not content.finished
    event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, content)
    assert content.finished
    assert content.finish_reasons == ("stop", "length")


@pytest.mark.parametrize("junk", [b"", b"{", b"\xff\xfe", b"[1]", b"7", b'{"choices": 5}', b'{"id": "\xff"}'])
def test_junk_is_counted(junk: bytes) -> None:
    """JSON that isn't of the API's form counts as no output, and raises no exception."""
    flags, content = event(junk)
    assert flags == 0
    assert content.unreadable_events == 1
    assert not content.readable


def test_odd_types_are_read_leniently() -> None:
    """A count that is written as text or as 12.0 is still read."""
    _, content = event({"choices": [], "usage": {"prompt_tokens": "9", "completion_tokens": 12.0}})
    assert (content.input_tokens, content.output_tokens) == (9, 12)


def test_a_whole_body() -> None:
    """An unstreamed answer has its text in `message`, and its usage beside it."""
    content = Content()
    read_body(
        json.dumps(
            {"id": "x", "model": "m", "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        ).encode(),
        content,
    )  # fmt: skip
    assert content.finished
    assert (content.response_id, content.response_model, content.output_tokens) == ("x", "m", 2)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("1 second", 1.0),
        ("30 seconds", 30.0),
        ("2", 2.0),
        (" 0.5 s ", 0.5),
        ("250ms", 0.25),
        ("5 minutes", 300.0),
        ("1h", 3600.0),
        (3, 3.0),
        (1.5, 1.5),
        (True, None),
        (-1, None),
        (1e300, None),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("1_0", None),
        ("٣", None),
        ("9" * 400, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (None, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(said: object, seconds: float | None) -> None:
    """Retry-After's seconds, and the words that gateways write into the body."""
    assert seconds_said(said) == seconds
    assert read_retry_after(json.dumps({"error": "x", "retry_after": said}).encode()) == seconds


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"retry_after": ', b"\xff"])
def test_a_refusal_without_a_wait(body: bytes) -> None:
    """Most refusals' bodies don't say how long to wait."""
    assert read_retry_after(body) is None


def test_a_requests_parameters() -> None:
    """The parameters of a request are read. A body that isn't JSON has none."""
    asked = read_request(
        b'{"model": "m", "stream": true, "max_tokens": 5, "seed": 1' + b"0" * 30 + b', "messages": []}'
    )
    assert (asked.model, asked.stream, asked.max_tokens, asked.seed) == ("m", True, 5, 10**30)
    assert read_request(b"--boundary").model is None
    assert read_request(b"[]").model is None
