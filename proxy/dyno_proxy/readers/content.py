"""Content, which gathers what a response said over its events, and what all APIs' readers share. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from dyno_proxy.http.sse import Named
from dyno_proxy.outcomes import StreamError

from .ends import USUAL, gave_up, reason_said
from .fitting import decoded, is_json
from .skim import Skim, length_told, wanted

# What one SSE event was, as a sum of these
EVENT: Final = 1  # it belongs to the output, if only by naming a role or opening an item
REASONING: Final = 2  # carried reasoning
ANSWER: Final = 4  # carried output that is not reasoning
DONE: Final = 8  # the last one: `[DONE]`, or what the API has in its place
OUTPUT: Final = REASONING | ANSWER

DONE_DATA: Final = b"[DONE]"

# The error.type of an error inside a 200. The endpoint's own text is never stored.
ERROR_EVENT: Final[StreamError] = "error_event"
RESPONSE_FAILED: Final[StreamError] = "response_failed"
GATEWAY_ERROR_TEXT: Final[StreamError] = "gateway_error_text"

# ALCF's gateway to Metis dresses an error as an answer, with this id, this text and the finish_reason "stop". Where
# Metis broke off within an event, that event's beginning and the error stand in one line, which isn't JSON any more.
GATEWAY_ERROR_ID: Final = "chatcmpl-api-error"
GATEWAY_ERROR_PREFIX: Final = "\n\n[ERROR]"

# How many tokens of a choice may yield no byte: the end of a turn, markup of a role or channel, a space stripped off.
SILENT_TOKENS: Final = 16
_ODD_BYTES: Final = 8 * 1024  # stands for what can't be written as JSON again
_MOST_ENDS: Final = 128  # that are kept beyond one for each index
TOOL_CALL_BYTES: Final = 32  # counted for each tool call: the server removes its markup, which may be so many tokens


@dataclass(slots=True, eq=False)
class Content:
    """What the response said so far. A dataclass with slots, since its attributes are set faster than a Struct's."""

    readable: bool = False  # at least one event, or the body, was of the API's shape
    broken_off: bool = False  # the body is the beginning of JSON
    unreadable_events: int = 0
    error_type: StreamError | None = None  # an error inside a 200
    ended: bool = False  # the API's own end came; chat has one for each choice instead
    choices: dict[int, str | None] = field(default_factory=dict)  # index -> finish_reason, None until it comes
    choices_asked: int | None = None  # how many the request asked for; None: it isn't known
    more_ends: tuple[str, ...] = ()  # finish reasons beyond the first one of an index
    end_bytes: int = -1  # of the output, when the newest finish reason came
    usage_bytes: int = -1  # of the output, when a usage chunk came that closes the answer
    stop_reason: str | None = None  # where the API has no choices
    response_id: str | None = None
    response_model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    uncached_tokens: int = 0  # Anthropic counts these, and those written to the cache, apart
    cache_written_tokens: int = 0
    first_chunk_tokens: int | None = None
    first_read_tokens: int | None = None  # of the first read that had output, where the server tells them
    output_bytes: int = 0  # UTF-8 of all output that could be seen: answer, reasoning, tool calls
    reasoning_seen: bool = False
    reasoning_withheld: bool = False  # the API says that there was reasoning, and shows nothing of it
    server_ttft_s: float | None = None
    server_latency_s: float | None = None
    server_queue_s: float | None = None
    server_prefill_s: float | None = None
    server_decode_s: float | None = None

    @property
    def finished(self) -> bool:
        """Whether the API's own end came. In chat that is a finish_reason for every choice, of at least one.

        Some servers get the index wrong. text-generation-inference counts it up by chunk: then the one choice that was
        asked for has many, and its end is on the last. llama.cpp puts the ends of two choices on index 0: then there
        are as many ends as choices, and no output after them.
        """
        choices = self.choices
        if self.ended or (choices and None not in choices.values()):
            return True
        ends = self._ends
        if not ends or self.choices_asked == 1:
            return ends > 0
        return self.end_bytes == self.output_bytes and ends >= (self.choices_asked or len(choices))

    @property
    def _ends(self) -> int:
        return len(self.choices) - list(self.choices.values()).count(None) + len(self.more_ends)

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """The finish_reason of each choice that has one, in order of index and in the API's own words."""
        choices = self.choices
        if len(choices) < 2 and not self.more_ends:
            return tuple(filter(None, choices.values() or (self.stop_reason,)))
        reasons = tuple(reason for _, reason in sorted(choices.items()) if reason is not None)
        return (reasons + self.more_ends)[: self.choices_asked or len(choices)]

    @property
    def choice_count(self) -> int:
        """How many choices the answer has; 1 where the API has none."""
        count = len(self.choices)
        if count < 2 and not self.more_ends:
            return 1
        return max(1, count if self.choices_asked is None else min(self.choices_asked, max(count, self._ends)))

    @property
    def several_choices(self) -> int | None:
        """The same; None for one."""
        if len(self.choices) < 2 and not self.more_ends:
            return None
        count = self.choice_count
        return count if count > 1 else None

    def end_choice(self, index: int, reason: str) -> None:
        """A choice has ended."""
        if self.choices.get(index) is None:
            self.choices[index] = reason
        elif len(self.more_ends) < _MOST_ENDS:
            self.more_ends += (reason,)
        self.end_bytes = self.output_bytes
        if reason not in USUAL and gave_up(reason):
            self.refuse(ERROR_EVENT)

    def stop(self, reason: object) -> None:
        """The answer of an API without choices has ended, for this reason if it is one."""
        said_reason = reason_said(reason)
        if said_reason is not None:
            self.stop_reason = said_reason
            if gave_up(said_reason):
                self.refuse(ERROR_EVENT)

    def end_first_read(self) -> None:
        """The first read that had output is over. With continuous usage its last count is that of the read."""
        if self.first_chunk_tokens and self.output_tokens is not None:
            hidden = 0 if self.reasoning_seen else self.reasoning_tokens or 0
            self.first_read_tokens = self.output_tokens - hidden

    def done(self) -> int:
        """Take a stream's `[DONE]`. Returns DONE.

        By itself it is no end: a gateway that has lost its engine sends it too. Directly after the usage it is one,
        since Snowflake sends no finish_reason.
        """
        if self.usage_bytes == self.output_bytes:
            self.ended = True
        return DONE

    def hides_reasoning(self, *, configured: bool) -> bool:
        """Whether output tokens hold reasoning that was neither shown nor counted, so that TPOT can't be known.

        The configuration may say so, or the API itself (a block of thinking that is redacted). Otherwise the bytes
        show it. A token of output is one byte at least, and four on average. So where there are more tokens than bytes
        of visible output, some tokens weren't visible. A few tokens yield no byte, so there is a margin.
        """
        if self.reasoning_tokens is not None:
            return False
        if self.reasoning_withheld or (configured and self.output_bytes > 0 and not self.reasoning_seen):
            return True
        if self.output_tokens is None or self.output_tokens <= self.output_bytes:
            return False
        return self.output_tokens > self.output_bytes + SILENT_TOKENS * self.choice_count

    def refuse(self, error_type: StreamError) -> None:
        """Note an error, by its error.type. Only the first one counts."""
        self.readable = True
        if self.error_type is None:
            self.error_type = error_type


