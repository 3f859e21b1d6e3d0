"""Exchanges that take long to look into: in stretches, within a budget, with the same record as in one go."""

import asyncio
import gzip
import json
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno_proxy.exchange.budget import Budget
from dyno_proxy.exchange.exchange import KEPT_BODY_BYTES, Exchange
from dyno_proxy.exchange.kept import KEPT_REQUEST_BYTES, KEPT_UPLOAD_BYTES, SHORT_BYTES, STRETCH_BYTES
from dyno_proxy.exchange.record import Record
from dyno_proxy.http.sse import LONG_EVENT_BYTES
from dyno_proxy.readers import APIS, Content, Reader, Skim
from dyno_proxy.server.deferred import EndedRequests
from rigs.exchanges import EVENTS, JSON, MS, START, delta, sse, started
from rigs.until import until

MEGABYTE = 1_000_000
CHAT = APIS["/chat/completions"].reader
GZIP = ((b"Content-Encoding", b"gzip"),)


class Sizes:
    """A reader that reads as chat's does, and notes how many bytes it got at once."""

    def __init__(self) -> None:
        self.decoded: list[int] = []
        self.skimmed: list[int] = []
        sizes = self.skimmed

        class Noting(Skim):
            def feed(self, piece: bytes) -> None:
                sizes.append(len(piece))
                super().feed(piece)

        looked_at = CHAT.skim_body.args[0]  # type: ignore[attr-defined]  # it is a partial
        self.reader = Reader(self._event, self._body, lambda: Noting(looked_at), lambda: Noting(looked_at))

    def _event(self, data: bytes, content: Content) -> int:
        self.decoded.append(len(data))
        return CHAT.event(data, content)

    def _body(self, body: bytes, content: Content) -> None:
        self.decoded.append(len(body))
        CHAT.body(body, content)


def hostile(size_bytes: int) -> bytes:
    return b'{"error":[' + b"[]," * (size_bytes // 3) + b"1]}"


BODIES: dict[str, tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]]] = {
    "a body": (JSON, hostile(MEGABYTE), ()),
    "a compressed body": (JSON, gzip.compress(hostile(3 * MEGABYTE), mtime=0), GZIP),
    "an SSE event": (EVENTS, b"data: " + hostile(MEGABYTE) + b"\n\n", ()),
    "many SSE events": (EVENTS, sse(*[delta("x")] * 20_000), ()),
    "tiny SSE events": (EVENTS, b"data:\n\n" * 100_000, ()),
    "a compressed stream": (EVENTS, gzip.compress(sse(*[delta("x")] * 8_000), mtime=0), GZIP),
    "a refusal": (JSON, hostile(MEGABYTE), ()),
}


@pytest.mark.parametrize("read_bytes", [1_000, 256_000])
@pytest.mark.parametrize("name", BODIES)
async def test_no_stretch_is_long(name: str, read_bytes: int) -> None:
    """Whatever comes, and in whatever reads: between two turns of the loop only so many bytes are read."""
    kind, body, headers = BODIES[name]
    sizes, waiting, records = Sizes(), list[Exchange](), list[Record]()
    exchange = started(reader=sizes.reader, look_later=waiting.append)
    exchange.head(START, 429 if name == "a refusal" else 200, [(b"Content-Type", kind), *headers])

    def stretch(work: Callable[[], Any]) -> Any:
        sizes.decoded.clear()
        sizes.skimmed.clear()
        done = work()
        assert sum(sizes.skimmed) <= LONG_EVENT_BYTES + 2 * STRETCH_BYTES
        assert sum(sizes.decoded) <= SHORT_BYTES + STRETCH_BYTES
        assert len(sizes.decoded) < 1_500
        return done

    for at in range(0, len(body), read_bytes):
        stretch(partial(exchange.read, START + at, START + at, body[at : at + read_bytes]))
        while random.random() < 0.5 and stretch(exchange.look):  # noqa: S311  # now and then there is time
            pass
    exchange.complete = True
    assert exchange.behind or read_bytes == 1_000
    while stretch(exchange.look):
        pass
    stretch(lambda: records.append(exchange.finish(START, 0)))
    assert records[0].response_bytes == len(body)
    assert (records[0].unread, len(waiting) >= 1) == (None, read_bytes > 1_000 or waiting != [])


