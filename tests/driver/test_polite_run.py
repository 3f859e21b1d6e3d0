"""A run that is polite: signals, rate limits, refusals, limits, and endpoints and proxies that are down."""

import asyncio
import json
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from rigs.fake_proxy import FakeProxy, Script, answering, chunk, fake_proxy, saying
from rigs.terminal import CTRL_C, in_a_terminal
from rigs.until import until

DYNO = (sys.executable, "-m", "dyno")
PRICE = {"price": {"input_per_million": 0.0, "output_per_million": 1000.0}}


async def start(url: str, spans: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(*DYNO, "drive", "--proxy", url, "--spans", str(spans), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def drive(proxy: FakeProxy, spans: Path, *options: str) -> tuple[int | None, str, str]:
    process = await start(proxy.url, spans, *options)
    out, err = await asyncio.wait_for(process.communicate(), 100)
    return process.returncode, out.decode(), err.decode()


def answers(spans: Path) -> list[dict[str, object]]:
    [path] = spans.glob("runs/*/answers.parquet")
    rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return rows


def counted(spans: Path) -> list[dict[str, object]]:
    return [row for row in answers(spans) if not row["warmup"]]


def not_sent(spans: Path) -> dict[str, int]:
    [path] = spans.glob("runs/*/run.json")
    found: dict[str, int] = json.loads(path.read_text())["not_sent"]
    return found


def pairs(proxy: FakeProxy) -> Counter[tuple[str, str]]:
    """How many endpoints were asked each prompt that counts."""
    headers = [received.headers["baggage"] for received in proxy.received]
    members = [dict(member.split("=", 1) for member in header.split(",")) for header in headers]
    return Counter((each["dyno.prompt.id"], each["dyno.repeat"]) for each in members if each["dyno.warmup"] == "false")


class Gate:
    """Answers so many requests at once; the further ones when it is opened."""

    def __init__(self, at_once: int) -> None:
        self.left, self.waiting, self.opened = at_once, 0, asyncio.Event()
        self._answer = answering("x")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.left -= 1
        if self.left < 0:
            self.waiting += 1
            await self.opened.wait()
        return await self._answer(request)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("load", "running"), [(["--concurrency", "3"], 3), (["--rate", "50"], 2)], ids=["closed", "open"]
)
async def test_the_first_signal_waits_for_what_runs(
    tmp_path: Path, number: signal.Signals, load: list[str], running: int
) -> None:
    """After it no request begins; those that run are answered and kept, and how many they are is said."""
    gate = Gate(6)
    async with fake_proxy({"a": gate.answer, "b": gate.answer}) as proxy:
        process = await start(proxy.url, tmp_path, *load)
        await until(lambda: gate.waiting >= running, "requests that run")
        process.send_signal(number)
        assert process.stderr is not None
        while b"stopping: waiting for " not in (line := await process.stderr.readline()):
            assert line
        said = int(line.split(b"waiting for ")[1].split()[0])
        await until(lambda: gate.waiting == said, "the last request to arrive")
        asked = len(proxy.received)
        gate.opened.set()
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert b"Traceback" not in err
    assert len(proxy.received) == asked
    assert b"Stopped by a signal, after " in out
    rows = answers(tmp_path)
    assert len(rows) == asked
    assert all(row["error"] is None for row in rows)


async def test_ctrl_c_in_a_terminal(tmp_path: Path) -> None:
    """`dyno compare` in a terminal: its proxy lives until the running request has ended, and all is kept."""
    gate, app = Gate(5), web.Application()
    app.router.add_post("/v1/{rest:.*}", gate.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    sections = [f'[endpoints.{name}]\nurl = "{url}"\nmodel = "m"\n' for name in "ab"]
    (tmp_path / "dyno.toml").write_text("".join(sections))

    def person() -> str:
        with in_a_terminal(tmp_path, "compare", environment={"COLUMNS": "200"}) as terminal:
            deadline_s = time.monotonic() + 60
            while not gate.waiting and time.monotonic() < deadline_s:
                terminal.reads()
            terminal.types(CTRL_C)
            terminal.shows(b"waiting for 1 request under way")
            loop.call_soon_threadsafe(gate.opened.set)
            assert terminal.ends()[0] == 1
            return terminal.seen.decode()

    loop = asyncio.get_running_loop()
    seen = await asyncio.to_thread(person)
    await runner.cleanup()
    assert "Stopped by a signal, after 6 of 22 requests" in seen
    assert "Traceback" not in seen
    rows = counted(tmp_path / "spans")
    assert len(rows) == 4
    assert all(row["error"] is None for row in rows)


async def test_a_rate_limit_is_obeyed(tmp_path: Path) -> None:
    """A closed loop waits for the token bucket; an open loop's due times stay, and the lag is said."""
    times: dict[str, list[float]] = {"a": [], "b": []}

    def timed(name: str) -> Script:
        answer = answering("x")

        async def script(request: web.Request) -> web.StreamResponse:
            times[name].append(time.monotonic())
            return await answer(request)

        return script

    limited = {"b": {"rate_limit": {"per_s": 20.0, "burst": 2}}}
    async with fake_proxy({"a": timed("a"), "b": timed("b")}, limited) as proxy:
        code, out, err = await drive(proxy, tmp_path / "1", "--concurrency", "4", "--interleave", "parallel")
        assert code == 0, err
        assert re.search(r"b: its rate_limit of 20 a second held \d+ requests back, at most [\d.]+ s\.", out)
        took_s = times["b"][-1] - times["b"][0]
        assert len(times["b"]) <= 2 + took_s * 20 + 2
        times["a"].clear()
        code, out, err = await drive(
            proxy, tmp_path / "2", "--rate", "60", "--endpoints", "b", "--arrivals", "constant"
        )
    assert code == 0
    assert "--rate 60 is above the rate_limit of b, 20 a second" in err
    latest = re.search(r"the latest (\d+) ms", out)
    assert latest is not None
    assert int(latest.group(1)) > 100


async def test_429_is_obeyed_and_counted(tmp_path: Path) -> None:
    """Nothing is sent there for as long as it asks; the refused request counts as failed and isn't sent again."""
    answer, seen = answering("x"), list[float]()

    async def script(request: web.Request) -> web.StreamResponse:
        seen.append(time.monotonic())
        if len(seen) == 4:
            return web.json_response({"error": "slow down"}, status=429, headers={"Retry-After": "2"})
        return await answer(request)

    async with fake_proxy({"a": answering("x"), "b": script}) as proxy:
        code, out, err = await drive(proxy, tmp_path, "-n", "6")
        assert set(pairs(proxy).values()) == {2}
    assert code == 1
    assert seen[4] - seen[3] >= 1.99
    assert "b asks to wait 2 s (HTTP 429): nothing is sent there meanwhile" in err
    assert "b: 1 answer said too many requests (429), and count as failed; nothing was sent there for 2.0 s" in out
    assert len(counted(tmp_path)) == 12
    assert sum(row["error"] is not None for row in counted(tmp_path)) == 1


async def test_a_wait_beyond_patience_ends_the_run(tmp_path: Path) -> None:
    """An endpoint that asks for an hour ends it with exit code 1, and a line that says so."""
    async with fake_proxy({"a": answering("x"), "b": refusing("3600")}) as proxy:
        code, out, _ = await drive(proxy, tmp_path, "--patience", "10s")
        assert len(proxy.received) <= 2
    assert code == 1
    assert "Stopped by endpoint 'b', which asks to wait 3600 s (HTTP 429): that is beyond --patience 10 s" in out


def refusing(retry_after: str) -> Script:
    async def script(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "no"}, status=429, headers={"Retry-After": retry_after})

    return script


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (["--max-requests", "7"], {6}),
        # The one that no pair fits into may be a warm-up's, which holds the load up.
        (["--max-requests", "9", "--concurrency", "2", "--interleave", "parallel"], {8, 9}),
        (["--max-cost", "2.5", "--max-tokens", "500"], {4}),
    ],
)
async def test_limits(tmp_path: Path, options: list[str], sent: set[int]) -> None:
    """A limit ends the run between pairs with exit code 0; what it left is sent by --resume."""
    async with fake_proxy({"a": answering("x"), "b": answering("x")}, {"a": PRICE, "b": PRICE}) as proxy:
        code, out, err = await drive(proxy, tmp_path, *options)
        assert code == 0, err
        assert f"Ended by {' '.join(options[:2])}, after " in out
        assert len(proxy.received) in sent
        assert set(pairs(proxy).values()) <= {2}
        code, out, err = await drive(proxy, tmp_path, "--resume", "latest", "--max-requests", "99", "--max-cost", "99")
        assert code == 0, err
        assert pairs(proxy) == Counter(dict.fromkeys(pairs(proxy), 2))
        assert len(pairs(proxy)) == 10


