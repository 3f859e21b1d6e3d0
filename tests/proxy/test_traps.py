"""Each known oddity of a real endpoint, played by a scripted upstream through the proxy: the row has the right
outcome."""

import asyncio
import base64
import gzip
import json
from pathlib import Path
from typing import Any, Final

import brotli  # type: ignore[import-untyped]
import pytest

from rigs.fake_upstream import Script, fake_upstream
from rigs.raw_http import request_bytes
from rigs.relay_rig import in_front_of

CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS = (
    *("/chat/completions", "/completions"),
    *("/responses", "/messages", "/embeddings"),
)
STREAM: Final = {"status": 200, "headers": {"Content-Type": "text/event-stream; charset=utf-8"}}
JSON: Final = {"status": 200, "headers": {"Content-Type": "application/json"}}
ASK: Final = b'{"model": "m", "stream": true}'
END: Final = "[DONE]"
DONE: Final = {"done": True}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def events(*payloads: Any) -> Script:
    return [STREAM, *({"event": payload} for payload in payloads)]


def packed(body: bytes, coding: str, content_type: str = "text/event-stream") -> Script:
    headers = {"Content-Type": content_type, "Content-Encoding": coding}
    return [{"status": 200, "headers": headers}, {"base64": base64.b64encode(body).decode()}]


A, B, STOP = chunk({"content": "On"}), chunk({"content": " mats."}), chunk({}, "stop")
USAGE: Final = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}}
METIS_ERROR: Final = chunk({"role": "assistant", "content": "\n\n[ERROR] boom"}, "stop") | {"id": "chatcmpl-api-error"}
SAMBANOVA: Final = {
    "prompt_tokens": 249,
    "completion_tokens": 53,
    "total_tokens": 302,
    "completion_tokens_details": {"reasoning_tokens": 20},
    "prompt_tokens_details": {"cached_tokens": 128},
    "time_to_first_token": 0.21,
    "total_latency": 0.35,
    "start_time": 1795557540.1,
    "end_time": 1795557540.45,
    "completion_tokens_per_sec": 151.4,
    "acceptance_rate": 4.1,
    "is_last_response": True,
}
TIME_INFO: Final = {"queue_time": 0.1, "prompt_time": 0.2, "completion_time": 0.3, "total_time": 0.6}
PLAIN: Final = (
    b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in (A, B, STOP, USAGE)) + b"data: [DONE]\n\n"
)
WHOLE: Final = {"id": "c1", "model": "m", "choices": [{"message": {"content": "On mats."}, "finish_reason": "stop"}]}
GATEWAYS_BATCH: Final = [{"together": [{"event": chunk({"content": f" {i}"})} for i in range(20)]}, {"wait_s": 0.05}]

OK: Final = {"outcome": "ok", "error_type": None}
ERROR: Final = {"outcome": "stream_error", "error_type": "error_event"}
NO_END: Final = {"outcome": "truncated", "error_type": "no_finish_reason"}

