"""Proxy and driver judge every exchange alike, and right: what engines and gateways really send, fed to both."""

import json
import random
from collections.abc import Iterator
from typing import Any, Final

import pytest

from dyno_proxy.exchange.record import Record
from dyno_proxy.readers import APIS
from rigs.exchanges import EVENTS, JSON, answered
from rigs.judged_cases import CASES, DONE, Case, driver_error


def judged(body: bytes, api: str = "/chat/completions", ask: bytes = b'{"model":"m","stream":true}') -> Record:
    """The proxy's record of such a body, with the Content-Type that a gateway's own answer would have."""
    kind = JSON if body.startswith((b"{", b": hi")) else EVENTS
    operation, reader = APIS[api].operation, APIS[api].reader
    return answered(
        200, [(60, body)], kind=kind, reader=reader, operation=operation, request_body=[ask], request_bytes=len(ask)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_judge_alike(case: Case) -> None:
    """The proxy's outcome is the right one, its tokens are the server's, and the driver agrees."""
    record = judged(case.body)
    assert record.outcome == case.outcome
    if case.tokens != (None, None):
        assert (record.input_tokens, record.output_tokens, record.usage_source) == (*case.tokens, "server")
    assert (driver_error(case.body) is None) == (record.outcome == "ok")


ODD_VALUES: Final[list[bytes]] = [
    *(b"null", b"true", b"false", b"0", b"-1", b"1.5", b"1e999", b"NaN", b"-Infinity", b"9" * 40, b"9" * 5000),
    *(b'""', b'"12ms"', b'"null"', b'"7"', b'"\\ud800"', b'"\xff\xfe"', b'"a\x01b"', b"[]", b"[null]", b"[1]", b"[{}]"),
    *(b"{}", b'{"a":1}', b"[" * 2000 + b"]" * 2000, b'{"type":5,"type":"text"}'),
]
HOLE: Final = "\ue000hole"


def chat_stream() -> list[dict[str, Any]]:
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": None}
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    return [
        base | {"choices": [{"index": 0, "delta": {"role": "assistant"}, "logprobs": None, "finish_reason": None}]},
        base | {"choices": [{"index": 0, "delta": {"reasoning": "hm", "reasoning_content": "hm"}}]},
        base | {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}], "usage": None},
        base | {"choices": [{"index": 0, "delta": {"content": None, "tool_calls": [call]}}]},
        base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 5}]},
        base | {"choices": [], "time_info": {"queue_time": 0.1, "total_time": 0.6}, "response_time": 0.6,
                "metrics": {"time_to_first_token_ms": 12.5}, "timings": {"prompt_ms": 2.5},
                "usage": {"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 13,
                          "completion_tokens_details": {"reasoning_tokens": 2},
                          "prompt_tokens_details": {"cached_tokens": 1}, "time_to_first_token": 0.2}},
    ]  # fmt: skip


def responses_stream() -> list[dict[str, Any]]:
    head: dict[str, Any] = {
        "id": "r1",
        "object": "response",
        "model": "m",
        "status": "in_progress",
        "error": None,
        "output": [],
    }
    used = {"input_tokens": 4, "output_tokens": 9, "total_tokens": 13,
            "output_tokens_details": {"reasoning_tokens": 2}, "input_tokens_details": {"cached_tokens": 1}}  # fmt: skip
    return [
        {"type": "response.created", "sequence_number": 1, "response": head},
        {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
        {"type": "response.output_text.delta", "delta": "Hello", "output_index": 0},
        {"type": "response.output_text.delta", "delta": " world"},
        {"type": "response.completed", "response": head | {"status": "completed", "usage": used}},
    ]


def messages_stream() -> list[dict[str, Any]]:
    used = {"input_tokens": 25, "cache_read_input_tokens": 10, "output_tokens": 1}
    message: dict[str, Any] = {"id": "m1", "type": "message", "role": "assistant", "model": "c", "content": []}
    message |= {"stop_reason": None, "usage": used}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " world"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]


