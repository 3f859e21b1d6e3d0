"""Chat completions and completions, streamed and not. Pure.

Some vendors add timings in fields of their own: SambaNova in `usage`, Cerebras in `time_info`, llama.cpp in `timings`,
vLLM in `metrics`, ALCF's gateway in `response_time`.
"""

from typing import Any, Final

import msgspec

from .content import (
    ANSWER,
    DONE_DATA,
    ERROR_EVENT,
    EVENT,
    GATEWAY_ERROR_ID,
    GATEWAY_ERROR_PREFIX,
    GATEWAY_ERROR_TEXT,
    OUTPUT,
    REASONING,
    TOOL_CALL_BYTES,
    Content,
    Reader,
    read_strange_body,
    read_stranger,
    said,
    skimming,
    utf8_bytes,
    with_reasoning,
)
from .ends import USUAL, reason_said
from .fitting import Count, Seconds, decoded, fitted


def read_event(data: bytes, content: Content) -> int:
    """Read one SSE event's data into `content`. Returns what it was, as a sum of EVENT, REASONING, ANSWER, DONE."""
    if data == DONE_DATA:
        return content.done()
    try:
        chunk: _Chunk | None = _CHUNK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        chunk = fitted(_Chunk, data)
    if chunk is None or (chunk.choices is None and chunk.usage is None):
        if chunk is not None:
            _read_timings(chunk, content)
        return read_stranger(data, content)
    unseen = not content.output_bytes
    flags = _read_chunk(chunk, content)
    if unseen and chunk.usage is not None and flags & OUTPUT and content.output_tokens is not None:
        # With continuous usage this is the first chunk's own count. If reasoning came before it unseen, the count holds
        # that too, so it is subtracted.
        hidden = 0 if flags & REASONING else content.reasoning_tokens or 0
        content.first_chunk_tokens = content.output_tokens - hidden
    return flags


def read_body(body: bytes, content: Content) -> None:
    """Read a whole, unstreamed body into `content`."""
    chunk = decoded(_CHUNK, body)
    if chunk is not None and (chunk.choices is not None or chunk.usage is not None):
        _read_chunk(chunk, content)
    else:
        read_strange_body(body, content)


class _Function(msgspec.Struct, gc=False):
    name: Any = None
    arguments: Any = None


class _Custom(msgspec.Struct, gc=False):
    """A call of a tool that takes a text: a patch, say."""

    name: Any = None
    input: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    function: _Function | None = None
    custom: _Custom | None = None


class _Audio(msgspec.Struct, gc=False):
    data: Any = None
    transcript: Any = None


class _Message(msgspec.Struct, gc=False):
    """A delta or a message."""

    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: Any = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: _Audio | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count | None = None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_tokens_details: _InputDetails | None = None
    # Some have these beside the details, or in their place: Perplexity, Moonshot, DeepSeek
    reasoning_tokens: Count | None = None
    cached_tokens: Count | None = None
    prompt_cache_hit_tokens: Count | None = None
    time_to_first_token: Seconds | None = None
    total_latency: Seconds | None = None
    # Groq's
    queue_time: Seconds | None = None
    prompt_time: Seconds | None = None
    completion_time: Seconds | None = None
    total_time: Seconds | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    text: Any = None
    finish_reason: Any = None
    usage: _Usage | None = None  # Moonshot's


class _Groq(msgspec.Struct, gc=False):
    usage: _Usage | None = None
    error: Any = None


class _TimeInfo(msgspec.Struct, gc=False):
    queue_time: Seconds | None = None
    prompt_time: Seconds | None = None
    completion_time: Seconds | None = None
    total_time: Seconds | None = None


class _Timings(msgspec.Struct, gc=False):
    prompt_ms: Seconds | None = None
    predicted_ms: Seconds | None = None


class _Metrics(msgspec.Struct, gc=False):
    time_to_first_token_ms: Seconds | None = None
    queue_time_ms: Seconds | None = None
    generation_time_ms: Seconds | None = None


