"""What the bodies and SSE events of each API say. Pure: bytes in, a `Content` filled, flags out.

Chat completions and completions; the vendors' own fields are those of ENDPOINTS.md: SambaNova's timings stand in
`usage`, Cerebras' in `time_info`, llama.cpp's in `timings`, vLLM's in `metrics`, ALCF's gateway adds `response_time`.
"""

from typing import Any, Final

import msgspec

# What one SSE event was, as a sum
EVENT: Final = 1  # `choices` isn't empty
REASONING: Final = 2  # carried reasoning
ANSWER: Final = 4  # carried output that is not reasoning
DONE: Final = 8  # `[DONE]`
OUTPUT: Final = REASONING | ANSWER

# ALCF's gateway to Metis dresses an error as an answer: this id, this text, finish_reason "stop".
GATEWAY_ERROR_ID: Final = "chatcmpl-api-error"
GATEWAY_ERROR_TEXT: Final = "\n\n[ERROR]"


class Content:
    """What the response said, gathered over its events."""

    __slots__ = (
        "cached_tokens",
        "choices",
        "error_type",
        "finish_reasons",
        "first_chunk_tokens",
        "input_tokens",
        "output_tokens",
        "readable",
        "reasoning_tokens",
        "response_id",
        "response_model",
        "server_decode_s",
        "server_latency_s",
        "server_prefill_s",
        "server_queue_s",
        "server_ttft_s",
        "unreadable_events",
    )

    def __init__(self) -> None:
        self.readable = False  # at least one event, or the body, was of the API's shape
        self.unreadable_events = 0
        self.error_type: str | None = None  # an error inside a 200
        self.choices: set[int] = set()
        self.finish_reasons: dict[int, str] = {}
        self.response_id: str | None = None
        self.response_model: str | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.first_chunk_tokens: int | None = None
        self.server_ttft_s: float | None = None
        self.server_latency_s: float | None = None
        self.server_queue_s: float | None = None
        self.server_prefill_s: float | None = None
        self.server_decode_s: float | None = None

    @property
    def finished(self) -> bool:
        """Every choice that appeared has its finish_reason, and one did."""
        return bool(self.choices) and self.choices <= self.finish_reasons.keys()


class RequestBody(msgspec.Struct):
    """What a request asked for. Fields are None where they are missing or of another type."""

    model: Any = None
    stream: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    seed: Any = None


def read_request(body: bytes) -> RequestBody:
    """The parameters of a JSON request; all None where the body isn't a JSON object."""
    try:
        return _REQUEST.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return RequestBody()


def read_event(payload: bytes, content: Content) -> int:
    """One SSE event's data into `content`; returns what it was as a sum of EVENT, REASONING, ANSWER, DONE."""
    if payload == b"[DONE]":
        return DONE
    chunk = _decode(payload)
    if chunk is None:
        content.unreadable_events += 1
        return 0
    had_usage = content.output_tokens is not None
    flags = _read_common(chunk, content)
    if flags & OUTPUT and not had_usage and chunk.usage is not None:
        # Continuous usage: the first chunk's own count, which TPOT takes off.
        content.first_chunk_tokens = chunk.usage.completion_tokens
    return flags


def read_body(body: bytes, content: Content) -> None:
    """A whole, unstreamed body into `content`."""
    chunk = _decode(body)
    if chunk is None:
        content.unreadable_events += 1
    else:
        _read_common(chunk, content)


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Message(msgspec.Struct):
    """A delta or a message."""

    content: Any = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Message | None = None
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_tokens_details: _InputDetails | None = None
    time_to_first_token: float | None = None
    total_latency: float | None = None


class _TimeInfo(msgspec.Struct):
    queue_time: float | None = None
    prompt_time: float | None = None
    completion_time: float | None = None
    total_time: float | None = None


class _Timings(msgspec.Struct):
    prompt_ms: float | None = None
    predicted_ms: float | None = None


class _Metrics(msgspec.Struct):
    time_to_first_token_ms: float | None = None
    queue_time_ms: float | None = None
    generation_time_ms: float | None = None


class _Chunk(msgspec.Struct):
    """A chunk of a stream, or a whole body: their top levels share their names."""

    id: str | None = None
    object: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    time_info: _TimeInfo | None = None
    timings: _Timings | None = None
    metrics: _Metrics | None = None
    response_time: float | None = None


_REQUEST: Final = msgspec.json.Decoder(RequestBody)
_CHUNK: Final = msgspec.json.Decoder(_Chunk)


def _decode(payload: bytes) -> _Chunk | None:
    try:
        return _CHUNK.decode(payload)
    except msgspec.ValidationError:
        pass  # a field of another type than its vendor documents: once more, leniently
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    try:
        return msgspec.convert(msgspec.json.decode(payload), _Chunk, strict=False)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read_common(chunk: _Chunk, content: Content) -> int:
    content.readable = True
    if chunk.id is not None and content.response_id is None:
        content.response_id = chunk.id
    if chunk.model is not None and content.response_model is None:
        content.response_model = chunk.model
    if chunk.error is not None or chunk.object == "error":
        content.error_type = content.error_type or "error_event"
    flags = 0
    if chunk.choices:
        flags = EVENT
        for choice in chunk.choices:
            flags |= _read_choice(choice, content)
    if chunk.id == GATEWAY_ERROR_ID:
        content.error_type = content.error_type or "gateway_error_text"
    if chunk.usage is not None:
        _read_usage(chunk.usage, content)
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
    return flags


def _read_choice(choice: _Choice, content: Content) -> int:
    content.choices.add(choice.index)
    if choice.finish_reason is not None:
        content.finish_reasons[choice.index] = choice.finish_reason
    flags = 0
    message = choice.delta or choice.message
    if message is not None:
        if message.reasoning or message.reasoning_content:
            flags |= REASONING
        if message.content or message.refusal or _calls(message):
            flags |= ANSWER
        if isinstance(message.content, str) and message.content.startswith(GATEWAY_ERROR_TEXT):
            content.error_type = content.error_type or "gateway_error_text"
    if choice.text:
        flags |= ANSWER
    return flags


def _calls(message: _Message) -> bool:
    """A tool call's name or arguments came; an announcement with neither is no output."""
    functions = [call.function for call in message.tool_calls or ()]
    functions.append(message.function_call)
    return any(function is not None and bool(function.name or function.arguments) for function in functions)


def _read_usage(usage: _Usage, content: Content) -> None:
    """Later counts replace earlier ones: with continuous usage the last is the whole."""
    if usage.prompt_tokens is not None:
        content.input_tokens = usage.prompt_tokens
    if usage.completion_tokens is not None:
        content.output_tokens = usage.completion_tokens
    if usage.completion_tokens_details is not None:
        content.reasoning_tokens = usage.completion_tokens_details.reasoning_tokens
    if usage.prompt_tokens_details is not None:
        content.cached_tokens = usage.prompt_tokens_details.cached_tokens
    if usage.time_to_first_token is not None:
        content.server_ttft_s = usage.time_to_first_token
    if usage.total_latency is not None:
        content.server_latency_s = usage.total_latency


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