async def test_a_budget_of_time(tmp_path: Path) -> None:
    """No pair begins after it, and none is half."""

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return await answering("x")(request)

    async with fake_proxy({"a": slow, "b": slow}) as proxy:
        code, out, _ = await drive(proxy, tmp_path, "--budget", "6s", "--repeat", "9")
        assert code == 0
        assert "Ended by --budget 6 s, after " in out
        assert set(pairs(proxy).values()) == {2}
        assert len(proxy.received) <= 14


async def test_costs_are_what_answers_cost(tmp_path: Path) -> None:
    """Where the server counts tokens, they replace the estimate: more fits than by estimates alone."""

    async def script(request: web.Request) -> web.StreamResponse:
        usage = {"prompt_tokens": 5, "completion_tokens": 50}
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in (chunk({"content": "x"}), chunk({}, "stop"), chunk(usage=usage), b"data: [DONE]\n\n"):
            await response.write(part)
        return response

    async with fake_proxy({"a": script, "b": script}, {"a": PRICE, "b": PRICE}) as proxy:
        code, _, err = await drive(proxy, tmp_path, "--max-cost", "1.5", "--max-tokens", "500", "--warmup", "0")
        assert code == 0, err
        assert len(proxy.received) == 12  # a pair costs 0.1, and one more fits by estimate while 0.5 or less is spent


