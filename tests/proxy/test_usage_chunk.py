"""The usage chunk for which the proxy asked: what is taken out of a stream, what passes, and when."""

import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dyno_proxy.rewrite.usage_chunk import HELD_BYTES, UsageChunkFilter

HEAD = b'{"id":"c1","object":"chat.completion.chunk","created":1764000000,"model":"m"'
TOKEN = b"data: " + HEAD + b',"choices":[{"index":0,"delta":{"content":"x"}}],"usage":null}\n\n'
LAST = b"data: " + HEAD + b',"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
USAGE = b"data: " + HEAD + b',"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"

TAKEN_OUT = [
    USAGE,
    USAGE.replace(b"\n", b"\r\n"),
    USAGE.replace(b"\n", b"\r"),
    USAGE.replace(b"data: ", b"data:"),
    b'data: { "choices" : [ ] , "usage" : { } }\n\n',
    b'data: {"usage":{"prompt_tokens":1},"choices":[]}\n\n',
    b'data: {"x":{"choices":[1]},"choices":[],"usage":{"a":[{}]}}\n\n',
    b'data: {"text":"\\"choices\\":[1","choices":[],"usage":{}}\n\n',
    b'event: message\nid: 7\ndata: {"choices":[],"usage":{}}\n\n',
    b': note\ndata: {"choices":[],"usage":{}}\n\n',
    b'data: {"choices":[],\ndata: "usage":{}}\n\n',
    b'data: {"choices":[],"usage":{},"x_groq":{"id":"r"}}\n\n',
]

PASSES = [
    TOKEN,
    LAST,
    DONE,
    b"\n\n\n",
    b": OPENROUTER PROCESSING\n\n",
    b'data: {"choices":[],"usage":null}\n\n',
    b'data: {"choices":[],"prompt_filter_results":[{}]}\n\n',  # Azure's first
    b'data: {"choices":[{"index":0}],"usage":{"prompt_tokens":1}}\n\n',  # continuous usage
    b'data: {"usage":{"prompt_tokens":1}}\n\n',
    b'data: {"choices":null,"usage":{}}\n\n',
    b'data: {"choices":[],"usage":5}\n\n',
    b'data: {"choices":[],"usage":{}\n\n',  # no JSON
    b'data: {"error":{"message":"overloaded"}}\n\n',
    b'data: {"choices":[],"usage":{},"x":"' + b"a" * HELD_BYTES + b'"}\n\n',
    b"event: ping\n\n",
    b"data\n\n",
    b'event: x\ndata: {"choices":[{}],"usage":{}}\n\n',
]


def filtered(pieces: list[bytes]) -> bytes:
    usage_filter = UsageChunkFilter()
    return b"".join([*map(usage_filter.feed, pieces), usage_filter.finish()])


@pytest.mark.parametrize("event", TAKEN_OUT)
def test_the_usage_chunk_is_taken_out(event: bytes) -> None:
    """The usage chunk is removed, whether it is alone, at a stream's end, or without its empty line.

    Every other byte stays.
    """
    for stream, expected in (
        (event, b""),
        (TOKEN + LAST + event + DONE, TOKEN + LAST + DONE),
        (TOKEN + event.rstrip(b"\r\n"), TOKEN),
        (event + b"\n" + event, b"" if event.endswith(b"\r") else b"\n"),
    ):
        assert filtered([stream]) == expected
        assert filtered([stream[i : i + 1] for i in range(len(stream))]) == expected


@pytest.mark.parametrize("event", PASSES)
def test_everything_else_passes_byte_for_byte(event: bytes) -> None:
    """Other events pass: chunks with a choice, without usage, of another form, of no form, unfinished, with any line
    ends."""
    for end in (b"\n", b"\r\n", b"\r"):
        stream = TOKEN + event.replace(b"\n", end) + event.replace(b"\n", end)[:-3]
        assert filtered([stream]) == stream
        assert filtered([stream[i : i + 7] for i in range(0, len(stream), 7)]) == stream


def test_a_beginning_with_a_byte_order_mark() -> None:
    """A byte order mark belongs to the stream, and hides no usage chunk."""
    assert filtered([b"\xef\xbb\xbf" + TOKEN + USAGE]) == b"\xef\xbb\xbf" + TOKEN
    assert filtered([b"\xef\xbb\xbf" + USAGE + DONE]) == DONE


