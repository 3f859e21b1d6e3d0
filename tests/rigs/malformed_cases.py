"""Requests that are malformed, ambiguous or smuggled, as bytes: what becomes of each, and what may reach the upstream.

`reached` counts the requests that reach the upstream if all the bytes come in one read. A request inside another's body
must never be among them. `strict` is the number of requests that a strict reader of RFC 9112 finds in the bytes. At
most so many may pass, however the bytes are split. It can be more than `reached`: if something malformed follows a
sound request, aiohttp refuses both when it reads them together.
"""

from dataclasses import dataclass
from typing import Final

TARGET: Final = b"/up/v1/models"
HIDDEN: Final = b"GET /up/v1/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True)
class Malformed:
    name: str
    request: bytes
    statuses: tuple[int, ...]  # of the answers, in their order; empty: the connection is closed without an answer
    reached: int = 0
    outcomes: tuple[str, ...] = ("rejected",)  # of the rows
    more: int = 0  # requests that a strict reader finds beyond those that reach the upstream

    @property
    def strict(self) -> int:
        return self.reached + self.more


def get(
    line: bytes = b"GET " + TARGET + b" HTTP/1.1", *headers: bytes, host: bytes | None = b"Host: localhost"
) -> bytes:
    lines = [line, *([host] if host is not None else []), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(*headers: bytes, body: bytes = b"", target: bytes = b"/up/v1/files") -> bytes:
    return get(b"POST " + target + b" HTTP/1.1", *headers) + body


def _refused(name: str, request: bytes, status: int = 400, outcomes: tuple[str, ...] = ("rejected",)) -> Malformed:
    return Malformed(name, request, (status,), 0, outcomes)


def _behind_a_sound_one(name: str, request: bytes) -> Malformed:
    return Malformed(name, request, (400,), 0, ("rejected",), more=1)


def _never_ends(name: str, request: bytes) -> Malformed:
    """The proxy waits for the rest of the request, and the client leaves."""
    return Malformed(name, request, (), 0, ("client_cancelled",))


def _passes(name: str, request: bytes, count: int = 1, status: int = 200) -> Malformed:
    return Malformed(name, request, (status,) * count, count, ("ok",) * count)


_LINE: Final = b"GET /up/v1/models HTTP/1.1"
_CHUNKED: Final = b"Transfer-Encoding: chunked"
_SMUGGLED: Final = b"0\r\n\r\n" + HIDDEN

# The body's length is given in two ways: the classic means of smuggling.
LENGTHS: Final = [
    *(
        _refused(f"length and coding: {coding.decode()!r}", post(b"Content-Length: 6", coding, body=_SMUGGLED))
        for coding in (
            _CHUNKED,
            b"transfer-encoding: Chunked",
            b"Transfer-Encoding:chunked",
            b"Transfer-Encoding: \tchunked",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: identity, chunked",
            b"Transfer-Encoding: gzip, chunked",
        )
    ),
    *(
        _refused(f"coding: {coding.decode('latin-1')!r}", post(b"Content-Length: 6", coding, body=_SMUGGLED))
        for coding in (
            b"Transfer-Encoding : chunked",
            b" Transfer-Encoding: chunked",
            b"X: 1\r\n Transfer-Encoding: chunked",
            b"X: 1\nTransfer-Encoding: chunked",
            b"X: 1\rTransfer-Encoding: chunked",
            b"Transfer-Encoding\x00: chunked",
            b"Transfer-Encoding: chunked\x00",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding:\n chunked",
            b"Transfer_Encoding: chunked",
            b"Transfer-Encoding\xa0: chunked",
        )
    ),
    *(
        _refused(f"coding alone: {coding.decode()!r}", post(b"Transfer-Encoding: " + coding, body=_SMUGGLED))
        for coding in (
            b"xchunked",
            b"chunkedx",
            b"chunked;q=1",
            b"chunked, identity",
            b"gzip",
            b"deflate",
            b'"chunked"',
            b"",
            b"identity",
            b"chunked,",
            b",chunked",
            b"chunked, chunked",
            b"gzip, chunked",
            b"gzip,chunked",
            b"identity, chunked",
            b"xchunked, chunked",
            b"chunked;a=b, chunked",
            b"chunked \t",
        )
    ),
    *(
        _refused(f"length {length.decode('latin-1')!r}", post(b"Content-Length: " + length, body=HIDDEN))
        for length in (
            *(b"-1", b"+5", b"0x5", b"5 5", b"5,5", b"5, 5", b"5, 6", b"1e1", b"5.0", b"five", b"\xd9\xa5", b"'5'"),
            *(b"99999999999999999999999", b"18446744073709551616", b"5;", b"5\x00", b"5\x0b"),
            *(b"18446744073709551615", b"18446744073709551614", b"9223372036854775808", b"9223372036854775807"),
            *(b"0000000000000000005", b"1_0", b"5,", b",5", b"0b101", b"\xef\xbc\x95", b"5\x85", b"-0", b"+0", b"0x0"),
        )
    ),
    _refused("an empty length", post(b"Content-Length:", body=b"")),
    _refused("two lengths", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello")),
    _refused("the same length twice", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    _refused("two codings", post(_CHUNKED, _CHUNKED, body=_SMUGGLED)),
    _refused("two codings, the first one strange", post(b"Transfer-Encoding: x", _CHUNKED, body=_SMUGGLED)),
    _refused("a coding of GET that isn't the last", get(_LINE, b"Transfer-Encoding: chunked, gzip") + _SMUGGLED),
    _refused("a coding of GET in HTTP/1.0", get(b"GET /up/v1/models HTTP/1.0", _CHUNKED) + b"0\r\n\r\n"),
    _refused("a coding of POST in HTTP/1.0", get(b"POST /up/v1/files HTTP/1.0", _CHUNKED) + b"0\r\n\r\n"),
    _refused("a long length of GET", get(_LINE, b"Content-Length: 18446744073709551615")),
    _refused("two codings, one strange", post(_CHUNKED, b"Transfer-Encoding: x", body=_SMUGGLED)),
    _refused("a coding in HTTP/1.0", get(b"POST /up/v1/x HTTP/1.0", _CHUNKED) + _SMUGGLED),
    _refused("a length with a space before the colon", post(b"Content-Length : 5", body=b"hello")),
    _refused("a length with an underscore", post(b"Content_Length: 5", b"Content-Length: 0")),
    _refused("a folded length", post(b"Content-Length:\r\n 5", body=b"hello")),
]

# Between the lines
SYNTAX: Final = [
    _refused("bare LF at the ends", b"GET /up/v1/models HTTP/1.1\nHost: localhost\n\n"),
    _refused("bare LF at one end", get(_LINE, b"A: 1\nB: 2")),
    _refused("bare CR in a value", get(_LINE, b"A: 1\rB: 2")),
    *(
        _refused(f"control character {code} in a value", get(_LINE, b"A: 1%c2" % code))
        for code in (0, 1, 7, 8, 11, 12, 27, 31, 127)
    ),
    *(
        _refused(f"{character!r} in a name", get(_LINE, b"A%bB: 1" % character.encode("latin-1")))
        for character in ("\x00", " ", "\t", "(", ")", ",", "/", ";", "<", "=", ">", "?", "@", "[", "\\", "]", "{", "}")
    ),
    _refused("a quoted name", get(_LINE, b'"A": 1')),
    _refused("an umlaut in a name", get(_LINE, b"\xc3\xa4: 1")),
    _refused("no name", get(_LINE, b": 1")),
    _refused("no colon", get(_LINE, b"Accept")),
    _refused("a space before the first name", get(_LINE, host=b" Host: localhost")),
    _refused("a folded value", get(_LINE, b"A: 1\r\n 2")),
    _refused("a value folded by a tab", get(_LINE, b"A: 1\r\n\t2")),
    _refused("a name with an underscore", get(_LINE, b"X_A: 1")),
    *(
        Malformed(f"a request behind one with {name.decode()}", get(_LINE, name + b": 5") + get(), (400,), more=1)
        for name in (b"X_A", b"Content_Length", b"Transfer_Encoding")
    ),
    _refused("a thousand headers", get(_LINE, *(b"A%d: 1" % n for n in range(1000)))),
    _refused("a value of 100 kB", get(_LINE, b"A: " + b"a" * 100_000), 431),
    _refused("a name of 100 kB", get(_LINE, b"a" * 100_000 + b": 1"), 431),
    _refused(
        "100 headers of 1 kB",
        get(_LINE, *(b"A%d: " % n + b"a" * 1000 for n in range(100))),
        431,
    ),
    _refused("a byte order mark", b"\xef\xbb\xbf" + get()),
    _refused("a space before the method", b" " + get()),
    _refused("a header before the request line", b"Host: localhost\r\n" + get()),
    _refused("128 headers and Host", get(_LINE, *(b"A%d: 1" % n for n in range(128)))),
    _refused("a head that ends in bare LF", b"GET /up/v1/models HTTP/1.1\r\nHost: localhost\r\n\n"),
    _refused("a head that ends in CR and more", b"GET /up/v1/models HTTP/1.1\r\nHost: localhost\r\n\rX"),
    _refused("the key of an old web socket", get(_LINE, b"Sec-WebSocket-Key1: x")),
    _refused("no Host", get(_LINE, host=None)),
    _refused("two Hosts", get(_LINE, b"Host: y")),
    _refused("the same Host twice", get(_LINE, b"host: x")),
    _refused("a space before Host's colon", get(_LINE, host=b"Host : x")),
]

# The request line
LINES: Final = [
    *(
        _refused(f"line {line.decode('latin-1')!r}", get(line))
        for line in (
            b"GET\t/up/v1/models\tHTTP/1.1",
            b"GET /up/v1/models HTTP/1.1 ",
            b"GET /up/v1/models HTTP/1.1 x",
            b"GET /up/v1/models HTTP/1.2",
            b"GET /up/v1/models HTTP/1.",
            b"GET /up/v1/models HTTP/11",
            b"GET /up/v1/models HTTP/1.1.1",
            b"GET /up/v1/models http/1.1",
            b"GET /up/v1/models HTTPS/1.1",
            b"GET /up/v1/models ICE/1.0",
            b"GET",
            b"GET HTTP/1.1",
            b"/up/v1/models HTTP/1.1",
            b"get /up/v1/models HTTP/1.1",
            b"Get /up/v1/models HTTP/1.1",
            b"G\x00ET /up/v1/models HTTP/1.1",
            b"G ET /up/v1/models HTTP/1.1",
            b"CHAT /up/v1/models HTTP/1.1",
            b"GET /up/v1/mo dels HTTP/1.1",
            b"GET /up/v1/models\x00 HTTP/1.1",
            b"GET /up/v1/models\x7f HTTP/1.1",
            b"GET /up/v1/models\x01 HTTP/1.1",
            b"GET up/v1/models HTTP/1.1",
        )
    ),
    _refused("a method of 10 kB", get(b"G" * 10_000 + b" /up/v1/models HTTP/1.1")),
    _refused("a target of 70 kB", get(b"GET /up/v1/" + b"a" * 70_000 + b" HTTP/1.1"), 431),
    _refused("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _refused("TLS on the plain port", bytes.fromhex("16030100c8010000c40303") + bytes(range(64))),
    *(
        _refused(f"CONNECT {target.decode()}", get(b"CONNECT " + target + b" HTTP/1.1") + HIDDEN)
        for target in (b"x:80", b"/up/v1/models", b"up:443/up/v1/models", b"*")
    ),
    _refused("CONNECT alone", get(b"CONNECT /up/v1/models HTTP/1.1")),
    *(
        _refused(f"target {target.decode('latin-1')!r}", get(b"GET " + target + b" HTTP/1.1"))
        for target in (b"*", b"?a", b"#", b"x:80", b"up", b"/up/v1/m\xc3\xb6dels", b"/up/v1/m\xf6dels", b"http:///")
    ),
    _refused("another protocol's greeting", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    _refused("SOCKS", b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00P"),
    _refused("HTTP/2.0", get(b"GET /up/v1/models HTTP/2.0"), 505),
    _refused("HTTP/0.9", get(b"GET /up/v1/models HTTP/0.9"), 505),
    _refused("no version", b"GET /up/v1/models\r\n\r\n", 505),
    _refused("garbage", b"\x00\x01\x02\x03\r\n\r\n"),
    _refused("an unknown endpoint", get(b"GET /other/v1/models HTTP/1.1"), 404),
    *(
        _refused(f"target {target.decode('latin-1')!r}", get(b"GET " + target + b" HTTP/1.1"), 404)
        for target in (
            *(b"/up/v1/../admin", b"/up/v1/./admin", b"/up/v1/a/../../b", b"/up/v1/%2e%2e/admin", b"/up/v1/%2E%2e/x"),
            *(b"/up/v1/.%2e/x", b"/up/v1/%2e/x", b"/up/v1/..", b"/up/v1/a/..", b"/up/../v1/x", b"/../up/v1/x"),
            *(b"//up/v1/models", b"/up%2fv1/models", b"/UP/v1/models", b"/"),
            *(b"http://evil/up/v1/models", b"http://x/up/v1/models", b"http://u:p@x/up/v1/models"),
            *(
                b"ftp://x/up/v1/models",
                b"HTTP://x/up/v1/models",
                b"///up/v1/models",
                b"/up/v1\\..\\admin",
                b"/up/v1/..?a",
            ),
            *(b"/up/v1%2f..%2fadmin", b"/up;/v1/models", b"/%75p/v1/models", b"/./up/v1/models"),
        )
    ),
    _refused("the asterisk", get(b"OPTIONS * HTTP/1.1"), 404),
]

# The body isn't framed as its head says. If the head was sound, the upstream may have got the request by then.
BODIES: Final = [
    *(
        Malformed(f"chunk {chunk[:24]!r}", post(_CHUNKED, body=chunk + b"\r\nhello\r\n" + _SMUGGLED), (400,), 0)
        for chunk in (
            *(b"-5", b"+5", b"0x5", b"5 ", b" 5", b"\t5", b"5\t", b"g", b"", b"5\x00", b"fffffffffffffffff", b"5,5"),
            *(
                b"5;a=\x00",
                b"5;a\nb",
                b"5;a\rb",
                b"5\n",
                b"5;",
                b"5 ;a=b",
                b"5; a=b",
                b'5;a="b\\"',
                b"-0",
                b"0x0",
                b"5_0",
            ),
            *(b"10000000000000005", b"5\r", b"5\x0b", b"\xef\xbc\x95", b"5#", b'"5"'),
        )
    ),
    Malformed("a chunk without its end", post(_CHUNKED, body=b"5\r\nhelloX\r\n0\r\n\r\n"), (400,)),
    Malformed("a chunk longer than it says", post(_CHUNKED, body=b"3\r\nhello\r\n0\r\n\r\n"), (400,)),
    Malformed("chunks with bare LF", post(_CHUNKED, body=b"5\nhello\n0\n\n"), (400,)),
    Malformed("a trailer with a control character", post(_CHUNKED, body=b"0\r\nA: \x00\r\n\r\n"), (400,)),
    Malformed("a length in a trailer", post(_CHUNKED, body=b"0\r\nContent-Length: 5\r\n\r\n"), (400,)),
    Malformed("a coding in a trailer", post(_CHUNKED, body=b"0\r\nTransfer-Encoding: x\r\n\r\n"), (400,)),
    Malformed("a trailer without a colon", post(_CHUNKED, body=b"0\r\nABC\r\n\r\n"), (400,)),
    Malformed("a trailer with a space before its colon", post(_CHUNKED, body=b"0\r\nA : 1\r\n\r\n"), (400,)),
    Malformed("a second Host in a trailer", post(_CHUNKED, body=b"0\r\nHost: y\r\nA: 1\r\n\r\n"), (400,)),
    Malformed("a folded trailer", post(_CHUNKED, body=b"0\r\nA: 1\r\n b\r\n\r\n"), (400,)),
    Malformed("a bare LF in a trailer", post(_CHUNKED, body=b"0\r\nA: 1\nB: 2\r\n\r\n"), (400,)),
    Malformed("a thousand trailers", post(_CHUNKED, body=b"0\r\n" + b"A: 1\r\n" * 1000 + b"\r\n"), (400,)),
    Malformed("a trailer of 100 kB", post(_CHUNKED, body=b"0\r\nA: " + b"a" * 100_000 + b"\r\n\r\n"), (431,)),
    Malformed("the last chunk ends in bare LF", post(_CHUNKED, body=b"0\r\n\n"), (400,)),
    Malformed("a chunk without CRLF behind it", post(_CHUNKED, body=b"5\r\nhello0\r\n\r\n"), (400,)),
    Malformed("a chunk with bare LF behind it", post(_CHUNKED, body=b"5\r\nhello\n0\r\n\r\n"), (400,)),
    Malformed("a line end in an extension's quotes", post(_CHUNKED, body=b'5;a="b\r\nhello\r\n0\r\n\r\n"'), (400,)),
    _never_ends("a body that is too short", post(b"Content-Length: 9", body=b"hello")),
    _never_ends("a chunk that is too short", post(_CHUNKED, body=b"5\r\nhel")),
    _never_ends("a chunk of 2^64 - 1 bytes", post(_CHUNKED, body=b"ffffffffffffffff\r\nhello\r\n" + _SMUGGLED)),
    _never_ends("chunks without a last one", post(_CHUNKED, body=b"5\r\nhello\r\n")),
    _never_ends("chunks without their last LF", post(_CHUNKED, body=b"5\r\nhello\r\n0\r\n\r")),
]

_UPGRADE: Final = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
_SOCKET: Final = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
_FIVE: Final = b"Content-Length: 5"

# Behind a sound request come bytes that aren't a request, or that another reader would take for the request's body.
BEHIND: Final = [
    _behind_a_sound_one("garbage behind a request", get() + b"GARBAGE\r\n\r\n"),
    _behind_a_sound_one("a body longer than its length", post(b"Content-Length: 2", body=b"hello")),
    _behind_a_sound_one("a request behind one that closes", get(_LINE, b"Connection: close") + HIDDEN),
    _behind_a_sound_one("a request behind HTTP/1.0", get(b"GET /up/v1/models HTTP/1.0") + HIDDEN),
    _behind_a_sound_one("a folded request", get() + get(b" GET /up/v1/hidden HTTP/1.1")),
    _behind_a_sound_one("a body without a length", post(body=b"hello")),
    _passes("half a request behind one", get() + HIDDEN[:20]),
    _passes("half a request behind a body", post(_FIVE, body=b"hello") + HIDDEN[:20]),
    _passes("a request behind a trailer", post(_CHUNKED, body=b"0\r\nX-Api-Key: evil\r\n\r\n") + HIDDEN),
    _passes("a request behind h2c", get(_LINE, *_UPGRADE) + HIDDEN),
    _passes("a request behind h2c with a body", post(*_UPGRADE, _FIVE, body=b"hello") + HIDDEN),
    _passes("a request behind a web socket", get(_LINE, *_SOCKET) + HIDDEN),
    _passes("a request behind a web socket with a body", post(*_SOCKET, _FIVE, body=b"hello") + HIDDEN),
    _passes("frames behind a web socket", get(_LINE, *_SOCKET) + b"\x81\x85\x00\x00\x00\x00hello"),
    _passes("HTTP/2's preface behind h2c", get(_LINE, *_UPGRADE) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _passes("two requests, the second one h2c", get() + get(_LINE, *_UPGRADE) + HIDDEN, 2),
    _passes("two requests, the second one chunked", get() + post(_CHUNKED, body=_SMUGGLED), 2),
]

# Sound requests that look odd or dangerous: each passes exactly once.
SOUND: Final = [
    _passes("empty lines before it", b"\r\n\r\n" + get()),
    _passes("a request in a body of a length", post(b"Content-Length: %d" % len(HIDDEN), body=HIDDEN)),
    _passes("a request in a chunk", post(_CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN))),
    _passes("a request in a chunk's extension", post(_CHUNKED, body=b'5;a="GET / HTTP/1.1"\r\nhello\r\n0\r\n\r\n')),
    _passes("three at once", get() * 3, 3),
    _passes("one with a body, then another", post(b"Content-Length: 5", body=b"hello") + get(), 2),
    _passes("behind chunks nothing is read", post(_CHUNKED, body=_SMUGGLED)),
    _passes("an unknown trailer", post(_CHUNKED, body=b"0\r\nX-Checksum: 5\r\n\r\n")),
    _passes("two spaces in the line", get(b"GET  /up/v1/models HTTP/1.1")),
    _passes("two spaces before the version", get(b"GET /up/v1/models  HTTP/1.1")),
    _passes("chunk sizes with zeros", post(_CHUNKED, body=b"00005\r\nhello\r\n000\r\n\r\n")),
    _passes("a method that some have", get(b"PATCH /up/v1/models HTTP/1.1")),
    _passes("TRACE", get(b"TRACE /up/v1/models HTTP/1.1")),
    _passes("an escaped NUL", get(b"GET /up/v1/%00 HTTP/1.1")),
    _passes("escaped line ends", get(b"GET /up/v1/a%0d%0aX:%201 HTTP/1.1")),
    _passes("an escaped slash", get(b"GET /up/v1/a%2Fb HTTP/1.1")),
    _passes("two slashes", get(b"GET /up/v1//models HTTP/1.1")),
    _passes("dots that are no segment", get(b"GET /up/v1/a..b/...x HTTP/1.1")),
    _passes("dot segments in a query", get(b"GET /up/v1/models?a=/../b HTTP/1.1")),
    _passes("h2c", get(_LINE, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c")),
    _passes("a web socket", get(_LINE, b"Connection: Upgrade", b"Upgrade: websocket", b"A: b")),
    _passes("Connection names what it may not", get(_LINE, b"Connection: host, authorization")),
    _passes("a proxy's own headers", get(_LINE, b"Proxy-Connection: close")),
    _passes("Latin-1 in a value", get(_LINE, b"A: \xe4")),
    _passes("another Host", get(host=b"Host: evil.example")),
    *(
        _passes(f"Host {host.decode()!r}", get(host=b"Host: " + host))  # the endpoint gets its own host name
        for host in (b"", b"a b", b"u@a", b"a/b", b"a, b", b"[::1", b"127.0.0.1:99999")
    ),
    _passes("no Host in HTTP/1.0", get(b"GET /up/v1/models HTTP/1.0", host=None)),
    _passes("a length in HTTP/1.0", get(b"POST /up/v1/files HTTP/1.0", _FIVE) + b"hello"),
    _passes("a length with a zero", post(b"Content-Length: 05", body=b"hello")),
    _passes("white space around a length", post(b"Content-Length:\t5 \t", body=b"hello")),
    _passes("no body, then another", post(b"Content-Length: 0") + get(), 2),
    _passes("CHUNKED", post(b"Transfer-Encoding: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n")),
    _passes("chunks of a GET", get(_LINE, _CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n"),
    _passes("Connection names the coding", post(_CHUNKED, b"Connection: transfer-encoding", body=b"0\r\n\r\n")),
    _passes("Connection names the length", post(_FIVE, b"Connection: content-length", body=b"hello")),
    _passes("another expectation", post(_FIVE, b"Expect: 200-ok", body=b"hello")),
    _passes("an expectation among others", post(_FIVE, b"Expect: 100-continue, x", body=b"hello")),
    _passes("an expectation with its body", post(_FIVE, b"Expect: 100-continue", body=b"hello")),
    _passes("100 kB of a chunk's extension", post(_CHUNKED, body=b"5;" + b"a" * 100_000 + b"\r\nhello\r\n0\r\n\r\n")),
    _passes("a forbidden trailer", post(_CHUNKED, body=b"0\r\nAuthorization: evil\r\nCookie: evil\r\n\r\n")),
    _passes("another protocol's method", get(b"SOURCE /up/v1/models HTTP/1.1")),
    _passes("RTSP, which llhttp takes for HTTP/1.0", get(b"GET /up/v1/models RTSP/1.0")),
    _passes("101 headers", get(_LINE, *(b"A%d: 1" % n for n in range(101)))),
    _passes("127 headers and Host", get(_LINE, *(b"A%d: 1" % n for n in range(127)))),
    _passes("a hundred empty lines before it", b"\r\n" * 100 + get()),
    _passes("a request as a path", get(b"GET /up/v1/http://evil/ HTTP/1.1")),
    _refused("a dot escaped twice", get(b"GET /up/v1/%252e%252e/admin HTTP/1.1"), 404),
    *(  # beside /v1, below the endpoint's origin
        _passes(f"target {target.decode()!r}", get(b"GET " + target + b" HTTP/1.1"))
        for target in (b"/up/v2/models", b"/up/v1models", b"/up/%76%31/models")
    ),
    _passes("another method by a header", get(_LINE, b"X-HTTP-Method-Override: DELETE")),
    _passes("bytes that are no text in a value", get(_LINE, b"A: \xff\xfe")),
    _passes("a value of white space", get(_LINE, b"A: \t ")),
    _passes("forty at once", get() * 40, 40),
]

MALFORMED: Final = [*LENGTHS, *SYNTAX, *LINES, *BODIES, *BEHIND, *SOUND]
