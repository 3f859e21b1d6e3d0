from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dyno_proxy.http.sse import LONG_EVENT_BYTES, MAX_EVENT_BYTES, SseScanner, is_stream

CASES = [
    # (bytes, the events' data)
    (b"data: a\n\n", [b"a"]),
    (b"data:a\n\n", [b"a"]),
    (b"data:  a\n\n", [b" a"]),
    (b"data: a\r\n\r\n", [b"a"]),
    (b"data: a\r\r", [b"a"]),
    (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
    (b"data: a\ndata: b\n\n", [b"a\nb"]),
    (b"event: delta\nid: 7\ndata: a\n\n", [b"a"]),
    (b": comment\n\ndata: a\n\n", [b"a"]),
    (b": ping\ndata: a\n\n", [b"a"]),
    (b"data\n\n", [b""]),
    (b"event: ping\n\n", []),
    (b"\n\n\n\ndata: a\n\n\n\n", [b"a"]),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    ('data: {"text": "é\u2028"}\n\n'.encode(), ['{"text": "é\u2028"}'.encode()]),
    (b"data: [DONE]", [b"[DONE]"]),
    (b"data: [DONE]\n", [b"[DONE]"]),
    (b"data: a\n\ndata: [DONE]\r", [b"a", b"[DONE]"]),
    (b"database: no\n\n", []),
    (b"data: a\n\ndata: b\n\ndata: [DONE]\n\n", [b"a", b"b", b"[DONE]"]),
    (b"data: \n\ndata: b\n\n", [b"", b"b"]),
    (b"data: a\n\n\ndata: b\n\n", [b"a", b"b"]),
    (b"data: a\ndata: b\n\ndata: c\n\n", [b"a\nb", b"c"]),
    (b"data: a\n\nevent: e\ndata: b\n\n", [b"a", b"b"]),
    (b"data: a\n\n: ping\n\ndata: b\n\n", [b"a", b"b"]),
    (b"", []),
]


def scan(pieces: list[bytes], max_event_bytes: int = MAX_EVENT_BYTES) -> list[bytes]:
    return scan_counting(pieces, max_event_bytes)[0]


def scan_counting(pieces: list[bytes], max_event_bytes: int) -> tuple[list[bytes], int]:
    """The events, and the number of those that were too long."""
    scanner = SseScanner(max_event_bytes)
    events = [event for piece in pieces for event in scanner.feed(piece)]
    return events + scanner.finish(), scanner.oversized


@pytest.mark.parametrize(("stream", "events"), CASES)
def test_events_of_a_stream(stream: bytes, events: list[bytes]) -> None:
    """Each form of the format gives its events: in one read, byte by byte, and in the read after another event's."""
    assert scan([stream]) == events
    assert scan([stream[i : i + 1] for i in range(len(stream))]) == events
    if not stream.startswith(b"\xef\xbb\xbf"):  # a byte order mark counts at the beginning alone
        assert scan([b"data: before\n\n", stream]) == [b"before", *events]


lines = st.sampled_from(
    [b"data: x", b"data:", b"data", b": c", b"event: e", b"id: 1", b"", b"\xef\xbb\xbf", b"data: \xc3\xa9"]
)
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r", b"\r\n"]))).map(
    lambda parts: b"".join(line + end for line, end in parts)
)


@given(st.one_of(streams, st.binary()), st.lists(st.integers(0, 200)))
@example(b"\xef\xbb\xbfdata: a\r\n\r\n", [1, 2, 11, 12])
def test_any_split_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    """The places where the network cuts the bytes don't change the events."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert scan(pieces) == scan([stream])


@given(st.one_of(streams, st.binary()), st.lists(st.integers(0, 200)), st.integers(3, 30))
@example(b"data: 0123456789\ndata: tail\n\ndata: b\n\n", [12], 10)
def test_any_split_drops_the_same_events(stream: bytes, cuts: list[int], max_event_bytes: int) -> None:
    """An event that is too long is dropped whole and counted once, wherever the network cuts it."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]
    assert scan_counting(pieces, max_event_bytes) == scan_counting([stream], max_event_bytes)


