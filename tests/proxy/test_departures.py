"""A client that has left while nobody reads its upload ends its request at once, wherever the request waits."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from dyno_proxy.server.peer_user import is_abandoned
from rigs.network import blackhole
from rigs.proxy_process import ProxyProcess, proxy_process, total
from rigs.until import until

CLIENTS: Final = 100
BODY_BYTES: Final = 20_000_000  # more than all the kernel's buffers on its way take
PIECE: Final = b"x" * 65_536
# A quiet machine takes some 0.3 s for all of them. This one may run other tests.
LEFT_LIMIT_S: Final = 10.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell of such a socket")


@asynccontextmanager
async def deaf_upstream() -> AsyncIterator[str]:
    """An endpoint that takes connections and reads nothing; yields its base URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        listening.setblocking(False)
        taken: list[socket.socket] = []

        async def take() -> None:
            while True:
                taken.append((await asyncio.get_running_loop().sock_accept(listening))[0])

        taking = asyncio.create_task(take())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        for each in taken:
            each.close()


async def upload(proxy: ProxyProcess, path: str) -> socket.socket:
    """Send as much of a long body as anybody takes; returns the connection."""
    loop = asyncio.get_running_loop()
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    connection = socket.socket()
    connection.setblocking(False)
    await loop.sock_connect(connection, (host, int(port)))
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    await loop.sock_sendall(connection, head.encode())
    with contextlib.suppress(TimeoutError):
        for _ in range(BODY_BYTES // len(PIECE)):
            async with asyncio.timeout(0.5):
                await loop.sock_sendall(connection, PIECE)
    return connection


async def leave_all(proxy: ProxyProcess, path: str, clients: int) -> None:
    """Let these clients upload, leave in the ordinary way, and wait until nothing runs and each has its row."""
    async with aiohttp.ClientSession() as session:

        async def active(count: int) -> bool:
            return await total(session, proxy.url, "dyno_active_requests") == count

        connections = await asyncio.gather(*(upload(proxy, path) for _ in range(clients)))
        await until(partial(active, clients), "all requests to run")
        for connection in connections:
            connection.close()  # its end comes behind what the kernel still has to send
        await until(partial(active, 0), "all requests to end", LEFT_LIMIT_S)
        await until(lambda: len(proxy.rows()) == clients, "a row of each")
    assert {row["outcome"] for row in proxy.rows()} == {"client_cancelled"}


@pytest.mark.parametrize("path", ["/up/v1/chat/completions", "/up/v1/files"])
async def test_the_endpoint_does_not_read(tmp_path: Path, path: str) -> None:
    """A hundred clients leave in the middle of their uploads to an endpoint that reads nothing. None stays active."""
    async with deaf_upstream() as url, proxy_process(tmp_path, {"up": url}) as proxy:
        await leave_all(proxy, path, CLIENTS)


async def test_the_proxy_connects(tmp_path: Path) -> None:
    """The attempt to connect ends too, long before its time limit."""
    with blackhole() as port:
        url = f"http://127.0.0.1:{port}/v1"
        async with proxy_process(tmp_path, {"up": url}) as proxy:
            await leave_all(proxy, "/up/v1/files", 5)


async def test_the_proxy_waits_for_a_token(tmp_path: Path) -> None:
    """So does the wait for a token's command."""
    async with deaf_upstream() as url:
        endpoints = {"up": f'{url}"\ntoken.command = "sleep 60'}
        async with proxy_process(tmp_path, endpoints) as proxy:
            await leave_all(proxy, "/up/v1/files", 5)


async def test_an_upload_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    """A client that is there, and whose endpoint pauses for a second, keeps its connection."""
    async with deaf_upstream() as url, proxy_process(tmp_path, {"up": url}) as proxy:
        connection = await upload(proxy, "/up/v1/files")
        await asyncio.sleep(1.0)
        async with aiohttp.ClientSession() as session:
            assert await total(session, proxy.url, "dyno_active_requests") == 1
        connection.close()


def test_who_has_left_is_known() -> None:
    """A socket is abandoned once its program has closed it, and not while the program only sends no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted = server.accept()[0]
        ends = accepted.getsockname(), accepted.getpeername()
        assert not is_abandoned(*ends)
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(PIECE)
        client.shutdown(socket.SHUT_WR)
        assert not is_abandoned(*ends)
        client.close()
        assert is_abandoned(*ends)
        accepted.close()
    assert not is_abandoned(("127.0.0.1", 9), ("192.0.2.1", 9))
