"""What the proxy changes in a message, as a table, and what a message therefore looks like behind the proxy. Pure.

Nothing here is taken from the proxy's code. So the differential test can compare the proxy with an independent view.
docs/transparency.md has the same table.
"""

import re
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Difference:
    side: str  # request or response
    what: str
    why: str


DIFFERENCES: Final[dict[str, Difference]] = {
    "path": Difference(
        "request",
        "`/{endpoint}/v1` in front of the path becomes the path of the endpoint's `url`",
        "the routing itself",
    ),
    "host": Difference("request", "`Host` names the endpoint, and comes first", "RFC 9110, 7.2"),
    "request version": Difference("request", "the version is HTTP/1.1", "RFC 9112, 2.3"),
    "request hop-by-hop": Difference(
        "request",
        "`Connection`, what it names, `Keep-Alive`, `Proxy-Connection`, `Proxy-Authorization`, `TE` and `Upgrade` end"
        " at the proxy",
        "RFC 9110, 7.6.1",
    ),
    "expect": Difference("request", "`Expect: 100-continue` is answered by the proxy", "RFC 9110, 10.1.1"),
    "request whitespace": Difference(
        "request", "white space around a header's value becomes one space before it", "RFC 9112, 5.1"
    ),
    "request coding": Difference(
        "request", "`Transfer-Encoding: chunked` is written by the proxy, and comes last", "RFC 9112, 6.1"
    ),
    "request chunks": Difference(
        "request", "a chunked body's data is cut into other chunks, without extensions", "RFC 9112, 7.1.1"
    ),
    "request trailers": Difference("request", "trailers and `Trailer` are dropped", "RFC 9110, 6.5.1"),
    "empty lines": Difference("request", "empty lines before the request are dropped", "RFC 9112, 2.2"),
    "response version": Difference("response", "the version is HTTP/1.1", "RFC 9112, 2.3"),
    "reason": Difference("response", "a status without a reason has a space behind it", "RFC 9112, 4"),
    "response hop-by-hop": Difference(
        "response",
        "`Connection`, what it names, `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`, `TE` and `Upgrade` end"
        " at the proxy",
        "RFC 9110, 7.6.1",
    ),
    "response whitespace": Difference(
        "response",
        "in a head that loses or gains a header, white space before a value becomes one space",
        "RFC 9112, 5.1",
    ),
    "response coding": Difference(
        "response",
        "in a head that loses or gains a header, `Transfer-Encoding: chunked` comes behind the others",
        "RFC 9112, 6.1",
    ),
    "close": Difference(
        "response",
        "`Connection: close` is added where the client's connection ends with this response: the client asked for it,"
        " speaks HTTP/1.0 or sent a chunked body, or the response's body has no other end",
        "RFC 9112, 9.6",
    ),
    "old client's body": Difference(
        "response",
        "a client that speaks HTTP/1.0 gets a chunked body's data until the connection's end",
        "RFC 9112, 6.1",
    ),
    "old client's interim": Difference(
        "response", "a client that speaks HTTP/1.0 gets no interim responses (1xx)", "RFC 9110, 15.2"
    ),
    "surplus": Difference("response", "bytes behind the end of the response are dropped", "RFC 9112, 6.3"),
    "no content": Difference("response", "a 204 has no `Transfer-Encoding`", "RFC 9112, 6.1"),
}

_HOP_BY_HOP: Final = {"connection", "keep-alive", "proxy-connection", "te", "upgrade"}
_NOT_TO_BE_NAMED: Final = {"content-length", "content-type", "host", "authorization"}


@dataclass
class Expected:
    """A message behind the proxy."""

    head: bytes
    body: bytes
    chunked: bool = False  # a request's: `body` is the data of its chunks
    differences: set[str] = field(default_factory=set)


def request_behind(request: bytes, *, host: bytes, body: bytes) -> Expected:
    """A request as the endpoint gets it. It has the path of the direct request. `body` is its data."""
    used: set[str] = {"path", "host"}
    stripped = request.lstrip(b"\r\n")
    if stripped != request:
        used.add("empty lines")
    head, _, raw_body = stripped.partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    method, target, version = line.split(b" ")
    if version != b"HTTP/1.1":
        used.add("request version")
    kept, chunked = _kept(lines, used, "request", strip=b" \t")
    out = [method + b" " + target + b" HTTP/1.1", b"Host: " + host]
    for name, each in kept:
        if name == "expect":
            used.add("expect")
        elif name == "trailer":
            used.add("request trailers")
        elif name != "host":
            out.append(each)
    if chunked:
        out.append(b"Transfer-Encoding: chunked")
        if raw_body != chunk(body):
            used.add("request chunks")
        if not raw_body.endswith(b"\r\n0\r\n\r\n"):
            used.add("request trailers")
    return Expected(b"\r\n".join(out) + b"\r\n\r\n", body, chunked, used)


