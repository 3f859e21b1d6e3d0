import json
from typing import Any

import pytest

from dyno_proxy.readers import ANSWER, DONE, EVENT, REASONING, Content, read_body, read_event, read_request


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
    """Each dress of output is told from an event that only names a role, or counts."""
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
    """An error's every dress is an error."""
    assert event(payload)[1].error_type == "error_event"


def test_the_gateways_error_text() -> None:
    """ALCF's gateway to Metis writes an error as an answer with finish_reason stop; it is told by its id and text."""
    dressed = chunk({"content": "\n\n[ERROR] upstream"}, finish_reason="stop") | {"id": "chatcmpl-api-error"}
    assert event(dressed)[1].error_type == "gateway_error_text"
    assert event(chunk({"content": "The log said [ERROR]."}))[1].error_type is None


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
    """With usage on every chunk the first one's count is known, and the last one's is the whole."""
    content = Content()
    event(chunk({"role": "assistant"}), content)
    event(chunk({"content": "a b c"}) | {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}, content)
    event(chunk({"content": "d"}) | {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}, content)
    assert (content.first_chunk_tokens, content.output_tokens) == (3, 4)


def test_finished_needs_every_choice() -> None:
    """With two choices one finish_reason isn't the end."""
    content = Content()
    event({"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]}, content)
    assert not content.finished
    event({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}, content)
    assert not content.finished
    event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, content)
    assert content.finished
    assert content.finish_reasons == {0: "stop", 1: "length"}


@pytest.mark.parametrize("junk", [b"", b"{", b"\xff\xfe", b"[1]", b"7", b'{"choices": 5}', b'{"id": "\xff"}'])
def test_junk_is_counted(junk: bytes) -> None:
    """What isn't of the API's shape is no output, and no exception."""
    flags, content = event(junk)
    assert flags == 0
    assert content.unreadable_events == 1
    assert not content.readable


def test_odd_types_are_read_leniently() -> None:
    """A count written as text or as 12.0 still counts."""
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


def test_a_requests_parameters() -> None:
    """The parameters of a request are read; a body that isn't JSON has none."""
    asked = read_request(
        b'{"model": "m", "stream": true, "max_tokens": 5, "seed": 1' + b"0" * 30 + b', "messages": []}'
    )
    assert (asked.model, asked.stream, asked.max_tokens, asked.seed) == ("m", True, 5, 10**30)
    assert read_request(b"--boundary").model is None
    assert read_request(b"[]").model is None
