"""Upstreams that break HTTP, as a table: what each writes when it gets a request, and what the result must be."""

from dataclasses import dataclass
from typing import Final, Literal

GOOD: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
EVIL: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
TWO: Final = b"Content-Length: 2\r\n\r\nok"

REFUSED: Final = "refused"  # the client gets a 502 of ours


@dataclass(frozen=True)
class Hostile:
    name: str
    writes: tuple[bytes, ...]  # the upstream's, 10 ms apart
    got: bytes | Literal["refused"]  # all that the client gets, in raw bytes
    and_more: int = 0  # at most so many bytes may follow; their number depends on how the reads fall
    outcome: str = "ok"
    error_type: str | None = None
    end: Literal["rests", "closes", "resets"] = "rests"  # what the upstream then does with the connection
    method: bytes = b"POST"
    client_stays: bool = True  # the client's connection serves its next request
    client_reset: bool = False
    upstream_sound: bool = False  # its connection may serve another request
    asks_later: bool = False  # the client's next request comes after all that the upstream wrote


def refused(name: str, *writes: bytes, **more: object) -> Hostile:
    """There is no response: the client gets a 502, and its connection can be used again."""
    return Hostile(name, writes, REFUSED, **{"outcome": "upstream_unreachable", "error_type": BROKEN} | more)  # type: ignore[arg-type]


def broken_at_once(name: str, *writes: bytes) -> Hostile:
    """The head is valid, but the bytes behind it aren't. Nothing was passed on yet, so the client gets a 502 too."""
    return Hostile(name, writes, REFUSED, 0, "truncated", BROKEN)


def broken_later(name: str, *writes: bytes, got: bytes, and_more: int = 0) -> Hostile:
    """The client has a part of the body, and can see that it isn't complete."""
    return Hostile(name, writes, got, and_more, "truncated", BROKEN, client_stays=False)


BROKEN: Final = "upstream_protocol_error"
CLOSED: Final = "connection_closed"
RESET: Final = "connection_reset"


def head(*lines: bytes) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


