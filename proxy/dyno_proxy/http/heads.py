"""The heads of requests and responses: removes the headers that a proxy must remove, and refuses unsafe heads. Pure."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

RawHeaders = tuple[tuple[bytes, bytes], ...]

# RFC 9110, 7.6.1. The proxy-* headers are meant for us.
HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection te transfer-encoding upgrade"
    b" proxy-authorization proxy-authenticate".split()
)
# These are removed from every request; `trailer` because a request's trailers don't survive aiohttp's parser.
_REQUEST_ONLY: Final = frozenset((b"host", b"expect", b"trailer"))
# These headers are removed from some requests.
_OURS_AT_TIMES: Final = frozenset(
    (b"authorization", b"x-api-key", b"traceparent", b"content-length", b"accept-encoding")
)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")
_CONTROLS: Final = bytes(byte for byte in (*range(32), 127) if byte != ord("\t"))
_ONLY_OF_THE_CONNECTION: Final = (b"keep-alive", b"close")

# Names that pass in any request, with the bytes that begin their line. Clients send the same few again and again.
_PASSING: Final[dict[bytes, bytes]] = {}
_MAX_PASSING: Final = 1_000

_MAX_LENGTH_DIGITS: Final = 18  # a longer number overflows 64 bits, if not in our parser then in a server behind us


class HeadError(ValueError):
    """A head that must not pass. The message says why."""


def request_head(
    method: str,
    target: str,
    host: bytes,
    headers: RawHeaders,
    *,
    authorization: bytes | None,
    forward_authorization: bool,
    traceparent: bytes | None,
    chunked: bool,
    proxy_authorization: bytes | None = None,
    replaced_bytes: int | None = None,
) -> bytes:
    """The request's head for the upstream: the client's headers in their order and case, without hop-by-hop ones.

    `authorization` and `traceparent` replace the client's own. `replaced_bytes`: another body of that length is sent,
    and an uncompressed answer is asked for, since we have to read it. Raises HeadError for a name with an underscore,
    which some servers read as a hyphen, and for a length that doesn't fit into 64 bits: the proxy and the server behind
    it could then see different headers, or bodies.
    """
    dropped = _dropped(
        authorization=authorization is not None or not forward_authorization,
        key=not forward_authorization,
        traceparent=traceparent is not None,
        body=replaced_bytes is not None,
    )
    lines = [f"{method} {target} HTTP/1.1\r\nHost: ".encode("utf-8", "surrogateescape") + host]
    lines += _passing_lines(headers, dropped)
    if authorization is not None:
        lines.append(b"Authorization: " + authorization)
    if proxy_authorization is not None:
        lines.append(b"Proxy-Authorization: " + proxy_authorization)
    if traceparent is not None:
        lines.append(b"traceparent: " + traceparent)
    if replaced_bytes is not None:
        lines += [b"Accept-Encoding: identity", b"Content-Length: %d" % replaced_bytes]
    elif chunked:
        lines.append(b"Transfer-Encoding: chunked")
    return b"\r\n".join(lines) + b"\r\n\r\n"


@cache
def _dropped(*, authorization: bool, key: bool, traceparent: bool, body: bool) -> frozenset[bytes]:
    names = HOP_BY_HOP | _REQUEST_ONLY
    if authorization:
        names |= {b"authorization"}
    if key:
        names |= {b"x-api-key"}
    if traceparent:
        names |= {b"traceparent"}
    if body:
        names |= {b"content-length", b"accept-encoding"}
    return names


def _passing_lines(headers: RawHeaders, dropped: frozenset[bytes]) -> list[bytes]:
    lines: list[bytes] = []
    options: frozenset[bytes] = frozenset()
    for name, value in headers:
        begin = _PASSING.get(name)
        if begin is None:
            if b"_" in name:
                raise HeadError(f"a header's name has an underscore: {name.decode('latin-1')}; write it with hyphens")
            lowered = name.lower()
            if lowered in dropped:
                if lowered == b"connection" and value.lower() not in _ONLY_OF_THE_CONNECTION:
                    options |= connection_options(((name, value),))
                continue
            if len(value) > _MAX_LENGTH_DIGITS and lowered == b"content-length":
                raise HeadError("Content-Length has more than 18 digits")
            begin = name + b": "
            if lowered not in _OURS_AT_TIMES and len(_PASSING) < _MAX_PASSING:
                _PASSING[name] = begin
        lines.append(begin + value)
    if options:
        return [line for line in lines if line.partition(b":")[0].lower() not in options]
    return lines


def response_head(
    status: int, reason: bytes, headers: list[tuple[bytes, bytes]], *, chunked: bool, close: bool
) -> bytes:
    """The response's head for the client: the upstream's headers in their order and case, without hop-by-hop ones."""
    dropped = HOP_BY_HOP | connection_options(headers)
    lines = [b"HTTP/1.1 %d %s" % (status, reason)]
    lines += [name + b": " + value for name, value in headers if name.lower() not in dropped]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def with_replaced(headers: list[tuple[bytes, bytes]], replaced: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """The headers with these in the place of those of the same name. Another `Vary` is added beside the others."""
    names = {name.lower().encode() for name in replaced} - {b"vary"}
    ours = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in replaced.items()]
    return [header for header in headers if header[0].lower() not in names] + ours


def check_response_head(head: bytes) -> None:
    """Raises HeadError where an upstream's head holds a control character, which could split the head in two."""
    # The quick look comes first: nearly always the only control characters are those that end the lines.
    if len(head.translate(None, _CONTROLS)) + 2 * head.count(b"\r\n") != len(head) and _CONTROL.search(head):
        raise HeadError("the response's head has a control character")


def connection_options(headers: RawHeaders | list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The header names that `Connection` declares hop-by-hop, in lower case."""
    options: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name.lower() == b"connection":
            options |= frozenset(option.strip().lower() for option in value.split(b","))
    # A sender may not declare these hop-by-hop: without them the length would be lost, or other credentials would pass.
    return options - {b"content-length", b"content-type", b"host", b"authorization"}
