"""`dyno proxy` as a real process: wrong use, tokens, client keys, the second address for metrics, and its end."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rigs.fake_upstream import fake_upstream
from rigs.running_proxy import in_thread, running_proxy

ENDPOINT = '[endpoints.e]\nurl = "http://127.0.0.1:9/v1"\n'
BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Why?"}]}
SLOW: list[Any] = [{"tokens": 20, "every_s": 0.05}, {"finish": "stop"}, {"done": True}]


def refused(folder: Path, config: str, *flags: str, **environment: str) -> str:
    """Run `dyno proxy` with a configuration that it must refuse. Returns its one line."""
    (folder / "dyno.toml").write_text(config, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "dyno", "proxy", "--config", "dyno.toml", "--listen", "127.0.0.1:0", *flags],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("dyno proxy: ")
    return line


def test_wrong_use_is_one_line(tmp_path: Path) -> None:
    """A configuration that can't work is refused at the start: one line that names the key and the fix, and exit code
    2."""
    (tmp_path / "file").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "the port is in use" in refused(tmp_path, ENDPOINT, "--listen", address)
    assert "did you mean 'listen'?" in refused(tmp_path, f'{ENDPOINT}[proxy]\nlisten_on = "x"\n')
    assert "spans folder 'file' can't be written" in refused(tmp_path, ENDPOINT, "--spans", "file")
    assert "no such file" in refused(tmp_path, ENDPOINT, "--config", "nowhere.toml")
    assert "set proxy.keys_file" in refused(tmp_path, ENDPOINT, "--listen", "0.0.0.0:0")
    assert "proxy.keys_file: nowhere" in refused(tmp_path, ENDPOINT, "--keys-file", "nowhere")
    assert "holds no key" in refused(tmp_path, ENDPOINT, "--keys-file", "file")
    assert "DYNO_NO_TOKEN is not set" in refused(tmp_path, f'{ENDPOINT}token.env = "DYNO_NO_TOKEN"\n')
    assert "token file nowhere can't be read" in refused(tmp_path, f'{ENDPOINT}token.file = "nowhere"\n')
    assert "isn't found" in refused(tmp_path, f'{ENDPOINT}token.command = "no-such-program --now"\n')
    line = refused(tmp_path, f'{ENDPOINT}token.env = "GIVEN"\n', GIVEN="Bearer t0ken")
    assert "GIVEN must be a bare token" in line
    assert "t0ken" not in line
    (tmp_path / "keys").write_text("not a key\n", encoding="utf-8")
    assert "proxy.keys_file: keys: line 1" in refused(tmp_path, ENDPOINT, "--keys-file", "keys")
    https = '[endpoints.e]\nurl = "https://h.test/v1"\n'
    assert "endpoints.e.ca_file: nowhere: it can't be read" in refused(tmp_path, f'{https}ca_file = "nowhere"\n')
    assert "DYNO_PROXY_LISTEN" in refused(tmp_path, ENDPOINT, DYNO_PROXY_LISTE="x")


@pytest.mark.parametrize("source", ["env", "file", "command"])
async def test_an_endpoints_token(tmp_path: Path, source: str) -> None:
    """A token from each source replaces the client's own Authorization, and is in no file."""
    token = "t0ken-of-the-test"  # noqa: S105 - opens nothing
    (tmp_path / "token").write_text(f"{token}\n", encoding="utf-8")
    given = {"env": "THE_TOKEN", "file": str(tmp_path / "token"), "command": f"cat {tmp_path / 'token'}"}[source]
    async with (
        fake_upstream(SLOW[1:]) as upstream,
        in_thread(
            running_proxy(tmp_path, {"e": upstream.url}, f"token.{source} = {json.dumps(given)}", {"THE_TOKEN": token})
        ) as proxy,
        aiohttp.ClientSession() as session,
    ):
        headers = {"Authorization": "Bearer the-clients-own"}
        async with session.post(f"{proxy.base_url('e')}/chat/completions", json=BODY, headers=headers) as response:
            assert response.status == 200
        sent = [value for name, value in upstream.last.headers if name.lower() == "authorization"]
        assert sent == [f"Bearer {token}"]
        await proxy.rows(1)
        metrics = await asyncio.to_thread(proxy.metrics)
        written = [path.read_text(encoding="utf-8") for path in [*proxy.spans.glob("*.jsonl"), proxy.log]]
    assert not [text for text in [metrics, *written] if token in text or "the-clients-own" in text]


