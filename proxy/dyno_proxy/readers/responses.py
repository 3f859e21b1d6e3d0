"""OpenAI's responses, streamed and not. Pure.

    response.created … response.output_item.added … response.output_text.delta … response.completed

`response.completed` and `response.incomplete` are the API's own end. The second one gives its reason; in chat it would
be the finish_reason "length" or "content_filter". The first event that belongs to the output opens an item. The events
before it only repeat the request.

A summary of the reasoning doesn't count as a chunk: another model writes it, and no count holds its tokens. If it
counted as output, it would stretch or squeeze TPOT, and TTFT would depend on whether it was asked for.
"""

from typing import Any, Final

import msgspec

from .content import (
    ANSWER,
    DONE,
    DONE_DATA,
    ERROR_EVENT,
    EVENT,
    REASONING,
    RESPONSE_FAILED,
    TOOL_CALL_BYTES,
    Content,
    Reader,
    event_name,
    read_strange_body,
    read_stranger,
    said,
    skimming,
    utf8_bytes,
    with_reasoning,
)
from .fitting import Count, decoded

_DELTAS: Final = {
    "response.output_text.delta": ANSWER,
    "response.refusal.delta": ANSWER,
    "response.function_call_arguments.delta": ANSWER,
    "response.custom_tool_call_input.delta": ANSWER,
    "response.mcp_call_arguments.delta": ANSWER,
    "response.code_interpreter_call_code.delta": ANSWER,
    "response.shell_call_command.delta": ANSWER,
    "response.apply_patch_call_operation_diff.delta": ANSWER,
    "response.audio.delta": ANSWER,
    "response.audio.transcript.delta": ANSWER,
    "response.reasoning_text.delta": REASONING,
    # Not the model's own words: a summary, and what a tool puts out
    "response.reasoning_summary_text.delta": 0,
    "response.reasoning_summary.delta": 0,
    "response.shell_call_output_content.delta": 0,
}
_ENVELOPE: Final = ("response.created", "response.queued", "response.in_progress")
_ENDS: Final = ("response.completed", "response.incomplete")


def read_event(data: bytes, content: Content) -> int:
    """Read one SSE event's data into `content`. Returns what it was, as a sum of EVENT, REASONING, ANSWER, DONE."""
    if data == DONE_DATA:
        return DONE
    event = decoded(_EVENT, data)
    if event is not None and not event.type:
        event.type = event_name(data)
    if event is None or not event.type.startswith("response."):
        return read_stranger(data, content)
    content.readable = True
    kind = _DELTAS.get(event.type)
    if kind is None and event.type.endswith(".delta"):
        kind = ANSWER  # of a kind of output that is newer than this table
    if kind is not None:
        size_bytes = utf8_bytes(event.delta) if kind else 0
        if not size_bytes:
            return EVENT
        content.output_bytes += size_bytes
        content.reasoning_seen = content.reasoning_seen or kind == REASONING
        return EVENT | kind
    if event.response is not None:
        _read_response(event.response, content)
    if event.type in _ENDS:
        content.ended = True
        return DONE
    if event.type in ("response.failed", "response.cancelled"):
        content.refuse(RESPONSE_FAILED)
        return DONE
    if event.type in _ENVELOPE:
        return 0
    if event.type == "response.output_item.added" and event.item is not None and event.item.name:
        content.output_bytes += utf8_bytes(event.item.name) + TOOL_CALL_BYTES
        return EVENT | ANSWER  # a tool call's name
    return EVENT


def read_body(body: bytes, content: Content) -> None:
    """Read a whole, unstreamed body into `content`.

    A response that the server still works on (`background`) counts as complete too; its finish_reason shows it.
    """
    response = decoded(_RESPONSE, body)
    if response is None or response.status is None:
        read_strange_body(body, content)
        return
    content.readable = True
    _read_response(response, content)
    for item in response.output or ():
        _read_item(item, content)
    if response.status in ("failed", "cancelled"):
        content.refuse(RESPONSE_FAILED)
    else:
        content.ended = True


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count | None = None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    total_tokens: Count | None = None
    output_tokens_details: _OutputDetails | None = None
    input_tokens_details: _InputDetails | None = None


class _Part(msgspec.Struct, gc=False):
    text: Any = None
    refusal: Any = None


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    name: Any = None
    arguments: Any = None
    input: Any = None
    content: list[_Part] | None = None


class _Head(msgspec.Struct, gc=False):
    """A response inside an event, without its output, which came in deltas."""

    id: str | None = None
    model: str | None = None
    status: str | None = None
    error: Any = None
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None


class _Response(_Head, gc=False):
    output: list[_Item] | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: Any = None
    item: _Item | None = None
    response: _Head | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)
_RESPONSE: Final = msgspec.json.Decoder(_Response)

READER: Final = Reader(read_event, read_body, skimming(_Event), skimming(_Response))


def _read_response(response: _Head, content: Content) -> None:
    content.response_id = content.response_id or response.id
    content.response_model = content.response_model or response.model
    if said(response.error):
        content.refuse(ERROR_EVENT if response.status != "failed" else RESPONSE_FAILED)
    if response.status is not None:
        details = response.incomplete_details
        content.stop_reason = (details and details.reason) or response.status
    if response.usage is not None:
        _read_usage(response.usage, content)


def _read_usage(usage: _Usage, content: Content) -> None:
    details = usage.output_tokens_details
    reasoning = None if details is None else details.reasoning_tokens
    if reasoning is not None:
        content.reasoning_tokens = reasoning
    if usage.input_tokens is not None:
        content.input_tokens = usage.input_tokens
    if usage.output_tokens is not None:
        content.output_tokens = with_reasoning(usage.output_tokens, reasoning, usage.input_tokens, usage.total_tokens)
    if usage.input_tokens_details is not None and usage.input_tokens_details.cached_tokens is not None:
        content.cached_tokens = usage.input_tokens_details.cached_tokens


def _read_item(item: _Item, content: Content) -> None:
    seen = 0
    for part in item.content or ():
        seen += utf8_bytes(part.text) + utf8_bytes(part.refusal)
    if item.type == "reasoning":
        content.reasoning_seen = content.reasoning_seen or seen > 0
    elif item.name:
        seen += utf8_bytes(item.name) + utf8_bytes(item.arguments) + utf8_bytes(item.input) + TOOL_CALL_BYTES
    content.output_bytes += seen