NOT_HTTP: Final = [
    refused("nothing, and a close", end="closes", error_type=CLOSED),
    refused("nothing, and a reset", end="resets", error_type=RESET),
    refused("half a head, and a close", OK + b"X: 1\r\n", end="closes", error_type=CLOSED),
    refused("half a head, and a reset", OK + b"X: 1\r\n", end="resets", error_type=RESET),
    refused("garbage", b"SSH-2.0-OpenSSH_9.2\r\n"),
    refused("garbage with a blank line", b"220 mail ESMTP\r\n\r\n"),
    refused("binary garbage", bytes(range(256)) * 9),
    refused("HTTP/0.9", b"<html>hello</html>"),
    refused("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("a frame of HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80"),
    refused("an alert of TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
    refused("a request instead of a response", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
]

STATUS_LINES: Final = [
    refused("version 3.0", b"HTTP/3.0 200 OK\r\n" + TWO),
    refused("version 2.0", b"HTTP/2.0 200 OK\r\n" + TWO),
    refused("version 0.9", b"HTTP/0.9 200 OK\r\n" + TWO),
    refused("version 1.2", b"HTTP/1.2 200 OK\r\n" + TWO),
    refused("version 1.10", b"HTTP/1.10 200 OK\r\n" + TWO),
    refused("another protocol's version", b"RTSP/1.0 200 OK\r\n" + TWO),
    refused("a version in small letters", b"http/1.1 200 OK\r\n" + TWO),
    refused("status 99", b"HTTP/1.1 99 OK\r\n" + TWO),
    refused("status 099", b"HTTP/1.1 099 OK\r\n" + TWO),
    refused("status 000", b"HTTP/1.1 000 OK\r\n" + TWO),
    refused("status 1000", b"HTTP/1.1 1000 OK\r\n" + TWO),
    refused("status 200abc", b"HTTP/1.1 200abc\r\n" + TWO),
    refused("status -20", b"HTTP/1.1 -20 OK\r\n" + TWO),
    refused("no status", b"HTTP/1.1\r\n" + TWO),
    refused("two spaces before the status", b"HTTP/1.1  200 OK\r\n" + TWO),
    refused("an empty line first", b"\r\n" + GOOD),
    refused("an empty line alone first", b"\r\n", GOOD),
    refused("NUL in the reason", b"HTTP/1.1 200 O\x00K\r\n" + TWO),
    refused("a bare CR in the reason", b"HTTP/1.1 200 O\rK\r\n" + TWO),
    Hostile("no reason", (b"HTTP/1.1 200\r\n" + TWO,), b"HTTP/1.1 200 \r\n" + TWO, upstream_sound=True),
    Hostile("status 999", (b"HTTP/1.1 999 No\r\n" + TWO,), b"HTTP/1.1 999 No\r\n" + TWO, 0, "http_error", "999",
            upstream_sound=True),
]  # fmt: skip

INTERIM: Final = [
    refused("an upgrade", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    refused("an upgrade, then frames", b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x81\x02hi"),
    refused("an upgrade that names none", b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + GOOD),
    refused("an interim response with a length", b"HTTP/1.1 102 P\r\nContent-Length: 5\r\n\r\nhello" + GOOD),
    refused("an interim response in chunks", b"HTTP/1.1 102 P\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GOOD),
    refused("an interim response in HTTP/2.0", b"HTTP/2.0 103 Early\r\n\r\n" + GOOD),
    refused("thousands of 100", b"HTTP/1.1 100 Continue\r\n\r\n" * 5000 + GOOD),
    refused("thousands of 102", *[b"HTTP/1.1 102 Processing\r\n\r\n" * 600] * 10),
    refused("thousands of 103", *[b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 600] * 10),
    refused("an interim response alone", b"HTTP/1.1 103 Early Hints\r\n\r\n", end="closes", error_type=CLOSED),
    Hostile("an interim response with hop-by-hop headers",
            (b"HTTP/1.1 103 E\r\nLink: </a>\r\nConnection: x-a\r\nX-A: 1\r\n\r\n" + GOOD,),
            b"HTTP/1.1 103 E\r\nLink: </a>\r\n\r\n" + GOOD, upstream_sound=True),
]  # fmt: skip

HEADERS: Final = [
    refused("a header of 100 kB", head(b"X: " + b"a" * 100_000)),
    refused("a header without an end", *[OK + b"X: ", *[b"a" * 30_000] * 4]),
    refused("ten thousand headers", head(*[b"X-%d: 1" % i for i in range(10_000)])),
    refused("a header without a colon", head(b"X") + b"evil"),
    refused("a header without a name", head(b": 1")),
    refused("a space before the colon", head(b"Content-Length : 2") + b"ok"),
    refused("a space before the first header", head(b" X: 1")),
    refused("a space in a name", head(b"X Y: 1")),
    refused("a name beyond ASCII", head(b"X\xe9: 1")),
    refused("a folded header", head(b"X: 1", b" Content-Length: 4") + b"evil"),
    refused("NUL in a header", head(b"X: a\x00b")),
    refused("a vertical tab in a header", head(b"X: a\x0bb")),
    refused("DEL in a header", head(b"X: a\x7fb")),
    refused("a bare CR in a header", head(b"X: a\rSet-Cookie: evil=1")),
    refused("a bare LF in a header", head(b"X: a\nSet-Cookie: evil=1")),
    refused("a head of LF alone", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    refused("a head of LF alone, in pieces", b"HTTP/1.1 200 OK", b"\nContent-Length: 2\n", b"\nok"),
    refused("a head of CR alone", b"HTTP/1.1 200 OK\rContent-Length: 2\r\rok"),
    refused("a head that ends in LF LF", OK + b"Content-Length: 2\r\n\n\nok"),
]

LENGTHS: Final = [
    refused("two lengths that differ", head(b"Content-Length: 2", b"Content-Length: 4") + b"evil"),
    refused("the same length twice", head(b"Content-Length: 2", b"Content-Length: 2") + b"ok"),
    refused("a list of lengths", head(b"Content-Length: 2, 2") + b"ok"),
    refused("a negative length", head(b"Content-Length: -2") + b"ok"),
    refused("a length with a sign", head(b"Content-Length: +2") + b"ok"),
    refused("a hexadecimal length", head(b"Content-Length: 0x2") + b"ok"),
    refused("a length with an underscore", head(b"Content-Length: 1_0") + b"okokokokok"),
    refused("an empty length", head(b"Content-Length:") + b"ok"),
    refused("a length of 2^64", head(b"Content-Length: 18446744073709551616") + b"ok"),
    refused("a length of 10^30", head(b"Content-Length: 1" + b"0" * 30) + b"ok"),
    refused("a length and a coding", head(b"Content-Length: 2", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    refused("a coding and a length", head(b"Transfer-Encoding: chunked", b"Content-Length: 2") + b"0\r\n\r\n"),
    refused("gzip as a coding", head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"),
    refused("identity as a coding", head(b"Transfer-Encoding: identity") + b"ok", end="closes"),
    refused("an unknown coding", head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n"),
    refused("an empty coding", head(b"Transfer-Encoding:") + b"ok"),
    refused("chunked twice", head(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n"),
    refused("chunked in two headers", head(*[b"Transfer-Encoding: chunked"] * 2) + b"0\r\n\r\n"),
    refused("a coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    Hostile("a length of 2^63", (head(b"Content-Length: 9223372036854775808") + b"ok",),
            head(b"Content-Length: 9223372036854775808") + b"ok", 0, "truncated", CLOSED, end="closes",
            client_stays=False),
    Hostile("a body shorter than its length", (head(b"Content-Length: 9") + b"ok",),
            head(b"Content-Length: 9") + b"ok", 0, "truncated", CLOSED, end="closes", client_stays=False),
    Hostile("a sized body and a reset", (head(b"Content-Length: 9") + b"ok",),
            head(b"Content-Length: 9") + b"ok", 0, "truncated", RESET, end="resets", client_stays=False),
    Hostile("a body longer than its length", (OK + TWO + b"evil",), OK + TWO),
    Hostile("a second response behind a sized body", (OK + TWO + EVIL,), OK + TWO),
    Hostile("a second response, later", (OK + TWO, EVIL), OK + TWO, asks_later=True),
    Hostile("a second response behind an empty body", (head(b"Content-Length: 0") + EVIL,), head(b"Content-Length: 0")),
]  # fmt: skip

CHUNKS: Final = [
    broken_at_once("a chunk size that is none", CHUNKED + b"zz\r\nok\r\n0\r\n\r\n"),
    broken_at_once("a space after a chunk size", CHUNKED + b"2 \r\nok\r\n0\r\n\r\n"),
    broken_at_once("a chunk size with a prefix", CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n"),
    broken_at_once("a negative chunk size", CHUNKED + b"-2\r\nok\r\n0\r\n\r\n"),
    broken_at_once("a chunk size with a sign", CHUNKED + b"+2\r\nok\r\n0\r\n\r\n"),
    broken_at_once("a chunk size beyond 64 bits", CHUNKED + b"f" * 17 + b"\r\nok\r\n0\r\n\r\n"),
    broken_at_once("no chunk size", CHUNKED + b"\r\nok\r\n0\r\n\r\n"),
    broken_at_once("a chunk size that ends in LF", CHUNKED + b"2\nok\r\n0\r\n\r\n"),
    broken_at_once("a chunk that goes on behind its end", CHUNKED + b"2\r\nokevil\r\n0\r\n\r\n"),
    broken_at_once("a chunk that ends in LF", CHUNKED + b"2\r\nok\n0\r\n\r\n"),
    broken_at_once("NUL in a chunk extension", CHUNKED + b"2;a\x00b\r\nok\r\n0\r\n\r\n"),
    broken_at_once("a bare LF in a chunk extension", CHUNKED + b"2;a\nb\r\nok\r\n0\r\n\r\n"),
    broken_at_once("a trailer that is none", CHUNKED + b"2\r\nok\r\n0\r\njunk\r\n\r\n"),
    broken_at_once("a control character in a trailer", CHUNKED + b"2\r\nok\r\n0\r\nX: a\x01\r\n\r\n"),
    broken_at_once("a bare LF in a trailer", CHUNKED + b"2\r\nok\r\n0\r\nX: a\nY: b\r\n\r\n"),
    broken_at_once("a folded trailer", CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\n b\r\n\r\n"),
    broken_at_once("a length as a trailer", CHUNKED + b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n"),
    broken_later("a chunk size that is none, later", CHUNKED + b"2\r\nok\r\n", b"zz\r\n",
                 got=CHUNKED + b"2\r\nok\r\n"),
    broken_later("a chunk extension of 1 MB", CHUNKED + b"2;", *[b"a" * 100_000] * 10,
                 got=CHUNKED + b"2;", and_more=65_536),
    broken_later("a trailer without an end", CHUNKED + b"2\r\nok\r\n0\r\nX: ", *[b"a" * 100_000] * 10,
                 got=CHUNKED + b"2\r\nok\r\n0\r\nX: ", and_more=65_536),
    Hostile("a chunk of 2^63 bytes", (CHUNKED + b"8000000000000000\r\nok",), CHUNKED + b"8000000000000000\r\nok",
            0, "truncated", CLOSED, end="closes", client_stays=False),
    Hostile("chunks without an end", (CHUNKED + b"2\r\nok\r\n",), CHUNKED + b"2\r\nok\r\n", 0, "truncated", CLOSED,
            end="closes", client_stays=False),
    Hostile("chunks and a reset", (CHUNKED + b"2\r\nok\r\n",), CHUNKED + b"2\r\nok\r\n", 0, "truncated", RESET,
            end="resets", client_stays=False),
    Hostile("a second response behind chunks", (CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + EVIL,),
            CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    Hostile("a second response behind a trailer", (CHUNKED + b"2\r\nok\r\n", b"0\r\nX: 1\r\n\r\n" + EVIL),
            CHUNKED + b"2\r\nok\r\n0\r\nX: 1\r\n\r\n"),
    Hostile("a second response in chunks", (CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + CHUNKED + b"4\r\nevil\r\n0\r\n\r\n",),
            CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    Hostile("a second response behind blank lines in the data",
            (CHUNKED + b"8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n" + EVIL,), CHUNKED + b"8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n"),
    Hostile("an upgrade behind chunks",
            (CHUNKED + b"0\r\n\r\nHTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",),
            CHUNKED + b"0\r\n\r\n"),
    Hostile("garbage behind chunks", (CHUNKED + b"2\r\nok\r\n0\r\n\r\nevil",), CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    Hostile("an empty line behind chunks", (CHUNKED + b"2\r\nok\r\n0\r\n\r\n\r\n",), CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    Hostile("an end in pieces, and a second response", (CHUNKED + b"2\r\nok\r\n0\r\n\r", b"\n" + EVIL),
            CHUNKED + b"2\r\nok\r\n0\r\n\r\n"),
    Hostile("a second end of chunks, later", (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", b"0\r\n\r\n"),
            CHUNKED + b"2\r\nok\r\n0\r\n\r\n", asks_later=True),
]  # fmt: skip

NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\n"
NOT_MODIFIED: Final = b"HTTP/1.1 304 Not Modified\r\n"
CLOSE: Final = b"Connection: close\r\n"
BODILESS: Final = [
    Hostile("a 204 with a body", (NO_CONTENT + b"\r\nevil",), NO_CONTENT + b"\r\n"),
    Hostile("a 204 with a length", (NO_CONTENT + b"Content-Length: 4\r\n\r\nevil",),
            NO_CONTENT + b"Content-Length: 4\r\n" + CLOSE + b"\r\n", client_stays=False),
    Hostile("a 204 with chunks", (NO_CONTENT + b"Transfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
            NO_CONTENT + CLOSE + b"\r\n", client_stays=False),
    Hostile("a 304 with a body", (NOT_MODIFIED + b"Content-Length: 4\r\n\r\nevil",),
            NOT_MODIFIED + b"Content-Length: 4\r\n\r\n"),
    Hostile("a 304 with a second response", (NOT_MODIFIED + b"\r\n" + EVIL,), NOT_MODIFIED + b"\r\n"),
    Hostile("HEAD with a body", (head(b"Content-Length: 4") + b"evil",), head(b"Content-Length: 4"), method=b"HEAD"),
    Hostile("HEAD with chunks", (CHUNKED + b"4\r\nevil\r\n0\r\n\r\n",), CHUNKED, method=b"HEAD"),
    Hostile("HEAD with a body, later", (head(b"Content-Length: 4"), b"evil"), head(b"Content-Length: 4"),
            method=b"HEAD", asks_later=True),
]  # fmt: skip

CONNECTIONS: Final = [
    Hostile("an announced close that doesn't come", (OK + CLOSE + TWO,), OK + TWO),
    Hostile("an announced rest, and a close", (OK + b"Connection: keep-alive\r\n" + TWO,), OK + TWO, end="closes",
            asks_later=True),
    Hostile("an announced rest, and a reset", (OK + b"Connection: keep-alive\r\n" + TWO,), OK + TWO, end="resets",
            asks_later=True),
    Hostile("an upgrade that is only offered", (OK + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + TWO,), OK + TWO,
            upstream_sound=True),
    Hostile("a head that names its own length hop-by-hop", (OK + b"Connection: content-length\r\n" + TWO,), OK + TWO,
            upstream_sound=True),
    Hostile("a body until a reset", (OK + b"\r\nok",), OK + CLOSE + b"\r\nok", 0, "truncated", RESET, end="resets",
            client_stays=False, client_reset=True),
    Hostile("a body until the close", (OK + b"\r\nok",), OK + CLOSE + b"\r\nok", end="closes", client_stays=False),
    Hostile("a second response in a body until the close", (OK + b"\r\nok" + GOOD,), OK + CLOSE + b"\r\nok" + GOOD,
            end="closes", client_stays=False),
]  # fmt: skip

HOSTILE: Final[dict[str, Hostile]] = {
    case.name: case
    for group in (NOT_HTTP, STATUS_LINES, INTERIM, HEADERS, LENGTHS, CHUNKS, BODILESS, CONNECTIONS)
    for case in group
}