def test_an_event_comes_with_the_byte_that_ends_it() -> None:
    """An event is reported with its last byte, not with the next read, so its time is right."""
    scanner = SseScanner()
    assert scanner.feed(b"data: a\r") == []
    assert scanner.feed(b"\r") == [b"a"]
    assert scanner.feed(b"\n") == []
    assert scanner.feed(b"data: b\n") == []
    assert scanner.feed(b"\n") == [b"b"]


def test_an_endless_event_is_dropped_and_counted() -> None:
    """An event without an end doesn't fill the memory, and doesn't hide the events after it."""
    scanner = SseScanner()
    piece = b"x" * (1 << 20)
    scanner.feed(b"data: ")
    for _ in range(2 * MAX_EVENT_BYTES // len(piece)):
        assert scanner.feed(piece) == []
    assert scanner.oversized == 1
    assert scanner.feed(b"\n\ndata: next\n\n") == [b"next"]


class Joined:
    """Skims nothing: it joins the data, in a mark of its own."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, piece: bytes) -> None:
        self._data += piece

    def finish(self) -> bytes | None:
        return None if b"given up" in self._data else b"<" + self._data + b">"


FILLING = b"z" * LONG_EVENT_BYTES
LONG_CASES = [
    # (bytes, the events' data, how many were dropped)
    (b"data: " + FILLING + b"\n\ndata: b\n\n", [b"<" + FILLING + b">", b"b"], 0),
    (b"data:" + FILLING + b"\r\rdata: b\r\r", [b"<" + FILLING + b">", b"b"], 0),
    (b"event: e\ndata: a\nid: 5\ndata:" + FILLING + b"\n\n", [b"<a\n" + FILLING + b">"], 0),
    (b"data\ndata:\ndata: " + FILLING + b"\ndata", [b"<\n\n" + FILLING + b"\n>"], 0),
    (b": " + FILLING + b"\ndatabase: x\n\ndata: b\n\n", [b"b"], 0),
    (b"data: a\n\ndata: given up" + FILLING + b"\n\ndata: b\n\n", [b"a", b"b"], 1),
    (b"data: a\n\ndata: " + FILLING * 9 + b"\n\ndata: b\n\n", [b"a", b"b"], 1),
    (b"data: " + FILLING[7:] + b"\n\n", [FILLING[7:]], 0),
]


@pytest.mark.parametrize(("stream", "events", "dropped"), LONG_CASES)
def test_long_events_are_skimmed(stream: bytes, events: list[bytes], dropped: int) -> None:
    """A long event's data is handed on as it comes, from all its lines, wherever the network cuts it."""
    for step in (len(stream), 4096, 1000, 7, 1):
        scanner = SseScanner(6 * LONG_EVENT_BYTES, Joined)
        found = [e for at in range(0, len(stream), step) for e in scanner.feed(stream[at : at + step])]
        assert (found + scanner.finish(), scanner.oversized) == (events, dropped)


@given(
    st.lists(st.one_of(lines, st.just(b"data: " + FILLING), st.just(b"id: " + FILLING))),
    st.lists(st.integers(0, 30_000)),
)
def test_any_split_skims_the_same_events(stream: list[bytes], cuts: list[int]) -> None:
    """The places where the network cuts the bytes don't change which events are long, nor their data."""
    text = b"\n".join(stream)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    results = []
    for pieces in ([text], [text[a:b] for a, b in pairwise(edges)]):
        scanner = SseScanner(skim=Joined)
        results.append([e for piece in pieces for e in scanner.feed(piece)] + scanner.finish())
    assert results[0] == results[1]


@pytest.mark.parametrize("begun", [b"\n" * 5000, b"\r\n" * 5000])
def test_line_ends_alone_begin_no_stream(begun: bytes) -> None:
    """Nobody waits for the beginning of a body that is nothing but line ends."""
    assert is_stream(begun[:100], end=False) is None
    assert is_stream(begun, end=False) is False
