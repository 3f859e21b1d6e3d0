"""Where TCP splits a client's bytes means nothing: the same heads begin, end and are too long."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from dyno_proxy.config.schema import ProxyConfig
from dyno_proxy.http.request_reads import RequestReads
from dyno_proxy.server.connection import CLOSE, KEEP, MeasuredProtocol, MeasuredServer
from rigs.until import LIMIT_S

_MAX_HEAD_BYTES = 60
_HEAD_TIMEOUT_S = 0.2

_TRICKY = (b"\r\n\r\n", b"\r\n", b"\r", b"\n", b"GET / HTTP/1.1\r\n", b"a", b"{}")
_BODIES = st.lists(st.sampled_from(_TRICKY), max_size=6).map(b"".join)
_FIELDS = st.lists(st.sampled_from((b"A: 1\r\n", b"Long: " + b"b" * 20 + b"\r\n", b"F: a\r\n folded\r\n")), max_size=3)


@dataclass(frozen=True)
class Message:
    """A request with a Content-Length, as far as its bytes matter here."""

    empty_lines: bytes
    head: bytes
    body: bytes

    def __bytes__(self) -> bytes:
        return self.empty_lines + self.head + self.body


_MESSAGES = st.builds(
    Message,
    st.sampled_from((b"", b"", b"\r\n", b"\r\n\r\n")),
    _FIELDS.map(lambda lines: b"POST / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"),
    _BODIES,
)


@dataclass
class Parser:
    """What a parser says of a stream whose messages it knows: how many heads ended, how much of each body is here.

    It stops once behind each message of `stops`, as one whose queue is full, and goes on with the next read.
    """

    stream: list[Message]
    stops: set[int]
    at: int = 0  # the bytes that it has taken
    given: int = 0
    spans: list[tuple[int, int, int]] = field(default_factory=list)  # where a head begins, ends, and its body ends

    def __post_init__(self) -> None:
        at = 0
        for message in self.stream:
            begins = at + len(message.empty_lines)
            self.spans.append((begins, begins + len(message.head), at + len(bytes(message))))
            at = self.spans[-1][2]

    def feed(self, size: int) -> list[int]:
        """The numbers of the messages whose heads ended in this read."""
        self.given += size
        to = self.given
        for number, (_, _, end) in enumerate(self.spans):
            if number in self.stops and self.at < end <= to:
                self.stops.discard(number)
                to = end
                break
        before, self.at = self.at, to
        return [number for number, (_, head_end, _) in enumerate(self.spans) if before < head_end <= to]

    def body_bytes(self, number: int) -> int:
        """What it has taken of this message's body."""
        _, head_end, end = self.spans[number]
        return max(0, min(self.at, end) - head_end)

    def begun_bytes(self) -> int:
        """What it has taken of a head that isn't whole."""
        return next((self.at - begins for begins, end, _ in self.spans if begins < self.at < end), 0)


def judged(stream: list[Message], cuts: Iterable[int], stops: set[int]) -> list[bool]:
    """Of each head whether it is too long, up to the first that is. Asserts what must hold after each read."""
    whole = b"".join(map(bytes, stream))
    ends = [*sorted(cut % (len(whole) + 1) for cut in cuts), len(whole), *[len(whole)] * len(stream)]
    parser, reads = Parser(stream, set(stops)), RequestReads(_MAX_HEAD_BYTES)
    verdicts: list[bool] = []
    last = -1  # the message that came last
    for begin, end in zip((0, *ends), ends, strict=False):
        read = reads.with_held(whole[begin:end])
        in_body = last >= 0 and parser.at < parser.spans[last][2]
        begun_bytes = parser.begun_bytes()
        heads = parser.feed(end - begin)
        all_body = in_body and reads.all_body(len(read), parser.body_bytes(last))
        for last in heads:  # afterwards it's the last one's number
            verdicts.append(reads.head(read, parser.body_bytes(last)))
            if verdicts[-1]:
                return verdicts
        began = False
        if parser.at < parser.given:
            reads.hold(read)
        elif not heads and not in_body:
            began = reads.head_goes_on(read)
        elif reads.behind_at if heads else not all_body:
            began = reads.behind(read)
        assert reads.begun_bytes == parser.begun_bytes()
        assert began == (parser.begun_bytes() > 0 and not (begun_bytes and not heads))
        assert len(reads.held) == parser.given - parser.at
        if reads.head_too_long:
            return [*verdicts, True]
    return verdicts