TRAPS: Final[dict[str, tuple[str, Script, dict[str, Any]]]] = {
    # ALCF's gateway
    "sophia: an error in the stream": (
        CHAT,
        events(
            {"object": "error", "message": "boom", "type": "StreamingTimeoutError", "param": None, "code": 504}, END
        ),
        ERROR | {"status": 200},
    ),
    "sophia: an error after output": (CHAT, events(A, {"object": "error", "message": "boom"}, END), ERROR),
    "sophia: [DONE] after silence": (CHAT, events(A, B, END), NO_END),
    "sophia: [DONE] alone": (CHAT, [STREAM, DONE], NO_END),
    "sophia: nothing at all": (CHAT, [STREAM, {"bytes": ": ping\n\n"}], NO_END),
    "sophia: bursts": (
        CHAT,
        [STREAM, *(GATEWAYS_BATCH * 6), {"event": STOP}, DONE],
        OK | {"attributes": {"dyno.chunk.cadence": "gateway"}},
    ),
    "sophia: unstreamed": (
        CHAT,
        [{"json": WHOLE | {"response_time": 1.25, "throughput_tokens_per_second": 8.0}}],
        OK | {"server_latency_s": 1.25},
    ),
    "sophia: unstreamed, not JSON at the engine": (
        CHAT,
        [{"json": {"completion": "x", "response_time": 1.0, "throughput_tokens_per_second": 0}}],
        {"outcome": "stream_error", "error_type": "not_the_api"},
    ),
    "sophia: gives up unstreamed": (CHAT, [{"status": 408}, {"json": {"error": "x"}}], {"outcome": "http_error"}),
    "metis: an error as an answer": (
        CHAT,
        events(METIS_ERROR, END),
        {"outcome": "stream_error", "error_type": "gateway_error_text", "finish_reasons": ["stop"]},
    ),
    "metis: an error in the middle of an event": (
        CHAT,
        [
            STREAM,
            {"event": A},
            {"bytes": f'data: {{"id":"c1","choi{"data: " + json.dumps(METIS_ERROR)}\n\n'},
            DONE,
        ],
        {"outcome": "stream_error", "error_type": "gateway_error_text"},
    ),
    "metis: events split between reads": (
        CHAT,
        [
            STREAM,
            {"bytes": "data: " + json.dumps(A)[:30]},
            {"wait_s": 0.01},
            {"bytes": json.dumps(A)[30:] + "\n"},
            {"wait_s": 0.01},
            {"bytes": "\n"},
            {"event": STOP},
            DONE,
        ],
        OK | {"output_tokens": 1, "usage_source": "chunks"},
    ),
    "metis: a prompt too long": (CHAT, [{"status": 504}, {"json": {"error": "x"}}], {"outcome": "http_error"}),
    "a cold model": (CHAT, [{"status": 503}, {"json": {"error": {"code": 503}}}], {"error_type": "503"}),
    "a key of the gateway's own": (CHAT, [{"status": 422}, {"json": {"detail": []}}], {"outcome": "http_error"}),
    "nginx: a rate limit": (
        CHAT,
        [{"status": 429}, {"json": {"error": "Rate limit exceeded", "message": "slow", "retry_after": "1 second"}}],
        {"outcome": "rate_limited", "retry_after_s": 1.0},
    ),
    "a rate limit with the header": (
        CHAT,
        [{"status": 429, "headers": {"Retry-After": "7"}}, {"json": {"retry_after": "1 second"}}],
        {"outcome": "rate_limited", "retry_after_s": 7.0},
    ),
    "nginx: detail in a 200": (CHAT, [JSON, {"json": {"detail": "bad gateway"}}], ERROR),
    "a login page": (
        CHAT,
        [{"status": 200, "headers": {"Content-Type": "text/html"}}, {"bytes": "<html>"}],
        {"outcome": "stream_error", "error_type": "not_the_api"},
    ),
    # Vendors' errors inside a 200
    "sambanova: a flat error": (CHAT, events(A, {"error": "boom", "error_code": None, "request_id": "r"}), ERROR),
    "sambanova: a flat error, unstreamed": (CHAT, [JSON, {"json": {"error": "boom", "error_code": 7}}], ERROR),
    "cerebras: an error with its status": (CHAT, events(A, {"error": {"message": "x"}, "status_code": 500}), ERROR),
    "cerebras: an empty error": (CHAT, events({"error": {}, "status_code": 503}), ERROR),
    "cerebras: an error's fields alone": (
        CHAT,
        [JSON, {"json": {"message": "x", "type": "server_error", "param": None, "code": None}}],
        ERROR,
    ),
    "vllm: an error": (
        CHAT,
        events(A, {"error": {"message": "x", "type": "BadRequestError", "param": None, "code": 400}}, END),
        ERROR,
    ),
    "vllm: an old error, unstreamed": (CHAT, [JSON, {"json": {"object": "error", "message": "x", "code": 400}}], ERROR),
    "an error beside a choice": (CHAT, events(chunk({"content": ""}, "error", error={"code": 502})), ERROR),
    "no error at all": (CHAT, [JSON, {"json": WHOLE | {"error": None}}], OK),
    # Vendors' fields
    "sambanova: usage and a fractional created": (
        CHAT,
        events(
            chunk({"channel": "analysis", "reasoning": "hm"}) | {"created": 1795557540.25},
            chunk({"channel": "final", "content": "On"}) | {"created": 1795557540.25},
            STOP,
            {"choices": [], "usage": SAMBANOVA},
            END,
        ),
        OK
        | {
            "input_tokens": 249,
            "output_tokens": 53,
            "reasoning_tokens": 20,
            "cached_tokens": 128,
            "server_ttft_s": 0.21,
            "server_latency_s": 0.35,
            "reasoning_streamed": True,
        },
    ),
    "cerebras: time_info": (
        CHAT,
        events(A, STOP | {"time_info": TIME_INFO}, END),
        OK | {"server_queue_s": 0.1, "server_latency_s": 0.6, "attributes": {"dyno.server.decode_s": "0.3"}},
    ),
    "llama.cpp: timings": (
        CHAT,
        events(A, STOP | {"timings": {"prompt_n": 4, "prompt_ms": 250.0, "predicted_ms": 500.0}}, END),
        OK | {"attributes": {"dyno.server.prefill_s": "0.25", "dyno.server.decode_s": "0.5"}},
    ),
    "vllm: metrics": (
        CHAT,
        [{"json": WHOLE | {"metrics": {"time_to_first_token_ms": 120.0, "queue_time_ms": 20.0, "mean_itl_ms": 9}}}],
        OK | {"server_ttft_s": 0.12, "server_queue_s": 0.02},
    ),
    "vllm: reasoning unseen in the count": (
        CHAT,
        events(A, STOP, {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 900}}, END),
        OK | {"output_tokens": 900, "attributes": {"dyno.reasoning.hidden": "true"}},
    ),
    "usage before [DONE]": (CHAT, events(A, B, STOP, USAGE, END), OK | {"input_tokens": 4, "output_tokens": 2}),
    "usage after [DONE]": (CHAT, [*events(A, B, STOP), DONE, {"event": USAGE}], OK | {"output_tokens": 2}),
    "all in one read": (
        CHAT,
        [STREAM, {"together": [{"event": each} for each in (A, B, STOP, USAGE)] + [DONE]}],
        OK | {"chunk_count": 2, "output_tokens": 2},
    ),
    "cut by length": (CHAT, events(A, chunk({}, "length"), END), OK | {"finish_reasons": ["length"]}),
    "JSON that breaks off": (
        CHAT,
        [JSON, {"bytes": json.dumps(WHOLE)[:40]}],
        {"outcome": "truncated", "error_type": "json_broken_off"},
    ),
    "JSON that isn't called so": (
        CHAT,
        [{"status": 200, "headers": {"Content-Type": "text/plain"}}, {"bytes": json.dumps(WHOLE)}],
        OK | {"finish_reasons": ["stop"]},
    ),
    "completions": (COMPLETIONS, events({"choices": [{"text": "x", "finish_reason": "stop"}]}, END), OK),
    # The other APIs
    "responses": (
        RESPONSES,
        events(
            {"type": "response.created", "response": {"id": "r1", "model": "m", "status": "in_progress"}},
            {"type": "response.output_item.added", "item": {"type": "message"}},
            {"type": "response.output_text.delta", "delta": "On"},
            {
                "type": "response.completed",
                "response": {
                    "status": "completed",
                    "usage": {
                        "input_tokens": 4,
                        "output_tokens": 2,
                        "input_tokens_details": {"cached_tokens": 1},
                        "output_tokens_details": {"reasoning_tokens": 0},
                    },
                },
            },
        ),
        OK
        | {
            "response_id": "r1",
            "input_tokens": 4,
            "output_tokens": 2,
            "cached_tokens": 1,
            "reasoning_tokens": 0,
            "finish_reasons": ["completed"],
            "chunk_count": 1,
        },
    ),
    "responses: too long": (
        RESPONSES,
        events(
            {"type": "response.output_text.delta", "delta": "On"},
            {
                "type": "response.incomplete",
                "response": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            },
        ),
        OK | {"finish_reasons": ["max_output_tokens"]},
    ),
    "responses: an error event": (RESPONSES, events({"type": "error", "code": "server_error", "message": "x"}), ERROR),
    "responses: failed": (
        RESPONSES,
        events({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}}),
        {"outcome": "stream_error", "error_type": "response_failed"},
    ),
    "responses: failed, unstreamed": (
        RESPONSES,
        [{"json": {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "x"}, "output": []}}],
        {"outcome": "stream_error", "error_type": "response_failed"},
    ),
    "responses: no end": (RESPONSES, events({"type": "response.output_text.delta", "delta": "On"}, END), NO_END),
    "messages: an error event": (
        MESSAGES,
        events({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}),
        ERROR,
    ),
    "messages: an error, unstreamed": (MESSAGES, [JSON, {"json": {"type": "error", "error": {"type": "x"}}}], ERROR),
    "messages: no end": (
        MESSAGES,
        events(
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "On"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        ),
        NO_END | {"output_tokens": 1},
    ),
    "embeddings": (
        EMBEDDINGS,
        [{"json": {"object": "list", "data": [{"embedding": [0.5, 1]}], "model": "e", "usage": {"prompt_tokens": 3}}}],
        OK | {"input_tokens": 3, "output_tokens": None, "finish_reasons": None, "response_model": "e"},
    ),
    "embeddings: an error": (EMBEDDINGS, [JSON, {"json": {"error": "boom", "error_code": 3}}], ERROR),
    # Codings
    "gzip, a member a write": (
        CHAT,
        packed(gzip.compress(PLAIN[:200], mtime=0) + gzip.compress(PLAIN[200:], mtime=0), "gzip"),
        OK | {"output_tokens": 2},
    ),
    "gzip in br": (CHAT, packed(brotli.compress(gzip.compress(PLAIN, mtime=0)), "gzip, br"), OK | {"output_tokens": 2}),
    "a coding that nobody knows": (CHAT, packed(PLAIN, "lzma"), OK | {"attributes": {"dyno.unread": "encoding"}}),
    "a bomb": (
        CHAT,
        packed(brotli.compress(b"\0" * (1 << 28), quality=5), "br", "application/json"),
        OK | {"attributes": {"dyno.unread": "too_long"}},
    ),
    "an API without a reader": (
        "/audio/speech",
        [{"bytes": "RIFF"}],
        OK | {"attributes": {"dyno.unread": "no_reader"}},
    ),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every trap is played once, one after another. Returns the rows."""
    return asyncio.run(played(tmp_path_factory.mktemp("traps") / "spans"))


async def played(spans: Path) -> dict[str, dict[str, Any]]:
    scripts = (script for _, script, _ in TRAPS.values())
    async with fake_upstream(lambda _received: next(scripts)) as upstream, in_front_of(upstream.url, spans) as proxy:
        for path, _, _ in TRAPS.values():
            await proxy.send(request_bytes("POST", f"/e/v1{path}", ("Connection", "close"), body=ASK))
        return dict(zip(TRAPS, await proxy.rows(len(TRAPS)), strict=True))


@pytest.mark.parametrize("trap", TRAPS)
def test_what_the_row_says(rows: dict[str, dict[str, Any]], trap: str) -> None:
    """An error inside a 200 isn't ok, a missing end is truncated, and a vendor's own fields are read."""
    path, _, expected = TRAPS[trap]
    row = rows[trap]
    assert row["path"] == f"/e/v1{path}"
    attributes = expected.get("attributes", {})
    found: dict[str, Any] = {name: row.get(name) for name in expected if name != "attributes"}
    assert found == {name: value for name, value in expected.items() if name != "attributes"}
    assert {name: row.get("attributes", {}).get(name) for name in attributes} == attributes


def test_no_word_of_an_endpoints_is_an_error_type(rows: dict[str, dict[str, Any]]) -> None:
    """error.type has few values, and an endpoint can't add values or put its own text there."""
    types = {row.get("error_type") for row in rows.values()} - {None}
    assert types == {
        *("error_event", "response_failed", "gateway_error_text", "not_the_api", "no_finish_reason", "json_broken_off"),
        *("408", "422", "429", "503", "504"),
    }