STOP = {"message": {}, "finish_reason": "stop"}
LONG_TEXT = "y" * 90_000
CONTENTS: list[tuple[int, bytes, tuple[tuple[bytes, bytes], ...], bytes]] = [
    (200, JSON, (), json.dumps({"choices": [STOP | {"message": {"content": LONG_TEXT}}]}).encode()),
    (200, JSON, GZIP, gzip.compress(json.dumps({"choices": [STOP], "x": LONG_TEXT}).encode(), mtime=0)),
    (200, EVENTS, (), sse(*[delta("x" * 300)] * 300, delta(LONG_TEXT), delta(None, "stop"), b"[DONE]")),
    (200, EVENTS, GZIP, gzip.compress(sse(*[delta("x" * 300)] * 300, delta(None, "stop"), b"[DONE]"), mtime=0)),
    (429, JSON, (), json.dumps({"x": LONG_TEXT, "retry_after": 3}).encode()),
    (200, JSON, (), b'{"choices":[{"message":{"content":"' + LONG_TEXT.encode()),
]


@pytest.mark.parametrize("content", CONTENTS)
def test_the_record_is_the_same_however_it_was_read(content: tuple[int, bytes, tuple[Any, ...], bytes]) -> None:
    """In one read or in many, in one go or in stretches, at once or at the end: the record is the same."""
    status, kind, headers, body = content

    def recorded(read_bytes: int, *, later: bool) -> Record:
        exchange = started(look_later=(lambda _exchange: None) if later else None)
        exchange.head(START, status, [(b"Content-Type", kind), *headers])
        for at in range(0, len(body), read_bytes):
            exchange.read(START + 5 * MS, START + 5 * MS, body[at : at + read_bytes])
        exchange.complete = True
        return exchange.finish(START + 9 * MS, 0)

    first = recorded(len(body), later=False)
    assert first.outcome in ("ok", "rate_limited", "truncated")
    for read_bytes in (len(body), 100_000, 20_000, 3_000):
        for later in (False, True):
            assert recorded(read_bytes, later=later) == first


ASKED = b'"model":"m","stream":true,"max_tokens":5}'


@pytest.mark.parametrize("piece_bytes", [1, 1_000, 70_000, 9_000_000])
@pytest.mark.parametrize("size_bytes", [100, SHORT_BYTES + 1, 300_000])
def test_parameters_are_read_as_they_stream_by(size_bytes: int, piece_bytes: int) -> None:
    """A request has its parameters however long it is, and even where its body isn't kept."""
    body = b'{"messages":[{"content":"' + b"x" * size_bytes + b'"}],' + ASKED
    for budget in (Budget(10 * MEGABYTE), Budget(2 * len(body) - 10)):
        exchange = started(request_body=[], request_bytes=0, budget=budget)
        for at in range(0, len(body), piece_bytes):
            exchange.take_request(body[at : at + piece_bytes])
        assert not exchange.request_kept or b"".join(exchange.request_body) == body
        record = exchange.finish(START, 0)
        assert (record.model, record.request_stream, record.max_tokens) == ("m", True, 5)
        assert record.request_bytes == len(body)
        exchange.release()
        assert budget.used_bytes == 0


