"""`--workers N` gives one port and one set of figures, and a worker's death affects the others only for a moment."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from dyno_proxy.config.schema import ConfigError
from dyno_proxy.process.sockets import bind, url_of
from rigs.fake_upstream import fake_upstream
from rigs.proxy_process import ProxyProcess, configure, proxy_process, total
from rigs.until import LIMIT_S, until

BODY: Final = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}
SHORT: Final[list[Any]] = [{"tokens": 3}, {"finish": "stop"}, {"done": True}]
SLOW: Final[list[Any]] = [{"tokens": 20, "every_s": 0.05}, {"finish": "stop"}, {"done": True}]
STARTED: Final = "dyno_requests_started_total"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")


async def ask(proxy: ProxyProcess) -> int:
    """Each request has its own connection, so the kernel chooses the worker."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{proxy.base_url('e')}/chat/completions", json=BODY) as response,
    ):
        assert (await response.read()).endswith(b"data: [DONE]\n\n")
        return response.status


async def test_the_sum_of_all(tmp_path: Path) -> None:
    """Whichever worker answers, `/metrics` counts the requests of both, in counters, gauges and histograms."""
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy,
    ):
        assert await asyncio.gather(*(ask(proxy) for _ in range(40))) == [200] * 40
        async with aiohttp.ClientSession() as session:
            await until(partial(all_written, session, proxy, 40), "40 spans written, as each worker says within 0.1 s")
        for _ in range(6):
            async with aiohttp.ClientSession() as session:
                assert await total(session, proxy.url, STARTED) == 40
                assert await total(session, proxy.url, "dyno_requests_total") == 40
                assert await total(session, proxy.url, "dyno_active_requests") == 0
                assert await total(session, proxy.url, "dyno_build_info") == 1
                assert await total(session, proxy.url, "dyno_spans_written_total") == 40
                genai = "gen_ai_client_operation_"
                assert await total(session, proxy.url, f"{genai}duration_seconds_count") == 40
                assert await total(session, proxy.url, f"{genai}time_per_output_chunk_seconds_count") == 80
                assert await total(session, proxy.url, "dyno_ttft_seconds_count") == 40
        assert len(proxy.writers()) == 2  # the kernel spreads 40 connections; that one gets none has p = 2**-39
        assert proxy.writers() == set(proxy.workers())


async def test_one_is_killed(tmp_path: Path) -> None:
    """If a worker dies under traffic, the other serves on.

    A new one comes within seconds, no counter falls, and both serve.
    """
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy,
        aiohttp.ClientSession() as session,
    ):
        stop = asyncio.Event()
        answered = failed = 0

        async def keep_asking() -> None:
            nonlocal answered, failed
            while not stop.is_set():
                try:
                    assert await ask(proxy) == 200
                    answered += 1
                except aiohttp.ClientError:  # it was the dead one's
                    failed += 1

        seen: list[float] = []

        async def keep_looking() -> None:
            while not stop.is_set():
                try:
                    seen.append(await total(session, proxy.url, STARTED))
                except aiohttp.ClientError:
                    failed_looks.append(time.monotonic())
                await asyncio.sleep(0.05)

        failed_looks: list[float] = []
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(keep_asking())
            tasks.create_task(keep_looking())
            await asyncio.sleep(0.5)
            for round_ in range(2):
                victim = sorted(proxy.workers())[round_]
                at_kill = seen[-1]
                os.kill(victim, signal.SIGKILL)
                await proxy.said("it is started again", round_ + 1)
                await until(partial(two_without, proxy, victim), "another worker in the dead one's place")
                await until(lambda: set(proxy.workers()) <= proxy.writers(), "the new worker to serve")
                await until(partial(rises_above, seen, at_kill), "the counter to rise")
            stop.set()
        assert failed <= 2 * 4  # at most what each asker had under way at a kill
        assert len(failed_looks) <= 2
        assert seen == sorted(seen)
        # Also what a worker counted in its last tenth of a second, which it had published nowhere.
        await until(partial(counted_all, session, proxy, answered), "the figures to hold every answer")
        assert await total(session, proxy.url, STARTED) <= answered + failed
        await until(partial(balanced, session, proxy), "each request to have its outcome")
        lost = await total(session, proxy.url, "dyno_spans_dropped_total")
        lost += sum(row["outcome"] == "lost" for row in proxy.rows())
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == (1 if lost else 0)


async def test_the_dead_ones_queue_is_served(tmp_path: Path) -> None:
    """If a worker is killed, the connections that it has not accepted yet are still answered."""
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy,
    ):
        stopped = proxy.workers()[0]
        os.kill(stopped, signal.SIGSTOP)  # so it accepts nothing
        asking = [asyncio.create_task(ask(proxy)) for _ in range(40)]
        _, waiting = await asyncio.wait(asking, timeout=1.0)
        assert waiting  # half of them, more or less
        os.kill(stopped, signal.SIGKILL)
        assert await asyncio.gather(*asking) == [200] * 40


async def test_all_drain(tmp_path: Path) -> None:
    """After SIGTERM, streams of every worker go on to their end, every span is on disk, and the figures' folder is
    gone."""
    async with (
        fake_upstream(SLOW) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "3") as proxy,
    ):
        asking = [asyncio.create_task(ask(proxy)) for _ in range(12)]
        for _ in range(12):
            await asyncio.wait_for(upstream.arrived.get(), LIMIT_S)
        workers = proxy.workers()
        assert len(workers) == 3
        figures = figures_of(workers[0])
        assert figures.exists()
        for worker in workers:  # as a service manager does that signals the whole group
            os.kill(worker, signal.SIGTERM)
        proxy.signal(signal.SIGTERM)
        assert await asyncio.gather(*asking) == [200] * 12
        assert await proxy.exit_code() == 0
        assert [row["outcome"] for row in proxy.rows()] == ["ok"] * 12
    assert not [line for line in proxy.lines if "Traceback" in line]
    assert not figures.exists()


