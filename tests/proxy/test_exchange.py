import gzip
import json

import pytest

from dyno_proxy.exchange import Exchange
from dyno_proxy.record import Record

MS = 1_000_000
START = 7_000 * MS


def started(**settings: object) -> Exchange:
    exchange = Exchange(START, 1_700_000_000_000_000, "POST", "/metis/v1/chat/completions")
    exchange.operation, exchange.readable = "chat", True
    exchange.request_body = [b'{"model": "m", "stream": true}']
    exchange.request_bytes = len(exchange.request_body[0])
    exchange.body_received_ns = START + 1 * MS
    exchange.connected_ns = START + 3 * MS
    exchange.sent_ns = START + 4 * MS
    for name, value in settings.items():
        setattr(exchange, name, value)
    return exchange


def sse(*payloads: object) -> bytes:
    return b"".join(
        b"data: " + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"
        for payload in payloads
    )


def delta(text: str | None = None, finish: str | None = None, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text} | more, "finish_reason": finish}]}


def answered(status: int, reads: list[tuple[int, bytes]], *, kind: bytes = b"text/event-stream", end: bool = True,
             headers: tuple[tuple[bytes, bytes], ...] = (), **settings: object) -> Record:  # fmt: skip
    exchange = started(**settings)
    exchange.head(START + 50 * MS, status, [(b"Content-Type", kind), *headers])
    for at_ms, body in reads:
        exchange.read(START + at_ms * MS, START + at_ms * MS + 2_000, body)
    exchange.complete = end
    return exchange.finish(START + (reads[-1][0] if reads else 60) * MS, 5)


def test_the_timeline_of_a_stream() -> None:
    """Each event of MEASURING.md has the time of the network read that completed it."""
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 3}}
    record = answered(200, [
        (60, sse(delta(role="assistant"))),
        (100, sse(delta(reasoning="hm"))),
        (140, sse(delta("a"), delta("b"))),
        (180, sse(delta(None, "stop"), usage, b"[DONE]")),
    ])  # fmt: skip
    assert (record.outcome, record.error_type, record.streamed) == ("ok", None, True)
    assert (record.body_received_us, record.connected_us, record.sent_us) == (1000, 3000, 4000)
    assert (record.headers_us, record.first_event_us, record.first_token_us) == (50_000, 60_000, 100_000)
    assert (record.first_answer_us, record.last_token_us, record.done_us) == (140_000, 140_000, 180_000)
    assert record.chunk_offsets_us == (100_000, 140_000, 140_000)
    assert (record.input_tokens, record.output_tokens, record.usage_source) == (4, 3, "server")
    assert record.reasoning_streamed
    assert record.duration_us == 180_000
    # (sent 4 ms - connected 3 ms) + 2 µs between the first token's read and its write
    assert record.overhead_us == 1002


def test_without_usage_the_chunks_are_counted_and_said_so() -> None:
    """The number of chunks stands in for tokens, and `usage_source` says it."""
    record = answered(200, [(60, sse(delta("a"), delta("b", "stop"))), (61, sse(b"[DONE]"))])
    assert (record.output_tokens, record.usage_source, record.input_tokens) == (2, "chunks", None)


JSON, HTML = b"application/json", b"text/html"
LEFT = ("client_cancelled", "client_cancelled")
RESET = ("truncated", "connection_reset")

