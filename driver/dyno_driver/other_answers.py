"""The client's reading of what isn't a chat completion: other APIs of OpenAI's kind, and any server's body. Pure.

It has the names of `response.Reading`. Of a body that it doesn't know, the text is the body.
"""

import json
from typing import Any, Final

from .errors import one_line
from .response import NamedEvent, error_text, lenient_json

# By API: the events that close a stream. A stream of them that ends without one has broken off.
_ENDS: Final = {
    "/v1/responses": ("response.completed", "response.incomplete", "response.failed"),
    "/v1/messages": ("message_stop",),
}
_COMPLETIONS: Final = "/v1/completions"


class OtherReading:
    """What one answer says: `text`, `finish_reason`, `error` (one line; None if nothing was wrong)."""

    reasoning: str | None = None
    tokens: tuple[int, int] | None = None  # of these APIs the proxy counts them

    def __init__(self, path: str) -> None:
        route = path.partition("?")[0].rstrip("/")
        self._api = route if route in _ENDS or route == _COMPLETIONS else None
        self._text: list[str] = []
        self._streamed = False
        self._closed = False
        self.finish_reason: str | None = None
        self.error: str | None = None

    def succeeds(self, status: int) -> bool:
        """Whether a body with this HTTP status is an answer, and not an error. A job that was taken answers 202."""
        return 200 <= status < 300

    @property
    def text(self) -> str:
        return "".join(self._text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def event(self, data: bytes) -> bool:
        """Take one SSE event's data. Returns whether it had output."""
        self._streamed = True
        if data.lstrip().startswith(b"[DONE]"):
            self._closed = True
            return False
        document = lenient_json(data)
        if isinstance(data, NamedEvent) or _is_error(document):
            self._wrong(error_text(document) if isinstance(document, dict) else data.decode("utf-8", "replace"))
            return False
        if not isinstance(document, dict):
            self._text.append(data.decode("utf-8", "replace"))
            return True
        kind = document.get("type")
        self._closed = self._closed or kind in _ENDS.get(self._api or "", ())
        if kind == "response.failed":
            response = document.get("response")
            self._wrong(error_text(response) if isinstance(response, dict) else "the response failed")
        self._finish(document)
        piece = _piece(document)
        self._text.append(piece)
        return bool(piece)

    def document(self, data: bytes) -> bool:
        """Take a whole body. Returns whether it had output."""
        document = lenient_json(data)
        if _is_error(document):
            self._wrong(error_text(document))
        if isinstance(document, dict):
            self._finish(document)
        known = _known_text(document) if self._api is not None else None
        self._text.append(data.decode("utf-8", "replace") if known is None else known)
        return bool(data)

    def ended(self) -> None:
        """Call this after the body's last byte."""
        if self._api is not None and self._streamed and self.finish_reason is None and not self._closed:
            self._wrong("broke off: the stream has no end")

    def _finish(self, document: dict[str, Any]) -> None:
        choice = _first(document.get("choices"))
        delta = document.get("delta")
        reasons = (choice.get("finish_reason"), document.get("stop_reason"))
        told = (*reasons, delta.get("stop_reason") if isinstance(delta, dict) else None)
        self.finish_reason = next((reason for reason in told if isinstance(reason, str) and reason), self.finish_reason)

    def _wrong(self, why: str) -> None:
        self.error = self.error or one_line(why) or "an error without a text"


def _piece(document: dict[str, Any]) -> str:
    """The output of one event: of completions, responses or messages."""
    delta = document.get("delta")
    found = (
        _first(document.get("choices")).get("text"),
        delta if document.get("type") == "response.output_text.delta" else None,
        delta.get("text") if isinstance(delta, dict) else None,
    )
    return next((text for text in found if isinstance(text, str)), "")


def _known_text(document: Any) -> str | None:
    """The text of a whole answer of completions, responses or messages; None if it has another shape."""
    if not isinstance(document, dict):
        return None
    text = _first(document.get("choices")).get("text")
    if isinstance(text, str):
        return text
    parts = document.get("content")
    output = document.get("output")
    if isinstance(output, list):
        contents = [item.get("content") for item in output if isinstance(item, dict)]
        parts = [part for content in contents if isinstance(content, list) for part in content]
    if not isinstance(parts, list):
        return None
    return "".join(str(part["text"]) for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _is_error(document: Any) -> bool:
    return isinstance(document, dict) and (bool(document.get("error")) or document.get("type") == "error")


def _first(choices: Any) -> dict[str, Any]:
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def value_at(document: Any, field: str) -> Any:
    """The value of a dotted field: `data.0.id`. None where there is none."""
    value = document
    for name in field.split("."):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def body_of(text: str | None) -> Any:
    """The JSON of an answer's text; None if it is none."""
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        return None
