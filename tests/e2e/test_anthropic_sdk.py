"""The real Anthropic SDK behaves the same directly and through the real proxy, and each attempt leaves its row."""

import asyncio
import base64
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import anthropic
import httpx2
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic, AsyncStream

from rigs.fake_upstream import Script
from rigs.sdk_bench import SdkBench, answered, gaps_s, head, outcomes, sdk_bench
from rigs.until import AT_ONCE_S, LIMIT_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES: Final[list[Any]] = [{"role": "user", "content": "Where do cats sit?"}]
ASKED: Final[dict[str, Any]] = {"model": "claude-x", "max_tokens": 50, "messages": MESSAGES}
MESSAGE: Final = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "On mats."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 3},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SdkBench]:
    async with sdk_bench(tmp_path_factory.mktemp("anthropic")) as made:
        yield made


def client(url: str, **options: Any) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=url, api_key="none", **{"max_retries": 0, **options})


def event(kind: str, **data: Any) -> dict[str, str]:
    return {"bytes": f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"}


def text_delta(text: str) -> dict[str, str]:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


STREAM_HEAD: Final = head(content_type="text/event-stream; charset=utf-8")
BEGIN: Final[Script] = [
    STREAM_HEAD,
    event("message_start", message={**MESSAGE, "content": [], "stop_reason": None}),
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("ping"),
    {"wait_s": 0.02},
    text_delta("On"),
    {"wait_s": 0.02},
    text_delta(" mats."),
]
FINISH: Final[Script] = [
    event("content_block_stop", index=0),
    event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 3}),
    event("message_stop"),
]
TOOL: Final[Script] = [
    *BEGIN[:2],
    event("content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "f", "input": {}}),
    *[
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": part})
        for part in ('{"city": ', '"Rome"}')
    ],
    *FINISH,
]


def refused(status: int, kind: str, **headers: str) -> Script:
    error = {"type": "error", "error": {"type": kind, "message": "told by the endpoint"}, "request_id": "req_1"}
    return [head(status, **headers), {"json": error}]


async def raised(call: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """The exception that the call raised, as a user's code sees it."""
    with pytest.raises(anthropic.APIError) as caught:
        await call()
    error = caught.value
    seen = {"class": type(error).__name__, "message": str(error), "body": error.body}
    if isinstance(error, anthropic.APIStatusError):
        headers = {name: value for name, value in error.response.headers.items() if name != "connection"}
        seen |= {"status": error.status_code, "request_id": error.request_id, "headers": headers}
    return seen


async def read_on(stream: AsyncStream[Any]) -> tuple[list[Any], Exception | None]:
    """The stream's events, and the exception that broke it off. This SDK also lets its transport's exceptions pass."""
    seen: list[Any] = []
    while True:
        try:
            seen.append((await anext(stream)).to_dict())
        except StopAsyncIteration:
            return seen, None
        except (anthropic.APIError, httpx2.TransportError) as error:
            return seen, error


async def test_a_message(bench: SdkBench) -> None:
    """A whole answer has the SDK's type and the upstream's request id. The row has the server's counts."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            message = await sdk.messages.create(**ASKED)
            return message.to_dict(), message._request_id

    (message, request_id), rows = await bench.same([answered(MESSAGE)], observe)
    assert (message, request_id) == (MESSAGE, "req_1")
    assert outcomes(rows) == ["ok"]
    assert (rows[0]["operation"], rows[0]["model"], rows[0]["streamed"]) == ("chat", "claude-x", False)
    assert (rows[0]["input_tokens"], rows[0]["output_tokens"], rows[0]["response_id"]) == (9, 3, "msg_1")


@pytest.mark.parametrize("script", [[*BEGIN, *FINISH], TOOL], ids=["text", "a tool call"])
async def test_the_streaming_helper(bench: SdkBench, script: Script) -> None:
    """`messages.stream` gives the same events, texts and final message. The row counts the output."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk, sdk.messages.stream(**ASKED) as stream:
            events = [each.to_dict() async for each in stream]
            final = await stream.get_final_message()
            return events, final.to_dict(), stream.request_id

    (events, final, request_id), rows = await bench.same([script], observe)
    assert (events[-1]["type"], final["stop_reason"], request_id) == ("message_stop", "end_turn", "req_1")
    assert outcomes(rows) == ["ok"]
    assert (rows[0]["streamed"], len(rows[0]["chunk_offsets_us"])) == (True, 3 if script is TOOL else 2)
    assert (rows[0]["input_tokens"], rows[0]["output_tokens"]) == (9, 3)


async def test_raw_events(bench: SdkBench) -> None:
    """`create(stream=True)` hands over each event as it comes: the first long before the last is sent."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            stream = await sdk.messages.create(**ASKED, stream=True)
            arrived = [(time.monotonic(), each.to_dict()) async for each in stream]
            assert arrived[-1][0] - arrived[0][0] > 0.2
            return [each for _, each in arrived]

    _, rows = await bench.same([[*BEGIN, {"wait_s": 0.3}, *FINISH]], observe)
    assert outcomes(rows) == ["ok"]


ERRORS: Final = [
    (400, "invalid_request_error", "BadRequestError", "http_error"),
    (401, "authentication_error", "AuthenticationError", "auth"),
    (403, "permission_error", "PermissionDeniedError", "auth"),
    (404, "not_found_error", "NotFoundError", "http_error"),
    (408, "timeout_error", "RequestTimeoutError", "http_error"),
    (409, "conflict_error", "ConflictError", "http_error"),
    (413, "request_too_large", "ContentTooLargeError", "http_error"),
    (422, "invalid_request_error", "UnprocessableEntityError", "http_error"),
    (429, "rate_limit_error", "RateLimitError", "rate_limited"),
    (500, "api_error", "InternalServerError", "http_error"),
    (503, "api_error", "ServiceUnavailableError", "http_error"),
    (504, "timeout_error", "GatewayTimeoutError", "http_error"),
    (529, "overloaded_error", "OverloadedError", "http_error"),
]


@pytest.mark.parametrize(("status", "kind", "exception", "outcome"), ERRORS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_errors(bench: SdkBench, status: int, kind: str, exception: str, outcome: str, stream: bool) -> None:
    """Each status raises the same exception, with message, body, headers and request id."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            return await raised(lambda: sdk.messages.create(**ASKED, stream=stream))

    seen, rows = await bench.same([refused(status, kind, retry_after="7")], observe)
    assert (seen["class"], seen["status"], seen["request_id"]) == (exception, status, "req_1")
    assert (seen["headers"]["retry-after"], seen["body"]["error"]["type"]) == ("7", kind)
    assert (outcomes(rows), rows[0]["status"]) == ([outcome], status)


@pytest.mark.parametrize("page", ["<html>bad gateway</html>", "", "null", '{"detail": "odd"}'])
async def test_errors_that_are_no_json_of_the_apis(bench: SdkBench, page: str) -> None:
    """If the body is a gateway's page or empty, the SDK raises the same exception as without a proxy."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            return await raised(lambda: sdk.messages.create(**ASKED))

    seen, rows = await bench.same([[head(502), {"bytes": page}]], observe)
    assert seen["class"] == "InternalServerError"
    assert outcomes(rows) == ["http_error"]


@pytest.mark.parametrize("begin", [BEGIN[:1], BEGIN], ids=["at once", "after output"])
async def test_an_error_in_the_stream(bench: SdkBench, begin: Script) -> None:
    """For an `error` event the SDK raises an exception with its message.

    The row is a stream_error though the status is 200.
    """
    error = event("error", error={"type": "overloaded_error", "message": "too much"}, request_id="req_1")

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            seen, broke = await read_on(await sdk.messages.create(**ASKED, stream=True))
        assert isinstance(broke, anthropic.APIStatusError)
        return seen, type(broke).__name__, str(broke), broke.body

    (*_, message, _), rows = await bench.same([[*begin, error]], observe)
    assert "too much" in message
    assert (outcomes(rows), rows[0]["status"]) == (["stream_error"], 200)


@pytest.mark.parametrize("cut", ["reset", "close"])
async def test_a_stream_that_breaks_off(bench: SdkBench, cut: str) -> None:
    """If the upstream breaks a stream off, it breaks off for the SDK too, after the same events.

    A reset by the upstream reaches the client as an early end, which the framing shows. So the transport's exception
    differs.
    """

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            seen, broke = await read_on(await sdk.messages.create(**ASKED, stream=True))
        return seen, isinstance(broke, httpx2.TransportError)

    (seen, broke), rows = await bench.same([[*BEGIN, {"wait_s": 0.05}, {"cut": cut}]], observe)
    assert (seen[-1]["delta"]["text"], broke) == (" mats.", True)
    assert outcomes(rows) == ["truncated"]


async def test_a_stream_without_its_end(bench: SdkBench) -> None:
    """If the body ends properly but without `message_stop`, the SDK raises nothing.

    The row says that it is truncated.
    """

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            return [each.type async for each in await sdk.messages.create(**ASKED, stream=True)]

    seen, rows = await bench.same([BEGIN], observe)
    assert seen[-1] == "content_block_delta"
    assert outcomes(rows) == ["truncated"]


@pytest.mark.parametrize(
    ("status", "headers", "waits_s"),
    [
        (429, {"retry_after": "0.4"}, 0.4),
        (429, {"retry_after_ms": "300"}, 0.3),
        (529, {"retry_after_ms": "50"}, 0.05),
        (503, {"retry_after_ms": "50"}, 0.05),
        (400, {"x_should_retry": "true", "retry_after_ms": "50"}, 0.05),
    ],
)
async def test_retries(bench: SdkBench, status: int, headers: dict[str, str], waits_s: float) -> None:
    """The SDK retries as often as it decides and when it was told to.

    Each attempt is a row; the proxy adds no attempt.
    """
    gaps: list[float] = []

    async def observe(url: str) -> Any:
        before = len(bench.upstream.requests)
        async with client(url, max_retries=3) as sdk:
            message = await sdk.messages.create(**ASKED)
        gaps.extend(gaps_s(bench.upstream.requests[before:]))
        return message.to_dict()

    failing = refused(status, "api_error", **headers)
    _, rows = await bench.same([failing, failing, answered(MESSAGE)], observe)
    assert [row["status"] for row in rows] == [status, status, 200]
    assert len(gaps) == 4
    assert all(waits_s <= gap < waits_s + 0.3 for gap in gaps), gaps


async def test_no_retry_where_the_endpoint_says_so(bench: SdkBench) -> None:
    """`x-should-retry: false` reaches the SDK."""

    async def observe(url: str) -> Any:
        async with client(url, max_retries=3) as sdk:
            return await raised(lambda: sdk.messages.create(**ASKED))

    _, rows = await bench.same([refused(500, "api_error", x_should_retry="false")], observe)
    assert outcomes(rows) == ["http_error"]


@pytest.mark.parametrize("script", [[{"stall": True}], [*BEGIN, {"stall": True}]], ids=["before", "within"])
async def test_timeouts(bench: SdkBench, script: Script) -> None:
    """The SDK's time limit works before the answer (the SDK then retries) and within it.

    The upstream request is ended.
    """
    before_head = len(script) == 1

    async def observe(url: str) -> Any:
        async with client(url, timeout=0.6, max_retries=1) as sdk:
            if before_head:
                return await raised(lambda: sdk.messages.create(**ASKED))
            seen, broke = await read_on(await sdk.messages.create(**ASKED, stream=True))
            return seen, type(broke).__name__

    _, rows = await bench.same([script], observe)
    assert outcomes(rows) == ["client_cancelled"] * (2 if before_head else 1)


async def test_leaving_a_stream(bench: SdkBench) -> None:
    """A user who closes the stream in its middle ends the upstream's request at once."""
    took_s: list[float] = []

    async def observe(url: str) -> Any:
        async with client(url) as sdk, sdk.messages.stream(**ASKED) as stream:
            texts = stream.text_stream
            first = [await anext(texts), await anext(texts)]
            left_s = time.monotonic()
            await stream.close()
            await asyncio.wait_for(bench.upstream.last.finished.wait(), LIMIT_S)
            took_s.append(time.monotonic() - left_s)
        return first, bench.upstream.last.client_left

    (texts, left), rows = await bench.same([[*BEGIN, {"stall": True}]], observe)
    assert (texts, left) == (["On", " mats."], True)
    assert outcomes(rows) == ["client_cancelled"]
    assert max(took_s) < AT_ONCE_S


async def test_an_endpoint_that_hangs_up(bench: SdkBench) -> None:
    """If the upstream ends before an answer's head, the proxy answers 502, and the SDK retries as it does without a
    proxy."""
    bench.scripts = [[{"wire": ""}, {"cut": "close"}]]
    seen = []
    for url in (bench.direct, bench.proxied):
        async with client(url, max_retries=1) as sdk:
            seen.append(await raised(lambda sdk=sdk: sdk.messages.create(**ASKED)))  # type: ignore[misc]
    assert [each["class"] for each in seen] == ["APIConnectionError", "InternalServerError"]
    assert seen[1]["status"] == 502
    assert seen[1]["body"]["error"]["type"] == "dyno_proxy_error"
    rows = await bench.proxy.rows(bench.proxy.started())
    assert outcomes(rows[-2:]) == ["upstream_unreachable"] * 2


async def test_pages(bench: SdkBench) -> None:
    """Lists of models and batches are followed from page to page."""

    def page(*names: str, more: bool) -> Script:
        data = [
            {"id": name, "type": "model", "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names
        ]
        return answered({"data": data, "has_more": more, "first_id": names[0], "last_id": names[-1]})

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            return [model.id async for model in sdk.models.list(limit=2)]

    names, rows = await bench.same([page("a", "b", more=True), page("c", more=False)], observe)
    assert names == ["a", "b", "c"]
    assert bench.upstream.last.target == "/v1/models?limit=2&after_id=b"
    assert outcomes(rows) == ["ok", "ok"]


async def test_batches(bench: SdkBench) -> None:
    """A batch is made, and its results, JSON lines, are streamed."""
    batch = {"id": "batch_1", "type": "message_batch", "processing_status": "ended", "results_url": None}
    lines = [
        {"custom_id": str(number), "result": {"type": "succeeded", "message": MESSAGE | {"id": str(number)}}}
        for number in range(50)
    ]
    results: Script = [
        head(content_type="application/x-jsonl"),
        *({"bytes": json.dumps(line) + "\n"} for line in lines[:25]),
        {"wait_s": 0.02},
        *({"bytes": json.dumps(line) + "\n"} for line in lines[25:]),
    ]

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            made = await sdk.messages.batches.create(requests=[{"custom_id": "0", "params": ASKED}])  # type: ignore[typeddict-item]
            results_url = f"{url}/v1/messages/batches/batch_1/results"
            bench.scripts[0][1]["json"]["results_url"] = results_url  # as the service itself gives one
            decoded = await sdk.messages.batches.results(made.id)
            return made.id, [each.to_dict() async for each in decoded]

    ended = answered(dict(batch))
    (_, read), rows = await bench.same([answered(batch), ended, results], observe)
    assert read == lines
    assert outcomes(rows) == ["ok"] * 3


async def test_tokens_are_counted(bench: SdkBench) -> None:
    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            return (await sdk.messages.count_tokens(model="claude-x", messages=MESSAGES)).input_tokens

    tokens, rows = await bench.same([answered({"input_tokens": 14})], observe)
    assert tokens == 14
    assert outcomes(rows) == ["ok"]


async def test_files(bench: SdkBench) -> None:
    """An upload arrives byte by byte in its multipart body, and a download comes back as sent."""
    content = random.Random(1).randbytes(3_000_000)  # noqa: S311 - any bytes
    file = {
        "id": "file_1",
        "type": "file",
        "filename": "a.bin",
        "mime_type": "x/y",
        "size_bytes": 1,
        "created_at": "2026-01-01T00:00:00Z",
    }
    encoded = base64.b64encode(content).decode()

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            made = await sdk.beta.files.upload(file=("a.bin", content, "application/octet-stream"))
            downloaded = await (await sdk.beta.files.download(made.id)).read()
            return made.id, downloaded == content

    download: Script = [head(content_type="application/octet-stream"), {"base64": encoded}]
    (made, same), rows = await bench.same([answered(file), download], observe)
    assert (made, same) == ("file_1", True)
    assert content in bench.upstream.requests[-2].body
    assert outcomes(rows) == ["ok", "ok"]
