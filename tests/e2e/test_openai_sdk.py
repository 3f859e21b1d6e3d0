"""The real OpenAI SDK, sync and async, through the real proxy to the simulated endpoints.

A request's header carries the script, so one pair of processes serves most tests.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from rigs.fake_upstream import fake_upstream
from rigs.programs import running
from rigs.running_proxy import RunningProxy, in_thread, running_proxy
from rigs.until import AT_ONCE_S, LIMIT_S

MESSAGES: list[Any] = [{"role": "user", "content": "Context: Cats sit on mats. Question: Where? Answer:"}]
SIMULATE = [
    sys.executable,
    "-m",
    "dyno",
    "simulate",
    "--time-scale",
    "0.002",
    "--profile",
    "metis",
    "--profile",
    "sophia",
]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """The proxy in front of a simulated Metis and a simulated Sophia."""
    folder = tmp_path_factory.mktemp("sdk")
    ready = r"dyno simulate: (?P<name>\w+) on (?P<url>\S+)"
    with (
        running(SIMULATE, ready, folder / "simulate.log", lines=2) as found,
        running_proxy(folder, {match["name"]: match["url"] for match in found}) as started,
    ):
        yield started


@pytest.fixture
def earlier(proxy: RunningProxy) -> int:
    """The number of rows before the test. Every request of the tests before it has left its row."""
    return len(proxy.wait_for_rows(proxy.started()))


def client(proxy: RunningProxy, endpoint: str = "metis", **options: Any) -> OpenAI:
    return OpenAI(base_url=proxy.base_url(endpoint), api_key="none", **{"max_retries": 0, **options})


def async_client(url: str, **options: Any) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url, api_key="none", **{"max_retries": 0, **options})


def scripted(*steps: Any) -> dict[str, str]:
    return {"x-dyno-script": json.dumps(steps)}


@pytest.mark.parametrize("endpoint", ["metis", "sophia"])
def test_sync(proxy: RunningProxy, earlier: int, endpoint: str) -> None:
    """A whole answer arrives as the SDK's type, and the row has the same content."""
    with client(proxy, endpoint) as sdk:
        answer = sdk.chat.completions.create(model="gpt-oss-120b", messages=MESSAGES, temperature=0.5, seed=3)
    assert answer.choices[0].message.content is not None
    assert "Cats sit on mats." in answer.choices[0].message.content
    assert answer.usage is not None
    row = proxy.wait_for_rows(earlier + 1)[-1]
    assert (row["outcome"], row["endpoint"], row["operation"], row["status"]) == ("ok", endpoint, "chat", 200)
    assert (row["streamed"], row["simulated"], row["model"]) == (False, True, "gpt-oss-120b")
    assert (row["input_tokens"], row["output_tokens"]) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    assert row["response_id"] == answer.id
    assert row["finish_reasons"] == ["stop"]


@pytest.mark.parametrize("endpoint", ["metis", "sophia"])
def test_sync_stream(proxy: RunningProxy, earlier: int, endpoint: str) -> None:
    """Every chunk of a stream arrives, and the row has counted them."""
    with (
        client(proxy, endpoint) as sdk,
        sdk.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        ) as stream,
    ):
        chunks = list(stream)
    assert chunks[-1].usage is not None
    row = proxy.wait_for_rows(earlier + 1)[-1]
    assert (row["outcome"], row["streamed"]) == ("ok", True)
    assert row["output_tokens"] == chunks[-1].usage.completion_tokens == len(row["chunk_offsets_us"])
    assert ("reasoning_tokens" in row) == (endpoint == "metis")  # vLLM doesn't say


def test_a_stream_whose_end_comes_late(proxy: RunningProxy, earlier: int) -> None:
    """The SDK closes its connection on `[DONE]`.

    An answer that was whole by then is ok, although its framing had not ended.
    """
    script = scripted({"tokens": 5, "every_s": 0.01}, {"finish": "stop"}, {"done": True}, {"wait_s": 0.3})
    with client(proxy) as sdk:
        chunks = list(sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True, extra_headers=script))
    assert chunks[-1].choices[0].finish_reason == "stop"
    row = proxy.wait_for_rows(earlier + 1)[-1]
    assert (row["outcome"], row["finish_reasons"]) == ("ok", ["stop"])