async def test_a_token_that_cannot_be_had(tmp_path: Path) -> None:
    """A failing command is a fault of our configuration: the client gets a 502 that says so, and nothing is sent
    upstream."""
    async with (
        fake_upstream(SLOW) as upstream,
        in_thread(running_proxy(tmp_path, {"e": upstream.url}, 'token.command = "false"')) as proxy,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(f"{proxy.base_url('e')}/chat/completions", json=BODY) as response:
            assert response.status == 502
            assert (await response.json())["error"]["code"] == "token_unavailable"
        (row,) = await proxy.rows(1)
        assert (row["outcome"], row["error_type"]) == ("rejected", "token_unavailable")
        assert not upstream.requests


async def test_client_keys(tmp_path: Path) -> None:
    """With keys, a request without a key is refused, and a valid key is not forwarded."""
    keys = tmp_path / "keys"
    keys.write_text("# two clients\nkey-one\nkey-two\n", encoding="utf-8")
    async with (
        fake_upstream(SLOW[1:]) as upstream,
        in_thread(
            running_proxy(tmp_path, {"e": upstream.url}, environment={"DYNO_PROXY_KEYS_FILE": str(keys)})
        ) as proxy,
        aiohttp.ClientSession() as session,
    ):
        url = f"{proxy.base_url('e')}/chat/completions"
        for shown, status in ((None, 401), ("Bearer wrong", 401), ("key-one", 401), ("Bearer key-two", 200)):
            headers = {} if shown is None else {"Authorization": shown}
            async with session.post(url, json=BODY, headers=headers) as response:
                assert response.status == status
            async with session.get(f"{proxy.url}/endpoints", headers=headers) as response:
                assert response.status == status
        assert len(upstream.requests) == 1
        assert not [name for name, _ in upstream.last.headers if name.lower() == "authorization"]
        outcomes = [row["outcome"] for row in await proxy.rows(4)]
        assert outcomes == ["rejected", "rejected", "rejected", "ok"]


async def test_sigterm_lets_running_requests_finish(tmp_path: Path) -> None:
    """After SIGTERM a stream goes on to its end, new requests can't connect, and every span is on disk at the exit."""
    async with fake_upstream(SLOW) as upstream, aiohttp.ClientSession() as session:
        config = tmp_path / "dyno.toml"
        config.write_text(f'[endpoints.e]\nurl = "{upstream.url}"\n', encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dyno", "proxy", "--config", config, "--listen", "127.0.0.1:0"),
            *("--spans", tmp_path / "spans"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().split()[4].rstrip(",")
        async with session.post(f"{url}/e/v1/chat/completions", json=BODY) as response:
            await response.content.readany()
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"{url}/healthz")
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        assert await asyncio.wait_for(process.wait(), 20) == 0
    (journal,) = (tmp_path / "spans").glob("*Z-*.jsonl")
    (line,) = journal.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["outcome"] == "ok"


async def test_metrics_have_a_listener_of_their_own(tmp_path: Path) -> None:
    """`metrics_listen` serves the same figures at a second address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with (
        fake_upstream(SLOW[1:]) as upstream,
        in_thread(
            running_proxy(tmp_path, {"e": upstream.url}, environment={"DYNO_PROXY_METRICS_LISTEN": address})
        ) as proxy,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(f"{proxy.base_url('e')}/chat/completions", json=BODY) as response:
            assert response.status == 200
        async with session.get(f"http://{address}/metrics") as response:
            assert 'dyno_requests_started_total{endpoint="e"} 1.0' in await response.text()
