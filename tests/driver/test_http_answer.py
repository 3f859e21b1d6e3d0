import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.http_answer import LARGEST_HEAD_BYTES, AnswerReader, NotHttpError

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;name="x"\r\nlo\r\n0\r\nTrailer: a\r\n\r\n'
)
ZIPPED = zlib.compress(b"hello")
CASES = {
    "a length": (WHOLE, b"hello", 200),
    "chunks": (CHUNKED, b"hello", 200),
    "after others": (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + WHOLE, b"hello", 200),
    "no body": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", 200),
    "no reason": (b"HTTP/1.1 500\r\nContent-Length: 1\r\n\r\nx", b"x", 500),
    "line feeds alone": (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello", 200),
    "the same length twice": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
        200,
    ),
    "compressed all the same": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n%b" % (len(ZIPPED), ZIPPED),
        b"hello",
        200,
    ),
}


def read(data: bytes, cuts: list[int]) -> tuple[AnswerReader, bytes]:
    reader, body = AnswerReader(), b""
    for begin, end in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        if begin < end:
            body += reader.feed(data[begin:end])
    return reader, body


@pytest.mark.parametrize("case", CASES)
@given(cuts=st.lists(st.integers(0, 150), max_size=6))
def test_any_split_gives_the_same_answer(case: str, cuts: list[int]) -> None:
    """However the network cuts the bytes, status, body and end are the same."""
    data, expected, status = CASES[case]
    reader, body = read(data, cuts)
    assert (body, reader.ended, reader.excess) == (expected, True, b"")
    assert reader.head is not None
    assert reader.head.status == status


@pytest.mark.parametrize("case", CASES)
def test_byte_by_byte_and_with_more_behind(case: str) -> None:
    """Every byte may come alone; what follows the answer isn't part of its body."""
    data, expected, _ = CASES[case]
    reader, body = read(data, list(range(len(data))))
    assert (body, reader.ended) == (expected, True)
    reader, body = read(data + b"HTTP/1.1 200", [])
    assert (body, reader.excess) == (expected, b"HTTP/1.1 200")


def test_an_answer_without_a_length() -> None:
    """It ends with the connection; one with a length, or in chunks, doesn't."""
    reader, body = read(b"HTTP/1.0 200 OK\r\n\r\nhel", [])
    body += reader.feed(b"lo")
    assert (body, reader.ended) == (b"hello", False)
    assert reader.connection_ended()
    for cut in (WHOLE[:-1], CHUNKED[:-2], WHOLE[:20]):
        reader, _ = read(cut, [])
        assert not reader.connection_ended()


@pytest.mark.parametrize(
    ("head", "keeps_open"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Upgrade, Close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive", True),
    ],
)
def test_whether_the_connection_can_be_used_again(head: bytes, keeps_open: bool) -> None:
    """As the server says, by its version where it says nothing."""
    reader, _ = read(head + b"\r\nContent-Length: 0\r\n\r\n", [])
    assert reader.head is not None
    assert reader.head.keeps_open is keeps_open


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 20_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (LARGEST_HEAD_BYTES // 6),
    ],
)
def test_what_is_no_answer(data: bytes) -> None:
    """It is refused with a word on what is wrong, however it is cut."""
    for cuts in ([], [10, 40, 60]):
        with pytest.raises(NotHttpError, match=r"\w"):
            read(data, cuts)


@given(st.binary(max_size=300))
def test_junk_is_refused_or_waited_for(data: bytes) -> None:
    """Any bytes behind a head give a body, an end, or an error of our own."""
    for head in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        reader = AnswerReader()
        try:
            reader.feed(head + data)
        except NotHttpError:
            continue
