"""The outcome of a failed request, guessed from the error's text, name or status that other tools give. Pure."""

import re
from http import HTTPStatus

# The GenAI conventions' value of `error.type` for an error that has no better name.
NO_NAME = "_OTHER"
_BY_STATUS = {401: "auth", 403: "auth", 429: "rate_limited"}
_BY_PHRASE = {status.phrase.lower(): status.value for status in HTTPStatus if status >= 400}
# A number of three digits that isn't part of an address, a path or a longer number.
_STATUS = re.compile(r"(?<![\w:./-])([45]\d\d)\b")
# The words in which HTTP clients and SDKs name an error, then its outcome and error type. They are tried in this order.
_BY_WORDS = (
    (("ratelimit", "rate limit"), "rate_limited", "rate_limit"),
    (("authentication", "permissiondenied", "permission denied", "unauthorized"), "auth", "auth"),
    (("timeout", "timed out"), "upstream_timeout", "timeout"),
    (("connect", "unreachable", "resolve"), "upstream_unreachable", "connection_error"),
)


def failure(text: str, status: int | None = None) -> tuple[str, str, int | None]:
    """Outcome, error type and status of a failed request. The status is the one given, or one found in the text."""
    said = text.strip()
    if said.startswith("Traceback"):
        # The lines above the last have file names and line numbers, which may look like a status.
        said = said.splitlines()[-1]
    if status is None:
        found = _STATUS.search(said)
        status = int(found.group(1)) if found else _BY_PHRASE.get(said.lower())
    if status is not None:
        return _BY_STATUS.get(status, "http_error"), str(status), status
    lower = said.lower()
    for words, outcome, error_type in _BY_WORDS:
        if any(word in lower for word in words):
            return outcome, error_type, None
    return "http_error", NO_NAME, None
