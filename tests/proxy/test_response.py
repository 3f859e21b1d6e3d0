"""A response's parser with every split into reads: the places where TCP cut the bytes don't matter."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dyno_proxy.http.response import MALFORMED, MAX_HEAD_BYTES, MAX_INTERIM, BodyFilter, Headers, Response
from dyno_proxy.rewrite.usage_chunk import UsageChunkFilter
from rigs.splits import cut, every_cut


class Asked(NamedTuple):
    """The request that the response answers."""

    to_head: bool = False
    http10: bool = False
    close: bool = False
    filtered: bool = False


@dataclass
class Facts:
    """The result of a response. It is compared as a whole."""

    refused: bool = False
    passed: bytes = b""
    body: bytes = b""
    heads: list[tuple[int, Headers]] = field(default_factory=list)
    complete: bool = False
    reusable: bool = False
    unframed: bool = False
    client_close: bool = False


def read(reads: Iterable[bytes], asked: Asked = Asked()) -> Facts:  # noqa: B008 - it is a tuple
    """Feed the reads as the relay does, and then close the connection."""
    facts = Facts()
    response = Response()

    def take_head(status: int, headers: Headers) -> BodyFilter | None:
        facts.heads.append((status, list(headers)))
        return UsageChunkFilter() if asked.filtered else None

    response.begin(take_head, to_head=asked.to_head, http10=asked.http10, close=asked.close)
    beyond = False
    for data in reads:
        if response.complete:  # the relay takes no more, and closes the connection instead
            beyond = True
            break
        try:
            facts.passed += response.feed(data)
        except MALFORMED:
            return Facts(refused=True)
        facts.body += b"".join(response.parts)
        response.parts.clear()
    rest = response.closed()
    facts.passed += rest or b""
    facts.complete = response.complete
    facts.reusable = response.complete and response.reusable and not beyond
    facts.unframed, facts.client_close = response.unframed, response.client_close
    return facts


tokens = st.text("abcdefgXYZ-09", min_size=1, max_size=12).map(str.encode)
values = st.text('abc ,;="0\t\xe9', max_size=20).map(lambda text: text.strip(" \t").encode("latin-1"))
plain = st.builds(lambda name, value: b"X-%b: %b\r\n" % (name, value), tokens, values)
others = st.sampled_from(
    [b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Connection: X-Mine\r\nX-Mine: 1\r\n",
     b"Content-Type: text/event-stream\r\n", b"Set-Cookie: a=b\r\n", b"Keep-Alive: timeout=5\r\n"]
)  # fmt: skip
header_lines = st.lists(plain | others, max_size=30).map(b"".join)
interims = st.lists(
    st.builds(
        lambda status, lines: b"HTTP/1.1 %d Wait\r\n%b\r\n" % (status, lines),
        st.sampled_from([100, 102, 103]), st.lists(plain, max_size=3).map(b"".join),
    ), max_size=3,
).map(b"".join)  # fmt: skip
data = st.binary(max_size=40) | st.sampled_from(
    (b'data: {"choices":[{"index":0}]}\n\n', b'data: {"choices":[],"usage":{"total_tokens":1}}\n\n', b"\r\n\r\n", b"0")
)
chunks = st.builds(
    lambda piece, extension: b"%x%b\r\n%b\r\n" % (len(piece), extension, piece),
    data.filter(bool), st.sampled_from([b"", b"", b";a=b", b';a="b;c"', b";a"]),
)  # fmt: skip
chunked_bodies = st.builds(
    lambda pieces, extension, trailers: b"".join(pieces) + b"0" + extension + b"\r\n" + trailers + b"\r\n",
    st.lists(chunks, max_size=6), st.sampled_from([b"", b";last"]), st.lists(plain, max_size=3).map(b"".join),
)  # fmt: skip
framed = st.one_of(
    chunked_bodies.map(lambda body: (b"Transfer-Encoding: chunked\r\n", body)),
    data.map(lambda body: (b"Content-Length: %d\r\n" % len(body), body)),
    data.map(lambda body: (b"", body)),
)
sound = st.builds(
    lambda before, line, first, framing, last: (
        before + line + first + framing[0] + last + b"\r\n" + (b"" if line[9:12] in (b"204", b"304") else framing[1])
    ),
    interims,
    st.sampled_from(
        [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 \r\n", b"HTTP/1.1 500 Internal Server Error\r\n",
         b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 Not Modified\r\n"]
    ),
    header_lines, framed, header_lines,
)  # fmt: skip
behind = st.sampled_from((b"", b"", b"\r\n", b"x", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
askeds = st.builds(Asked, st.booleans(), st.booleans(), st.booleans(), st.just(False))
places = st.lists(st.integers(0, 2_000), max_size=30)

WSGIREF = b"HTTP/1.0 200 OK\r\nDate: Thu, 27 Nov 2025 09:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"
STREAM = (
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0;c\r\nX-T: 1\r\n\r\n"
)


@example(WSGIREF, b"", [17], Asked())
@given(sound, behind, places, askeds)
def test_any_split_of_a_sound_response_gives_the_same(whole: bytes, after: bytes, at: list[int], asked: Asked) -> None:
    """Every split gives the same bytes, the same head, body and end, and the same fate of both connections."""
    expected = read([whole + after], asked)
    assert not expected.refused
    assert read(cut(whole + after, at), asked) == expected
    assert read(cut(whole + after, range(len(whole + after))), asked) == expected


@pytest.mark.parametrize("asked", [Asked(), Asked(to_head=True), Asked(http10=True), Asked(close=True)])
@pytest.mark.parametrize("whole", [WSGIREF, STREAM, STREAM + b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_response_may_be_cut_anywhere(whole: bytes, asked: Asked) -> None:
    """A response is cut at each of its bytes, and at all of them. The result is the same."""
    expected = read([whole], asked)
    assert not expected.refused
    for reads in every_cut(whole):
        assert read(reads, asked) == expected


@given(st.lists(data.filter(bool), max_size=6), places, st.booleans())
def test_a_filtered_body_is_the_same_in_any_split(pieces: list[bytes], at: list[int], http10: bool) -> None:
    """Framing that the proxy writes follows the reads. The body inside it doesn't depend on them, nor do the facts."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX-T: 1\r\n\r\n"
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n" + body
    asked = Asked(http10=http10, filtered=True)

    def seen(reads: list[bytes]) -> tuple[bytes, bytes, Facts]:
        facts = read(reads, asked)
        head, _, passed = facts.passed.partition(b"\r\n\r\n")
        facts.passed = b""
        assert b"Trailer" not in head
        return head, passed if http10 else read([b"HTTP/1.1 200 OK\r\n" + CHUNKED + passed]).body, facts

    assert seen(cut(whole, at)) == seen(cut(whole, range(len(whole)))) == seen([whole])


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
MALFORMED_HEADS = [
    ("a bare LF", OK + b"X: a\nY: b\r\n\r\n"),
    ("a bare LF first in a line", OK + b"\nX: a\r\n\r\n"),
    ("LF alone", b"HTTP/1.1 200 OK\nX: a\n\n\r\n\r\n"),
    ("a bare CR", OK + b"X: a\rb\r\n\r\n"),
    ("a CR twice", OK + b"X: a\r\r\n\r\n"),
    ("NUL", OK + b"X: a\0b\r\n\r\n"),
    ("a control character", OK + b"X: a\x0bb\r\n\r\n"),
    ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("a blank line first", b"\r\n" + OK + b"\r\n"),
    ("two blank lines first", b"\r\n\r\n" + OK + b"\r\n"),
    ("HTTP/2", b"HTTP/2 200 OK\r\n\r\n"),
    ("no status", b"HTTP/1.1 OK\r\n\r\n"),
    ("a status below 100", b"HTTP/1.1 099 OK\r\n\r\n"),
    ("no colon", OK + b"X a\r\n\r\n"),
    ("a folded line", OK + b"X: a\r\n b\r\n\r\n"),  # obsolete (RFC 9112, 5.2), and no sound head to llhttp
    ("a line folded by a tab", OK + b"X: a\r\n\tb\r\n\r\n"),
    ("two lengths", OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("a length and chunks", OK + b"Content-Length: 5\r\n" + CHUNKED),
    ("another coding", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunks in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"0\r\n\r\n"),
    ("an upgrade", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ("an interim response with a body", b"HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\nab" + OK + b"\r\n"),
    ("a bare LF behind an interim response", b"HTTP/1.1 103 Hints\r\n\r\n" + OK + b"X: a\nY: b\r\n\r\n"),
]  # fmt: skip


@pytest.mark.parametrize("whole", [case[1] for case in MALFORMED_HEADS], ids=[case[0] for case in MALFORMED_HEADS])
def test_a_malformed_head_is_refused_in_any_split(whole: bytes) -> None:
    """A bad head is refused whole, cut in two anywhere, and byte by byte. A body behind it makes no difference."""
    assert read([whole + b"body"]).refused
    for reads in every_cut(whole):
        assert read(reads).refused, reads


heads = st.lists(
    st.sampled_from(
        [b"HTTP/1.", b"1 200 OK", b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"X: a", b" ", b"\t", b"\0", b"\xff"]
    ),
    max_size=12,
).map(lambda parts: b"".join(parts) + b"\r\n\r\n")


@given(heads | heads.map(OK.__add__), places)
def test_any_split_of_any_head_has_the_same_verdict(whole: bytes, at: list[int]) -> None:
    """For sound and malformed heads, the cut of the head doesn't matter."""
    expected = read([whole])
    assert read(cut(whole, at)) == expected
    assert read(cut(whole, range(len(whole)))) == expected


@given(st.integers(-5, 5), st.lists(st.integers(0, 12), max_size=5))
def test_the_longest_head_is_the_same_in_any_split(over: int, from_end: list[int]) -> None:
    """A head of the greatest length passes, and a head with one byte more is refused, wherever a read ends."""
    value = b"a" * (MAX_HEAD_BYTES + over - len(OK + b"X: "))
    whole = OK + b"X: " + value + b"\r\n\r\n"
    expected = read([whole])
    assert expected.refused == (over > 0)
    assert read(cut(whole, (len(whole) - place for place in from_end))) == expected


def test_an_interim_response_says_nothing_of_the_connection() -> None:
    """The final head of an answer to HEAD decides alone whether the connection may serve another request."""
    interim = b"HTTP/1.1 103 Hints\r\nConnection: keep-alive\r\n\r\n"
    asked = Asked(to_head=True)
    assert not read([interim, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"], asked).reusable
    assert read([interim, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"], asked).reusable


def test_interim_responses_have_a_limit_in_any_split() -> None:
    """The permitted number of interim heads passes, and one more is refused, in one read or in a read each."""
    one = b"HTTP/1.1 100 Continue\r\n\r\n"
    final = OK + b"Content-Length: 0\r\n\r\n"
    for count in (MAX_INTERIM, MAX_INTERIM + 1):
        assert read([one * count + final]).refused == (count > MAX_INTERIM)
        assert read([*[one] * count, final]).refused == (count > MAX_INTERIM)


def test_a_response_that_closes_early_is_not_complete() -> None:
    """Only a body without framing ends with the connection. A head never does."""
    assert read([OK + b"\r\n", b"abc"]).complete
    for whole in (OK, OK + b"Content-Length: 5\r\n\r\nabc", OK + CHUNKED + b"5\r\nabc"):
        assert not read([whole]).complete
