"""Every request that begins is recorded exactly once, with one outcome, whatever the body of its bracket does."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from dyno_proxy.errors import RefusedError, UpstreamError
from dyno_proxy.exchange.exchange import Exchange
from dyno_proxy.exchange.record import Record
from dyno_proxy.metrics.gc_pauses import GcPauses
from dyno_proxy.metrics.loop_lag import LoopLag
from dyno_proxy.outcomes import Ending
from dyno_proxy.server.bracket import Bracket, Requests
from dyno_proxy.server.deferred import EndedRequests


class Connection(asyncio.Transport):
    """A client's connection that is open or closing. It has no socket."""

    def __init__(self, closing: bool) -> None:
        super().__init__()
        self._closing = closing

    def is_closing(self) -> bool:
        return self._closing


@dataclass
class Client:
    transport: asyncio.Transport | None


@dataclass
class Rig:
    started: list[str | None] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gc_pauses = GcPauses()
        self.ended = EndedRequests(self.records.append)
        lag = LoopLag(asyncio.get_running_loop())
        self.requests = Requests(lambda begun: self.started.append(begun.endpoint), self.ended, lag, self.gc_pauses)

    def now(self) -> list[Record]:
        self.ended.finish()
        return self.records


HERE = Client(Connection(closing=False))
LEAVING = Client(Connection(closing=True))
GONE = Client(None)

REFUSED: Ending = ("upstream_unreachable", "connection_refused")
ENDS: list[tuple[Any, Client | None, bool, tuple[str, str]]] = [
    (RefusedError("body_too_long", "too long"), HERE, False, ("rejected", "body_too_long")),
    (UpstreamError(REFUSED, "refused"), HERE, False, ("upstream_unreachable", "connection_refused")),
    (asyncio.CancelledError(), GONE, False, ("client_cancelled", "client_cancelled")),
    (asyncio.CancelledError(), LEAVING, False, ("client_cancelled", "client_cancelled")),
    (asyncio.CancelledError(), HERE, False, ("truncated", "proxy_shutdown")),
    (asyncio.CancelledError(), GONE, True, ("truncated", "proxy_shutdown")),  # we closed its connection
    (asyncio.CancelledError(), None, False, ("truncated", "proxy_shutdown")),  # a copy has no client
    (KeyError("x"), HERE, False, ("rejected", "proxy_KeyError")),
    (MemoryError(), GONE, False, ("rejected", "proxy_MemoryError")),
]


def exchange(*, answering: bool = False) -> Exchange:
    """`answering`: the client already has a part of the answer."""
    one = Exchange(1, 1, "POST", "/e/v1/chat/completions")
    one.endpoint = "e"
    if answering:
        one.head(2, 200, [(b"Content-Type", b"application/json")])
        one.read(3, 4, b"{")
    return one


async def test_what_returns_is_recorded_once() -> None:
    """The request runs while the block runs. After the block it is recorded, with what the upstream's answer says."""
    rig = Rig()
    with Bracket(rig.requests, exchange(answering=True), HERE):
        assert (rig.started, rig.requests.active, rig.now()) == (["e"], 1, [])
    assert rig.requests.active == 0
    assert [(record.outcome, record.error_type) for record in rig.now()] == [("truncated", "connection_closed")]


@pytest.mark.parametrize("answering", [False, True])
@pytest.mark.parametrize(("error", "client", "cutting", "outcome"), ENDS)
async def test_what_is_raised_is_recorded_once_and_passed_on(
    error: BaseException, client: Client | None, cutting: bool, outcome: tuple[str, str], answering: bool
) -> None:
    """There is one record with one outcome, before and after bytes were written. The caller gets the same exception."""
    rig = Rig()
    rig.requests.cutting = cutting
    with pytest.raises(type(error)) as raised, Bracket(rig.requests, exchange(answering=answering), client):
        raise error
    assert raised.value is error
    assert rig.requests.active == 0
    assert rig.started == ["e"]
    assert [(record.outcome, record.error_type) for record in rig.now()] == [outcome]


@pytest.mark.parametrize("answering", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
async def test_what_ends_the_program_is_recorded_by_how_far_the_answer_was(
    error: BaseException, answering: bool
) -> None:
    """The program's end isn't a cancellation: the outcome is that of a block which returns at the same moment."""
    rig = Rig()
    with pytest.raises(type(error)), Bracket(rig.requests, exchange(answering=answering), HERE):
        raise error
    with Bracket(rig.requests, exchange(answering=answering), HERE):
        pass
    ended, returned = [(record.outcome, record.error_type) for record in rig.now()]
    assert ended == returned


async def test_a_refusal_has_the_status_of_its_answer() -> None:
    """The row of a refused request has the status that the client got."""
    rig = Rig()
    with pytest.raises(RefusedError), Bracket(rig.requests, exchange(), HERE):
        raise RefusedError("unknown_path", "no such path")
    assert [record.status for record in rig.now()] == [404]


@pytest.mark.parametrize("client", [HERE, GONE, None])
async def test_who_was_cut_off_keeps_that_outcome(client: Client | None) -> None:
    """If we cut a client off, its request is cancelled because of that. The first reason stays."""
    rig = Rig()
    one = exchange()
    one.broken = ("rejected", "client_too_slow")
    with pytest.raises(asyncio.CancelledError), Bracket(rig.requests, one, client):
        raise asyncio.CancelledError
    assert [record.error_type for record in rig.now()] == ["client_too_slow"]


async def test_a_cancelled_task_is_recorded_once() -> None:
    """The request's task is cancelled in the middle of a wait, as the server does it."""
    rig = Rig()

    async def serve() -> None:
        with Bracket(rig.requests, exchange(), GONE):
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [record.outcome for record in rig.now()] == ["client_cancelled"]


async def test_a_record_that_fails_changes_nothing_for_the_client(caplog: pytest.LogCaptureFixture) -> None:
    """If recording fails, the client still gets its answer, the count of active requests is right, and the log has the
    failure."""
    rig = Rig()
    rig.ended = rig.requests.ended = EndedRequests(lambda _record: cast(Any, None).missing)
    with Bracket(rig.requests, exchange(), HERE):
        pass
    rig.ended.finish()
    assert rig.requests.active == 0
    assert "a request has no row" in caplog.text


async def test_collections_during_a_request_are_its_own() -> None:
    """The record has only the garbage collector's time between the request's start and end."""
    rig = Rig()
    rig.gc_pauses.total_ns = 5_000_000
    with Bracket(rig.requests, exchange(), HERE):
        rig.gc_pauses.total_ns += 2_000_000
    rig.gc_pauses.total_ns += 1_000_000
    assert [record.gc_pause_us for record in rig.now()] == [2_000]


async def test_waiting_until_none_is_active() -> None:
    """The wait ends when the last request ends, at once if there is none, and at the limit if one goes on."""
    rig = Rig()
    await rig.requests.wait_idle(60.0)
    first, second = Bracket(rig.requests, exchange(), HERE), Bracket(rig.requests, exchange(), HERE)
    with first:
        with second:
            await rig.requests.wait_idle(0.01)
            waiting = asyncio.create_task(rig.requests.wait_idle(60.0))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 10.0)
