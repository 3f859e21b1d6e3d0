import gzip
import json
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import msgspec
import pytest

from dyno_proxy.exchange.record import AS_EXCHANGE, Record
from dyno_proxy.http.sse import MAX_EVENT_BYTES
from dyno_proxy.metrics.metrics import tpot_s
from dyno_proxy.readers import APIS
from rigs.exchanges import EVENTS, JSON, MS, START, answered, delta, sse, started


def test_the_timeline_of_a_stream() -> None:
    """Each event has the time of the network read that completed it."""
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
    """Without usage, the number of chunks is used for tokens, and `usage_source` says so."""
    record = answered(200, [(60, sse(delta("a"), delta("b", "stop"))), (61, sse(b"[DONE]"))])
    assert (record.output_tokens, record.usage_source, record.input_tokens) == (2, "chunks", None)


HTML = b"text/html"
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
    (200, b"{}", {"kind": JSON, "reader": None}, "ok", None),
    (200, sse(delta("a")), {"broken": LEFT}, *LEFT),
    (200, sse(delta("a", "stop")), {"broken": LEFT, "end": False}, *LEFT),
    (200, sse(delta("a"), b"[DONE]"), {"broken": LEFT, "end": False}, *LEFT),
    # What was said before it broke off counts: an SDK leaves on reading an error.
    (200, sse(delta("a"), {"error": {"message": "x"}}), {"broken": LEFT, "end": False}, "stream_error", "error_event"),
    (200, sse({"object": "error"}), {"broken": RESET, "end": False}, "stream_error", "error_event"),
    (200, sse(delta("a", "stop"), b"[DONE]"), {"broken": RESET, "end": False}, *RESET),
    (200, sse(b"[DONE]"), {}, "truncated", "no_finish_reason"),
    (200, b"", {}, "truncated", "no_finish_reason"),
    (200, b": ping\n\n", {}, "truncated", "no_finish_reason"),
    (200, sse(b"oops"), {}, "stream_error", "not_the_api"),
    (200, b"", {"kind": JSON}, "truncated", "no_finish_reason"),
    (200, b'{"choices": [{"mess', {"kind": JSON}, "truncated", "json_broken_off"),
    (200, b'{"choices": [{"message": {}, "finish_reason": "stop"}]}', {"kind": HTML}, "ok", None),
    # All that the API had to say was said: a client that leaves then, as OpenAI's SDK does, was served.
    (200, sse(delta("a", "stop"), b"[DONE]"), {"broken": LEFT, "end": False}, "ok", None),
    (500, b"", {"broken": LEFT}, *LEFT),
    (500, b"x", {"broken": RESET, "end": False}, "http_error", "500"),
]


@pytest.mark.parametrize(("status", "body", "more", "outcome", "error_type"), OUTCOMES)
def test_outcomes(status: int, body: bytes, more: dict[str, object], outcome: str, error_type: str | None) -> None:
    """Every end has exactly one outcome, and an error.type if it is a fault."""
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


@pytest.mark.parametrize(
    ("coding", "compress"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress), (b"br", brotli.compress)]
)
def test_compressed_bodies_are_read_in_a_copy(coding: bytes, compress: Callable[[bytes], bytes]) -> None:
    """A compressed stream, and a compressed body, give the same figures as plain ones."""
    plain = sse(delta("a"), delta("b", "stop"), {"choices": [], "usage": {"completion_tokens": 2}}, b"[DONE]")
    packed = compress(plain)
    encoding = ((b"Content-Encoding", coding),)
    record = answered(200, [(60, packed[:30]), (70, packed[30:])], headers=encoding)
    assert (record.outcome, record.output_tokens, record.unread) == ("ok", 2, None)
    assert record.response_bytes == len(packed)
    whole = b'{"choices": [{"message": {}, "finish_reason": "stop"}], "usage": {"completion_tokens": 9}}'
    record = answered(200, [(60, compress(whole))], kind=JSON, headers=encoding)
    assert (record.outcome, record.output_tokens, record.unread) == ("ok", 9, None)


