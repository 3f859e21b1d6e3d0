"""The real OpenAI SDK behaves the same directly and through the real proxy, and each attempt leaves its row.

test_openai_sdk.py tests the rows of chat completions. test_openai_sdk_responses.py tests the responses API.
"""

import asyncio
import base64
import random
import struct
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

import openai
import pytest
import pytest_asyncio
from openai import OpenAI

from rigs.fake_upstream import Script
from rigs.openai_seen import client, described, raised, read_on
from rigs.sdk_bench import SdkBench, answered, gaps_s, head, outcomes, sdk_bench
from rigs.until import AT_ONCE_S, LIMIT_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES: Final[list[Any]] = [{"role": "user", "content": "Where do cats sit?"}]
STREAM: Final[Script] = [
    head(openai_processing_ms="12"),
    {"tokens": 3, "every_s": 0.02},
    {"finish": "stop"},
    {"usage": True},
    {"done": True},
]
NOISE: Final = random.Random(1).randbytes(3_000_000)  # noqa: S311 - any bytes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SdkBench]:
    async with sdk_bench(tmp_path_factory.mktemp("openai")) as made:
        yield made


def refused(status: int, **headers: str) -> Script:
    error = {"message": "told by the endpoint", "type": "some_error", "param": "model", "code": "some_code"}
    return [head(status, **headers), {"json": {"error": error}}]


STATUSES: Final = [
    (400, "BadRequestError", "http_error"),
    (401, "AuthenticationError", "auth"),
    (403, "PermissionDeniedError", "auth"),
    (404, "NotFoundError", "http_error"),
    (408, "APIStatusError", "http_error"),
    (409, "ConflictError", "http_error"),
    (413, "APIStatusError", "http_error"),
    (422, "UnprocessableEntityError", "http_error"),
    (429, "RateLimitError", "rate_limited"),
    (500, "InternalServerError", "http_error"),
    (503, "InternalServerError", "http_error"),
    (504, "InternalServerError", "http_error"),
    (529, "InternalServerError", "http_error"),
]


@pytest.mark.parametrize(("status", "exception", "outcome"), STATUSES)
async def test_errors(bench: SdkBench, status: int, exception: str, outcome: str) -> None:
    """Each status raises the same exception, with message, body, headers and request id, in both clients."""

    async def observe(url: str) -> Any:
        def synchronous() -> dict[str, Any]:
            with (
                OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk,
                pytest.raises(openai.APIError) as caught,
            ):
                sdk.embeddings.create(model="m", input="x")
            return described(caught.value)

        async with client(url) as sdk:
            streamed = await raised(lambda: sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))
            response = await raised(lambda: sdk.responses.create(model="m", input="x"))
        return streamed, response, await asyncio.to_thread(synchronous)

    seen, rows = await bench.same([refused(status, retry_after="7")], observe)
    for each in seen:
        assert (each["class"], each["status"], each["request_id"]) == (exception, status, "req_1")
        assert (each["code"], each["headers"]["retry-after"]) == ("some_code", "7")
        assert "told by the endpoint" in each["message"]
    assert outcomes(rows) == [outcome] * 3


