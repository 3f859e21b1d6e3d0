"""A low limit on open files: who can be served is, the others are told so, and journal and metrics go on."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_proxy.process.descriptors import RESERVED, SURPLUS, shares
from rigs.fd_limit import soft_limit_of_fds
from rigs.network import upstream
from rigs.proxy_process import configure, proxy_process, total
from rigs.until import LIMIT_S, until

LIMIT = 300


@given(st.integers(64, 1 << 30), st.integers(0, 100), st.integers(0, 50), st.integers(0, 40))
def test_all_shares_fit(limit: int, in_use: int, endpoints: int, copies: int) -> None:
    """Clients, their endpoints' connections, idle ones, copies and the reserve are no more than the limit.

    Where the limit is too low for anything, a few are served all the same.
    """
    clients, idle = shares(limit, in_use, endpoints, copies)
    assert clients >= 4
    assert SURPLUS < RESERVED
    if clients > 4:
        assert 2 * clients + idle * endpoints + copies + RESERVED + in_use <= limit


@pytest.mark.parametrize("streams", [80, 150, 400])
async def test_more_clients_than_descriptors(tmp_path: Path, streams: int) -> None:
    """Each request is served or gets 503; each has its row; no row blames the endpoint; the log says why once."""
    with soft_limit_of_fds(2000):
        async with upstream() as seen:
            seen.answer_after.clear()
            endpoints = {"e": f"http://127.0.0.1:{seen.port}/v1"}
            limit = ("bash", "-c", f'ulimit -n {LIMIT}; exec "$@"', "bash")
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            async with (
                proxy_process(tmp_path, endpoints, before=limit) as proxy,
                aiohttp.ClientSession(connector=connector) as session,
            ):

                async def ask() -> int:
                    async with session.get(f"{proxy.url}/e/v1/models") as response:
                        await response.read()
                        return response.status

                asking = [asyncio.create_task(ask()) for _ in range(streams)]
                served = min(streams, shares(LIMIT, 20, 1, 0).clients)
                await until(lambda: len(seen.heads) >= 0.8 * served, "the requests that can be served")
                async with aiohttp.ClientSession() as other:
                    if streams < 150:  # else the queue is full of clients
                        assert await total(other, proxy.url, "dyno_active_requests") >= 0.8 * served
                seen.answer_after.set()
                statuses = Counter(await asyncio.gather(*asking))
                assert set(statuses) <= {200, 503}
                assert statuses[200] >= 0.8 * served
                await until(lambda: len(proxy.rows()) >= streams, f"{streams} rows")
                outcomes = Counter((row["outcome"], row.get("error_type")) for row in proxy.rows())
                assert set(outcomes) <= {("ok", None), ("rejected", "too_many_connections")}
                assert outcomes["ok", None] == statuses[200]
                said = [line for line in proxy.lines if "limit on open files" in line]
                assert len(said) == (1 if statuses[503] else 0)
                assert await total(session, proxy.url, "dyno_spans_dropped_total") == 0
                assert await ask() == 200


async def test_idle_connections_make_room(tmp_path: Path) -> None:
    """Clients that keep idle connections don't keep others out: the oldest idle connection is closed at once."""
    async with upstream() as seen:
        limit = ("bash", "-c", f'ulimit -n {LIMIT}; exec "$@"', "bash")
        async with proxy_process(tmp_path, {"e": f"http://127.0.0.1:{seen.port}/v1"}, before=limit) as proxy:
            port = int(proxy.url.rpartition(":")[2])
            kept = []
            for _ in range(LIMIT):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /e/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
                # An idle connection that nobody closes ends after 75 s.
                answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), LIMIT_S)
                assert b" 200 " in answer
                kept.append((reader, writer))
            assert await asyncio.wait_for(kept[0][0].read(), LIMIT_S) == b""
            assert not kept[-1][0].at_eof()
            for _, writer in kept:
                writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0"])
async def test_an_endpoint_that_is_the_proxy_itself(tmp_path: Path, host: str, listen: str) -> None:
    """A request that would go round for ever is refused, with one row. (127.0.0.2 is another address of loopback.)"""
    async with proxy_process(tmp_path, {"e": "http://127.0.0.1:1/v1"}, proxy=f'listen = "{listen}"') as proxy:
        port = proxy.url.rpartition(":")[2]
        configure(tmp_path, {"e": f"http://{host}:{port}/e/v1"}, proxy=f'listen = "{listen}"')
        proxy.signal(signal.SIGHUP)
        await proxy.said("reloaded")
        async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/e/v1/models") as response:
            expected = (502, "connection_refused") if host == "127.0.0.2" else (508, "proxy_itself")
            assert (response.status, (await response.json())["error"]["code"]) == expected
        await until(proxy.rows, "a row")
        assert len(proxy.rows()) == 1