fields = st.sampled_from(
    [
        *(b'"choices":[]', b'"choices":[]', b'"choices": [{"index":0}]', b'"choices":null', b'"x":{"choices":[1]}'),
        *(b'"usage":{"a":1}', b'"usage":{"a":1}', b'"usage":null', b'"usage":{}'),
        *(b'"id":"c"', b'"t":"\\"choices\\":[ \\\\"', b'"n":-1e3', b'"a":["]"]'),
    ]
)
objects = st.lists(fields, max_size=4).map(lambda drawn: b"{" + b",".join(drawn) + b"}")
lines = objects.map(lambda body: b"data: " + body) | st.sampled_from(
    [
        b"data: [DONE]",
        b"data:",
        b"data: {",
        b': "',
        b"event: e",
        b"",
        b"\xef\xbb\xbf",
        b'data:{"choices":[],"usage":{}}',
    ]
)
ends = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n"])
streams = st.lists(st.tuples(lines, ends), max_size=8).map(lambda parts: b"".join(a + b for a, b in parts))


@given(st.one_of(streams, st.binary()), st.lists(st.integers(0, 300)))
@example(b'data:{"choices":[],"usage":{}}\r\n\r\ndata: a\r\n\r\n', [33, 34, 35, 43, 44])
@example(b"data: [x\r\n\r\n" + USAGE, [7, 9, 10, 11, 12])
def test_any_split_gives_the_same_bytes(stream: bytes, cuts: list[int]) -> None:
    """The places where the network cuts the bytes don't change what passes."""
    edges = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    assert filtered([stream[a:b] for a, b in pairwise(edges)]) == filtered([stream])


@given(
    st.lists(st.tuples(st.sampled_from([TOKEN, LAST, DONE, USAGE, *PASSES[3:13]]), st.sampled_from([b"\n", b"\r\n"])))
)
def test_of_whole_events_the_usage_chunks_alone_are_gone(parts: list[tuple[bytes, bytes]]) -> None:
    """Any order of events gives the same events in the same order, without the usage chunks."""
    events = [event.replace(b"\n", end) for event, end in parts]
    kept = [event for event in events if not event.startswith(USAGE[:-2])]
    assert filtered([b"".join(events)]) == b"".join(kept)


def test_an_event_is_held_only_while_it_may_be_the_one() -> None:
    """A chunk with a choice passes as soon as a byte shows the choice, and no event waits for the next one."""
    usage_filter = UsageChunkFilter()
    opening = TOKEN.index(b"[") + 1
    assert usage_filter.feed(TOKEN[:opening]) == b""
    assert usage_filter.feed(b"{") == TOKEN[: opening + 1]
    assert usage_filter.feed(TOKEN[opening + 1 : -1]) == TOKEN[opening + 1 : -1]
    assert usage_filter.feed(TOKEN[-1:]) == TOKEN[-1:]
    assert usage_filter.feed(b"data: ") == b""
    assert usage_filter.feed(b"[") == b"data: ["
    assert usage_filter.feed(b"DONE]\n\n" + USAGE[:40]) == b"DONE]\n\n"
    assert usage_filter.feed(USAGE[40:]) == b""
    assert usage_filter.feed(b": ping\n") == b""
    assert usage_filter.feed(b"\n") == b": ping\n\n"


def test_an_endless_event_is_not_held() -> None:
    """An event that is longer than any usage chunk passes, from there on without delay. Memory stays bounded."""
    usage_filter = UsageChunkFilter()
    begun = b'data: {"choices":[],"x":"'
    assert usage_filter.feed(begun) == b""
    assert usage_filter.feed(b"a" * HELD_BYTES) == begun + b"a" * HELD_BYTES
    assert usage_filter.feed(b"b") == b"b"
    assert usage_filter.feed(b'"}\n\n' + USAGE + DONE) == b'"}\n\n' + DONE


def test_bytes_in_small_pieces_take_little_time() -> None:
    """An event that comes byte by byte is examined again with each byte. Its length limit keeps this cheap."""
    begun = b'data: {"choices":[],"x":"' + b"a" * (HELD_BYTES - 100)
    usage_filter = UsageChunkFilter()
    begin_s = time.thread_time()
    assert [usage_filter.feed(begun[i : i + 1]) for i in range(len(begun))] == [b""] * len(begun)
    assert time.thread_time() - begin_s < 10