OUTCOMES: list[tuple[int, bytes, dict[str, object], str, str | None]] = [
    # (status, body, what else, outcome, error.type)
    (401, b"{}", {"kind": JSON}, "auth", "401"),
    (403, b"{}", {"kind": JSON}, "auth", "403"),
    (429, b"{}", {"kind": JSON}, "rate_limited", "429"),
    (503, b"{}", {"kind": JSON}, "http_error", "503"),
    (408, b"", {"kind": HTML}, "http_error", "408"),
    (200, sse(delta("a"), b"[DONE]"), {}, "truncated", "no_finish_reason"),
    (200, sse(delta("a", "stop")), {"end": False}, "truncated", "connection_closed"),
    (200, sse({"object": "error", "message": "x"}, b"[DONE]"), {}, "stream_error", "error_event"),
    (200, sse(delta("\n\n[ERROR] x", "stop")), {}, "stream_error", "gateway_error_text"),
    (200, b"<html>login</html>", {"kind": HTML}, "stream_error", "not_the_api"),
    (200, b'{"error": {"message": "x"}}', {"kind": JSON}, "stream_error", "error_event"),
    (200, b'{"choices": [{"message": {}}]}', {"kind": JSON}, "truncated", "no_finish_reason"),
    (200, sse(delta("a", "length")), {}, "ok", None),
    (307, b"", {"kind": HTML}, "ok", None),
    (200, b"{}", {"kind": JSON, "readable": False}, "ok", None),
    (200, sse(delta("a")), {"broken": LEFT}, *LEFT),
    (200, sse(delta("a", "stop")), {"broken": LEFT, "end": False}, *LEFT),
    (200, sse(delta("a"), b"[DONE]"), {"broken": LEFT, "end": False}, *LEFT),
    # All that the API had to say was said: a client that leaves then, as OpenAI's SDK does, was served.
    (200, sse(delta("a", "stop"), b"[DONE]"), {"broken": LEFT, "end": False}, "ok", None),
    (500, b"", {"broken": LEFT}, *LEFT),
    (500, b"x", {"broken": RESET, "end": False}, "http_error", "500"),
]


@pytest.mark.parametrize(("status", "body", "more", "outcome", "error_type"), OUTCOMES)
def test_outcomes(status: int, body: bytes, more: dict[str, object], outcome: str, error_type: str | None) -> None:
    """Every end has exactly one outcome, MEASURING's, and an error.type where it is a fault."""
    record = answered(status, [(60, body)], **more)  # type: ignore[arg-type]
    assert (record.outcome, record.error_type) == (outcome, error_type)


def test_what_isnt_streamed_has_no_first_token() -> None:
    """An unstreamed answer's time to first token is unknown, never its latency."""
    body = json.dumps({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
                       "usage": {"prompt_tokens": 2, "completion_tokens": 9}}).encode()  # fmt: skip
    record = answered(200, [(60, body[:20]), (90, body[20:])], kind=b"application/json; charset=utf-8")
    assert (record.streamed, record.first_token_us, record.chunk_offsets_us) == (False, None, ())
    assert (record.outcome, record.output_tokens, record.done_us) == ("ok", 9, 90_000)
    assert record.overhead_us == record.overhead_end_us == 1002


def test_compressed_bodies_are_read_in_a_copy() -> None:
    """A gzip stream gives the same figures as a plain one; what can't be decompressed gives none, and no error."""
    plain = sse(delta("a"), delta("b", "stop"), {"choices": [], "usage": {"completion_tokens": 2}}, b"[DONE]")
    packed = gzip.compress(plain)
    encoding = ((b"Content-Encoding", b"gzip"),)
    record = answered(200, [(60, packed[:30]), (70, packed[30:])], headers=encoding)
    assert (record.outcome, record.output_tokens) == ("ok", 2)
    record = answered(200, [(60, b"not gzip")], headers=encoding)
    assert (record.outcome, record.output_tokens) == ("ok", None)
    record = answered(200, [(60, b"whatever")], headers=((b"Content-Encoding", b"br"),))
    assert (record.outcome, record.output_tokens) == ("ok", None)


def test_a_long_stream_is_decoded_in_between() -> None:
    """A stream longer than what is held gives every chunk, with its own time."""
    reads = [(60 + i, sse(delta("x" * 500))) for i in range(1000)]
    reads.append((1100, sse(delta(None, "stop"), b"[DONE]")))
    record = answered(200, reads)
    assert record.chunk_offsets_us == tuple((60 + i) * 1000 for i in range(1000))
    assert record.response_bytes == sum(len(body) for _, body in reads)


def test_parameters_of_the_wrong_type_are_left_out() -> None:
    """`temperature: true` or `model: 7` is the client's mistake and no attribute."""
    record = answered(400, [], request_body=[b'{"model": 7, "temperature": true, "seed": "x", "stream": 1}'])
    assert (record.model, record.temperature, record.seed, record.request_stream) == (None, None, None, None)


def test_simulated_is_what_the_server_says() -> None:
    """Only `Server: dyno-simulate` makes a row simulated."""
    assert answered(200, [], headers=((b"server", b"dyno-simulate"),)).simulated
    assert not answered(200, [], headers=((b"Server", b"uvicorn"),)).simulated