def test_codings_one_upon_another() -> None:
    """Codings are named in one header or in two, in the order in which they were applied."""
    packed = brotli.compress(gzip.compress(sse(delta("a", "stop")), mtime=0))
    for headers in (
        ((b"Content-Encoding", b"gzip, br"),),
        ((b"content-encoding", b"gzip"), (b"Content-Encoding", b"br")),
    ):
        assert answered(200, [(60, packed)], headers=headers).output_tokens == 1


@pytest.mark.parametrize(
    ("body", "coding", "kind", "unread"),
    [
        (b"not gzip", b"gzip", EVENTS, "encoding"),
        (b"whatever", b"lzma", EVENTS, "encoding"),
        (b"whatever", b"gzip, lzma", JSON, "encoding"),
        (gzip.compress(bytes(50 << 20), mtime=0), b"gzip", EVENTS, "too_long"),
        (gzip.compress(bytes(50 << 20), mtime=0), b"gzip", JSON, "too_long"),
        (brotli.compress(bytes(50 << 20), quality=1), b"br", JSON, "too_long"),
    ],
)
def test_what_cant_be_decompressed(body: bytes, coding: bytes, kind: bytes, unread: str) -> None:
    """Such an answer has no figures, and the row says why.

    It isn't an error, because the client may be able to read it.
    """
    reads = [(60 + at, body[at : at + 1_000]) for at in range(0, len(body), 1_000)]
    record = answered(200, reads, kind=kind, headers=((b"Content-Encoding", coding),))
    assert (record.outcome, record.output_tokens, record.unread) == ("ok", None, unread)
    assert record.unreadable_events is None


def test_figures_from_before_a_stream_became_unreadable_stay() -> None:
    """If a stream stops being valid in its middle, it is measured up to that place."""
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(sse(delta("a"))) + packer.flush(zlib.Z_SYNC_FLUSH)
    record = answered(200, [(60, packed), (70, b"\xff" * 50)], headers=((b"Content-Encoding", b"gzip"),))
    assert (record.chunk_offsets_us, record.unread, record.outcome) == ((60_000,), "encoding", "ok")


def test_a_body_that_is_too_long_to_keep() -> None:
    """Nothing is kept of an unstreamed answer of 20 MiB, and the row says so."""
    record = answered(200, [(60, bytes(1 << 20))] * 20, kind=JSON)
    assert (record.unread, record.outcome, record.response_bytes) == ("too_long", "ok", 20 << 20)


def test_a_path_without_a_reader() -> None:
    """If a body came, the row says that no reader exists for it. If none came, the row says nothing."""
    read_not = answered(200, [(60, b"RIFF")], reader=None)
    assert (read_not.unread, read_not.outcome) == ("no_reader", "ok")
    empty = answered(200, [], reader=None)
    assert (empty.unread, empty.outcome) == (None, "ok")


def test_events_that_are_strange_are_counted() -> None:
    """The row counts junk and events that are too long, beside those that could be read.

    Without any, it has no number.
    """
    long = b"data: " + b"x" * (MAX_EVENT_BYTES + 1) + b"\n\n"
    record = answered(200, [(60, sse(delta("a"), b"junk", {"x": 1}) + long + sse(delta("b", "stop"), b"[DONE]"))])
    assert (record.outcome, record.unreadable_events, len(record.chunk_offsets_us)) == ("ok", 3, 2)
    assert answered(200, [(60, sse(delta("a", "stop")))]).unreadable_events is None


def test_ten_events_in_one_read() -> None:
    """Chunks of one read have the read's time: times aren't spread between them, and no TPOT is computed."""
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 10}}
    record = answered(
        200, [(60, sse(*(delta(f" {i}") for i in range(10)))), (90, sse(delta(None, "stop"), usage, b"[DONE]"))]
    )
    assert record.chunk_offsets_us == (60_000,) * 10
    assert (record.first_token_us, record.last_token_us, record.done_us) == (60_000, 60_000, 90_000)
    assert (record.outcome, record.output_tokens, tpot_s(record)) == ("ok", 10, None)


