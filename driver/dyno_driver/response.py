"""The client's reading of a chat completion, streamed or whole. Pure: it takes bytes and fills a `Reading`.

The proxy reads the same bytes for its figures but doesn't keep the text. The driver keeps it.
"""

import json
import re
from typing import Any, Final

from .errors import one_line

# ALCF's gateway to Metis sends some errors as an answer: with this id, or with a text that begins like this.
_GATEWAY_ERROR_ID: Final = "chatcmpl-api-error"
_GATEWAY_ERROR_TEXT: Final = "\n\n[ERROR]"

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")

# By these an engine says that it gave up: vLLM, SGLang, TensorRT-LLM, DeepSeek.
_GAVE_UP: Final = re.compile(
    r"abort|error|cancel|fail|time[ _-]?(?:d[ _-]?)?out|interrupt|preempt|insufficient_system_resource|not_finished",
    re.IGNORECASE,
)
_DEPTH: Final = 64  # of nested values that are looked at
_BRACKET: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)


class NamedEvent(bytes):
    """The data of an SSE event whose name is `error`."""


class EventSplitter:
    """Splits a stream of server-sent events (WHATWG). The bytes may be cut anywhere."""

    def __init__(self) -> None:
        self._held: list[bytes] = [b""]  # reads since the last line's end
        self._data: list[bytes] = []
        self._name = b""
        self._at_start = True

    def feed(self, read: bytes) -> list[bytes]:
        """Take the next bytes; returns the data of each SSE event that they complete."""
        events: list[bytes] = []
        # A long line may come in many reads. They are joined only once, when the line's end has come.
        whole = b"\n" in read or b"\r" in read or self._held[-1].endswith(b"\r")
        self._held.append(read)
        if whole:
            text = b"".join(self._held)
            # A carriage return at the very end may be the first half of CR LF, so it waits for the next read.
            waiting = b"\r" if text.endswith(b"\r") else b""
            *lines, rest = _LINE_END.split(text.removesuffix(waiting))
            self._held = [rest + waiting]
            for line in lines:
                self._line(line, events)
        return events

    def finish(self) -> list[bytes]:
        """The body has ended; returns the last event if its empty line is missing, as some servers leave it out."""
        events: list[bytes] = []
        text, self._held = b"".join(self._held), [b""]
        for line in (*_LINE_END.split(text), b""):
            self._line(line, events)
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            line, self._at_start = line.removeprefix(_BOM), False
        if not line:
            if self._data:
                data = b"\n".join(self._data)
                events.append(NamedEvent(data) if self._name == b"error" else data)
                self._data.clear()
            self._name = b""
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.strip()


def is_stream(begun: bytes) -> bool:
    """Whether a body that begins so is a stream of SSE events, whatever its Content-Type says. JSON never does."""
    return begun.removeprefix(_BOM).lstrip(b"\r\n").startswith(_BEGINNINGS)


