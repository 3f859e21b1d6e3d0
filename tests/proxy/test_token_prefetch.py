"""A token's command at the start of `dyno proxy`: it runs before anybody asks."""

import asyncio
import time
from pathlib import Path

from rigs.fake_upstream import fake_upstream
from rigs.raw_http import exchange, request_bytes
from rigs.running_proxy import in_thread, running_proxy
from rigs.token_command import Command, until

TAKES_S = 1.5


async def test_the_first_request_waits_for_no_token(tmp_path: Path) -> None:
    """What the command takes passes while nobody waits; a request in the middle of it waits for the rest alone."""
    command = Command(tmp_path, before=f"sleep {TAKES_S}")
    async with fake_upstream([{"json": {}}]) as upstream:
        config = f'''[endpoints.e]\nurl = "{upstream.url}"\ntoken.command = "sh '{tmp_path / "script.sh"}'"\n'''
        ask = request_bytes("GET", "/e/v1/models")
        async with in_thread(running_proxy(tmp_path, {}, config)) as proxy:
            began_s = time.monotonic()
            await until(lambda: command.runs == 1)  # before any request
            assert (await exchange(proxy.url, ask)).status == 200
            early_s = time.monotonic() - began_s
            begun_s = time.monotonic()
            assert (await exchange(proxy.url, ask)).status == 200
            later_s = time.monotonic() - begun_s
        (tmp_path / "second").mkdir()
        async with in_thread(running_proxy(tmp_path / "second", {}, config)) as proxy:
            await until(lambda: command.runs == 2)
            await asyncio.sleep(1.5 * TAKES_S)
            begun_s = time.monotonic()
            assert (await exchange(proxy.url, ask)).status == 200
            first_s = time.monotonic() - begun_s
    assert command.runs == 2
    assert dict(upstream.last.headers)["Authorization"] == "Bearer one"
    print(f"first request {first_s * 1e3:.1f} ms, with a token in hand {later_s * 1e3:.1f} ms, early {early_s:.2f} s")
    assert first_s < TAKES_S / 3
    assert early_s > TAKES_S / 3