def test_done_and_usage_in_any_order_and_one_read() -> None:
    """`[DONE]` before or after the usage chunk, in one read with the last token, gives the same record."""
    last, done = delta("b", "stop"), b"[DONE]"
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    records = [answered(200, [(60, sse(delta("a"))), (80, sse(*tail))]) for tail in
               ((last, usage, done), (last, done, usage), (usage, last, done))]  # fmt: skip
    assert records[0] == records[1] == records[2]
    assert (records[0].outcome, records[0].output_tokens, records[0].done_us) == ("ok", 2, 80_000)


@pytest.mark.parametrize(
    ("tail", "outcome", "error_type"),
    [
        (sse(delta(None, "stop"), b"[DONE]"), "ok", None),  # it was only slow
        (sse(b"[DONE]"), "truncated", "no_finish_reason"),  # ALCF's gateway gave up
        (b"", "truncated", "no_finish_reason"),
    ],
)
def test_a_gap_of_five_seconds(tail: bytes, outcome: str, error_type: str | None) -> None:
    """What comes after a pause decides the outcome. The last token's time is from before the pause."""
    record = answered(200, [(60, sse(delta("a"))), (80, sse(delta("b"))), (5_080, tail)])
    assert (record.outcome, record.error_type) == (outcome, error_type)
    assert (record.last_token_us, record.done_us, record.duration_us) == (80_000, 5_080_000, 5_080_000)
    assert record.chunk_offsets_us == (60_000, 80_000)


def test_an_event_without_its_empty_line_at_the_end_of_a_long_stream() -> None:
    """The last event has the time of the last read, even if that read was just decoded."""
    reads = [(60, sse(delta("x" * 70_000))), (70, sse(delta("y" * 70_000, "stop"))[:-2])]
    record = answered(200, reads)
    assert (record.outcome, record.chunk_offsets_us) == ("ok", (60_000, 70_000))


def test_hidden_reasoning_has_no_tpot() -> None:
    """If the bytes or the configuration show that there was reasoning which nobody saw or counted, TPOT isn't known."""

    def streamed(tokens: int, *, hides_reasoning: bool = False) -> Record:
        usage = {"choices": [], "usage": {"completion_tokens": tokens}}
        reads = [(60, sse(delta("On"))), (80, sse(delta(" mats."), delta(None, "stop"), usage))]
        return answered(200, reads, hides_reasoning=hides_reasoning)

    seen, shown_by_bytes, configured = streamed(2), streamed(900), streamed(2, hides_reasoning=True)
    assert (seen.reasoning_hidden, tpot_s(seen)) == (None, 0.02)
    assert (shown_by_bytes.reasoning_hidden, tpot_s(shown_by_bytes)) == (True, None)
    assert (configured.reasoning_hidden, tpot_s(configured)) == (True, None)
    assert answered(429, [(60, b"{}")], kind=JSON, hides_reasoning=True).reasoning_hidden is None


def test_a_gateways_cadence() -> None:
    """Bursts of twenty with long pauses are flagged in the record."""
    burst = sse(*(delta(f" {i}") for i in range(20)))
    record = answered(200, [*((60 + 200 * i, burst) for i in range(6)), (1300, sse(delta(None, "stop")))])
    assert record.cadence == "gateway"
    even = [(60 + 20 * i, sse(delta("x"))) for i in range(100)]
    assert answered(200, [*even, (3000, sse(delta(None, "stop")))]).cadence is None


