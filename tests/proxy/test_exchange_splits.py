"""The content of a response doesn't depend on its cuts or its compression, and junk ends in a bounded way."""

import gzip
import json
import zlib
from collections.abc import Callable
from itertools import pairwise

import brotli  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from dyno_proxy.exchange.record import Record
from dyno_proxy.readers import APIS
from rigs.exchanges import EVENTS, JSON, answered, delta, sse

STREAMS = {
    "/chat/completions": sse(
        delta(role="assistant"), delta(reasoning="hm"), delta("é\u2028"), b"junk", delta(" b", "stop"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, b"[DONE]",
    ),
    "/completions": sse({"choices": [{"index": 0, "text": "x", "finish_reason": "length"}]}, {"error": {}}),
    "/responses": b"event: response.created\r\n" + sse(
        {"type": "response.created", "response": {"id": "r", "model": "m", "status": "in_progress"}},
        {"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}},
        {"type": "response.function_call_arguments.delta", "delta": "{}"},
        {"type": "response.incomplete", "response": {"status": "incomplete", "usage": {"output_tokens": 7}}},
    ).replace(b"\n", b"\r\n"),
    "/messages": b": hello\n\n" + sse(
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ),
    "/embeddings": sse({"error": "not streamed"}),
}  # fmt: skip
CODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"identity": bytes,
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"br": brotli.compress,
    b"gzip, br": lambda plain: bytes(brotli.compress(gzip.compress(plain, mtime=0))),
}


def in_pieces(api: str, coding: bytes, kind: bytes, body: bytes, cuts: list[int]) -> Record:
    """The record of this body in reads that end at `cuts`. All reads have the same time."""
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    reads = [(60, body[start:end]) for start, end in pairwise(edges)]
    return answered(200, reads, kind=kind, headers=((b"Content-Encoding", coding),), reader=APIS[api].reader)


@given(
    api=st.sampled_from([*STREAMS]),
    coding=st.sampled_from([*CODINGS]),
    cuts=st.lists(st.integers(0, 2_000), max_size=9),
)
def test_any_split_gives_the_same_record(api: str, coding: bytes, cuts: list[int]) -> None:
    """The places where the network cuts a stream change its times, but nothing else in the record."""
    body = CODINGS[coding](STREAMS[api])
    assert in_pieces(api, coding, EVENTS, body, cuts) == in_pieces(api, coding, EVENTS, body, [])


@given(
    api=st.sampled_from([*STREAMS]),
    coding=st.sampled_from([*CODINGS]),
    kind=st.sampled_from([EVENTS, JSON]),
    body=st.binary(max_size=300)
    | st.lists(st.binary(max_size=40)).map(lambda lines: b"data: " + b"\n\ndata: ".join(lines)),
    cuts=st.lists(st.integers(0, 300), max_size=4),
    compressed=st.booleans(),
)
def test_junk_has_a_bounded_end(
    api: str, coding: bytes, kind: bytes, body: bytes, cuts: list[int], compressed: bool
) -> None:
    """Any bytes end in an outcome that is the upstream's fault, or in a record that says why they weren't read."""
    record = in_pieces(api, coding, kind, CODINGS[coding](body) if compressed else body, cuts)
    assert (record.outcome, record.error_type) in {
        *(("stream_error", "not_the_api"), ("truncated", "no_finish_reason"), ("truncated", "json_broken_off")),
        ("ok", None),
    }
    assert record.outcome != "ok" or record.unread == "encoding"
    assert (record.output_tokens or 0, record.chunk_offsets_us) == (0, ())


@given(
    api=st.sampled_from([api for api in STREAMS if api != "/embeddings"]),
    coding=st.sampled_from([*CODINGS]),
    kind=st.sampled_from([b"application/json", b"text/plain; charset=utf-8", b"application/octet-stream", b""]),
    before=st.sampled_from([b"", b": hi\n\n", b"\xef\xbb\xbf", b"\n", b"event: x\n", b"id: 1\n", b"retry: 5\n"]),
    cuts=st.lists(st.integers(0, 60), max_size=9),
)
def test_a_stream_is_known_by_its_content(api: str, coding: bytes, kind: bytes, before: bytes, cuts: list[int]) -> None:
    """SSE under another content type, or none, gives the same record as under its own, however it is cut."""
    body = CODINGS[coding](before + STREAMS[api])
    record = in_pieces(api, coding, kind, body, cuts)
    assert record.streamed
    assert record == in_pieces(api, coding, EVENTS, body, [])


@given(kind=st.sampled_from([JSON, b"text/plain"]), cuts=st.lists(st.integers(0, 200), max_size=9))
def test_json_is_no_stream(kind: bytes, cuts: list[int]) -> None:
    """A body that begins otherwise is read whole, also if SSE's words stand in it."""
    answer = {"id": "a", "choices": [{"index": 0, "message": {"content": "data: x\n\n"}, "finish_reason": "stop"}]}
    record = in_pieces("/chat/completions", b"identity", kind, json.dumps(answer).encode(), cuts)
    assert (record.streamed, record.outcome, record.response_id) == (False, "ok", "a")