@given(
    st.lists(_MESSAGES, max_size=4),
    st.lists(st.integers(0, 1000), max_size=12),
    st.sets(st.integers(0, 3)),
)
def test_any_split_of_any_requests(stream: list[Message], cuts: list[int], stops: set[int]) -> None:
    """Each head begins in the read that it begins in, and is judged as it is whole; also where the parser stops."""
    right = [len(message.head) > _MAX_HEAD_BYTES for message in stream]
    assert judged(stream, cuts, stops) == right[: right.index(True) + 1 if True in right else None]


@given(st.lists(_MESSAGES, max_size=3))
def test_byte_by_byte(stream: list[Message]) -> None:
    """The shortest reads that there are."""
    assert judged(stream, range(sum(len(bytes(message)) for message in stream)), set()) == judged(stream, (), set())


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_a_chunked_body_without_data_has_a_limit(sizes: list[int]) -> None:
    """Extensions and trailers of any reads are too much in the read in which they exceed a head's limit; not before."""
    reads = RequestReads(_MAX_HEAD_BYTES)
    reads.end()
    assert not reads.head(b"POST / HTTP/1.1\r\n\r\n5;", 0)
    reads.hold(b"POST / HTTP/1.1\r\n\r\n5;")
    for number, size in enumerate(sizes):
        assert not reads.all_body(size, 0)
        assert reads.too_bare(size) == (sum(sizes[: number + 1]) > _MAX_HEAD_BYTES)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100)), max_size=30))
def test_a_chunked_body_with_data_is_as_long_as_it_likes(pieces: list[tuple[int, int]]) -> None:
    """Data begins the count anew, whether it fills a read or not."""
    reads = RequestReads(_MAX_HEAD_BYTES)
    reads.end()
    total_bytes = bare_bytes = 0
    for framing, data in pieces:
        total_bytes += data
        bare_bytes = 0 if data else bare_bytes + framing
        if not reads.all_body(framing + data, total_bytes):
            assert reads.too_bare(framing + data) == (bare_bytes > _MAX_HEAD_BYTES)


def test_nothing_begins_behind_the_last_request() -> None:
    """What lies there is neither a head nor kept."""
    reads = RequestReads(_MAX_HEAD_BYTES)
    request = b"GET / HTTP/1.1\r\n\r\n"
    assert not reads.head(request + b"GET", 0)
    reads.end()
    assert not reads.behind(request + b"GET")
    assert not reads.head_goes_on(b"G" * 1000)
    assert (reads.begun_bytes, reads.head_too_long, reads.held) == (0, False, b"")


# A body that seems to be a head's end where the read's last bytes begin another head.
_BEHIND = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r"
_HIDING = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n" + (
    b"a" * (len(_BEHIND) - 4) + b"\r\n\r\n" + b"a" * (40 - len(_BEHIND))
)


async def _served(*writes: bytes) -> tuple[bytes, list[str]]:
    """What comes back until the proxy closes, and the codes of what is refused; the second answer is the last."""
    refused: list[str] = []
    answers = [KEEP, CLOSE]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        protocol = request.protocol
        assert isinstance(protocol, MeasuredProtocol)
        protocol.take_stamp()
        await request.read()
        assert protocol.transport is not None
        protocol.transport.write(b"HTTP/1.1 204 Fine\r\n\r\n")
        return answers.pop(0)

    server = MeasuredServer(
        handle, lambda _status, why, *_stamp: refused.append(why), ProxyConfig(head_timeout_s=_HEAD_TIMEOUT_S)
    )
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    try:
        for write in writes:
            writer.write(write)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(LIMIT_S):
            return await reader.read(), refused
    finally:
        writer.close()
        listening.close()
        await server.shutdown(1.0)


@pytest.mark.parametrize(
    "writes",
    [(_HIDING + _BEHIND,), (_HIDING[:-5], _HIDING[-5:] + _BEHIND), (_HIDING, _BEHIND)],
    ids=["in one read", "behind a body's rest", "in a read of its own"],
)
async def test_a_heads_time_begins_with_its_first_byte(writes: tuple[bytes, ...]) -> None:
    """Wherever that byte stands: also behind a body that holds an empty line, and behind a body's last piece."""
    answers, refused = await _served(*writes)
    assert answers.startswith(b"HTTP/1.1 204 Fine\r\n\r\nHTTP/1.1 408")
    assert refused == ["head_timeout"]


@pytest.mark.parametrize("size", [len(_BEHIND), 20, 1])
async def test_a_head_whose_rest_comes_alone(size: int) -> None:
    """It is a request, behind whatever body it began, and though its rest be a line feed alone."""
    answers, refused = await _served(_HIDING + _BEHIND[:size], _BEHIND[size:] + b"\n")
    assert (answers, refused) == (b"HTTP/1.1 204 Fine\r\n\r\n" * 2, [])