@pytest.mark.parametrize(
    ("status", "headers", "body", "retry_after_s"),
    [
        (429, ((b"Retry-After", b"7"),), b'{"retry_after": "1 second"}', 7.0),
        (429, (), b'{"error": "x", "retry_after": "1 second"}', 1.0),
        (503, (), b'{"retry_after": 20}', 20.0),
        (429, ((b"Retry-After", b"Wed, 21 Oct 2026 07:28:00 GMT"),), b"{}", None),
        (429, ((b"Retry-After", b"nan"),), b"<html>", None),
        (500, (), b'{"retry_after": 20}', None),
    ],
)
def test_how_long_to_wait(
    status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes, retry_after_s: float | None
) -> None:
    """The header says how long to wait. Without a header, the body of a refusal does."""
    assert answered(status, [(60, body)], kind=JSON, headers=headers).retry_after_s == retry_after_s


def test_a_long_stream_is_decoded_in_between() -> None:
    """A stream longer than the part that is held gives every chunk, each with its own time."""
    reads = [(60 + i, sse(delta("x" * 500))) for i in range(1000)]
    reads.append((1100, sse(delta(None, "stop"), b"[DONE]")))
    record = answered(200, reads)
    assert record.chunk_offsets_us == tuple((60 + i) * 1000 for i in range(1000))
    assert record.response_bytes == sum(len(body) for _, body in reads)


def test_parameters_of_the_wrong_type_are_left_out() -> None:
    """`temperature: true` or `model: 7` is the client's mistake and becomes no attribute."""
    record = answered(400, [], request_body=[b'{"model": 7, "temperature": true, "seed": "x", "stream": 1}'])
    assert (record.model, record.temperature, record.seed, record.request_stream) == (None, None, None, None)


def test_simulated_is_what_the_server_says() -> None:
    """Only `Server: dyno-simulate` makes a row simulated."""
    assert answered(200, [], headers=((b"server", b"dyno-simulate"),)).simulated
    assert not answered(200, [], headers=((b"Server", b"uvicorn"),)).simulated


REQUEST = (
    b'{"model": "asked", "stream": true, "max_tokens": 11, "temperature": 0.25, "top_p": 0.5, "seed": 12,'
    b' "messages": []}'
)
USAGE = {"prompt_tokens": 31, "completion_tokens": 32, "completion_tokens_details": {"reasoning_tokens": 6},
         "prompt_tokens_details": {"cached_tokens": 34}, "time_to_first_token": 0.35}  # fmt: skip
TIME_INFO = {"queue_time": 0.36, "prompt_time": 0.37, "completion_time": 0.38, "total_time": 0.39}
READS = [
    (60, sse(delta(role="assistant") | {"id": "id", "model": "ran"})),
    (70, sse(delta(reasoning="hm") | {"usage": {"completion_tokens": 5}}, b"junk")),
    (80, sse(delta("a"))),
    (90, sse(delta(" b", "length"), {"choices": [], "usage": USAGE, "time_info": TIME_INFO})),
    (95, sse(b"[DONE]")),
]
FOUND = {
    "duration_us": 99_000,
    "outcome": "ok",
    "model": "asked",
    "request_stream": True,
    "max_tokens": 11,
    "temperature": 0.25,
    "top_p": 0.5,
    "seed": 12,
    "response_model": "ran",
    "response_id": "id",
    "finish_reasons": ("length",),
    "input_tokens": 31,
    "output_tokens": 32,
    "reasoning_tokens": 6,
    "cached_tokens": 34,
    "usage_source": "server",
    "first_chunk_tokens": 5,
    "first_read_tokens": 5,
    "reasoning_streamed": True,
    "unreadable_events": 1,
    "body_received_us": 1_000,
    "connected_us": 3_000,
    "sent_us": 4_000,
    "headers_us": 50_000,
    "first_event_us": 60_000,
    "first_token_us": 70_000,
    "first_answer_us": 80_000,
    "last_token_us": 90_000,
    "done_us": 95_000,
    "chunk_offsets_us": (70_000, 80_000, 90_000),
    "server_ttft_s": 0.35,
    "server_latency_s": 0.39,
    "server_queue_s": 0.36,
    "server_prefill_s": 0.37,
    "server_decode_s": 0.38,
    "overhead_us": 1_000 + 560,
    "overhead_end_us": 1_000 + 760,
    "loop_lag_us": 41,
    "gc_pause_us": 42,
}


