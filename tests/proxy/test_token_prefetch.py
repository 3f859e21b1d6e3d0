"""A token's command at the start of `dyno proxy`: it runs before the first request."""

import asyncio
from pathlib import Path

from rigs.fake_upstream import fake_upstream
from rigs.raw_http import exchange, request_bytes
from rigs.running_proxy import in_thread, running_proxy
from rigs.token_command import Command
from rigs.until import until


async def test_the_first_request_waits_for_no_token(tmp_path: Path) -> None:
    """The command runs while nobody waits. A request that comes meanwhile waits only for the rest of the run."""
    command, ended = Command(tmp_path), tmp_path / "ended"
    command.waits(after=f"touch '{ended}'")
    async with fake_upstream([{"json": {}}]) as upstream:
        config = f'''[endpoints.e]\nurl = "{upstream.url}"\ntoken.command = "sh '{tmp_path / "script.sh"}'"\n'''
        ask = request_bytes("GET", "/e/v1/models")
        async with in_thread(running_proxy(tmp_path, {}, config)) as proxy:
            await until(lambda: command.runs == 1, "run 1 of the command")  # before any request
            early = asyncio.create_task(exchange(proxy.url, ask))
            await asyncio.sleep(0.3)
            assert not early.done()
            assert not upstream.requests
            command.goes_on()
            assert (await early).status == 200
        ended.unlink()
        (tmp_path / "second").mkdir()
        async with in_thread(running_proxy(tmp_path / "second", {}, config)) as proxy:
            await until(ended.exists, "the command's end")
            command.waits()  # a run for the first request would hang
            assert (await exchange(proxy.url, ask)).status == 200
    assert command.runs == 2
    assert dict(upstream.last.headers)["Authorization"] == "Bearer one"