class Reading:
    """What one answer says: `text`, `reasoning`, `finish_reason`, `error` (one line; None if nothing was wrong).

    One odd field costs that field alone. The proxy judges by the same rules, and a contract test holds both to them.
    """

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._strange: str | None = None  # the first thing that isn't of the API
        self._readable = False
        self._counted = False  # a count of output tokens came
        self._outputs = 0  # events with output
        self._closed_at: int | None = None  # how many of these there were when a usage came that closes the answer
        self._closed = False  # `[DONE]` came directly after that usage
        self.finish_reason: str | None = None
        self.error: str | None = None
        self.tokens: tuple[int, int] | None = None  # of the prompt and of the answer, by the server's count

    def succeeds(self, status: int) -> bool:
        """Whether a body with this HTTP status is an answer, and not an error."""
        return status == 200

    @property
    def text(self) -> str:
        return _whole_text(self._text)

    @property
    def reasoning(self) -> str | None:
        """None if the endpoint sent no reasoning; an empty text would say that it sent an empty one."""
        return _whole_text(self._reasoning) if self._reasoning else None

    def event(self, data: bytes) -> bool:
        """Take one SSE event's data. Returns whether it had output: content, reasoning, or a tool call."""
        if data.lstrip().startswith(b"[DONE]"):
            self._closed = self._closed or self._closed_at == self._outputs
            return False
        return self.document(data)

    def document(self, data: bytes) -> bool:
        """Take a chunk of a stream, or a whole body; both have the same names at the top level.

        Returns whether it had output.
        """
        document = lenient_json(data)
        if not isinstance(document, dict):
            self._stranger(data, document)
            return False
        choices, usage = document.get("choices"), document.get("usage")
        if not isinstance(choices, list) and not isinstance(usage, dict):
            self._stranger(data, document)
            return False
        self._readable = True
        if _said(document.get("error")):
            self._wrong(error_text(document))
        output = False
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict):
                output |= self._choice(choice, document.get("id"))
                usage = usage if isinstance(usage, dict) else choice.get("usage")
        self._outputs += output
        groq = document.get("x_groq")
        if isinstance(groq, dict):
            usage = usage if isinstance(usage, dict) else groq.get("usage")
            if _said(groq.get("error")):
                self._wrong(error_text(groq))
        if isinstance(usage, dict):
            self._usage(usage, output=output, choiceless=not choices)
        return output

    def ended(self) -> None:
        """Call this after the body's last byte. An answer that has no end of its own by then broke off."""
        if self.finish_reason is None and not self._closed:
            self._wrong("broke off: no finish_reason" if self._readable or self._strange is None else self._strange)

    def _stranger(self, data: bytes, document: Any) -> None:
        """Take what isn't of the API: an error in another dress, or something unknown, which by itself is no error."""
        shown = data[:100].decode("utf-8", "replace")
        if _GATEWAY_ERROR_ID.encode() in data and _GATEWAY_ERROR_TEXT.strip().encode() in data:
            self._wrong(shown)
        elif isinstance(data, NamedEvent) or _is_error(document):
            self._wrong(error_text(document) if isinstance(document, dict) else shown)
        elif document is None:
            self._strange = self._strange or f"not JSON: {shown}"
        elif not isinstance(document, dict):
            self._strange = self._strange or f"not an object: {shown}"
        else:
            self._strange = self._strange or f"not a chat completion: {shown}"

    def _choice(self, choice: dict[str, Any], chunk_id: object) -> bool:
        delta = choice.get("delta")
        message = delta if isinstance(delta, dict) else choice.get("message")
        output = False
        content: object = None
        if isinstance(message, dict):
            content = message.get("content")
            answer = content if _carries(content) else message.get("refusal")
            # vLLM has used both names, and some servers send the same text under both. So only one of them is taken.
            reasoning = message.get("reasoning")
            reasoning = reasoning if _carries(reasoning) else message.get("reasoning_content")
            self._text += filter(None, [_content(answer)])
            self._reasoning += filter(None, [_content(reasoning)])
            output = _carries(answer) or _carries(reasoning) or _calls(message)
        reason = _reason(choice.get("finish_reason"))
        if reason is not None:
            self.finish_reason = reason
            if _GAVE_UP.search(reason):
                self._wrong(f"the engine gave up: finish_reason {reason}")
            begins = isinstance(delta, dict) and isinstance(content, str) and content.startswith(_GATEWAY_ERROR_TEXT)
            if begins or chunk_id == _GATEWAY_ERROR_ID:
                self._wrong(_content(content) or self.text)
        return output

    def _usage(self, usage: dict[str, Any], *, output: bool, choiceless: bool) -> None:
        """Note a usage that closes the answer: it has no choice, or no other one came before it."""
        counted = _is_count(usage.get("completion_tokens"))
        if not output and (counted or _is_count(usage.get("prompt_tokens"))) and (choiceless or not self._counted):
            self._closed_at = self._outputs
        self._counted = self._counted or counted
        if counted and _is_count(usage.get("prompt_tokens")):
            self.tokens = int(usage["prompt_tokens"]), int(usage["completion_tokens"])

    def _wrong(self, why: str) -> None:
        self.error = self.error or one_line(why) or "an error without a text"


