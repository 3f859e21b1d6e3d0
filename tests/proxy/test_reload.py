"""SIGHUP loads another configuration without losing a request. A broken configuration is refused."""

import asyncio
import signal
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from rigs.fake_upstream import fake_upstream
from rigs.proxy_process import configure, proxy_process, total

BODY: Final = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}
SHORT: Final[list[Any]] = [{"tokens": 3}, {"finish": "stop"}, {"done": True}]
SLOW: Final[list[Any]] = [{"tokens": 40, "every_s": 0.05}, {"finish": "stop"}, {"done": True}]


async def ask(session: aiohttp.ClientSession, base_url: str, **headers: str) -> int:
    async with session.post(f"{base_url}/chat/completions", json=BODY, headers=headers) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_endpoints_change(tmp_path: Path, workers: str) -> None:
    """A stream goes on with the endpoint with which it began. New requests go where the new configuration says."""
    async with (
        fake_upstream(SLOW) as old,
        fake_upstream(SHORT) as new,
        proxy_process(tmp_path, {"moved": old.url, "removed": old.url}, "--workers", workers) as proxy,
        aiohttp.ClientSession() as session,
    ):
        streams = [
            await session.post(f"{proxy.base_url(name)}/chat/completions", json=BODY) for name in ("moved", "removed")
        ]
        for stream in streams:
            await stream.content.readany()
        configure(tmp_path, {"moved": new.url, "added": new.url})
        proxy.signal(signal.SIGHUP)
        assert (await proxy.said("configuration reloaded")).endswith("endpoints: moved, added")
        for _ in range(4):
            fresh = aiohttp.ClientSession()  # a connection of its own: with two workers, to either
            async with fresh:
                assert await ask(fresh, proxy.base_url("moved")) == 200
                assert await ask(fresh, proxy.base_url("added")) == 200
                assert await ask(fresh, proxy.base_url("removed")) == 404
                async with fresh.get(f"{proxy.url}/endpoints") as response:
                    assert [each["name"] for each in (await response.json())["endpoints"]] == ["moved", "added"]
        assert (len(old.requests), len(new.requests)) == (2, 8)
        for stream in streams:
            assert (await stream.read()).endswith(b"data: [DONE]\n\n")
            stream.close()
        await asyncio.sleep(0.3)
        assert await total(session, proxy.url, "dyno_requests_started_total") == 14
        assert await total(session, proxy.url, "dyno_active_requests") == 0
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 0
        outcomes = sorted(row["outcome"] for row in proxy.rows())
        assert outcomes == ["ok"] * 10 + ["rejected"] * 4


async def test_an_unchanged_endpoint_keeps_its_connections(tmp_path: Path) -> None:
    """An unchanged endpoint keeps its pool and token. A changed one begins anew."""
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"same": upstream.url, "changed": upstream.url}) as proxy,
        aiohttp.ClientSession() as session,
    ):
        for name in ("same", "changed"):
            assert await ask(session, proxy.base_url(name)) == 200
        configure(tmp_path, {"same": upstream.url, "changed": f"{upstream.url}/"})
        proxy.signal(signal.SIGHUP)
        await proxy.said("configuration reloaded")
        for name in ("same", "changed"):
            await ask(session, proxy.base_url(name))
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 0
        reused = [(row["endpoint"], row["connection_reused"]) for row in proxy.rows()]
        assert reused == [("same", False), ("changed", False), ("same", True), ("changed", False)]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_broken_configuration_is_refused(tmp_path: Path, workers: str) -> None:
    """Whatever is wrong, in the file or elsewhere, the log has one line, and the old configuration stays in use."""
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", workers) as proxy,
        aiohttp.ClientSession() as session,
    ):
        before = len(proxy.lines)
        refused = "configuration not reloaded, the old one stays"
        for count, (endpoints, more) in enumerate(
            (
                ({"e": upstream.url}, "drain = 3"),
                ({"e": "nowhere"}, ""),
                ({}, ""),
                ({"e": upstream.url}, 'keys_file = "nowhere"'),
                ({"e": f'{upstream.url}"\ntoken.env = "DYNO_NO_TOKEN'}, ""),
            ),
            1,
        ):
            configure(tmp_path, endpoints, more)
            proxy.signal(signal.SIGHUP)
            await proxy.said(refused, count)
            assert await ask(session, proxy.base_url("e")) == 200
        assert len([line for line in proxy.lines[before:] if refused in line]) == 5
        assert "DYNO_NO_TOKEN is not set" in proxy.lines[-1]
        configure(tmp_path, {"f": upstream.url})
        proxy.signal(signal.SIGHUP)
        await proxy.said("configuration reloaded")
        assert await ask(session, proxy.base_url("f")) == 200
        assert not [line for line in proxy.lines if "Traceback" in line]


