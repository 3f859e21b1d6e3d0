"""started = outcomes = rows, also after `kill -9` of a worker or of the only process."""

import asyncio
import os
import random
import re
import signal
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from rigs.fake_upstream import fake_upstream
from rigs.proxy_process import ProxyProcess, proxy_process
from rigs.until import LIMIT_S, until

BODY: Final = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}
SHORT: Final[list[Any]] = [{"tokens": 3, "every_s": 0.005}, {"finish": "stop"}, {"done": True}]
ENDLESS: Final[list[Any]] = [{"tokens": 100, "every_s": 0.1}, {"stall": True}]
OPEN: Final = 12
KILLS: Final = 4

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")


async def ask(session: aiohttp.ClientSession, proxy: ProxyProcess) -> bool:
    """One request on a connection of its own. Whether it was answered."""
    try:
        url, headers = f"{proxy.base_url('e')}/chat/completions", {"Connection": "close"}
        async with session.post(url, json=BODY, headers=headers) as response:
            return (await response.read()).endswith(b"[DONE]\n\n")
    except aiohttp.ClientError:
        return False


async def figures(session: aiohttp.ClientSession, proxy: ProxyProcess) -> Counter[str]:
    """Requests by outcome; and `started`, `active`, `written`, `dropped`, `killed`."""
    async with session.get(f"{proxy.url}/metrics") as response:
        lines = re.findall(r"^(dyno_\w+?)(?:\{(.*)\})? (\S+)$", await response.text(), re.MULTILINE)
    found = Counter[str]()
    short = {"requests_started_total": "started", "active_requests": "active", "spans_written_total": "written"}
    for name, labels, value in lines:
        outcome, reason = (re.search(rf'{label}="(\w+)"', labels) for label in ("outcome", "reason"))
        if name == "dyno_requests_total" and outcome is not None:
            found[outcome[1]] += int(float(value))
        elif name == "dyno_spans_dropped_total" and reason is not None:
            found["killed" if reason[1] == "killed" else "dropped"] += int(float(value))
        elif name.removeprefix("dyno_") in short:
            found[short[name.removeprefix("dyno_")]] += int(float(value))
    return found


@pytest.mark.parametrize("later_s", [0.0, 0.7])
async def test_the_only_process_is_killed(tmp_path: Path, later_s: float) -> None:
    """What it had open is counted at the next start as begun and lost, with a row each that has the request's ids."""
    async with fake_upstream(ENDLESS) as upstream, aiohttp.ClientSession() as session:
        async with proxy_process(tmp_path, {"e": upstream.url}) as proxy:
            asking = [asyncio.create_task(ask(session, proxy)) for _ in range(OPEN)]
            for _ in range(OPEN):
                await asyncio.wait_for(upstream.arrived.get(), LIMIT_S)
            await asyncio.sleep(later_s)
            proxy.signal(signal.SIGKILL)
            await proxy.exit_code()
            await asyncio.gather(*asking)
            assert proxy.rows() == []
        async with proxy_process(tmp_path, {"e": upstream.url}) as proxy:
            await until(lambda: len(proxy.rows()) == OPEN, "a row of each")
            found = await figures(session, proxy)
            assert (found["started"], found["lost"], found["active"]) == (OPEN, OPEN, 0)
            assert (found["dropped"], found["killed"]) == (0, 0)
            assert "'lost': 12" in await proxy.said("was killed")
            proxy.signal(signal.SIGTERM)
            assert await proxy.exit_code() == 0
        async with proxy_process(tmp_path, {"e": upstream.url}) as proxy:
            assert (await figures(session, proxy))["started"] == 0  # counted once
    rows = proxy.rows()
    assert {(row["outcome"], row["error_type"], row["endpoint"]) for row in rows} == {("lost", "proxy_died", "e")}
    if later_s:
        assert {row["operation"] for row in rows} == {"chat"}
        assert min(row["duration_us"] for row in rows) >= (later_s - 0.5) * 1e6
    assert not list((tmp_path / "spans").glob(".open-*"))


async def test_a_worker_is_killed_while_idle(tmp_path: Path) -> None:
    """A worker that had nothing open loses nothing: the exit code is 0 at the end."""
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy,
        aiohttp.ClientSession() as session,
    ):
        assert all(await asyncio.gather(*(ask(session, proxy) for _ in range(10))))
        await until(partial(written, session, proxy, 10), "all spans to be written")
        os.kill(proxy.workers()[0], signal.SIGKILL)
        await proxy.said("it is started again")
        await until(lambda: len(proxy.writers() | set(proxy.workers())) >= 2, "another worker")
        found = await figures(session, proxy)
        assert (found["started"], found["ok"], found["lost"], found["killed"]) == (10, 10, 0, 0)
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 0


async def test_workers_are_killed_under_load(tmp_path: Path) -> None:
    """Whenever a worker is killed: started = the sum of outcomes, and each has a row or is counted as dropped. The
    exit code says that something was lost."""
    draw = random.Random(15)  # noqa: S311 - the same moments in every run
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy,
        aiohttp.ClientSession() as session,
    ):
        stop = asyncio.Event()
        answered = 0

        async def keep_asking() -> None:
            nonlocal answered
            while not stop.is_set():
                answered += await ask(session, proxy)

        async with asyncio.TaskGroup() as asking:
            for _ in range(OPEN):
                asking.create_task(keep_asking())
            for kill in range(1, KILLS + 1):
                await asyncio.sleep(draw.uniform(0.2, 0.8))
                await until(lambda: len(proxy.workers()) == 2, "two workers")
                os.kill(draw.choice(proxy.workers()), signal.SIGKILL)
                await until(partial(seen_by_parent, proxy, kill), "the parent to see it")  # it may have been starting
            stop.set()
        await until(partial(at_rest, session, proxy), "everything to be written")
        found = await figures(session, proxy)
        outcomes = found["ok"] + found["lost"] + found["client_cancelled"] + found["truncated"]
        assert found["started"] == outcomes >= answered
        assert found["ok"] >= answered
        rows = Counter(row["outcome"] for row in proxy.rows())
        assert rows.total() + found["killed"] + found["dropped"] == found["started"]
        assert rows["lost"] == found["lost"] > 0
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 1


async def test_lost_spans_are_an_exit_code(tmp_path: Path) -> None:
    """If spans couldn't be written, the log says how many, and the exit code is 1, with and without workers."""
    for flags in ((), ("--workers", "2")):
        folder = tmp_path / f"{len(flags)}"
        folder.mkdir()
        async with (
            fake_upstream(SHORT) as upstream,
            proxy_process(folder, {"e": upstream.url}, *flags) as proxy,
            aiohttp.ClientSession() as session,
        ):
            (folder / "spans").rename(folder / "away")
            (folder / "spans").touch()
            assert await ask(session, proxy)
            await proxy.said("can't be written")
            proxy.signal(signal.SIGTERM)
            assert await proxy.exit_code() == 1
            assert "since the start: 1;" in await proxy.said("spans that were lost")


def seen_by_parent(proxy: ProxyProcess, kills: int) -> bool:
    return sum("ended by SIGKILL" in line for line in proxy.lines) >= kills


async def written(session: aiohttp.ClientSession, proxy: ProxyProcess, count: int) -> bool:
    return (await figures(session, proxy))["written"] == count


async def at_rest(session: aiohttp.ClientSession, proxy: ProxyProcess) -> bool:
    """Whether nothing runs and nothing waits to be written, by the figures of all workers."""
    found = await figures(session, proxy)
    return not found["active"] and found["written"] + found["dropped"] + found["killed"] == found["started"]