class Reader(NamedTuple):
    """How an API is read: an SSE event's data, or a whole body, into a Content."""

    event: Callable[[bytes, Content], int]  # returns what the event was, as a sum of EVENT, REASONING, ANSWER, DONE
    body: Callable[[bytes, Content], None]
    # A long one is skimmed first.
    skim_event: Callable[[], Skim]
    skim_body: Callable[[], Skim]


def read_stranger(data: bytes, content: Content) -> int:
    """Read an SSE event that hasn't its API's shape: `[DONE]` with a tail, an error of another form, or the unknown.

    Returns DONE or 0.
    """
    if data.lstrip().startswith(DONE_DATA):
        return content.done()
    if GATEWAY_ERROR_ID.encode() in data and GATEWAY_ERROR_PREFIX.encode().strip() in data:
        content.refuse(GATEWAY_ERROR_TEXT)
    elif event_name(data) == "error" or _is_error(data):
        content.refuse(ERROR_EVENT)
    else:
        content.unreadable_events += 1
    return 0


def read_strange_body(body: bytes, content: Content) -> None:
    """Read a body that hasn't its API's shape: an error, the beginning of JSON, or something unknown."""
    if _is_error(body):
        content.refuse(ERROR_EVENT)
        return
    try:
        _ANYTHING.decode(body)
    except msgspec.DecodeError as error:
        # A lone surrogate has the same message.
        content.broken_off = bool(body) and str(error) == _BROKEN_OFF and not is_json(body)
    except (UnicodeDecodeError, RecursionError):
        return


def event_name(data: bytes) -> str:
    """The name on the SSE event's own `event` line; empty where it only repeats what the data says."""
    return data.name if type(data) is Named else ""


def with_reasoning(output: int, reasoning: int | None, prompt: int | None, total: int | None) -> int:
    """The output's tokens with those of the reasoning in them. xAI counts these beside the others: the total tells."""
    if not reasoning:
        return output
    apart = reasoning > output or (prompt is not None and total == prompt + output + reasoning)
    return output + reasoning if apart else output


def utf8_bytes(text: object) -> int:
    """A text's length in bytes of UTF-8. For a list or an object in a text's place, an upper bound; 0 for all else."""
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if not isinstance(text, list | dict):
        return 0
    length = length_told(text)
    if length is not None:
        return length
    if isinstance(text, list) and all(item is None for item in text):
        return 0
    try:
        return len(msgspec.json.encode(text)) if text else 0
    except (UnicodeEncodeError, OverflowError, RecursionError):
        return _ODD_BYTES


class _Error(msgspec.Struct, gc=False):
    """The forms of an error: OpenAI's and flat `error`, vLLM's and Sophia's `object`, FastAPI's `detail`, Cerebras'
    flat `message` with `code`."""

    error: Any = None
    object: Any = None
    type: Any = None
    detail: Any = None
    message: Any = None
    code: Any = msgspec.UNSET
    choices: Any = None


def skimming(*structs: type[msgspec.Struct]) -> Callable[[], Skim]:
    """Makes a Skim for a text that is decoded as these types, or else as an error."""
    return partial(Skim, wanted(*structs, _Error))


_ERROR: Final = msgspec.json.Decoder(_Error)
_ANYTHING: Final = msgspec.json.Decoder(msgspec.Raw)
_BROKEN_OFF: Final = "Input data was truncated"  # only this message of msgspec's tells such an error from others


def _is_error(data: bytes) -> bool:
    found = decoded(_ERROR, data)
    if found is None or found.choices:
        return False
    return (
        said(found.error)
        or found.object == "error"
        or found.type == "error"
        or said(found.detail)
        or (isinstance(found.message, str) and found.code is not msgspec.UNSET)
    )


def said(error: object) -> bool:
    """Whether an `error` field reports an error: null, false, 0, an empty text and `[]` don't, but `{}` does."""
    return bool(error) or error == {}
