"""The first request to each endpoint: what would fail a hundred times stops the run at once, with the mend."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from rigs.fake_proxy import answering

COMPARE = (sys.executable, "-m", "dyno", "compare", "--spans", "s", "-n", "3")


async def compare(folder: Path, *options: str) -> tuple[int | None, str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DYNO_")}
    process = await asyncio.create_subprocess_exec(
        *COMPARE, *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=kept
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


class Endpoints:
    """A server whose endpoint `good` answers; others as their scripts do. It counts what was asked of each."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = request.path.split("/")[1]
        self.asked.append(name)
        if name == "hanging":
            await asyncio.sleep(3600)
        if name == "secret":
            return web.json_response({"error": {"message": "no such key"}}, status=401)
        if name == "absent" or not request.path.endswith("/v1/chat/completions"):
            return web.json_response({"error": {"message": "Not Found"}}, status=404)
        if name == "full":
            return web.json_response({"error": {"message": "too many"}}, status=429)
        return await answering("one")(request)


async def serve() -> tuple[web.AppRunner, str, Endpoints]:
    endpoints, app = Endpoints(), web.Application()
    app.router.add_post("/{rest:.*}", endpoints.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}", endpoints


@pytest.mark.parametrize(
    ("url", "more", "says"),
    [
        ("http://127.0.0.1:9/v1", "", "connection refused"),
        ("{base}/secret/v1", "", "HTTP 401: no such key; check [endpoints.bad.token] in dyno.toml"),
        ("{base}/absent/v1", "", "HTTP 404: Not Found; check url and model of [endpoints.bad]"),
        ("{base}/good/v1/chat/completions", "", "its url must end before /chat/completions"),
        ("{base}/hanging/v1", "", "no complete answer within 1 s; if its model has to be loaded first"),
        ("{base}/good/v1", 'token = { command = "false" }', "token"),
    ],
)
async def test_what_stops_a_run(tmp_path: Path, url: str, more: str, says: str) -> None:
    """The run ends with the endpoint's first answer; nobody is asked a prompt. Every message has the command's name."""
    runner, base, endpoints = await serve()
    urls = {"good": f"{base}/good/v1", "bad": url.format(base=base)}
    sections = [f'[endpoints.{name}]\nurl = "{each}"\nmodel = "m"\n' for name, each in urls.items()]
    (tmp_path / "dyno.toml").write_text("".join(sections) + more + "\n")
    code, out, err = await compare(tmp_path, "--preflight", "1")
    await runner.cleanup()
    assert code == 1, err
    assert "Stopped by endpoint 'bad' at " in out
    assert says in out
    assert "after 2 of 8 requests" in out
    assert "Traceback" not in err
    assert "dyno proxy:" not in err
    assert len(endpoints.asked) <= 2


async def test_what_may_pass_stops_nothing(tmp_path: Path) -> None:
    """A 429 is no fault of the configuration, which is read from ./dyno.toml: the run goes on."""
    runner, base, endpoints = await serve()
    urls = {"good": f"{base}/good/v1", "full": f"{base}/full/v1"}
    sections = [f'[endpoints.{name}]\nurl = "{each}"\nmodel = "m"\n' for name, each in urls.items()]
    prices = "price = { input_per_million = 2.0, output_per_million = 4.0 }\npower_w = 100.0\n"
    (tmp_path / "dyno.toml").write_text(sections[0] + prices + sections[1])
    code, out, _ = await compare(tmp_path)
    await runner.cleanup()
    assert code == 1
    assert endpoints.asked.count("full") == endpoints.asked.count("good") == 4
    assert "rate_limited" in out
    assert "Cost and energy, estimated" in out
    [record] = (tmp_path / "s" / "runs").glob("*/run.json")
    assert json.loads(record.read_text())["endpoints"]["good"]["power_w"] == 100.0
