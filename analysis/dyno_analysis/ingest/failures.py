"""The outcome of a failed request, guessed from the error's text, name or status that other tools give. Pure."""

import re
from http import HTTPStatus

# The GenAI conventions' value of `error.type` for an error that has no better name.
NO_NAME = "_OTHER"
_BY_STATUS = {401: "auth", 403: "auth", 429: "rate_limited"}
_BY_PHRASE = {status.phrase.lower(): status.value for status in HTTPStatus if status >= 400}
_PHRASES = "|".join(re.escape(phrase) for phrase in sorted(_BY_PHRASE, key=len, reverse=True))
# A status is a number that is called one, or that its phrase follows, or that is all there is. Other numbers of three
# digits are tokens, lines, ports.
_STATUS = re.compile(
    r"\b(?:http(?:/[\d.]+)?|status|code|error)(?:[ _]?code)?[\s:=('\"]{1,4}([45]\d\d)\b(?![.:/]\d)"
    rf"|(?<![\w:./-])([45]\d\d)[\s,:'\"-]{{1,3}}(?:{_PHRASES})"
    r"|^\W*([45]\d\d)\W*$",
    re.IGNORECASE,
)
# The name of an exception: `ConnectError`, `httpx.ReadTimeout`, `APIConnectionError`.
_NAME = re.compile(r"\b(?:\w+\.)*([A-Z]\w*(?:Error|Exception|Timeout|Refused|Unreachable|Denied|Limit))\b|^(\w+)$")
# What the names contain, then the outcome and the error type. They are tried in this order.
_BY_NAME = (
    (("ratelimit", "toomanyrequests"), "rate_limited", "rate_limit"),
    (("authentication", "permissiondenied", "unauthorized", "forbidden"), "auth", "auth"),
    (("timeout",), "upstream_timeout", "timeout"),
    (("connect", "unreachable", "gaierror", "nameresolution", "dnserror"), "upstream_unreachable", "connection_error"),
)
# Whole phrases of clients and operating systems; words that merely contain such letters ('resolved', 'disconnected
# after') say nothing.
_BY_PHRASES = (
    (r"rate.?limit(?:ed|s)?\b|too many requests", "rate_limited", "rate_limit"),
    (r"permission denied|unauthori[sz]ed|authentication failed|invalid api key", "auth", "auth"),
    (r"\btimed out\b|\btime-?out\b|deadline exceeded", "upstream_timeout", "timeout"),
    (
        (
            r"\bconnection (?:error|refused|failed|attempts? failed|could not)|\bconnect call failed"
            r"|\bconnection attempts failed"
            r"|(?:can(?:no|')t|could ?n[o']t|failed to|unable to) (?:connect|resolve|reach)"
            r"|\bname resolution\b|\bname or service not known|nodename nor servname|no route to host|\bunreachable\b"
            r"|\bgetaddrinfo\b"
        ),
        "upstream_unreachable",
        "connection_error",
    ),
)


def failure(text: str, status: int | None = None) -> tuple[str, str, int | None]:
    """Outcome, error type and status of a failed request. The status is the one given, or one found in the text."""
    said = text.strip()
    if said.startswith("Traceback"):
        # The lines above the last have file names and line numbers, which may look like a status.
        said = said.splitlines()[-1]
    if status is None:
        found = _STATUS.search(said)
        number = next((group for group in found.groups() if group), None) if found else None
        status = int(number) if number else _BY_PHRASE.get(said.lower())
    if status is not None:
        return _BY_STATUS.get(status, "http_error"), str(status), status
    names = ["".join(groups).lower() for groups in _NAME.findall(said)]
    for words, outcome, error_type in _BY_NAME:
        if any(word in name for word in words for name in names):
            return outcome, error_type, None
    for phrases, outcome, error_type in _BY_PHRASES:
        if re.search(phrases, said, re.IGNORECASE):
            return outcome, error_type, None
    return "http_error", NO_NAME, None
