"""How `dyno proxy` ends: running requests may finish, a second signal cuts them off, and each request has its span."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from dyno_proxy.arguments import duration_s
from dyno_proxy.commands.proxy import main
from rigs.fake_upstream import fake_upstream
from rigs.proxy_process import ProxyProcess, proxy_process, total
from rigs.until import until

BODY: Final = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}
ENDLESS: Final[list[Any]] = [{"tokens": 6000, "every_s": 0.05}, {"finish": "stop"}, {"done": True}]


@asynccontextmanager
async def streaming(folder: Path, *flags: str) -> AsyncIterator[tuple[ProxyProcess, aiohttp.ClientResponse]]:
    """A proxy in the middle of an endless stream."""
    async with (
        fake_upstream(ENDLESS) as upstream,
        proxy_process(folder, {"e": upstream.url}, *flags) as proxy,
        aiohttp.ClientSession() as session,
        session.post(f"{proxy.base_url('e')}/chat/completions", json=BODY) as response,
    ):
        await response.content.readany()
        yield proxy, response


async def drains(proxy: ProxyProcess) -> None:
    """Wait until the proxy has got the signal: it doesn't listen any more.

    A second signal too soon would count as the first.
    """
    host, port = proxy.url.removeprefix("http://").split(":")

    def refused() -> bool:
        with contextlib.closing(socket.socket()) as asking:
            return asking.connect_ex((host, int(port))) != 0

    await until(refused, "the proxy to listen no more")


async def is_busy(proxy: ProxyProcess) -> bool:
    async with aiohttp.ClientSession() as session:
        return await total(session, proxy.url, "dyno_active_requests") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_drain_ends(tmp_path: Path, workers: str) -> None:
    """After the limit, running requests are cut off: the client sees a broken body, the span says why, the exit code is
    1."""
    async with streaming(tmp_path, "--drain", "0.3s", "--workers", workers) as (proxy, response):
        began_s = time.monotonic()
        proxy.signal(signal.SIGTERM)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
        assert time.monotonic() - began_s >= 0.3
        assert await proxy.exit_code() == 1
        (row,) = proxy.rows()
        assert (row["outcome"], row["error_type"]) == ("truncated", "proxy_shutdown")
        assert row["chunk_count"] > 0
        await proxy.said("running requests that are cut off: 1")


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals, workers: str) -> None:
    """The proxy doesn't wait for running requests, but their spans are on disk."""
    async with streaming(tmp_path, "--drain", "10m", "--workers", workers) as (proxy, response):
        proxy.signal(number)
        await drains(proxy)
        assert proxy.process.returncode is None
        await response.content.readany()  # it drains: the stream goes on
        began_s = time.monotonic()
        proxy.signal(number)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
        assert await proxy.exit_code() == 1
        assert time.monotonic() - began_s < 60.0
        (row,) = proxy.rows()
        assert (row["outcome"], row["error_type"]) == ("truncated", "proxy_shutdown")


@pytest.mark.parametrize(
    ("more", "body"),
    [
        pytest.param("", b"{", id="body"),
        pytest.param('"\ntoken.command = "sleep 60', b'{"model": "m"}', id="token"),
    ],
)
async def test_a_request_without_an_upstream_is_cut_off_too(tmp_path: Path, more: str, body: bytes) -> None:
    """A request that waits for its body or for a token ends at the second signal too, and doesn't count as
    cancelled."""
    async with fake_upstream(ENDLESS) as upstream, proxy_process(tmp_path, {"e": upstream.url + more}) as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        with contextlib.closing(writer):
            writer.write(
                b"POST /e/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n" + body
            )
            await until(partial(is_busy, proxy), "the request to be under way")
            proxy.signal(signal.SIGTERM)
            await drains(proxy)
            proxy.signal(signal.SIGTERM)
            assert await proxy.exit_code() == 1
        (row,) = proxy.rows()
        assert (row["outcome"], row["error_type"]) == ("truncated", "proxy_shutdown")


async def test_who_asks_meanwhile(tmp_path: Path) -> None:
    """While the proxy drains, clients can't connect.

    The listener for metrics says not ready, and has the last figures.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = f"127.0.0.1:{free.getsockname()[1]}"
    async with (
        streaming(tmp_path, "--metrics-listen", own, "--drain", "1m") as (proxy, _response),
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"http://{own}/readyz") as ready:
            assert ready.status == 200
        proxy.signal(signal.SIGTERM)
        await drains(proxy)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{proxy.url}/readyz")
        async with session.get(f"http://{own}/readyz") as ready:
            assert ready.status == 503
        async with session.get(f"http://{own}/healthz") as healthy:
            assert healthy.status == 200
        async with session.get(f"http://{own}/metrics") as metrics:
            assert 'dyno_active_requests{endpoint="e"} 1.0' in await metrics.text()
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 1


async def test_without_requests_the_end_is_at_once(tmp_path: Path) -> None:
    """Idle connections don't delay the end, and the exit code is 0."""
    async with (
        fake_upstream(ENDLESS[1:]) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}) as proxy,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(f"{proxy.base_url('e')}/chat/completions", json=BODY) as response:
            await response.read()
        began_s = time.monotonic()
        proxy.signal(signal.SIGINT)
        assert await proxy.exit_code() == 0
        assert time.monotonic() - began_s < 20.0  # of the 30 s that running requests would have


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30.0), ("30s", 30.0), ("0", 0.0), ("2m", 120.0), ("1.5m", 90.0), ("1h", 3600.0)]
)
def test_times(text: str, seconds: float) -> None:
    """`--drain` accepts these values."""
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1d", "2 m", "inf", "nan", "1e3"])
def test_no_times(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Any other value is wrong use: one line and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main([f"--drain={text}"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "such as 30s, 2m or 1h" in line