async def test_an_endpoint_that_comes_back(tmp_path: Path) -> None:
    """After three failures in a row nothing that counts is sent there until a probe is answered; no pair is torn."""
    answer, asked = answering("x"), 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await (saying(502, {"error": "down"}) if 3 <= asked <= 7 else answer)(request)

    async with fake_proxy({"a": answering("x"), "b": script}) as proxy:
        code, out, err = await drive(proxy, tmp_path)
        assert set(pairs(proxy).values()) == {2}
    assert code == 1
    assert "b failed 3 times in a row (HTTP 502: down): the run waits for it, at most 300 s (--patience)" in err
    assert re.search(r"b answers after [\d.]+ s: the run goes on", err)
    assert "b: 3 of 10 requests failed" in out


async def test_an_endpoint_that_stays_down(tmp_path: Path) -> None:
    """It ends the run after --patience with exit code 1. In an open loop, what was due is counted as not sent."""
    answer, asked = answering("x"), 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await (saying(503, {"error": "down"}) if asked > 4 else answer)(request)

    async with fake_proxy({"a": answering("x"), "b": script}) as proxy:
        code, out, _ = await drive(
            proxy, tmp_path, "--rate", "8", "--patience", "1s", "--arrivals", "constant", "--repeat", "3"
        )
    assert code == 1
    assert "endpoint 'b', which isn't back within --patience 1 s: HTTP 503: down" in out
    assert re.search(r"b: \d requests? not sent, since they were due during a pause; --resume sends them", out)
    assert not_sent(tmp_path)["b"] >= 1


async def test_a_cold_model_is_waited_for(tmp_path: Path) -> None:
    """Its 503 before the run is waited for, with progress, within --preflight; beyond that the run ends."""
    answer, asked = answering("x"), 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await (saying(503, {"error": "loading"}) if asked < limit else answer)(request)

    limit = 4
    async with fake_proxy({"a": answering("x"), "b": script}) as proxy:
        code, _, err = await drive(proxy, tmp_path / "1", "-n", "2")
        assert code == 0, err
        assert "b may be loading its model (HTTP 503: loading): the run waits for it, at most 60 s (--preflight)" in err
        assert "b isn't ready after" in err
        limit = 999
        code, out, _ = await drive(proxy, tmp_path / "2", "-n", "2", "--preflight", "1")
    assert code == 1
    assert "isn't back within --preflight 1 s: HTTP 503: loading" in out


async def test_a_proxy_that_comes_back(tmp_path: Path) -> None:
    """While it is gone, the run waits; the request that didn't reach it is sent, and none is lost."""
    async with fake_proxy({"a": answering("x")}) as first:
        process = await start(first.url, tmp_path, "--pause", "1", "--concurrency", "1,1")
        await until(lambda: len(first.received) >= 11, "the first block")
    assert process.stderr is not None
    while b"the run waits for it, at most 300 s" not in (line := await process.stderr.readline()):
        assert line
    port = int(first.url.rpartition(":")[2])
    async with fake_proxy({"a": answering("x")}, port=port):
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (out, err)
    assert b"the proxy answers after" in err
    assert len(counted(tmp_path)) == 20


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-cost", "1"], "endpoint 'b' has no price; set 'price' in [endpoints.b] of dyno.toml"),
        (["--max-cost", "1", "--max-tokens", "none", "--endpoints", "a"], "--max-cost needs --max-tokens"),
        (["--max-cost", "0"], "'0' must be an amount above 0"),
        (["--max-requests", "0"], "'0' must be a whole number, 1 or more"),
        (["--budget", "soon"], "'soon' must be a time above 0, such as 90s, 30m or 1h30m"),
        (["--patience", "0"], "'0' must be a time above 0"),
        (["--rate", "0"], "'0' must be a number of requests a second above 0"),
        (["--concurrency", "9"], "that makes 9 requests at once, and the proxy takes 8"),
        (["--concurrency", "5", "--interleave", "parallel"], "that makes 10 requests at once, and the proxy takes 8"),
        (["--workload", "offline", "-n", "9"], "that makes 9 requests at once, and the proxy takes 8"),
        (["--resume", ""], "--resume : no such run"),
    ],
)
async def test_wrong_limits(tmp_path: Path, options: list[str], says: str) -> None:
    """Each is one line, exit code 2, and nothing is sent or written."""
    scripts = {"a": answering("x"), "b": answering("x")}
    async with fake_proxy(scripts, {"a": PRICE}, max_requests=8) as proxy:
        code, out, err = await drive(proxy, tmp_path, *options)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert says in err
        assert proxy.received == []
    assert not (tmp_path / "runs").exists()
