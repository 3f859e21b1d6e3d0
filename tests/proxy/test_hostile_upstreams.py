"""Upstreams that break HTTP: what the client gets, what the row says, and that no other request is disturbed.

The table is tests/rigs/hostile_cases.py. All its cases run at the same time, first in a real `dyno proxy`.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import pytest_asyncio

from rigs.hostile_cases import GOOD, HOSTILE, REFUSED, Hostile
from rigs.raw_upstream import raw_upstream
from rigs.relay_rig import rig
from rigs.running_proxy import in_thread, running_proxy

# One upstream, one proxy and one loop for the whole table.
pytestmark = pytest.mark.asyncio(loop_scope="module")

TARGETS = {f"/v1/x/{quote(name)}": case for name, case in HOSTILE.items()}
NEIGHBOUR = (b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nneig", b"hbor")
GOOD_AND_CLOSED = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
RESET = struct.pack("ii", 1, 0)  # lingering on, for 0 s


@dataclass
class HostileUpstream:
    """Answers `/v1/x/NAME` as the case of that name says, and every other request correctly."""

    connection_of: dict[str, int] = field(default_factory=dict)  # target → the number of the last one to carry it
    open: set[int] = field(default_factory=set)
    release_neighbour: asyncio.Event = field(default_factory=asyncio.Event)
    accepted: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        number = self.accepted
        self.open.add(number)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"\r\nContent-Length: 2\r\n" in head:
                    await reader.readexactly(2)
                target = head.split(b" ", 2)[1].decode()
                self.connection_of[target] = number
                if target in TARGETS:
                    await behave(TARGETS[target], writer)
                elif target == "/v1/neighbour":
                    writer.write(NEIGHBOUR[0])
                    await self.release_neighbour.wait()
                    writer.write(NEIGHBOUR[1])
                else:
                    writer.write(GOOD)
        finally:
            self.open.discard(number)


async def behave(case: Hostile, writer: asyncio.StreamWriter) -> None:
    """Raises ConnectionError if the case ends the connection."""
    for at, piece in enumerate(case.writes):
        await asyncio.sleep(0.01 if at else 0)
        writer.write(piece)
        await writer.drain()
    if case.end == "rests":
        return
    await asyncio.sleep(0.02)
    if case.end == "resets":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    raise ConnectionAbortedError


@dataclass
class Seen:
    """The result of one case."""

    answer: bytes = b""  # all that the client got
    reset: bool = False
    hung: bool = False  # it had no end
    upstream_rests: bool = False
    row: dict[str, Any] = field(default_factory=dict)


async def ask(url: str, case: Hostile) -> Seen:
    """Send the case's request, and a good one behind it on the same connection."""
    seen = Seen()
    body = b"" if case.method == b"HEAD" else b"{}"
    first = b"%b /e/v1/x/%b HTTP/1.1\r\nHost: localhost\r\n" % (case.method, quote(case.name).encode())
    first += (b"Content-Length: 2\r\n" if body else b"") + b"\r\n" + body
    second = b"GET /e/v1/good HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(10):
            writer.write(first)
            if case.asks_later:
                await asyncio.sleep(0.5)
            writer.write(second)
            while data := await reader.read(1 << 20):
                seen.answer += data
    except ConnectionResetError:
        seen.reset = True
    except TimeoutError:
        seen.hung = True
    finally:
        writer.close()
    return seen


async def ask_all(url: str, upstream: HostileUpstream) -> dict[str, Seen]:
    """Run all cases, several at the same time, beside a request that lasts as long as all of them."""
    neighbour = asyncio.create_task(ask_neighbour(url))
    some = asyncio.Semaphore(8)

    async def ask_one(case: Hostile) -> Seen:
        async with some:
            return await ask(url, case)

    at_once = [case for case in HOSTILE.values() if not case.asks_later]
    seen = dict(zip([case.name for case in at_once], await asyncio.gather(*map(ask_one, at_once)), strict=True))
    for case in HOSTILE.values():
        if case.asks_later:  # what such an upstream says late would answer whoever asks it first: nobody else may
            seen[case.name] = await ask(url, case)
    upstream.release_neighbour.set()
    answer = await neighbour
    assert answer.endswith(b"\r\n\r\nneighbor"), "a request beside the hostile ones was disturbed"
    await asyncio.sleep(0.2)  # for the last connections to close
    for name, each in seen.items():
        each.upstream_rests = upstream.connection_of[f"/v1/x/{quote(name)}"] in upstream.open
    return seen


async def ask_neighbour(url: str) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(b"GET /e/v1/neighbour HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Seen]]:
    upstream = HostileUpstream()
    folder = tmp_path_factory.mktemp("proxy")
    async with raw_upstream(upstream.serve) as url, in_thread(running_proxy(folder, {"e": url + "/v1"})) as proxy:
        seen = await ask_all(proxy.url, upstream)
        started = proxy.started()
        rows = await proxy.rows(started)
        assert len(rows) == started == proxy.total("dyno_requests_total")
        good = [row for row in rows if row["path"] in ("/e/v1/good", "/e/v1/neighbour")]
        # A hostile endpoint may close an idle connection late, so that nobody knows whether it had the next request.
        crossed = [row for row in good if row["outcome"] != "ok"]
        assert len(crossed) <= len(good) // 50
        assert {row["error_type"] for row in crossed} <= {"connection_closed", "connection_reset"}
        assert all(row["connection_reused"] for row in crossed)
        for name, each in seen.items():
            (each.row,) = [row for row in rows if row["path"] == f"/e/v1/x/{quote(name)}"]
        yield seen


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile(seen: dict[str, Seen], name: str) -> None:
    """The client gets exactly the message's bytes or a 502, and its next request gets its own answer.

    The row says why.
    """
    case, each = HOSTILE[name], seen[name]
    answer = each.answer
    assert not each.hung
    assert b"evil" not in answer
    assert answer.endswith(GOOD_AND_CLOSED) is case.client_stays
    answer = answer.removesuffix(GOOD_AND_CLOSED) if case.client_stays else answer
    if case.got == REFUSED:
        _, found, answer = answer.rpartition(b"HTTP/1.1 502 Bad Gateway\r\n")  # interim responses may come before it
        assert found
        assert b'"type": "dyno_proxy_error"' in answer
    else:
        assert answer.startswith(case.got)
        assert len(answer) <= len(case.got) + case.and_more
    assert each.reset is case.client_reset
    assert case.upstream_sound or not each.upstream_rests
    assert (each.row["outcome"], each.row.get("error_type")) == (case.outcome, case.error_type)


async def test_nothing_stays_behind(tmp_path: Path) -> None:
    """After all cases at once, the proxy has no more tasks than before, and only idle connections."""
    upstream = HostileUpstream()
    async with rig(upstream.serve, tmp_path) as proxy:
        before = asyncio.all_tasks()
        seen = await ask_all(f"http://127.0.0.1:{proxy.port}", upstream)
        assert not [name for name, each in seen.items() if each.hung]
        left = asyncio.all_tasks() - before
        # Of the upstream's own tasks those go on whose connections rest in the pool.
        assert {str(task.get_coro()).split(" ")[2] for task in left} <= {"raw_upstream.<locals>.handle"}
        assert len(left) == len(upstream.open) < 10
