"""Several addresses, the connect limit, and idle connections."""

import asyncio
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohappyeyeballs import AddrInfoType

from dyno_proxy.config.schema import ConfigError
from dyno_proxy.upstream.pool import MAX_IDLE, Pool
from rigs.both_loops import on_both_loops
from rigs.network import ASK, ask, at, blackhole, endpoint, outcome, refusing_port, upstream
from rigs.proxy_in_process import proxy_in_process
from rigs.raw_http import exchange


@on_both_loops
async def test_the_next_address_is_tried(tmp_path: Path) -> None:
    """A dead address of any family costs a fraction of the connect limit, whether it refuses or doesn't answer."""
    async with upstream() as seen:
        with blackhole() as silent:
            cases = [
                ([at(refusing_port()), at(seen.port)], 20.0),
                ([at(silent), at(seen.port)], 20.0),
                ([at(refusing_port(), "::1"), at(seen.port)], 20.0),
                ([at(silent), at(silent), at(silent), at(seen.port)], 0.5),  # each has its turn within a short limit
            ]
            for number, (addresses, connect_s) in enumerate(cases):
                made = endpoint("http://api.test/v1", resolve=addresses, connect_s=connect_s)
                begun_s = time.monotonic()
                answer, row = await ask(made, tmp_path / str(number))
                assert outcome(answer, row) == (200, "ok", None), number
                assert time.monotonic() - begun_s < 5, number


@on_both_loops
async def test_no_address_answers(tmp_path: Path) -> None:
    """If all addresses refuse, the fault is connection_refused. If one doesn't answer, the fault is the time limit."""
    with blackhole() as silent:
        for addresses, expected in (
            ([at(refusing_port()), at(refusing_port(), "::1")], (502, "upstream_unreachable", "connection_refused")),
            ([at(refusing_port()), at(silent)], (504, "upstream_timeout", "connect_timeout")),
        ):
            made = endpoint("http://api.test/v1", resolve=addresses, connect_s=0.5)
            answer, row = await ask(made, tmp_path / expected[2])
            assert outcome(answer, row) == expected


@on_both_loops
async def test_a_name_that_is_unknown(tmp_path: Path) -> None:
    """The system's resolver decides about a name. A name that can't be valid is refused at the start."""
    answer, row = await ask(endpoint("http://no-such-name.invalid/v1"), tmp_path)
    assert outcome(answer, row) == (502, "upstream_unreachable", "name_not_resolved")
    with pytest.raises(ConfigError, match=r"endpoints\.e\.url: .* isn't a host name"):
        endpoint(f"http://{'a' * 64}.test/v1")


@on_both_loops
async def test_a_resolver_that_hangs() -> None:
    """The limit ends a slow look-up, and the loop goes on.

    One look-up serves all who wait, even if one of them leaves.
    """
    asked = 0
    answers = asyncio.Event()

    async with upstream() as seen:

        async def resolve(_host: str, _port: int) -> Sequence[AddrInfoType]:
            nonlocal asked
            asked += 1
            await answers.wait()
            return [at(seen.port)]

        pool = Pool("api.test", 80, tls=None, proxy=None, connect_s=0.2, resolve=resolve)
        patient = Pool("api.test", 80, tls=None, proxy=None, connect_s=20, resolve=resolve)
        with pytest.raises(TimeoutError):
            await pool.connect()
        waiting = [asyncio.create_task(patient.connect()) for _ in range(50)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        await asyncio.sleep(0.05)
        answers.set()
        connections = await asyncio.gather(*waiting[1:])
        assert asked == 2
        for connection in connections:
            connection.abort()


@on_both_loops
async def test_the_sockets_options() -> None:
    """Small writes leave at once, and a peer that vanished is noticed."""
    async with upstream() as seen:
        connection = await endpoint(f"http://127.0.0.1:{seen.port}/v1").pool.connect()
        assert connection.transport is not None
        over = connection.transport.get_extra_info("socket")
        assert over.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert over.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert over.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        connection.abort()


# Resting connections


@on_both_loops
async def test_a_resting_connection_ages_out(tmp_path: Path) -> None:
    """An idle connection is closed when its time is over, even if no other request comes."""
    async with upstream() as seen:
        made = endpoint(f"http://127.0.0.1:{seen.port}/v1")
        made.pool = Pool(made.host, made.port, tls=None, proxy=None, connect_s=20, idle_s=0.5)
        async with proxy_in_process(made, tmp_path / "spans") as proxy:
            for _ in range(2):
                await exchange(proxy.url, ASK)
            assert (seen.connections, seen.ended) == (1, 0)
            await seen.reaches(ended=1)
            assert made.pool.resting() is None
            await exchange(proxy.url, ASK)
    assert seen.connections == 2


@on_both_loops
async def test_a_pool_that_is_closed_under_way(tmp_path: Path) -> None:
    """A running request goes to its end. Neither its connection nor an idle one is kept."""
    async with upstream() as seen:
        made = endpoint(f"http://127.0.0.1:{seen.port}/v1")
        async with proxy_in_process(made, tmp_path / "spans") as proxy:
            seen.answer_after.clear()
            running = [asyncio.create_task(exchange(proxy.url, ASK)) for _ in range(2)]
            await seen.reaches(heads=2)
            made.pool.close()
            seen.answer_after.set()
            assert [answer.status for answer in await asyncio.gather(*running)] == [200, 200]
            await seen.reaches(ended=2)
            assert made.pool.resting() is None


@on_both_loops
async def test_the_pool_is_bounded(tmp_path: Path) -> None:
    """After a burst no more than MAX_IDLE connections stay."""
    burst = MAX_IDLE + 20
    async with upstream() as seen:
        made = endpoint(f"http://127.0.0.1:{seen.port}/v1")
        async with proxy_in_process(made, tmp_path / "spans") as proxy:
            seen.answer_after.clear()
            running = [asyncio.create_task(exchange(proxy.url, ASK)) for _ in range(burst)]
            await seen.reaches(heads=burst)
            seen.answer_after.set()
            await asyncio.gather(*running)
            await seen.reaches(ended=20)
            await asyncio.sleep(0.1)
            assert (seen.connections, seen.ended) == (burst, 20)
