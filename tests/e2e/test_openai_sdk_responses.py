"""OpenAI's responses API with its real SDK is the same directly and through the real proxy.

The row knows each kind of end.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from rigs.fake_upstream import Script
from rigs.openai_seen import client, read_on
from rigs.sdk_bench import SdkBench, answered, head, outcomes, sdk_bench

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SdkBench]:
    async with sdk_bench(tmp_path_factory.mktemp("responses")) as made:
        yield made


def response(status: str, *, text: str | None = None, error: Any = None) -> dict[str, Any]:
    """An object of the responses API."""
    output = [] if text is None else [output_item(text)]
    usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
    usage |= {"input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 0}}  # type: ignore[dict-item]
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "model": "m",
        "status": status,
        "output": output,
        "error": error,
        "usage": None if text is None else usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def output_item(text: str | None) -> dict[str, Any]:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


def response_events(*events: tuple[str, dict[str, Any]]) -> Script:
    steps: Script = [head(content_type="text/event-stream")]
    for number, (kind, data) in enumerate(events):
        line = json.dumps({"type": kind, "sequence_number": number, **data})
        steps += [{"bytes": f"event: {kind}\ndata: {line}\n\n"}, {"wait_s": 0.01}]
    return steps


AT: Final = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
RESPONSE_BEGIN: Final = (
    ("response.created", {"response": response("in_progress")}),
    ("response.output_item.added", {"output_index": 0, "item": output_item(None)}),
    ("response.content_part.added", {**AT, "part": {"type": "output_text", "text": "", "annotations": []}}),
    ("response.output_text.delta", {**AT, "delta": "On", "logprobs": []}),
    ("response.output_text.delta", {**AT, "delta": " mats.", "logprobs": []}),
)
RESPONSE_END: Final = (
    ("response.output_text.done", {**AT, "text": "On mats.", "logprobs": []}),
    ("response.content_part.done", {**AT, "part": {"type": "output_text", "text": "On mats.", "annotations": []}}),
    ("response.output_item.done", {"output_index": 0, "item": output_item("On mats.")}),
    ("response.completed", {"response": response("completed", text="On mats.")}),
)


async def test_a_response(bench: SdkBench) -> None:
    """A whole answer of the responses API arrives. The row has the server's counts."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            answer = await sdk.responses.create(model="m", input="x")
            return answer.to_dict(), answer.output_text, answer._request_id

    (_, text, request_id), rows = await bench.same([answered(response("completed", text="On mats."))], observe)
    assert (text, request_id) == ("On mats.", "req_1")
    assert outcomes(rows) == ["ok"]
    assert (rows[0]["input_tokens"], rows[0]["output_tokens"], rows[0]["cached_tokens"]) == (9, 2, 4)


async def test_the_responses_streaming_helper(bench: SdkBench) -> None:
    """`responses.stream` gives the same events and the same response."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk, sdk.responses.stream(model="m", input="x") as stream:
            events = [each.to_dict(warnings=False) async for each in stream]
            return events, (await stream.get_final_response()).to_dict(warnings=False)

    (events, final), rows = await bench.same([response_events(*RESPONSE_BEGIN, *RESPONSE_END)], observe)
    assert (events[-1]["type"], final["status"]) == ("response.completed", "completed")
    assert outcomes(rows) == ["ok"]
    assert (rows[0]["streamed"], len(rows[0]["chunk_offsets_us"]), rows[0]["output_tokens"]) == (True, 2, 2)


FAILED: Final = response("failed", error={"code": "server_error", "message": "boom"})
RESPONSE_ENDS: Final = [
    ("failed", [("response.failed", {"response": FAILED})], "stream_error"),
    ("an error", [("error", {"code": "server_error", "message": "boom", "param": None})], "stream_error"),
    ("incomplete", [("response.incomplete", {"response": response("incomplete", text="On mats.")})], "ok"),
    ("nothing", [], "truncated"),
]


@pytest.mark.parametrize(
    ("end", "outcome"), [each[1:] for each in RESPONSE_ENDS], ids=[each[0] for each in RESPONSE_ENDS]
)
async def test_how_a_response_may_end(bench: SdkBench, end: list[tuple[str, Any]], outcome: str) -> None:
    """A stream of the responses API ends for the SDK as it does without a proxy. The row says which end it was."""

    async def observe(url: str) -> Any:
        async with client(url) as sdk:
            events, broke = await read_on(await sdk.responses.create(model="m", input="x", stream=True))
        return events, str(broke)

    _, rows = await bench.same([response_events(*RESPONSE_BEGIN, *end)], observe)
    assert (outcomes(rows), rows[0]["status"]) == ([outcome], 200)
