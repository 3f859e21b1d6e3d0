"""What `dyno proxy` tells its operator: endpoints at the start, a line a request, endpoints that go and come back."""

import io
import re
from pathlib import Path

import aiohttp
import msgspec
import pytest

from dyno_proxy.telemetry.endpoint_watch import EndpointWatch
from dyno_proxy.telemetry.request_log import RequestLog, request_line
from rigs.network import refusing_port, upstream
from rigs.proxy_process import proxy_process
from rigs.records import record, unstreamed
from rigs.until import until


async def test_each_endpoint_has_its_base_url(tmp_path: Path) -> None:
    """The lines at the start are what a client needs."""
    endpoints = {"metis": "http://127.0.0.1:1/v1", "sophia": "http://127.0.0.1:2/vllm/v1"}
    for flags in ((), ("--workers", "2")):
        async with proxy_process(tmp_path, endpoints, *flags) as proxy:
            for name, url in endpoints.items():
                await proxy.said(f"{proxy.url}/{name}/v1 goes to {url}")


async def test_a_line_a_request(tmp_path: Path) -> None:
    """With --log-requests each request that has ended has one line, also one that was refused."""
    async with upstream() as seen:
        endpoints = {"e": f"http://127.0.0.1:{seen.port}/v1"}
        async with proxy_process(tmp_path, endpoints, "--log-requests") as proxy, aiohttp.ClientSession() as session:
            for path in ("e/v1/models", "nobody/v1/models"):
                async with session.get(f"{proxy.url}/{path}") as response:
                    await response.read()
            await proxy.said("GET /e/v1/models - 200 ok")
            await proxy.said("GET /nobody/v1/models - 404 rejected/unknown_endpoint")
        assert len([line for line in proxy.lines if re.match(r"\d{4}-\d\d-\d\dT", line)]) == 2


def test_what_a_line_says() -> None:
    """Time, route, result and cost stand in one order; no byte of a client's reaches a terminal as a control."""
    line = request_line(record(model="gpt\x1b[31m\u202e oss", path="/e/v1/chat/completions"))
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z metis POST /e/v1/chat/completions "
        r"gpt\\u001b\[31m\\u202e\\u0020oss 200 ok "
        r"\d+\.\d{3} s ttft \d+\.\d{3} s tokens \d+ in \d+ out",
        line,
    )
    bare = request_line(unstreamed(endpoint=None, model=None, status=None, outcome="rejected", error_type="draining"))
    assert " - POST " in bare
    assert " - - rejected/draining " in bare


def test_a_reader_that_takes_nothing() -> None:
    """Lines that nobody takes are left out, and their number is said; the request isn't held up."""
    to = io.StringIO()
    log = RequestLog(to)
    for _ in range(30_000):
        log.add(record())
    log.close()
    text = to.getvalue()
    shown = text.count(" metis POST ")
    left_out = sum(int(number) for number in re.findall(r"(\d+) more requests ended", text))
    assert shown + left_out == 30_000


@pytest.mark.parametrize("workers", ["1", "3"])
async def test_an_endpoint_goes_and_comes_back(tmp_path: Path, workers: str) -> None:
    """One line when it is down, however many requests and workers see it, and totals at the end."""
    port = refusing_port()
    async with upstream() as other:
        endpoints = {"e": f"http://127.0.0.1:{port}/v1", "other": f"http://127.0.0.1:{other.port}/v1"}
        one_each = aiohttp.TCPConnector(force_close=True)  # so that each worker gets some
        async with (
            proxy_process(tmp_path, endpoints, "--workers", workers) as proxy,
            aiohttp.ClientSession(connector=one_each) as session,
        ):

            async def ask(name: str) -> int:
                async with session.get(f"{proxy.url}/{name}/v1/models") as response:
                    return response.status

            assert [await ask("e") for _ in range(20)] == [502] * 20
            assert await ask("other") == 200
            line = await proxy.said("is down")
            assert line.endswith(f"endpoint 'e' is down: connection refused (127.0.0.1:{port})")
            await until(lambda: len(proxy.rows()) >= 21, "21 rows")
            assert len([line for line in proxy.lines if "is down" in line or "is back" in line]) == 1
        requests = "21 requests (20 upstream_unreachable, 1 ok)"
        assert proxy.lines[-1] == f"dyno proxy: ended after {requests}; 21 spans written, 0 lost"


def test_workers_say_it_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whichever worker sees it first says that an endpoint is down, or back; and it may go down again."""
    refused = record(status=None, headers_us=None, outcome="upstream_unreachable", error_type="connection_refused")
    workers = [EndpointWatch(tmp_path) for _ in range(3)]
    for turn in range(2):
        for worker in workers:
            worker.see(msgspec.structs.replace(refused, started_at_unix_us=turn * 1_000_000))
        for worker in workers:
            worker.see(record(started_at_unix_us=turn * 1_000_000 + 500_000, headers_us=1))
    assert [message.split()[3] for message in caplog.messages] == ["down:", "back,"] * 2


def test_down_and_back(caplog: pytest.LogCaptureFixture) -> None:
    """A single broken connection says little; an answer that was under way when it went down says nothing."""
    watch = EndpointWatch()
    broken = {"status": None, "headers_us": None, "outcome": "upstream_unreachable"}
    answered = record(started_at_unix_us=1_000_000, headers_us=10, duration_us=100)
    reset = record(**broken, error_type="connection_reset", started_at_unix_us=2_000_000, duration_us=100)
    for each in (reset, answered, reset, reset, answered):
        watch.see(each)
    assert caplog.messages == []
    for each in (reset, reset, reset, reset, answered):  # the last one began before
        watch.see(each)
    assert len(caplog.messages) == 1
    watch.see(record(started_at_unix_us=4_000_000, headers_us=100, duration_us=200))
    assert caplog.messages[1:] == ["endpoint 'metis' is back, after 2.0 s"]
