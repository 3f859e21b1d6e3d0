"""Requests that have ended are recorded a little later, never much later, and each is recorded whatever happens."""

import asyncio
from collections.abc import Iterator

import pytest

from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.exchange.record import Record
from dyno_proxy.readers import APIS
from dyno_proxy.server.deferred import EACH, LARGE_BYTES, WAIT_S, EndedRequests
from rigs.until import until


def answered(number: int, body: bytes = b"{}", kind: bytes = b"application/json") -> Exchange:
    exchange = Exchange(number, number, "POST", "/e/v1/chat/completions")
    exchange.operation, exchange.reader = "chat", APIS["/chat/completions"].reader
    exchange.head(number + 1, 200, [(b"Content-Type", kind)])
    exchange.read(number + 2, number + 3, body)
    exchange.complete = True
    return exchange


@pytest.mark.parametrize(("count", "at_once"), [(1, 0), (EACH - 1, 0), (EACH, EACH), (EACH + 3, EACH)])
async def test_some_gather_and_none_waits_long(count: int, at_once: int) -> None:
    """A full set is recorded at once, the rest when the time is up. All are recorded in the order of their ends."""
    records: list[Record] = []
    ended = EndedRequests(records.append)
    for number in range(count):
        ended.add(answered(number), 0, 0)
    assert len(records) == at_once
    await until(lambda: len(records) == count, f"{count} records")
    assert [record.started_at_unix_us for record in records] == list(range(count))


@pytest.mark.parametrize("each", [answered(1, b"x" * (LARGE_BYTES + 1)), answered(1, kind=b"text/event-stream")])
async def test_what_takes_long_waits_for_nothing(each: Exchange) -> None:
    """A request that takes long to record is recorded at once: several in a row would delay every chunk meanwhile."""
    records: list[Record] = []
    EndedRequests(records.append).add(each, 0, 0)
    assert len(records) == 1


async def test_now_means_now() -> None:
    """Whoever asks for figures gets those of all requests that have ended. The timer then finds nothing left."""
    records: list[Record] = []
    ended = EndedRequests(records.append)
    ended.add(answered(1), 0, 0)
    ended.finish()
    await asyncio.sleep(WAIT_S * 5)
    assert len(records) == 1


class _Failing(list[bytes]):
    """A request's body that raises an error when it is joined for the first time."""

    def __iter__(self) -> Iterator[bytes]:
        raise MemoryError


async def test_what_cannot_be_read_has_its_record(caplog: pytest.LogCaptureFixture) -> None:
    """A failure costs the figures of one request only, and is in the log. The other requests are recorded as usual."""
    records: list[Record] = []
    ended = EndedRequests(records.append)
    bad = answered(2)
    bad.request_body = _Failing([b"x"])
    for exchange in (answered(1), bad, answered(3)):
        ended.add(exchange, 0, 0)
    ended.finish()
    assert [(record.started_at_unix_us, record.unread) for record in records] == [
        (1, None),
        (2, "proxy_MemoryError"),
        (3, None),
    ]
    assert records[1].status == 200
    assert "could not be read" in caplog.text
