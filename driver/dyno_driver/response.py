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


class EventSplitter:
    """Splits a stream of server-sent events (WHATWG). The bytes may be cut anywhere."""

    def __init__(self) -> None:
        self._held: list[bytes] = [b""]  # reads since the last line's end
        self._data: list[bytes] = []
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

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            line, self._at_start = line.removeprefix(_BOM), False
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))


class Reading:
    """What one answer says: `text`, `reasoning`, `finish_reason`, `error` (one line; None if nothing was wrong)."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self.finish_reason: str | None = None
        self.error: str | None = None

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str | None:
        """None if the endpoint sent no reasoning; an empty text would say that it sent an empty one."""
        return "".join(self._reasoning) if self._reasoning else None

    def event(self, data: bytes) -> bool:
        """Take one SSE event's data. Returns whether it had output: content, reasoning, or a tool call."""
        return data.strip() != b"[DONE]" and self.document(data)

    def document(self, data: bytes) -> bool:
        """Take a chunk of a stream, or a whole body; both have the same names at the top level.

        Returns whether it had output.
        """
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            self._wrong(f"not JSON: {data[:100].decode('utf-8', 'replace')}")
            return False
        if not isinstance(document, dict):
            self._wrong(f"not an object: {data[:100].decode('utf-8', 'replace')}")
            return False
        if document.get("error") is not None or document.get("object") == "error":
            self._wrong(error_text(document))
            return False
        choices = document.get("choices")
        output = False
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                output |= self._choice(choice)
        if document.get("id") == _GATEWAY_ERROR_ID:
            self._wrong(self.text)
        return output

    def ended(self) -> None:
        """Call this after the body's last byte. An answer that has no finish_reason by then broke off."""
        if self.finish_reason is None:
            self._wrong("broke off: no finish_reason")

    def _choice(self, choice: dict[str, Any]) -> bool:
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]
        message = choice.get("delta") or choice.get("message")
        if not isinstance(message, dict):
            return False
        content = _content(message.get("content")) or _content(message.get("refusal"))
        # vLLM has used both names, and some servers send the same text under both. So only one of them is taken.
        reasoning = _content(message.get("reasoning")) or _content(message.get("reasoning_content"))
        if content:
            self._text.append(content)
        if content.startswith(_GATEWAY_ERROR_TEXT):
            self._wrong(content)
        if reasoning:
            self._reasoning.append(reasoning)
        return bool(content or reasoning or _calls(message))

    def _wrong(self, why: str) -> None:
        self.error = self.error or one_line(why) or "an error without a text"


def error_text(document: Any) -> str:
    """An error body's message, in any known shape: OpenAI's, SambaNova's flat one, vLLM's, the gateway's `detail`."""
    if not isinstance(document, dict):
        return str(document)
    error = document.get("error")
    if isinstance(error, dict):
        return str(error.get("message") or error)
    parts = [str(document[key]) for key in ("error", "message", "detail") if document.get(key)]
    return ": ".join(parts) or "an error without a text"


def _content(value: Any) -> str:
    """A text as it is, or the joined texts of a list of parts; empty for anything else."""
    if isinstance(value, list):
        return "".join(str(part["text"]) for part in value if isinstance(part, dict) and part.get("text"))
    return value if isinstance(value, str) else ""


def _calls(message: dict[str, Any]) -> bool:
    """Whether a tool call's name or arguments came. A tool call with neither doesn't count as output."""
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    functions.append(message.get("function_call"))
    return any(isinstance(entry, dict) and bool(entry.get("name") or entry.get("arguments")) for entry in functions)
