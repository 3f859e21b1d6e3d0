"""Anthropic's messages, streamed and not. Pure.

    message_start, then of each block content_block_start, …delta, …stop, then message_delta, message_stop

`message_stop` is the API's own end. Its stop_reason is taken as the finish_reason, in Anthropic's words. The first
event that belongs to the output opens a block, since `message_start` comes before the model begins. Output tokens are
taken from `message_delta` alone. `message_start` counts a token or two as well, and a stream that fails would leave
that as the count of the whole.
"""

from typing import Any, Final

import msgspec

from .content import (
    ANSWER,
    DONE,
    DONE_DATA,
    EVENT,
    REASONING,
    TOOL_CALL_BYTES,
    Content,
    Reader,
    event_name,
    read_strange_body,
    read_stranger,
    skimming,
    utf8_bytes,
)
from .ends import reason_said
from .fitting import Count, decoded


def read_event(data: bytes, content: Content) -> int:
    """Read one SSE event's data into `content`. Returns what it was, as a sum of EVENT, REASONING, ANSWER, DONE."""
    if data == DONE_DATA:
        return DONE
    event = decoded(_EVENT, data)
    kind = None if event is None else event.type
    if event is not None and kind not in _EVENTS and kind != "error":
        kind = event_name(data)
    if event is None or kind not in _EVENTS:
        return read_stranger(data, content)
    content.readable = True
    if kind == "content_block_delta" and event.delta is not None:
        return EVENT | _read_delta(event.delta, content)
    if kind == "content_block_start" and event.content_block is not None:
        return EVENT | _read_block(event.content_block, content)
    if kind == "message_start" and event.message is not None:
        _read_head(event.message, content)
        _read_usage(event.message.usage, content)
        content.output_tokens = None
    elif kind == "message_delta":
        if event.delta is not None:
            content.stop(event.delta.stop_reason)
        _read_usage(event.usage, content)
    elif kind == "message_stop":
        content.ended = True
        return DONE
    return 0


def read_body(body: bytes, content: Content) -> None:
    """Read a whole, unstreamed body into `content`. It is complete if it has a stop_reason."""
    message = decoded(_MESSAGE, body)
    if message is None or (message.type != "message" and (message.content is None or message.type == "error")):
        read_strange_body(body, content)
        return
    content.readable = True
    _read_head(message, content)
    _read_usage(message.usage, content)
    for block in message.content or ():
        _read_block(block, content)
    content.stop(message.stop_reason)
    content.ended = reason_said(message.stop_reason) is not None


_EVENTS: Final = frozenset(
    (
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop", "ping"),
    )
)


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: Count | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    output_tokens: Count | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(msgspec.Struct, gc=False):
    """A block of content: in a stream as it opens, in an unstreamed body whole."""

    type: str | None = None
    text: Any = None
    thinking: Any = None
    signature: Any = None
    name: Any = None
    input: Any = None


class _Delta(msgspec.Struct, gc=False):
    """What an event adds to a block, or to the message."""

    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    signature: Any = None
    stop_reason: Any = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    type: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: Any = None
    usage: _Usage | None = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


_EVENT: Final = msgspec.json.Decoder(_Event)
_MESSAGE: Final = msgspec.json.Decoder(_Message)

READER: Final = Reader(read_event, read_body, skimming(_Event), skimming(_Message))


def _read_head(message: _Message, content: Content) -> None:
    content.response_id = message.id
    content.response_model = message.model


def _read_delta(delta: _Delta, content: Content) -> int:
    """A citation or a signature isn't output. A signature without its thinking means that thinking isn't shown."""
    if delta.thinking:
        size_bytes = utf8_bytes(delta.thinking)
        if size_bytes:
            content.reasoning_seen = True
            content.output_bytes += size_bytes
            return REASONING
    text = delta.text or delta.partial_json
    if text:
        size_bytes = utf8_bytes(text)
        content.output_bytes += size_bytes
        return ANSWER if size_bytes else 0
    if delta.signature and not content.reasoning_seen:
        content.reasoning_withheld = True
    return 0


def _read_block(block: _Block, content: Content) -> int:
    """Read a block. In a stream it just opens: mostly it is empty but for a tool call's name. In a body it is whole."""
    kind = block.type
    if kind == "redacted_thinking" or (kind == "thinking" and block.signature and not block.thinking):
        content.reasoning_withheld = True
        return 0
    thinking_bytes = utf8_bytes(block.thinking)
    if thinking_bytes:
        content.reasoning_seen = True
        content.output_bytes += thinking_bytes
        return REASONING
    if kind == "text" or (kind is None and not block.name):
        text_bytes = utf8_bytes(block.text)
        content.output_bytes += text_bytes
        return ANSWER if text_bytes else 0
    name_bytes = utf8_bytes(block.name)
    if name_bytes:
        content.output_bytes += name_bytes + utf8_bytes(block.input) + TOOL_CALL_BYTES
        return ANSWER
    return 0


def _read_usage(usage: _Usage | None, content: Content) -> None:
    """The counts are running totals. Anthropic's `input_tokens` lack the tokens written to the cache or read from it.

    The conventions' input tokens hold them, so they are added, also where a later event tells them alone.
    """
    if usage is None:
        return
    if usage.cache_creation_input_tokens is not None:
        content.cache_written_tokens = usage.cache_creation_input_tokens
    if usage.cache_read_input_tokens is not None:
        content.cached_tokens = usage.cache_read_input_tokens
    if usage.input_tokens is not None:
        content.uncached_tokens = max(usage.input_tokens, content.uncached_tokens)
    if usage.input_tokens is not None or content.input_tokens is not None:
        told = content.uncached_tokens + content.cache_written_tokens + (content.cached_tokens or 0)
        content.input_tokens = max(told, content.input_tokens or 0)
    if usage.output_tokens is not None:
        content.output_tokens = usage.output_tokens
    if usage.output_tokens_details is not None and usage.output_tokens_details.thinking_tokens is not None:
        content.reasoning_tokens = usage.output_tokens_details.thinking_tokens
