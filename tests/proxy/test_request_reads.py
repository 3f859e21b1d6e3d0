"""What is counted in a client's reads, for every split of a connection's requests. llhttp says what each read held."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from dyno_proxy.http.request_reads import RequestReads
from rigs.splits import cut


class Message(NamedTuple):
    """A request with a Content-Length body; `blank`: empty lines before it."""

    blank: bytes
    head: bytes
    body: bytes

    @property
    def whole(self) -> bytes:
        return self.blank + self.head + self.body


@dataclass
class Seen:
    """What was decided about each head, and the greatest length that was assumed for an unfinished head."""

    may_be_long: list[bool] = field(default_factory=list)
    rests: list[bytes] = field(default_factory=list)
    longest_begun_bytes: int = 0
    bearable: bool = True


class Parser:
    """What llhttp finds in the reads of one connection."""

    def __init__(self) -> None:
        self.ended = 0  # heads, in the last read
        self.body_bytes = 0  # of the last message
        self.in_body = False
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        self.ended = 0
        self._parser.feed_data(data)

    def on_headers_complete(self) -> None:
        self.ended, self.body_bytes, self.in_body = self.ended + 1, 0, True

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)

    def on_message_complete(self) -> None:
        self.in_body = False


def read(reads: Iterable[bytes], max_bytes: int) -> Seen:
    """Feed the reads as server/connection.py does, with only the parser instead of aiohttp."""
    counts, seen, parser = RequestReads(), Seen(), Parser()
    for data in reads:
        began_in_body = parser.in_body
        parser.feed(data)
        if parser.ended:
            may_be_long, alone = counts.requests(data, parser.ended, max_bytes)
            seen.may_be_long += [may_be_long] * parser.ended
            if alone and not parser.in_body:
                rest = counts.behind(data, parser.body_bytes)
                seen.rests.append(rest)
                if rest:
                    counts.head(rest)
        elif began_in_body:
            seen.bearable &= counts.body(data, parser.body_bytes, max_bytes, held_back=False)
        else:
            counts.head(data)
        seen.longest_begun_bytes = max(seen.longest_begun_bytes, counts.head_bytes)
    return seen


def message(blank: bytes, padding: int, body: bytes) -> Message:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return Message(blank, b"POST /e/v1/x HTTP/1.1\r\nHost: x\r\nX-Pad: a%b\r\n%b\r\n" % (b"a" * padding, length), body)


bodies = st.binary(max_size=40) | st.sampled_from([b"", b"\r\n\r\n", b"\r\n\r\nxxxx", b"GET / HTTP/1.1\r\n\r\n"])
messages = st.builds(message, st.sampled_from([b"", b"", b"\r\n", b"\r\n\r\n"]), st.integers(0, 200), bodies)
traffic = st.lists(messages, min_size=1, max_size=4)
places = st.lists(st.integers(0, 1_000), max_size=20)
limits = st.integers(50, 400)


@example([message(b"", 0, b"\r\n\r\nxxxx"), message(b"", 0, b"")], [], 400)
@given(traffic, places, limits)
def test_no_head_is_taken_for_shorter_than_it_is(sent: list[Message], at: list[int], max_bytes: int) -> None:
    """However the reads are cut, a head that is too long is reported as perhaps too long."""
    whole = b"".join(each.whole for each in sent)
    for reads in (cut(whole, at), cut(whole, range(len(whole)))):
        seen = read(reads, max_bytes)
        assert len(seen.may_be_long) == len(sent)
        for each, may_be_long in zip(sent, seen.may_be_long, strict=True):
            assert may_be_long or len(each.head) <= max_bytes
        assert seen.bearable


@given(traffic, places)
def test_a_begun_head_is_never_taken_for_longer_than_it_is(sent: list[Message], at: list[int]) -> None:
    """A sound head is never refused before it is complete. Bytes that were sent before it don't count."""
    whole = b"".join(each.whole for each in sent)
    longest = max(len(each.blank) + len(each.head) for each in sent)
    for reads in (cut(whole, at), cut(whole, range(len(whole)))):
        assert read(reads, 10_000).longest_begun_bytes < longest


@given(messages, messages, st.integers(0, 1_000))
def test_what_stands_behind_a_message_is_found(first: Message, second: Message, more: int) -> None:
    """A read that holds one message and the beginning of the next is cut between them, whatever the body holds."""
    begun = (second.blank + second.head)[: more % len(second.blank + second.head)]
    (rest,) = read([first.whole + begun], 10_000).rests
    assert rest == begun


@given(st.lists(st.sampled_from([b"5\r\nhello\r\n", b"5;" + b"a" * 80 + b"\r\nhello\r\n"]), max_size=8), places)
def test_a_body_with_data_is_borne(chunks: Sequence[bytes], at: list[int]) -> None:
    """Chunk sizes and extensions pass in any split, as long as data comes among them before the limit."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = head + b"".join(chunks) + b"0\r\n\r\n"
    assert read(cut(whole, at), 120).bearable
    assert read(cut(whole, range(len(whole))), 120).bearable


@given(places)
def test_trailers_without_an_end_are_not_borne(at: list[int]) -> None:
    """Bytes that come without data are limited in any split into more than one read."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    reads = [head, *cut(b"0\r\n" + b"X-T: 1\r\n" * 100, at)]
    counts = RequestReads()
    counts.requests(head, 1, 200)
    borne = [counts.body(data, 0, 200, held_back=False) for data in reads[1:]]
    assert borne[-1] is False


def test_a_body_that_is_held_back_is_borne() -> None:
    """While nobody reads the body, its data waits in the parser: the reads seem to hold none."""
    counts = RequestReads()
    counts.requests(b"head", 1, 10)
    assert all(counts.body(b"x" * 100, 0, 10, held_back=True) for _ in range(10))
    assert counts.body(b"x" * 10, 0, 10, held_back=False)
    assert not counts.body(b"x", 0, 10, held_back=False)