def test_each_value_lands_in_its_field() -> None:
    """The record is made by position, so here each field has a value that no other field has."""
    exchange = started(request_body=[REQUEST])
    exchange.head(START + 50 * MS, 200, [(b"content-type", EVENTS)])
    for at_ms, body in READS:
        exchange.read(START + at_ms * MS, START + at_ms * MS + 8_000 * at_ms, body)
    exchange.complete = True
    exchange.end_ns = START + 99 * MS
    handed_over: dict[str, object] = {}
    for number, name in enumerate(AS_EXCHANGE):
        # These decide how the rest is read, or gather what it says.
        if name not in ("method", "status", "streamed", "unread", "request_unread", "rarer"):
            handed_over[name] = f"value {number}"
            setattr(exchange, name, handed_over[name])
    handed_over |= {"method": "POST", "status": 200, "streamed": True}
    exchange.request_bytes = handed_over["request_bytes"] = len(REQUEST)
    record = exchange.finish(START + 200 * MS, 41, 42)
    assert {name: value for name, value in msgspec.structs.asdict(record).items() if value is not None} == (
        FOUND | handed_over
    )


def test_what_the_head_says_is_in_the_record() -> None:
    """Headers say whether Dyno simulated the answer, and what Retry-After is."""
    record = answered(200, READS, headers=((b"server", b"dyno-simulate"), (b"retry-after", b"29")))
    assert (record.simulated, record.retry_after_s) == (True, 29.0)
    assert record.response_bytes == sum(len(body) for _, body in READS)


def test_tokens_without_a_count() -> None:
    """A stream without output has 0 tokens. An unstreamed answer without usage has none, and neither has a refusal."""
    empty = answered(200, [(60, sse(delta(None, "stop"), b"[DONE]"))])
    assert (empty.output_tokens, empty.usage_source) == (0, "chunks")
    whole = answered(200, [(60, b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}')], kind=JSON)
    assert (whole.output_tokens, whole.usage_source) == (None, None)
    refused = answered(500, [(60, sse({"error": "x"}))])
    assert (refused.output_tokens, refused.usage_source) == (None, None)


def test_embeddings_say_who_counted() -> None:
    """Their input is counted by the server, and they have no output."""
    body = b'{"object":"list","data":[{"embedding":[0.5]}],"usage":{"prompt_tokens":8,"total_tokens":8}}'
    record = answered(200, [(60, body)], kind=JSON, reader=APIS["/embeddings"].reader, operation="embeddings")
    assert (record.input_tokens, record.output_tokens, record.usage_source) == (8, None, "server")


def test_a_gateway_that_collects_tokens_looks_no_faster() -> None:
    """TPOT takes off all that came with the first read, as the server tells it or by the number of chunks."""
    part = [delta(str(number)) for number in range(40)]
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 40}}
    end = sse(delta(None, "stop"), usage, b"[DONE]")
    collected = answered(200, [(100, sse(*part[:20])), (300, sse(*part[20:])), (301, end)])
    assert collected.first_read_tokens == 20
    assert tpot_s(collected) == pytest.approx(0.01)
    told = [each | {"usage": {"prompt_tokens": 4, "completion_tokens": 3 * (at + 1)}} for at, each in enumerate(part)]
    record = answered(200, [(100, sse(*told[:2])), (200, sse(*told[2:4])), (201, sse(delta(None, "stop"), b"[DONE]"))])
    assert (record.first_chunk_tokens, record.first_read_tokens, record.output_tokens) == (3, 6, 12)
    assert tpot_s(record) == pytest.approx(0.1 / 6)