async def test_async_stream(proxy: RunningProxy, earlier: int) -> None:
    """Many streams at once aren't mixed: each has its own answer and its own row."""

    async def ask(sdk: AsyncOpenAI, number: int) -> str:
        messages: list[Any] = [{"role": "user", "content": f"Context: Cat {number} sits. Question: Which cat? Answer:"}]
        stream = await sdk.chat.completions.create(model=f"model-{number}", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async with async_client(proxy.base_url("sophia")) as sdk:
        answers = await asyncio.gather(*(ask(sdk, number) for number in range(20)))
    assert all(f"Cat {number} sits." in answer for number, answer in enumerate(answers))
    rows = (await proxy.rows(earlier + 20))[earlier:]
    assert {row["model"] for row in rows} == {f"model-{number}" for number in range(20)}
    assert {row["outcome"] for row in rows} == {"ok"}


async def test_completions_and_models(proxy: RunningProxy, earlier: int) -> None:
    """The other paths pass too. Completions are measured; the list of models has no figures."""
    async with async_client(proxy.base_url("sophia")) as sdk:
        completion = await sdk.completions.create(model="m", prompt="Hello", max_tokens=7)
        names = [model.id async for model in sdk.models.list()]
    assert completion.usage is not None
    assert names == ["openai/gpt-oss-120b"]
    first, second = (await proxy.rows(earlier + 2))[earlier:]
    assert (first["operation"], first["output_tokens"], first["finish_reasons"]) == ("text_completion", 7, ["length"])
    assert (second["method"], second["path"], second["outcome"]) == ("GET", "/sophia/v1/models", "ok")


def test_tools(proxy: RunningProxy, earlier: int) -> None:
    """The SDK assembles a streamed tool call, and the proxy counts it as output."""
    script = scripted(
        {"tool_call": {"id": "call_1", "name": "weather", "arguments": ""}},
        {"wait_s": 0.02},
        {"tool_call": {"arguments": '{"city": '}},
        {"tool_call": {"arguments": '"Rome"}'}},
        {"finish": "tool_calls"},
        {"done": True},
    )
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    with (
        client(proxy, "sophia") as sdk,
        sdk.chat.completions.stream(model="m", messages=MESSAGES, tools=tools, extra_headers=script) as stream,
    ):
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [
        ("weather", '{"city": "Rome"}')
    ]
    row = proxy.wait_for_rows(earlier + 1)[-1]
    assert (row["outcome"], row["finish_reasons"], len(row["chunk_offsets_us"])) == ("ok", ["tool_calls"], 3)
    assert row["first_answer_us"] == row["first_token_us"]


ERRORS: list[tuple[int, type[openai.APIStatusError], str]] = [
    (400, openai.BadRequestError, "http_error"),
    (401, openai.AuthenticationError, "auth"),
    (403, openai.PermissionDeniedError, "auth"),
    (404, openai.NotFoundError, "http_error"),
    (408, openai.APIStatusError, "http_error"),
    (422, openai.UnprocessableEntityError, "http_error"),
    (429, openai.RateLimitError, "rate_limited"),
    (500, openai.InternalServerError, "http_error"),
    (503, openai.InternalServerError, "http_error"),
    (504, openai.InternalServerError, "http_error"),
]


@pytest.mark.parametrize(("status", "exception", "outcome"), ERRORS)
@pytest.mark.parametrize("endpoint", ["metis", "sophia"])
def test_errors(
    proxy: RunningProxy, earlier: int, endpoint: str, status: int, exception: type[openai.APIStatusError], outcome: str
) -> None:
    """For each status the SDK raises its own exception with the endpoint's message. The row has the status' outcome."""
    script = scripted({"status": status, "headers": {"Retry-After": "7"}}, {"error": "told by the endpoint"})
    with client(proxy, endpoint) as sdk, pytest.raises(exception, match="told by the endpoint") as raised:
        sdk.chat.completions.create(model="m", messages=MESSAGES, extra_headers=script)
    assert raised.value.status_code == status
    assert raised.value.response.headers["Retry-After"] == "7"
    row = proxy.wait_for_rows(earlier + 1)[-1]
    assert (row["outcome"], row["status"]) == (outcome, status)


def test_retries_are_the_clients(proxy: RunningProxy, earlier: int) -> None:
    """The SDK retries as often as it was told. Each attempt is a row of its own; the proxy adds no attempt."""
    script = scripted({"status": 503, "headers": {"Retry-After-Ms": "1"}}, {"error": "warming up"})
    with client(proxy, max_retries=2) as sdk, pytest.raises(openai.InternalServerError):
        sdk.chat.completions.create(model="m", messages=MESSAGES, extra_headers=script)
    assert proxy.started() == earlier + 3
    rows = proxy.wait_for_rows(earlier + 3)[earlier:]
    assert [row["status"] for row in rows] == [503, 503, 503]


def test_an_unknown_endpoint(proxy: RunningProxy) -> None:
    """The proxy's own refusal has the format that the SDK reads."""
    with client(proxy, "venus") as sdk, pytest.raises(openai.NotFoundError) as raised:
        sdk.chat.completions.create(model="m", messages=MESSAGES)
    assert raised.value.code == "unknown_endpoint"
    assert raised.value.type == "dyno_proxy_error"


GATEWAY_ERROR = {
    "id": "chatcmpl-api-error",
    "object": "chat.completion.chunk",
    "created": 1.5,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "\n\n[ERROR] boom"}, "finish_reason": "stop"}],
}
ENDS: list[tuple[str, list[Any], str]] = [
    (
        "sophia's error",
        [{"event": {"object": "error", "message": "boom", "code": 500}}, {"done": True}],
        "stream_error",
    ),
    ("metis's error", [{"event": GATEWAY_ERROR}, {"done": True}], "stream_error"),
    ("an error object", [{"tokens": 2}, {"event": {"error": {"message": "boom"}}}, {"done": True}], "stream_error"),
    ("done, not finished", [{"tokens": 3}, {"done": True}], "truncated"),
    ("finished, not done", [{"tokens": 3}, {"finish": "stop"}], "ok"),
    ("cut by length", [{"tokens": 3}, {"finish": "length"}, {"done": True}], "ok"),
    ("no JSON", [{"status": 200, "headers": {"Content-Type": "application/json"}}, {"bytes": "oops"}], "stream_error"),
]