@pytest.mark.parametrize(("operation", "most_bytes"), [("chat", KEPT_REQUEST_BYTES), (None, KEPT_UPLOAD_BYTES)])
def test_what_is_kept_to_be_sent_again(operation: str | None, most_bytes: int) -> None:
    """A request of a known API is kept up to 8 MiB, an upload that nobody reads up to 64 KiB, and nothing of more."""
    budget = Budget(100 * MEGABYTE)
    exchange = started(request_body=[], request_bytes=0, operation=operation, budget=budget)
    for _ in range(most_bytes // 16_384):
        exchange.take_request(bytes(16_384))
    assert exchange.request_kept
    assert sum(map(len, exchange.request_body)) == budget.used_bytes == most_bytes
    exchange.take_request(b"x")
    assert not exchange.request_kept
    assert (exchange.request_body, budget.used_bytes) == ([], 0)


def test_small_pieces_take_little_more_than_their_bytes() -> None:
    """A body that comes byte by byte is kept in a few pieces."""
    exchange = started(request_body=[], request_bytes=0)
    for _ in range(20_000):
        exchange.take_request(b"x")
    assert len(exchange.request_body) < 40
    assert b"".join(exchange.request_body) == b"x" * 20_000


def test_without_memory_the_row_says_so() -> None:
    """Where all exchanges together keep as much as they may, one more passes as ever, and its content is unknown."""
    budget = Budget(MEGABYTE)
    assert budget.take(MEGABYTE - 100)
    exchange = started(request_body=[], request_bytes=0, budget=budget, look_later=lambda _exchange: None)
    exchange.take_request(b'{"model":"m","x":"' + b"y" * 100_000 + b'"}')
    assert not exchange.request_kept
    exchange.head(START, 200, [(b"Content-Type", JSON)])
    for _ in range(9):
        exchange.read(START, START, b" " * 10_000)
    exchange.complete = True
    record = exchange.finish(START, 0)
    assert (record.outcome, record.unread, record.request_unread) == ("ok", "no_memory", "no_memory")
    assert (record.response_bytes, record.model) == (90_000, None)
    exchange.release()
    assert budget.used_bytes == MEGABYTE - 100


def test_what_would_take_too_long_is_given_up() -> None:
    """The row says that the content is too complex to be read, and that the request is."""
    exchange = started(request_body=[], request_bytes=0)
    exchange.take_request(b"{" + b'"k":1,' * 200_000 + b'"model":"m"}')
    exchange.head(START, 200, [(b"Content-Type", JSON)])
    exchange.read(START, START, b'{"choices":[' + b"{}," * 100_000 + b"{}]}")
    exchange.complete = True
    record = exchange.finish(START, 0)
    assert (record.outcome, record.unread, record.request_unread) == ("ok", "too_complex", "too_complex")


def test_an_event_that_would_take_too_long_is_one_unreadable_event() -> None:
    """The stream's other events count."""
    exchange = started()
    exchange.head(START, 200, [(b"Content-Type", EVENTS)])
    exchange.read(START, START, sse(delta("a"), b'{"choices":[' + b"{}," * 100_000 + b"{}]}", delta("b", "stop")))
    exchange.complete = True
    record = exchange.finish(START, 0)
    assert (record.outcome, len(record.chunk_offsets_us), record.unreadable_events) == ("ok", 2, 1)


def test_what_comes_too_fast_is_held_back() -> None:
    """The upstream is read no further while much is behind, and again once that is looked into, or given up."""
    calls: list[str] = []

    class Held:
        def hold_back(self) -> None:
            calls.append("hold back")

        def go_on(self) -> None:
            calls.append("go on")

    exchange = started(look_later=lambda _exchange: None, upstream=Held())
    exchange.head(START, 200, [(b"Content-Type", EVENTS)])
    for _ in range(3):
        exchange.read(START, START, sse(*[delta("x")] * 2_000))
    assert calls == ["hold back"]
    while exchange.look():
        pass
    assert calls == ["hold back", "go on"]
    exchange.read(START, START, sse(*[delta("x")] * 4_000))
    exchange.give_up("proxy_MemoryError")
    assert calls == ["hold back", "go on"] * 2
    exchange.release()


pieces = st.sampled_from([1, 500, 5_000, 30_000, 90_000, 400_000])
steps = st.lists(st.tuples(st.sampled_from(["ask", "read", "look", "forget", "give up", "turn"]), pieces), max_size=12)
FILLINGS = {EVENTS: sse(delta("x")), JSON: b"[],"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(steps, st.sampled_from([EVENTS, JSON]), st.booleans()), min_size=1, max_size=5), st.data())
def test_the_budget_is_counted_exactly(exchanges: list[tuple[Any, bytes, bool]], data: st.DataObject) -> None:
    """After all exchanges have ended nothing counts, whatever became of each, and each has its record."""

    async def run() -> None:
        budget, records = Budget(data.draw(st.sampled_from([100_000, 1_000_000, 100_000_000]))), list[Record]()
        ended = EndedRequests(records.append)
        for work, kind, complete in exchanges:
            exchange = started(request_body=[], request_bytes=0, budget=budget, look_later=ended.look_later)
            exchange.head(START, 200, [(b"Content-Type", kind)])
            for what, size_bytes in work:
                if what == "ask":
                    exchange.take_request(b'"x",' * (size_bytes // 4 + 1))
                elif what == "read":
                    exchange.read(START, START, FILLINGS[kind] * (size_bytes // 3 + 1))
                elif what == "look":
                    exchange.look()
                elif what == "forget":
                    exchange.forget_request()
                elif what == "give up":
                    exchange.give_up("proxy_Fault")
                else:
                    await asyncio.sleep(0)
                assert 0 <= budget.used_bytes <= budget.limit_bytes
            exchange.complete = complete
            exchange.broken = None if complete else ("client_cancelled", "client_cancelled")
            ended.add(exchange, 0, 0)
        if data.draw(st.booleans()):
            ended.finish_all()
        await until(lambda: len(records) == len(exchanges), "all records")
        assert budget.used_bytes == 0

    asyncio.run(run())


async def test_one_that_takes_long_is_recorded_later_and_the_others_at_once() -> None:
    """An ended exchange that is behind doesn't hold up the next one. At the proxy's end nothing waits."""
    records: list[Record] = []
    ended = EndedRequests(records.append)

    def long() -> Exchange:
        exchange = started(look_later=ended.look_later)
        exchange.head(START, 200, [(b"Content-Type", JSON)])
        exchange.read(START, START, hostile(KEPT_BODY_BYTES - 100))
        exchange.complete = True
        return exchange

    short = started(look_later=ended.look_later, started_at_unix_us=5)
    short.head(START, 200, [(b"Content-Type", JSON)])
    ended.add(long(), 0, 0)
    ended.add(short, 0, 0)
    ended.finish()
    assert [record.started_at_unix_us for record in records] == [5]
    await until(lambda: len(records) == 2, "the long one")
    assert (records[1].outcome, records[1].error_type) == ("stream_error", "error_event")
    ended.add(long(), 0, 0)
    assert len(records) == 2
    ended.finish_all()
    assert len(records) == 3
    assert records[2].error_type == "error_event"


async def test_many_hostile_ones_take_no_more_of_a_turn_than_one() -> None:
    """However many are behind, the loop's other work gets its turn after a few ms of the processor's time."""
    records: list[Record] = []
    ended = EndedRequests(records.append)
    for _ in range(40):
        exchange = started(look_later=ended.look_later)
        exchange.head(START, 200, [(b"Content-Type", JSON)])
        exchange.read(START, START, hostile(MEGABYTE))
        exchange.complete = True
        ended.add(exchange, 0, 0)
    turns_s = []
    while len(records) < 40:
        begun_s = time.thread_time()
        await asyncio.sleep(0)
        turns_s.append(time.thread_time() - begun_s)
    assert sum(turns_s) > 0.1
    assert max(turns_s) < 0.05  # 0.003 where the processor is free; all at once would take a second
    assert len(turns_s) > 50