class _Chunk(msgspec.Struct, gc=False):
    """A chunk of a stream, or a whole body: their top levels share their names."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    x_groq: _Groq | None = None
    time_info: _TimeInfo | None = None
    timings: _Timings | None = None
    metrics: _Metrics | None = None
    response_time: Seconds | None = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)

READER: Final = Reader(read_event, read_body, skimming(_Chunk), skimming(_Chunk))


def _read_chunk(chunk: _Chunk, content: Content) -> int:
    content.readable = True
    if not content.response_id:
        content.response_id = chunk.id
    if not content.response_model:
        content.response_model = chunk.model
    flags = 0
    for choice in chunk.choices or ():
        flags |= EVENT | _read_choice(choice, content)
        if choice.finish_reason is not None:
            _read_finish(choice, chunk.id, content)
        if choice.usage is not None and chunk.usage is None:
            chunk.usage = choice.usage
    if chunk.error is not None and said(chunk.error):
        content.refuse(ERROR_EVENT)
    if chunk.x_groq is not None:
        if chunk.usage is None:
            chunk.usage = chunk.x_groq.usage
        if said(chunk.x_groq.error):
            content.refuse(ERROR_EVENT)
    if chunk.usage is not None:
        if not flags & OUTPUT:
            _note_closing(chunk, chunk.usage, content)
        _read_usage(chunk.usage, content)
    if chunk.time_info is not None or chunk.timings is not None or chunk.metrics is not None or chunk.response_time:
        _read_timings(chunk, content)
    return flags


def _read_choice(choice: _Choice, content: Content) -> int:
    if choice.index not in content.choices:
        content.choices[choice.index] = None
    flags = 0
    message = choice.delta or choice.message
    if message is not None:
        reasoning = message.reasoning or message.reasoning_content
        if reasoning:
            size_bytes = utf8_bytes(reasoning) or utf8_bytes(message.reasoning_content)
            if size_bytes:
                flags = REASONING
                content.reasoning_seen = True
                content.output_bytes += size_bytes
        text = message.content or message.refusal
        if text:
            size_bytes = utf8_bytes(text) or utf8_bytes(message.refusal)
            if size_bytes:
                flags |= ANSWER
                content.output_bytes += size_bytes
        if message.tool_calls or message.function_call is not None or message.audio is not None:
            flags |= _read_calls(message, content)
    if choice.text:
        size_bytes = utf8_bytes(choice.text)
        if size_bytes:
            flags |= ANSWER
            content.output_bytes += size_bytes
    return flags


def _read_calls(message: _Message, content: Content) -> int:
    """Read tool calls and audio. Returns ANSWER if a call has a name or arguments, or sound or its transcript came.

    An announcement with neither isn't output.
    """
    pairs: list[tuple[Any, Any]] = []
    for call in message.tool_calls or ():
        if call.function is not None:
            pairs.append((call.function.name, call.function.arguments))
        if call.custom is not None:
            pairs.append((call.custom.name, call.custom.input))
    if message.function_call is not None:
        pairs.append((message.function_call.name, message.function_call.arguments))
    flags = 0
    for name, arguments in pairs:
        name_bytes, argument_bytes = utf8_bytes(name), utf8_bytes(arguments)
        if name_bytes or argument_bytes:
            flags = ANSWER
            content.output_bytes += name_bytes + argument_bytes + (TOOL_CALL_BYTES if name_bytes else 0)
    if message.audio is not None:
        audio_bytes = utf8_bytes(message.audio.data) + utf8_bytes(message.audio.transcript)
        if audio_bytes:
            flags = ANSWER
            content.output_bytes += audio_bytes
    return flags


def _read_finish(choice: _Choice, chunk_id: str | None, content: Content) -> None:
    reason = choice.finish_reason
    if type(reason) is str and reason in USUAL and content.choices[choice.index] is None:
        content.choices[choice.index] = reason
        content.end_bytes = content.output_bytes
    else:
        reason = reason_said(reason)
        if reason is None:
            return
        content.end_choice(choice.index, reason)
    text = None if choice.delta is None else choice.delta.content
    if chunk_id == GATEWAY_ERROR_ID or (isinstance(text, str) and text.startswith(GATEWAY_ERROR_PREFIX)):
        content.refuse(GATEWAY_ERROR_TEXT)


def _note_closing(chunk: _Chunk, usage: _Usage, content: Content) -> None:
    """Note a usage that closes the answer: it has no choice, or no other one came before it."""
    counted = usage.completion_tokens is not None or usage.prompt_tokens is not None
    if counted and (not chunk.choices or content.output_tokens is None):
        content.usage_bytes = content.output_bytes


def _read_usage(usage: _Usage, content: Content) -> None:
    """Later counts replace earlier ones: with continuous usage, the last is the count of the whole."""
    if usage.prompt_tokens is not None:
        content.input_tokens = usage.prompt_tokens
    if usage.completion_tokens is not None:
        content.output_tokens = usage.completion_tokens
    if usage.completion_tokens_details is not None or usage.reasoning_tokens is not None:
        _read_reasoning(usage, content)
    if usage.prompt_tokens_details is not None:
        if usage.prompt_tokens_details.cached_tokens is not None:
            content.cached_tokens = usage.prompt_tokens_details.cached_tokens
    elif usage.cached_tokens is not None:
        content.cached_tokens = usage.cached_tokens
    elif usage.prompt_cache_hit_tokens is not None:
        content.cached_tokens = usage.prompt_cache_hit_tokens
    if usage.time_to_first_token is not None:
        content.server_ttft_s = usage.time_to_first_token
    if usage.total_latency is not None:
        content.server_latency_s = usage.total_latency
    if usage.total_time is not None:
        content.server_latency_s = usage.total_time
        content.server_queue_s = usage.queue_time
        content.server_prefill_s = usage.prompt_time
        content.server_decode_s = usage.completion_time


def _read_reasoning(usage: _Usage, content: Content) -> None:
    details = usage.completion_tokens_details
    reasoning = details.reasoning_tokens if details is not None else None
    if reasoning is None:
        reasoning = usage.reasoning_tokens
    if reasoning is not None:
        content.reasoning_tokens = reasoning
        if usage.completion_tokens is not None:
            content.output_tokens = with_reasoning(
                usage.completion_tokens, reasoning, usage.prompt_tokens, usage.total_tokens
            )


def _read_timings(chunk: _Chunk, content: Content) -> None:
    if chunk.time_info is not None:
        content.server_queue_s = chunk.time_info.queue_time
        content.server_prefill_s = chunk.time_info.prompt_time
        content.server_decode_s = chunk.time_info.completion_time
        content.server_latency_s = chunk.time_info.total_time
    if chunk.timings is not None:
        content.server_prefill_s = _seconds(chunk.timings.prompt_ms)
        content.server_decode_s = _seconds(chunk.timings.predicted_ms)
    if chunk.metrics is not None:
        content.server_ttft_s = _seconds(chunk.metrics.time_to_first_token_ms)
        content.server_queue_s = _seconds(chunk.metrics.queue_time_ms)
        content.server_decode_s = _seconds(chunk.metrics.generation_time_ms)
    if chunk.response_time is not None:
        content.server_latency_s = chunk.response_time


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
