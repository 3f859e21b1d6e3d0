"""What an endpoint's answer means: HTTP's statuses and gRPC's codes as kinds of answers. Pure."""

from collections.abc import Iterable
from typing import Final

from .delivery import Answer, Kind

_TEXT_CHARACTERS: Final = 200
_BAD_STATUSES: Final = (400, 413, 422)
_BUSY_STATUSES: Final = (408, 425, 429)
_KEYS: Final = "set OTEL_EXPORTER_OTLP_HEADERS"
_HINTS: Final = {
    401: _KEYS,
    403: _KEYS,
    404: "the path of OTLP over HTTP ends in /v1/traces",
    405: "the path of OTLP over HTTP ends in /v1/traces",
    415: "is it a receiver of OTLP's protobuf?",
    "UNAUTHENTICATED": _KEYS,
    "PERMISSION_DENIED": _KEYS,
    "UNIMPLEMENTED": "is it a receiver of OTLP over gRPC?",
}
_FORBIDDEN_CODES: Final = ("UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED", "NOT_FOUND", "FAILED_PRECONDITION")
_TOO_LARGE: Final = ("larger than max", "too large", "exceeds")


def of_status(status: int, text: str, *, retry_after_s: float = 0.0, rejected: int = 0) -> Answer:
    """`text`: what the endpoint says. `rejected`: by its `partial_success`."""
    if 200 <= status < 300:
        return Answer(Kind.ACCEPTED, _short(text), rejected=rejected)
    said = _said(f"status {status}", text, _HINTS.get(status, ""))
    if status in _BAD_STATUSES:
        return Answer(Kind.BAD, said)
    if status in _BUSY_STATUSES or status >= 500:
        return Answer(Kind.AGAIN, said, retry_after_s)
    return Answer(Kind.FORBIDDEN, said)


def of_code(code: str, text: str) -> Answer:
    """`code`: gRPC's name of it."""
    said = _said(code, text, _HINTS.get(code, ""))
    if code == "INVALID_ARGUMENT" or (
        code in ("RESOURCE_EXHAUSTED", "OUT_OF_RANGE") and any(words in text.lower() for words in _TOO_LARGE)
    ):
        return Answer(Kind.BAD, said)
    return Answer(Kind.FORBIDDEN if code in _FORBIDDEN_CODES else Kind.AGAIN, said)


def without(secrets: Iterable[str], answer: Answer) -> Answer:
    """The answer, whose text doesn't repeat what the request's headers hold: it goes into the log."""
    text = answer.text
    for secret in secrets:
        text = text.replace(secret, "…")
    return answer._replace(text=text)


def _said(what: str, text: str, hint: str) -> str:
    return "; ".join(filter(None, (": ".join(filter(None, (what, _short(text)))), hint)))


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return "".join(character for character in one_line if character.isprintable())[:_TEXT_CHARACTERS]