@pytest.mark.parametrize(("steps", "outcome"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS])
async def test_how_a_200_may_end(proxy: RunningProxy, earlier: int, steps: list[Any], outcome: str) -> None:
    """A 200 alone isn't an answer: errors in any form and missing ends have their own outcomes."""
    async with async_client(proxy.base_url("sophia")) as sdk:
        response = await sdk.with_raw_response.chat.completions.create(
            model="m", messages=MESSAGES, extra_headers=scripted(*steps)
        )
    assert response.status_code == 200
    row = (await proxy.rows(earlier + 1))[-1]
    assert (row["outcome"], row["status"]) == (outcome, 200)


@pytest.mark.parametrize("cut", ["reset", "close"])
async def test_a_broken_stream_breaks_for_the_client(proxy: RunningProxy, earlier: int, cut: str) -> None:
    """If the upstream breaks an answer off, it breaks off for the client too: the SDK raises, and the outcome is
    truncated."""
    script = scripted({"tokens": 3, "every_s": 0.01}, {"wait_s": 0.05}, {"cut": cut})
    async with async_client(proxy.base_url("metis")) as sdk:
        stream = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True, extra_headers=script)
        for _ in range(3):
            await anext(stream)
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)
    row = (await proxy.rows(earlier + 1))[-1]
    assert (row["outcome"], row["status"]) == ("truncated", 200)


async def test_a_client_that_leaves(tmp_path: Path) -> None:
    """Closing a stream in its middle ends the upstream request at once, in outcome client_cancelled."""
    async with (
        fake_upstream([{"tokens": 5, "every_s": 0.01}, {"stall": True}]) as upstream,
        in_thread(running_proxy(tmp_path, {"up": upstream.url})) as proxy,
    ):
        async with async_client(proxy.base_url("up")) as sdk:
            stream = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            for _ in range(5):
                await anext(stream)
            left_s = asyncio.get_running_loop().time()
            await stream.close()
            await asyncio.wait_for(upstream.last.finished.wait(), LIMIT_S)
            took_s = asyncio.get_running_loop().time() - left_s
        (row,) = await proxy.rows(1)
    assert upstream.last.client_left
    assert took_s < AT_ONCE_S
    assert (row["outcome"], row["status"], len(row["chunk_offsets_us"])) == ("client_cancelled", 200, 5)


async def test_a_client_that_runs_out_of_time(tmp_path: Path) -> None:
    """The SDK's own time-out, before the head or within a stream, cancels the upstream request.

    Each is client_cancelled.
    """
    scripts: list[list[Any]] = [[{"wait_s": 30}, {"status": 200}], [{"tokens": 2}, {"stall": True}]]
    async with (
        fake_upstream(lambda _: scripts.pop(0)) as upstream,
        in_thread(running_proxy(tmp_path, {"up": upstream.url})) as proxy,
    ):
        async with async_client(proxy.base_url("up"), timeout=0.6) as sdk:
            with pytest.raises(openai.APITimeoutError):
                await sdk.chat.completions.create(model="m", messages=MESSAGES)
            stream = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            await anext(stream)
            await anext(stream)
            with pytest.raises(openai.APITimeoutError):
                await anext(stream)
        rows = await proxy.rows(2)
        async with asyncio.timeout(LIMIT_S):
            for received in upstream.requests:
                await received.finished.wait()
    assert [row["outcome"] for row in rows] == ["client_cancelled", "client_cancelled"]
    assert [row.get("status") for row in rows] == [None, 200]
    assert all(received.client_left for received in upstream.requests)


async def test_an_endpoint_that_is_down(tmp_path: Path) -> None:
    """If nothing listens at the upstream, the proxy answers 502 in its own format, and the SDK raises that status."""
    async with fake_upstream() as gone:
        url = gone.url
    with running_proxy(tmp_path, {"up": url}) as proxy:
        async with async_client(proxy.base_url("up")) as sdk:
            with pytest.raises(openai.InternalServerError) as raised:
                await sdk.chat.completions.create(model="m", messages=MESSAGES)
        (row,) = await proxy.rows(1)
    assert raised.value.status_code == 502
    assert raised.value.type == "dyno_proxy_error"
    assert row["outcome"] == "upstream_unreachable"