def lenient_json(data: bytes) -> Any:
    """The JSON, although it may hold lone surrogates, bytes that aren't UTF-8, NaN, or depths; None if it is none."""
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    try:
        return _LENIENT.decode(text)
    except RecursionError:
        try:
            return _LENIENT.decode(_shallow(text))
        except (ValueError, RecursionError):
            return None
    except ValueError:
        return None


def _shallow(text: str) -> str:
    """The JSON text with null in the place of what is nested deeper than DEPTH."""
    kept: list[str] = []
    depth = start = 0
    for token in _BRACKET.finditer(text):
        bracket = token.group()
        if bracket in ("[", "{"):
            depth += 1
            if depth == _DEPTH + 1:
                kept += (text[start : token.start()], "null")
        elif bracket in ("]", "}"):
            if depth == _DEPTH + 1:
                start = token.end()
            depth -= 1
    return "".join((*kept, text[start:]))


def _integer_of(digits: str) -> int | None:
    return int(digits) if len(digits) <= 1000 else None  # Python refuses to read more than 4,300


_LENIENT: Final = json.JSONDecoder(strict=False, parse_int=_integer_of)


def error_text(document: Any) -> str:
    """An error body's message, in any known shape: OpenAI's, SambaNova's flat one, vLLM's, the gateway's `detail`."""
    if not isinstance(document, dict):
        return str(document)
    error = document.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error)
    parts = [str(document[key]) for key in ("error", "message", "detail") if document.get(key)]
    return ": ".join(parts) or "an error without a text"


def _said(error: object) -> bool:
    """Whether an `error` field reports an error: null, false, 0, an empty text and `[]` don't, but `{}` does."""
    return bool(error) or error == {}


def _is_error(document: object) -> bool:
    if not isinstance(document, dict) or document.get("choices"):
        return False
    return (
        _said(document.get("error"))
        or document.get("object") == "error"
        or document.get("type") == "error"
        or _said(document.get("detail"))
        or (isinstance(document.get("message"), str) and "code" in document)
    )


def _reason(value: object) -> str | None:
    """The finish reason; None for an empty one, the text `null`, and what is no reason at all."""
    if isinstance(value, dict):
        value = value.get("type")
    return value if isinstance(value, str) and value.strip().lower() not in ("", "null", "none") else None


def _is_count(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\s*\d{1,18}(?:\.0*)?\s*", value, re.ASCII) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value % 1 == 0


def _carries(value: object) -> bool:
    """Whether a field that holds a text, or a list of parts, holds something."""
    if isinstance(value, list):
        return any(item is not None for item in value)
    return isinstance(value, str | dict) and bool(value)


def _content(value: object) -> str:
    """A text as it is, or the joined texts of a list of parts; empty for anything else."""
    if isinstance(value, list):
        return "".join(str(part["text"]) for part in value if isinstance(part, dict) and part.get("text"))
    return value if isinstance(value, str) else ""


def _calls(message: dict[str, Any]) -> bool:
    """Whether a tool call's name or arguments came, or sound. A tool call with neither doesn't count as output."""
    calls = message.get("tool_calls")
    found = [message.get("function_call")]
    for call in calls if isinstance(calls, list) else []:
        found += [call.get("function"), call.get("custom")] if isinstance(call, dict) else []
    audio = message.get("audio")
    if isinstance(audio, dict) and (_carries(audio.get("data")) or _carries(audio.get("transcript"))):
        return True
    names = ("name", "arguments", "input")
    return any(isinstance(entry, dict) and any(_carries(entry.get(name)) for name in names) for entry in found)


def _whole_text(parts: list[str]) -> str:
    """The parts as one text. Halves of a surrogate pair that came apart are put together."""
    return "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