def response_behind(heads: list[bytes], body: bytes, surplus: bytes, *, closes: bool, old: bool) -> Expected:
    """A response as the client gets it. `heads`: interim heads and the last one; `body`: as it is on the wire.

    `closes`: the client asked to close the connection, or only that ends the body; `old`: the client speaks HTTP/1.0.
    """
    used: set[str] = set()
    out = b""
    for interim in heads[:-1]:
        if old:
            used.add("old client's interim")
        else:
            kept, _ = _kept(interim.split(b"\r\n")[1:-2], used, "response")
            out += b"\r\n".join([interim.split(b"\r\n")[0], *(each for _, each in kept), b"", b""])
    line, *lines = heads[-1].split(b"\r\n")[:-2]
    version, _, rest = line.partition(b" ")
    if not (closes or old) and _passes_as_it_is(version, rest, lines):
        if surplus:
            used.add("surplus")
        return Expected(out + heads[-1], body, differences=used)
    if version != b"HTTP/1.1":
        used.add("response version")
    if b" " not in rest:
        used.add("reason")
        rest += b" "
    kept, chunked = _kept(lines, used, "response")
    if rest.startswith(b"204") and chunked:
        used.add("no content")
        chunked, closes = False, True
    lines = [each for _, each in kept]
    if chunked and not old:
        lines.append(b"Transfer-Encoding: chunked")
    if closes or old:
        used.add("close")
        lines.append(b"Connection: close")
    if chunked and old and body:
        used.add("old client's body")
        body = unchunk(body)
    if surplus:
        used.add("surplus")
    head = b"\r\n".join([b"HTTP/1.1 " + rest, *lines, b"", b""])
    return Expected(out + head, body, differences=used)


def _passes_as_it_is(version: bytes, rest: bytes, lines: list[bytes]) -> bool:
    """Whether no header has to be taken out of the last head or put into it."""
    names = {line.partition(b":")[0].decode("latin-1").lower() for line in lines}
    gone = names & (_HOP_BY_HOP | {"proxy-authorization", "proxy-authenticate"})
    no_content = rest.startswith(b"204") and "transfer-encoding" in names
    return version == b"HTTP/1.1" and bool(rest.partition(b" ")[2]) and not gone and not no_content


def _kept(lines: list[bytes], used: set[str], side: str, strip: bytes = b"") -> tuple[list[tuple[str, bytes]], bool]:
    """The header lines that stay, each with its name in lower case, and whether the body is chunked."""
    parsed = [(line.partition(b":")[0], line.partition(b":")[2]) for line in lines]
    gone = _HOP_BY_HOP | {"proxy-authorization", "proxy-authenticate"}
    for name, value in parsed:
        if name.lower() == b"connection":
            gone |= {option.strip().lower() for option in value.decode().split(",")} - _NOT_TO_BE_NAMED
    kept, chunked = [], False
    for name, value in parsed:
        lowered = name.decode("latin-1").lower()
        value = value.lstrip(b" \t").rstrip(strip) if strip else value.lstrip(b" \t")
        line = name + b": " + value
        if lowered == "transfer-encoding":
            chunked = True
            used.add(f"{side} coding")
        elif lowered in gone:
            used.add(f"{side} hop-by-hop")
        else:
            if line not in lines:
                used.add(f"{side} whitespace")
            kept.append((lowered, line))
    return kept, chunked


def chunk(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"


def unchunk(body: bytes) -> bytes:
    """The data of a chunked body, without its extensions and trailers."""
    data = b""
    while True:
        size_line, _, body = body.partition(b"\r\n")
        size = int(re.split(rb"[; ]", size_line)[0], 16)
        if size == 0:
            return data
        data += body[:size]
        assert body[size : size + 2] == b"\r\n"
        body = body[size + 2 :]