def whole(api: str) -> dict[str, Any]:
    used = {"prompt_tokens": 4, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 1}}
    if api == "/chat/completions":
        return {"id": "c1", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"},
                "logprobs": None, "finish_reason": "stop"}], "usage": used, "response_time": 1.5}  # fmt: skip
    if api == "/responses":
        response: dict[str, Any] = responses_stream()[-1]["response"]
        return response | {"output": [{"type": "message", "content": [{"text": "x"}]}]}
    if api == "/messages":
        message: dict[str, Any] = messages_stream()[0]["message"]
        return message | {"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}
    return {"object": "list", "id": "e", "model": "m", "data": [{"embedding": [0.5], "index": 0}], "usage": used}


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every member and element in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def with_hole(value: Any, path: tuple[Any, ...]) -> Any:
    if not path:
        return HOLE
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = with_hole(value[path[0]], path[1:])
    return copied


STREAMS: Final = {
    "/chat/completions": chat_stream(),
    "/responses": responses_stream(),
    "/messages": messages_stream(),
}
# What an exchange's end, or a whole part of it, hangs on: an odd value there isn't judged by this test.
ENDS: Final = {
    "error",
    "finish_reason",
    "stop_reason",
    "status",
    "choices",
    "type",
    "response",
    "output",
    "content_block",
}
LISTS: Final = {("choices",), ("choices", 0), ("data",), ("content",), ("content", 0)}
KEPT: Final = (
    *("response_id", "response_model", "finish_reasons", "input_tokens", "output_tokens", "reasoning_tokens"),
    *("cached_tokens", "server_ttft_s", "server_latency_s", "server_queue_s", "server_prefill_s", "usage_source"),
    *("first_token_us", "last_token_us", "done_us", "chunk_offsets_us", "first_read_tokens", "reasoning_streamed"),
)


def hangs_on(path: tuple[Any, ...], name: str) -> bool:
    """Whether a figure may depend on the field at that path, in this test's exchanges."""
    text = "/".join(map(str, path))
    if name in ("output_tokens", "input_tokens", "reasoning_tokens", "cached_tokens", "usage_source"):
        return "usage" in text or path[-1] == "message"
    if name in ("server_ttft_s", "server_latency_s", "server_queue_s", "server_prefill_s"):
        return any(part in text for part in ("time_info", "response_time", "metrics", "timings", "usage"))
    if name in ("response_id", "response_model"):
        return path[-1] in ("id", "model", "message")
    if name == "finish_reasons":
        return "delta" in text
    return any(part in text for part in ("delta", "message", "usage", "index", "item", "content_block"))


@pytest.mark.parametrize("api", [*STREAMS])
def test_one_odd_field_of_a_stream_costs_that_field_alone(api: str) -> None:
    """Whatever stands in the place of any one field, the outcome and all that doesn't hang on the field stay."""
    events = STREAMS[api]
    sound = stream_of(api, events)
    before = judged(sound, api)
    assert before.outcome == "ok"
    tried = 0
    for number, event in enumerate(events):
        for path in paths(event):
            if path[-1] in ENDS or path in LISTS:
                continue
            for odd in ODD_VALUES:
                tried += 1
                body = stream_of(api, [*events[:number], with_hole(event, path), *events[number + 1 :]], odd)
                check(before, judged(body, api), body, path, odd)
                if api == "/chat/completions":
                    assert driver_error(body) is None, (path, odd[:40])
    assert tried > 500


@pytest.mark.parametrize("api", [*STREAMS, "/embeddings"])
def test_one_odd_field_of_a_body_costs_that_field_alone(api: str) -> None:
    """The same, for an answer that isn't streamed."""
    document = whole(api)
    before = judged(json.dumps(document).encode(), api)
    assert before.outcome == "ok"
    for path in paths(document):
        if path[-1] in ENDS or path in LISTS:
            continue
        for odd in ODD_VALUES:
            body = filled(with_hole(document, path), odd)
            check(before, judged(body, api), body, path, odd)
            if api == "/chat/completions":
                assert driver_error(body) is None, (path, odd[:40])


def check(before: Record, after: Record, body: bytes, path: tuple[Any, ...], odd: bytes) -> None:
    shown = (path, odd[:40])
    assert (after.outcome, after.unreadable_events) == ("ok", None), shown
    assert after.response_bytes == len(body)
    for name in KEPT:
        if not hangs_on(path, name):
            assert getattr(after, name) == getattr(before, name), (*shown, name)
    for name in ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"):
        assert (getattr(after, name) or 0) >= 0, (*shown, name)


def stream_of(api: str, events: list[Any], odd: bytes = b"") -> bytes:
    named = [f"event: {event['type']}\n".encode() if api != "/chat/completions" else b"" for event in events]
    parts = [name + b"data: " + filled(event, odd) + b"\n\n" for name, event in zip(named, events, strict=True)]
    return b"".join(parts) + (b"data: " + DONE + b"\n\n" if api == "/chat/completions" else b"")


def filled(event: Any, odd: bytes) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode().replace(f'"{HOLE}"'.encode(), odd)


@pytest.mark.parametrize("api", ["/responses", "/messages"])
def test_an_odd_type_is_told_by_the_events_name(api: str) -> None:
    """Where the data's `type` is odd or missing, the SSE event's own name says what it is."""
    events = STREAMS[api]
    before = judged(stream_of(api, events), api)
    for number, event in enumerate(events):
        for odd in (b"null", b"5", b'""', b"[]"):
            body = stream_of(api, events)
            data = filled({**event, "type": HOLE}, odd)
            body = body.replace(json.dumps(event, ensure_ascii=False).encode(), data, 1)
            after = judged(body, api)
            assert (after.outcome, after.output_tokens) == ("ok", before.output_tokens), (number, odd)
            assert after.chunk_offsets_us == before.chunk_offsets_us


def test_two_choices_with_both_ends_on_one_index() -> None:
    """llama.cpp's stream of two choices is whole after two ends. After one it isn't, and neither if output follows."""

    def part(index: int, text: str | None = None, finish: str | None = None) -> bytes:
        delta = {} if text is None else {"content": text}
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    ask = b'{"model":"m","stream":true,"n":2}'
    begun = part(0, "a") + part(1, "b")
    ends = part(0, None, "stop") + part(0, None, "length")
    record = judged(begun + ends, ask=ask)
    assert (record.outcome, record.choice_count, record.finish_reasons) == ("ok", 2, ("stop", "length"))
    assert judged(begun + part(0, None, "stop"), ask=ask).outcome == "truncated"
    assert judged(begun + ends + part(1, "more"), ask=ask).outcome == "truncated"
    assert judged(begun + part(0, None, "stop") + part(1, None, "stop"), ask=ask).choice_count == 2


def test_any_junk_is_judged_alike() -> None:
    """Sound events with bytes changed at random: neither reader raises, and the driver says ok only where the proxy
    does."""
    draw = random.Random(17)  # noqa: S311 - the same junk in every run
    sound = stream_of("/chat/completions", STREAMS["/chat/completions"])
    for _ in range(300):
        body = bytearray(sound)
        for _ in range(draw.randrange(1, 4)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        assert (driver_error(bytes(body)) is None) == (judged(bytes(body)).outcome == "ok"), bytes(body)
