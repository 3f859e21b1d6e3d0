"""What an upstream sees of a driver's load: how many are open, when each was due, and a driver that is held up."""

import asyncio
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from rigs.driven import drive, finish, start
from rigs.fake_proxy import FakeProxy, answering, fake_proxy
from rigs.until import LIMIT_S, until

SETTINGS = ("--arrivals", "constant", "--warmup", "0", "--repeat", "10")


def due_at_us(proxy: FakeProxy) -> list[int]:
    """In the order in which the requests came."""
    found = [re.search(r"dyno\.due_at_unix_us=(\d+)", received.headers["baggage"]) for received in proxy.received]
    return [int(each[1]) for each in found if each is not None]


def lags_s(proxy: FakeProxy) -> list[float]:
    found = [re.search(r"dyno\.send_lag_s=([\d.]+)", received.headers["baggage"]) for received in proxy.received]
    return [float(each[1]) for each in found if each is not None]


async def test_the_upstream_sees_each_steps_concurrency(tmp_path: Path) -> None:
    """Under each load in turn, at most so many requests are open at once as it says, and once exactly so many."""
    open_now, most = Counter[str](), Counter[str]()
    answer = answering("x")

    async def script(request: web.Request) -> web.StreamResponse:
        found = re.search(r"dyno\.load\.concurrency=(\d+)", request.headers["baggage"])
        assert found is not None
        load = found[1]
        open_now[load] += 1
        most[load] = max(most[load], sum(open_now.values()))
        await asyncio.sleep(0.02)
        open_now[load] -= 1
        return await answer(request)

    async with fake_proxy({"a": script}) as proxy:
        done = await drive(proxy, tmp_path, "-n", "20", "--concurrency", "1,3,8,20", "--warmup", "0")
    assert done.code == 0, done.err
    assert most == {"1": 1, "3": 3, "8": 8, "20": 20}


async def test_a_stall_of_one_answer_shifts_no_due_time(tmp_path: Path) -> None:
    """One answer takes 5 s. All others are due at the times of the schedule, and are sent then."""
    answer = answering("x")

    async def script(request: web.Request) -> web.StreamResponse:
        if len(proxy.received) == 20:
            await asyncio.sleep(5)
        return await answer(request)

    async with fake_proxy({"a": script}) as proxy:
        done = await drive(proxy, tmp_path, "-n", "10", "--rate", "20", *SETTINGS)
    assert done.code == 0, done.err
    due_us = due_at_us(proxy)
    assert len(due_us) > 100
    for number, at_us in enumerate(due_us):
        assert at_us - due_us[0] == pytest.approx(number * 50_000, abs=2)
    assert sorted(lags_s(proxy))[len(due_us) // 2] < 0.5
    slow = [row for row in done.rows("answers") if row["client_latency_s"] > 4]
    assert len(slow) == 1
    assert slow[0]["warmup"] is False


async def test_a_driver_that_is_held_up_says_so(tmp_path: Path) -> None:
    """Its process is stopped for a while (SIGSTOP): the run is invalid for rate, with the reason, on the screen and in
    run.json.
    """
    async with fake_proxy({"a": answering("x")}) as proxy:
        process = await start(proxy, tmp_path, "-n", "10", "--rate", "40", *SETTINGS)
        await until(lambda: len(proxy.received) > 20, "twenty requests")
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1)
        process.send_signal(signal.SIGCONT)
        done = await asyncio.wait_for(finish(process, tmp_path), LIMIT_S)
    assert done.code == 0, done.err
    [why] = done.record["driver"]["invalid_for_rate"]
    assert re.match(r"40 a second: [\d.]+ % of the requests left over 10 ms late", why)
    assert done.record["driver"]["send_lag_p99_s"] > 0.5
    assert f"Invalid for rate, since the driver was the bottleneck: {why}." in done.out


async def test_a_rate_beyond_the_driver(tmp_path: Path) -> None:
    """Nobody sends 100,000 requests a second from one process: the run says that it didn't."""
    async with fake_proxy({"a": answering("x")}) as proxy:
        done = await drive(proxy, tmp_path, "-n", "10", "--rate", "100000", *SETTINGS[:-1], "60")
    [why] = done.record["driver"]["invalid_for_rate"]
    assert why.startswith("100000 a second: ")


async def test_an_even_rate_is_valid(tmp_path: Path) -> None:
    """What the driver saw of itself is on record; in a closed loop nothing is invalid for rate."""
    async with fake_proxy({"a": answering("x")}) as proxy:
        done = await drive(proxy, tmp_path, "-n", "10", "--concurrency", "3", "--warmup", "0")
    driver = done.record["driver"]
    assert driver["invalid_for_rate"] == []
    assert driver["send_lag_p50_s"] is None
    assert driver["cpu_share"] > 0
    assert "Invalid" not in done.out