@pytest.mark.parametrize("page", ["<html>bad gateway</html>", "", "null", '{"detail": "odd"}', '{"error": "a text"}'])
async def test_errors_that_are_no_json_of_the_apis(bench: SdkBench, page: str) -> None:
    """If the body is a gateway's page or empty, the SDK raises the same exception as without a proxy."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            return await raised(lambda: sdk.chat.completions.create(model="m", messages=MESSAGES))

    seen, rows = await bench.same([[head(502), {"bytes": page}]], observe)
    assert seen["class"] == "InternalServerError"
    assert outcomes(rows) == ["http_error"]


@pytest.mark.parametrize(
    ("status", "headers", "waits_s"),
    [
        (429, {"retry_after": "0.4"}, 0.4),
        (429, {"retry_after_ms": "300"}, 0.3),
        (408, {"retry_after_ms": "50"}, 0.05),
        (409, {"retry_after_ms": "50"}, 0.05),
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
            stream = await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            events, _ = await read_on(stream)
        gaps.extend(gaps_s(bench.upstream.requests[before:]))
        return events

    failing = refused(status, **headers)
    _, rows = await bench.same([failing, failing, STREAM], observe)
    assert [row["status"] for row in rows] == [status, status, 200]
    assert outcomes(rows)[-1] == "ok"
    assert len(gaps) == 4
    assert all(waits_s <= gap < waits_s + AT_ONCE_S for gap in gaps), gaps


async def test_a_retry_at_a_date(bench: SdkBench) -> None:
    """A `Retry-After` that is a date reaches the SDK too."""

    async def observe(url: str) -> Any:
        at = datetime.now(UTC) + timedelta(seconds=2)
        bench.scripts[0][0]["headers"]["retry-after"] = format_datetime(at, usegmt=True)
        async with client(url, max_retries=1) as sdk:
            answer = await sdk.embeddings.create(model="m", input="x")
        assert datetime.now(UTC) >= at - timedelta(seconds=1)  # a date is of whole seconds
        return answer.to_dict()

    _, rows = await bench.same([refused(429), answered(embeddings_of([0.5]))], observe)
    assert outcomes(rows) == ["rate_limited", "ok"]


@pytest.mark.parametrize("script", [[{"stall": True}], [*STREAM[:2], {"stall": True}]], ids=["before", "within"])
async def test_timeouts(bench: SdkBench, script: Script) -> None:
    """The SDK's time limit works before the answer (the SDK then retries) and within it.

    The upstream request is ended.
    """
    before_head = len(script) == 1

    async def observe(url: str) -> Any:
        async with client(url, timeout=0.6, max_retries=1) as sdk:
            if before_head:
                return await raised(lambda: sdk.responses.create(model="m", input="x"))
            events, broke = await read_on(await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        return events, type(broke).__name__

    seen, rows = await bench.same([script], observe)
    assert (seen["class"] if before_head else seen[1]) == "APITimeoutError"
    assert outcomes(rows) == ["client_cancelled"] * (2 if before_head else 1)


@pytest.mark.parametrize("cut", ["reset", "close"])
async def test_a_stream_that_breaks_off(bench: SdkBench, cut: str) -> None:
    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            events, broke = await read_on(await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        return events, type(broke).__name__

    (events, broke), rows = await bench.same([[*STREAM[:2], {"wait_s": 0.05}, {"cut": cut}]], observe)
    assert (len(events), broke) == (3, "APIConnectionError")
    assert outcomes(rows) == ["truncated"]


async def test_an_error_in_the_stream(bench: SdkBench) -> None:
    """For an error inside a 200 the SDK raises an exception with its message, after the same chunks."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            events, broke = await read_on(await sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        assert broke is not None
        return events, described(broke)

    error = {"event": {"error": {"message": "boom", "code": 500}}}
    (events, broke), rows = await bench.same([[*STREAM[:2], error, {"done": True}]], observe)
    assert (len(events), broke["class"], "boom" in broke["message"]) == (3, "APIError", True)
    assert outcomes(rows) == ["stream_error"]


async def test_leaving_a_stream(bench: SdkBench) -> None:
    """A user who leaves the block in the stream's middle ends the upstream's request at once."""
    took_s: list[float] = []

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            async with sdk.chat.completions.stream(model="m", messages=MESSAGES) as stream:
                first = [await anext(stream) for _ in range(3)]
                left_s = time.monotonic()
            await asyncio.wait_for(bench.upstream.last.finished.wait(), LIMIT_S)
            took_s.append(time.monotonic() - left_s)
        return [each.type for each in first], bench.upstream.last.client_left

    (_, left), rows = await bench.same([[*STREAM[:2], {"stall": True}]], observe)
    assert left
    assert outcomes(rows) == ["client_cancelled"]
    assert max(took_s) < AT_ONCE_S


async def test_an_endpoint_that_hangs_up(bench: SdkBench) -> None:
    """If the upstream ends before an answer's head, the proxy answers 502, and the SDK retries as it does without a
    proxy."""
    bench.scripts = [[{"wire": ""}, {"cut": "close"}]]
    seen = []
    for url in (bench.direct, bench.proxied):
        before = len(bench.upstream.requests)
        async with client(url, max_retries=1) as sdk:
            seen.append(await raised(lambda sdk=sdk: sdk.embeddings.create(model="m", input="x")))  # type: ignore[misc]
        assert len(bench.upstream.requests) == before + 2
    assert [each["class"] for each in seen] == ["APIConnectionError", "InternalServerError"]
    assert (seen[1]["status"], seen[1]["type"]) == (502, "dyno_proxy_error")
    rows = await bench.proxy.rows(bench.proxy.started())
    assert outcomes(rows[-2:]) == ["upstream_unreachable"] * 2