async def test_client_keys_are_read_again(tmp_path: Path) -> None:
    """The keys are read again even if only their file changed: a removed key isn't accepted any more."""
    keys = tmp_path / "keys"
    keys.write_text("first\n", encoding="utf-8")
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--keys-file", str(keys)) as proxy,
        aiohttp.ClientSession() as session,
    ):
        assert await ask(session, proxy.base_url("e"), Authorization="Bearer first") == 200
        keys.write_text("second\n", encoding="utf-8")
        proxy.signal(signal.SIGHUP)
        await proxy.said("configuration reloaded")
        assert await ask(session, proxy.base_url("e"), Authorization="Bearer first") == 401
        assert await ask(session, proxy.base_url("e"), Authorization="Bearer second") == 200
        assert not [line for line in proxy.lines if "first" in line or "second" in line]


async def test_limits_change(tmp_path: Path) -> None:
    """The next request uses the new limits."""
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}) as proxy,
        aiohttp.ClientSession() as session,
    ):
        assert await ask(session, proxy.base_url("e")) == 200
        configure(tmp_path, {"e": upstream.url}, "max_body_bytes = 10")
        proxy.signal(signal.SIGHUP)
        await proxy.said("configuration reloaded")
        assert await ask(session, proxy.base_url("e")) == 413


async def test_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    """The sockets and the folder stay as they are, and a line says so. The rest of the new configuration is in use."""
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}) as proxy,
        aiohttp.ClientSession() as session,
    ):
        configure(tmp_path, {"f": upstream.url}, 'spans = "elsewhere"\nworkers = 3')
        proxy.signal(signal.SIGHUP)
        line = await proxy.said("need a restart")
        assert line.endswith("proxy.spans, proxy.workers")
        await proxy.said("configuration reloaded")
        assert await ask(session, proxy.base_url("f")) == 200
        assert not (tmp_path / "elsewhere").exists()


async def test_an_open_port_keeps_its_keys(tmp_path: Path) -> None:
    """A configuration for loopback has no keys. It must not open the old listener, which other machines still reach."""
    keys = tmp_path / "keys"
    keys.write_text("a-key\n", encoding="utf-8")
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, proxy=f'keys_file = "{keys}"\nlisten = "0.0.0.0:0"') as proxy,
        aiohttp.ClientSession() as session,
    ):
        proxy.url = f"http://127.0.0.1:{proxy.url.rpartition(':')[2]}"
        configure(tmp_path, {"e": upstream.url}, 'listen = "127.0.0.1:0"')
        proxy.signal(signal.SIGHUP)
        await proxy.said("configuration not reloaded")
        assert await ask(session, proxy.base_url("e")) == 401


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_no_request_is_lost(tmp_path: Path, workers: str) -> None:
    """While configurations change under traffic, every answer is whole, and every request has its outcome."""
    answered = 0

    async def keep_asking(session: aiohttp.ClientSession, base_url: str, until: asyncio.Event) -> None:
        nonlocal answered
        while not until.is_set():
            assert await ask(session, base_url) == 200
            answered += 1

    async with (
        fake_upstream(SHORT) as one,
        fake_upstream(SHORT) as other,
        proxy_process(tmp_path, {"e": one.url}, "--workers", workers) as proxy,
        aiohttp.ClientSession() as session,
    ):
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(keep_asking(session, proxy.base_url("e"), enough))
            for number in range(1, 11):
                configure(tmp_path, {"e": (one, other)[number % 2].url, f"extra-{number}": one.url})
                proxy.signal(signal.SIGHUP)
                await proxy.said("configuration reloaded", number)
            enough.set()
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 0
        assert len(one.requests) + len(other.requests) == answered > 10
        assert min(len(one.requests), len(other.requests)) > 0
        assert [row["outcome"] for row in proxy.rows()] == ["ok"] * answered
