"""Each vendor's own JSON from the simulated endpoints, read by the real OpenAI SDK and field by field."""

import json
import time
from typing import Any

import pytest
from openai import AsyncOpenAI, AsyncStream, BadRequestError, NotFoundError
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from dyno_driver.simulation.profiles import PROFILES
from rigs.fake_upstream import FakeUpstream, fake_upstream
from rigs.raw_http import exchange, post_json

QUESTION = "Context: Cats sit on mats. Dogs run. Question: Where do cats sit? Answer:"
MESSAGES: list[Any] = [{"role": "user", "content": QUESTION}]
QUICK = 0.002


def sdk(upstream: FakeUpstream) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=upstream.url, api_key="none", max_retries=0)


async def _ask(profile: str, **request: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    async with fake_upstream(profile=profile, time_scale=QUICK) as upstream:
        answer = await exchange(upstream.url, post_json("/v1/chat/completions", {"messages": MESSAGES, **request}))
    assert answer.status == 200
    return json.loads(answer.content), answer.headers


async def _stream(profile: str, **request: Any) -> list[dict[str, Any]]:
    request = {"messages": MESSAGES, "stream": True, **request}
    async with fake_upstream(profile=profile, time_scale=QUICK) as upstream:
        answer = await exchange(upstream.url, post_json("/v1/chat/completions", request))
    events = answer.content.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_sdk_reads_a_stream(profile: str) -> None:
    """The SDK's own types hold the stream; its tokens are as many as the usage says, its text is the unstreamed one."""
    async with fake_upstream(profile=profile, time_scale=QUICK, seed=4) as upstream:
        async with sdk(upstream) as client:
            stream: AsyncStream[ChatCompletionChunk] = await client.chat.completions.create(
                model="some-model", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
        async with sdk(upstream) as client:
            again: ChatCompletion = await client.chat.completions.create(model="some-model", messages=MESSAGES)
    texts = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    thoughts = [text for chunk in chunks for choice in chunk.choices if (text := _reasoning(choice.delta.model_dump()))]
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == len(texts) + len(thoughts)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert (len(thoughts) > 0) == (PROFILES[profile].reasoning_share > 0)
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == ["stop"]
    assert chunks[0].model == again.model == "some-model"
    assert "Cats sit on mats." in "".join(texts)
    assert "Cats sit on mats." in str(again.choices[0].message.content)


def _reasoning(delta: dict[str, Any]) -> str | None:
    return delta.get("reasoning") or delta.get("reasoning_content")


async def test_the_sdk_reads_completions() -> None:
    """/v1/completions answers too, streamed and not, without reasoning."""
    async with fake_upstream(profile="sophia", time_scale=QUICK) as upstream, sdk(upstream) as client:
        whole = await client.completions.create(model="m", prompt=QUESTION, max_tokens=9)
        stream = await client.completions.create(model="m", prompt=QUESTION, max_tokens=9, stream=True)
        texts = [choice.text async for chunk in stream for choice in chunk.choices]
        names = [model.id async for model in client.models.list()]
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 9
    assert whole.choices[0].finish_reason == "length"
    assert "".join(texts) == whole.choices[0].text
    assert names == ["openai/gpt-oss-120b"]


@pytest.mark.parametrize("profile", PROFILES)
async def test_errors_become_the_sdks_exceptions(profile: str) -> None:
    """Each vendor's error body is one that the SDK reads."""
    async with fake_upstream(profile=profile) as upstream, sdk(upstream) as client:
        with pytest.raises(BadRequestError, match="messages must be"):
            await client.chat.completions.create(model="m", messages=[])
        with pytest.raises(NotFoundError, match="no such operation"):
            await client.embeddings.create(model="m", input="x")


async def test_sambanovas_fields() -> None:
    """`created` is a float, deltas carry reasoning and channel, usage carries counts, times and rates."""
    chunks = await _stream("metis", **USAGE)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert isinstance(chunks[0]["created"], float)
    assert {delta.get("channel") for delta in deltas if delta.get("reasoning")} == {"analysis"}
    assert {delta.get("channel") for delta in deltas if delta.get("content")} == {"final"}
    usage = chunks[-1]["usage"]
    assert chunks[-1]["choices"] == []
    assert usage["completion_tokens_details"]["reasoning_tokens"] == sum(1 for d in deltas if d.get("reasoning"))
    assert 0 < usage["time_to_first_token"] < usage["total_latency"]
    assert usage["end_time"] - usage["start_time"] == pytest.approx(usage["total_latency"], abs=1e-5)
    assert usage["is_last_response"] is True
    rates = ("completion_tokens_per_sec", "completion_tokens_after_first_per_sec", "total_tokens_per_sec")
    assert all(usage[rate] > 0 for rate in rates)


async def test_vllms_fields() -> None:
    """Reasoning is in reasoning_content and isn't counted; choices have stop_reason; usage comes only if asked for."""
    chunks = await _stream("sophia", **USAGE)
    assert all("stop_reason" in chunk["choices"][0] for chunk in chunks if chunk["choices"])
    assert any(chunk["choices"][0]["delta"].get("reasoning_content") for chunk in chunks if chunk["choices"])
    usage = chunks[-1]["usage"]
    assert usage["prompt_tokens_details"] is None
    assert "completion_tokens_details" not in usage
    assert not any("usage" in chunk for chunk in await _stream("sophia"))


async def test_vllms_continuous_usage() -> None:
    """With continuous_usage_stats each chunk counts the tokens so far."""
    chunks = await _stream("sophia", stream_options={"include_usage": True, "continuous_usage_stats": True})
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk]
    assert counts == [*range(1, counts[-1] + 1), counts[-1]]


async def test_sophias_gateway_adds_to_a_body() -> None:
    """An answer that isn't streamed has the gateway's two fields: the time, and the rate over all tokens."""
    body, headers = await _ask("sophia")
    assert body["throughput_tokens_per_second"] == pytest.approx(body["usage"]["total_tokens"] / body["response_time"])
    assert body["choices"][0]["message"]["reasoning_content"]
    assert ("Server", "dyno-simulate") in headers


async def test_cerebras_fields() -> None:
    """The body and the last chunk have time_info, and the usage too, whether it was asked for or not."""
    body, headers = await _ask("cerebras")
    last = (await _stream("cerebras"))[-1]
    for info in (body["time_info"], last["time_info"]):
        parts = info["queue_time"] + info["prompt_time"] + info["completion_time"]
        assert parts == pytest.approx(info["total_time"])
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["completion_tokens"] == body["usage"]["completion_tokens"]
    assert body["choices"][0]["message"]["reasoning"]
    assert "x-ratelimit-limit-requests-day" in dict(headers)


async def test_llama_cpps_fields() -> None:
    """timings in milliseconds, on the body and on the last chunk."""
    body, _ = await _ask("llamacpp")
    last = (await _stream("llamacpp"))[-1]
    assert body["timings"]["predicted_n"] == body["usage"]["completion_tokens"] == last["timings"]["predicted_n"]
    assert body["timings"]["prompt_ms"] > 0


ERRORS: list[tuple[str, dict[str, Any]]] = [
    ("metis", {"error": {"message": "m", "type": "server_error", "param": None, "code": None}, "request_id": "r"}),
    ("sophia", {"error": {"message": "m", "type": "server_error", "param": None, "code": 503}}),
    ("cerebras", {"message": "m", "type": "server_error", "param": None, "code": None}),
    ("llamacpp", {"error": {"code": 503, "message": "m", "type": "server_error"}}),
    ("openai", {"error": {"message": "m", "type": "server_error", "param": None, "code": None}}),
]


@pytest.mark.parametrize(("profile", "expected"), ERRORS)
def test_error_bodies(profile: str, expected: dict[str, Any]) -> None:
    """Each vendor's error body has its own shape."""
    assert PROFILES[profile].wire.error(503, "m", "r") == expected


@pytest.mark.parametrize("stream", [True, False])
async def test_a_response_takes_its_planned_time(stream: bool) -> None:
    """The time that the client waits is at least the time that the server reports, and not much more."""
    async with fake_upstream(
        profile="metis", fixed_s=0.2, per_token_s=0.005, spread_s=0.0, output_tokens=20
    ) as upstream:
        request = {"messages": MESSAGES, "stream": stream, **USAGE}
        started = time.monotonic()
        answer = await exchange(upstream.url, post_json("/v1/chat/completions", request))
        took_s = time.monotonic() - started
        writes = upstream.last.writes
        body_ns = upstream.last.body_ns
    assert 0.3 <= took_s < 1.5
    assert answer.content.count(b'"total_latency":0.3') == 1
    if stream:
        offsets_s = [(stamp - body_ns) / 1e9 for stamp, _ in writes]
        assert offsets_s[0] < 0.1  # the head goes out before the first token
        assert all(offset >= 0.2 + index * 0.005 for index, offset in enumerate(offsets_s[1:21], 1))
    else:
        assert len(writes) == 1