async def test_a_worker_that_is_told_to_end_is_replaced(tmp_path: Path) -> None:
    """After SIGTERM to one worker, it drains, and another takes its place."""
    async with (
        fake_upstream(SLOW) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy,
    ):
        asking = [asyncio.create_task(ask(proxy)) for _ in range(8)]
        for _ in range(8):
            await asyncio.wait_for(upstream.arrived.get(), LIMIT_S)
        before = proxy.workers()
        os.kill(before[0], signal.SIGTERM)
        assert await asyncio.gather(*asking) == [200] * 8
        await proxy.said("ended with exit code 0; it is started again")
        assert await ask(proxy) == 200


async def test_the_parent_is_killed(tmp_path: Path) -> None:
    """If the parent is killed, its workers don't stay behind: they drain and end."""
    async with (
        fake_upstream(SLOW) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy,
    ):
        asking = asyncio.create_task(ask(proxy))
        await asyncio.wait_for(upstream.arrived.get(), LIMIT_S)
        workers = proxy.workers()
        proxy.signal(signal.SIGKILL)
        assert await asking == 200
        await until(lambda: not any(map(alive, workers)), "the workers to end")
    assert [row["outcome"] for row in proxy.rows()] == ["ok"]


async def test_a_worker_that_cannot_be_started_again(tmp_path: Path) -> None:
    """If a worker can't start (here its spans folder is gone), the log says why, and the other serves.

    It starts once it can.
    """
    async with (
        fake_upstream(SHORT) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy,
    ):
        await ask(proxy)
        async with aiohttp.ClientSession() as session:
            await until(partial(all_written, session, proxy, 1), "its span to be written")
        (tmp_path / "spans").rename(tmp_path / "away")
        (tmp_path / "spans").touch()
        os.kill(proxy.workers()[0], signal.SIGKILL)
        line = await proxy.said("can't be started", 2)
        assert "spans folder 'spans' can't be written: is a file" in line
        assert await asyncio.gather(*(ask(proxy) for _ in range(10))) == [200] * 10
        (tmp_path / "spans").unlink()
        (tmp_path / "away").rename(tmp_path / "spans")
        await until(lambda: len(proxy.workers()) == 2, "a second worker")
        proxy.signal(signal.SIGTERM)
        # A batch that was due while the folder was gone is lost, which is 1.
        assert await proxy.exit_code() in (0, 1)


def test_what_cannot_be_served_is_said_once(tmp_path: Path) -> None:
    """A fault that only a worker finds also gives one line and exit code 2, and no process is left."""
    configure(tmp_path, {"e": 'http://127.0.0.1:9"\ntoken.env = "DYNO_NO_TOKEN'})
    done = subprocess.run(
        [sys.executable, "-m", "dyno", "proxy", "--workers", "3"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith("DYNO_NO_TOKEN is not set or empty")


def test_a_port_that_workers_share_is_in_use_for_others() -> None:
    """With SO_REUSEPORT two proxies could share a port by mistake.

    So the second is refused, with or without workers.
    """
    first = bind("127.0.0.1:0", "proxy.listen", 2)
    address = url_of(first[0][0]).removeprefix("http://")
    assert url_of(first[1][0]) == url_of(first[0][0])
    for copies in (1, 2):
        with pytest.raises(ConfigError, match="the port is in use"):
            bind(address, "proxy.listen", copies)
    for copy in first:
        for each in copy:
            each.close()


def test_every_address_of_a_name_is_listened_on() -> None:
    """`localhost` is 127.0.0.1, and also ::1 if the machine has it."""
    (bound,) = bind("localhost:0", "proxy.listen")
    families = {each.family for each in bound}
    assert families == {info[0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    for each in bound:
        assert url_of(each).startswith(("http://127.0.0.1:", "http://[::1]:"))
        each.close()


async def all_written(session: aiohttp.ClientSession, proxy: ProxyProcess, count: int) -> bool:
    """Whether that many spans are written and no request is running: then no figure changes any more."""
    written = await total(session, proxy.url, "dyno_spans_written_total")
    return written == count and await total(session, proxy.url, "dyno_active_requests") == 0


async def balanced(session: aiohttp.ClientSession, proxy: ProxyProcess) -> bool:
    """Whether as many requests have an outcome as were started. A worker publishes both every tenth of a second."""
    started = await total(session, proxy.url, STARTED)
    return started == await total(session, proxy.url, "dyno_requests_total")


async def counted_all(session: aiohttp.ClientSession, proxy: ProxyProcess, answered: int) -> bool:
    return await total(session, proxy.url, "dyno_requests_total") >= answered


def two_without(proxy: ProxyProcess, gone: int) -> bool:
    """Whether there are two workers, not counting one that may not be reaped yet."""
    return len(set(proxy.workers()) - {gone}) == 2


def rises_above(seen: list[float], before: float) -> bool:
    return seen[-1] > before


def figures_of(worker: int) -> Path:
    """The folder of the figures that the proxy's workers share."""
    maps = Path(f"/proc/{worker}/maps").read_text(encoding="utf-8")
    return Path(re.findall(r"/\S+/dyno-figures-\w+/counter_\d.db", maps)[0]).parent


def alive(process: int) -> bool:
    """The process runs and isn't a zombie. Whoever inherits a test's orphans may not reap them."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