async def test_the_chat_streaming_helper(bench: SdkBench) -> None:
    """`chat.completions.stream` gives the same events and the same completion."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk, sdk.chat.completions.stream(model="m", messages=MESSAGES) as stream:
            events = [each.to_dict() async for each in stream]
            return events, (await stream.get_final_completion()).to_dict()

    (events, final), rows = await bench.same([STREAM], observe)
    assert events[-1]["type"] in ("chunk", "content.done")
    assert final["choices"][0]["message"]["content"] == " 0 1 2"
    assert outcomes(rows) == ["ok"]


def embeddings_of(*vectors: list[float]) -> dict[str, Any]:
    encoded = [base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(encoded)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 6, "total_tokens": 6}}


async def test_embeddings(bench: SdkBench) -> None:
    """Vectors pass, by default as base64. The row has the input tokens."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            return [each.embedding for each in (await sdk.embeddings.create(model="m", input=["x", "y"])).data]

    vectors, rows = await bench.same([answered(embeddings_of([0.5, -2.0], [1.0, 0.25]))], observe)
    assert vectors == [[0.5, -2.0], [1.0, 0.25]]
    assert (outcomes(rows), rows[0]["operation"], rows[0]["input_tokens"]) == (["ok"], "embeddings", 6)


async def test_files(bench: SdkBench) -> None:
    """An upload arrives byte by byte in its multipart body, and a download comes back as sent."""
    file = {
        "id": "file-1",
        "object": "file",
        "bytes": len(NOISE),
        "created_at": 1,
        "filename": "a.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
    encoded = base64.b64encode(NOISE).decode()

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            made = await sdk.files.create(file=("a.jsonl", NOISE), purpose="batch")
            downloaded = await sdk.files.content(made.id)
            return made.to_dict(), downloaded.content == NOISE

    download: Script = [head(content_type="application/octet-stream"), {"base64": encoded}]
    (_, same), rows = await bench.same([answered(file), download], observe)
    assert same
    assert NOISE in bench.upstream.requests[-2].body
    assert outcomes(rows) == ["ok", "ok"]


async def test_speech_and_transcription(bench: SdkBench) -> None:
    """Binary audio is streamed to the client in pieces, and is uploaded as multipart."""
    piece = base64.b64encode(NOISE[:100_000]).decode()
    speech: Script = [head(content_type="audio/mpeg"), {"base64": piece}, {"wait_s": 0.2}, {"base64": piece}]

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            spoken = sdk.audio.speech.with_streaming_response.create(model="m", voice="alloy", input="x")
            async with spoken as answer:
                pieces = [(time.monotonic(), each) async for each in answer.iter_bytes()]
            assert pieces[-1][0] - pieces[0][0] > 0.15, "the first half was held back"
            heard = await sdk.audio.transcriptions.create(model="m", file=("a.mp3", NOISE[:1000]))
            return b"".join(each for _, each in pieces) == NOISE[:100_000] * 2, heard.text

    seen, rows = await bench.same([speech, answered({"text": "On mats."})], observe)
    assert seen == (True, "On mats.")
    assert outcomes(rows) == ["ok", "ok"]


async def test_batches_and_pages(bench: SdkBench) -> None:
    """A batch is made, and lists are followed from page to page."""
    batch = {
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "status": "validating",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "created_at": 1,
    }

    def page(*names: str, more: bool) -> Script:
        return answered({"object": "list", "data": [{**batch, "id": name} for name in names], "has_more": more})

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            made = await sdk.batches.create(
                completion_window="24h", endpoint="/v1/chat/completions", input_file_id="file-1"
            )
            models = [each.id async for each in sdk.models.list()]
            return made.to_dict(), models, [each.id async for each in sdk.batches.list(limit=2)]

    models = {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in "mn"],
    }
    pages = [page("a", "b", more=True), page("c", more=False)]
    (_, names, batches), rows = await bench.same([answered(batch), answered(models), *pages], observe)
    assert (names, batches) == (["m", "n"], ["a", "b", "c"])
    assert "after=b" in bench.upstream.last.target
    assert outcomes(rows) == ["ok"] * 4
