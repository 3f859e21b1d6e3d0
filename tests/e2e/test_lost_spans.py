"""Spans that a disk didn't take are an exit code of 1, whichever program was to write them, and a line that says so."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rigs.collector_rig import message, post
from rigs.fake_upstream import fake_upstream
from rigs.network import free_port
from rigs.preloaded import failing
from rigs.proxy_process import proxy_process, total
from rigs.until import LIMIT_S, until

_ANSWER: list[Any] = [{"json": {"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}}]


@pytest.mark.parametrize(("error", "workers"), [("EDQUOT", "1"), ("ESTALE", "1"), ("EIO", "2"), ("EROFS", "2")])
async def test_a_proxy(tmp_path: Path, error: str, workers: str) -> None:
    """The disk's fault is over long before the end: what was lost is an exit code all the same."""
    fault, spans = tmp_path / "fault", tmp_path / "spans"
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(
            tmp_path, {"e": upstream.url}, "--workers", workers, **failing(error, "write", spans, while_there=fault)
        ) as proxy,
        aiohttp.ClientSession() as session,
    ):
        fault.touch()
        for lost in (True, False):
            async with session.post(f"{proxy.base_url('e')}/chat/completions", json={"model": "m"}) as answer:
                assert answer.status == 200

            async def counted(lost: bool = lost) -> bool:
                name = "dyno_spans_dropped_total" if lost else "dyno_spans_written_total"
                return await total(session, proxy.url, name) == 1

            await until(counted, "the span to be counted")
            fault.unlink(missing_ok=True)
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 1
        assert await proxy.said("spans that were lost since the start: 1")


@pytest.mark.parametrize("error", ["EDQUOT", "ESTALE"])
async def test_a_collector(tmp_path: Path, error: str) -> None:
    """Its senders are told, and so is who looks at its exit code."""
    fault, spans = tmp_path / "fault", tmp_path / "spans"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dyno", "collect", "--listen", "127.0.0.1:0", "--spans", str(spans)),
        env={**os.environ, **failing(error, "write", spans, while_there=fault)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    ready = re.search(rb"listening on (http://\S+),", await process.stdout.readline())
    assert ready is not None
    fault.touch()
    async with aiohttp.ClientSession() as session:
        assert (await post(session, ready[1].decode(), message({})))[0] == 503
    fault.unlink()
    process.terminate()
    _, said = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode == 1
    assert b"spans that couldn't be written since the start: 1" in said


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_proxy_with_a_collector(tmp_path: Path, workers: str) -> None:
    """The proxy's exit code says what its collector has lost."""
    port = free_port()
    flags = ("--workers", workers, "--collector-listen", f"127.0.0.1:{port}")
    async with (
        fake_upstream(_ANSWER) as upstream,
        proxy_process(tmp_path, {"e": upstream.url}, *flags) as proxy,
        aiohttp.ClientSession() as session,
    ):
        collected = tmp_path / "spans" / "collected"
        assert (await post(session, f"http://127.0.0.1:{port}", message({})))[0] == 200
        collected.rename(tmp_path / "away")
        collected.touch()
        assert (await post(session, f"http://127.0.0.1:{port}", message({"trace_id": b"x" * 16})))[0] == 503
        proxy.signal(signal.SIGTERM)
        assert await proxy.exit_code() == 1
        assert await proxy.said("spans that couldn't be written since the start: 1")


async def test_a_comparison(tmp_path: Path) -> None:
    """`dyno compare` says that its proxy has lost spans, and that its tables lack them."""
    fault, spans = tmp_path / "fault", tmp_path / "spans"
    host = re.sub(r"[^A-Za-z0-9_]", "_", socket.gethostname())
    journals = spans / f"{host}_"  # the driver's own files are written
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dyno", "compare", "--spans", "spans", "-n", "1", "--max-tokens", "8"),
        cwd=tmp_path,
        env={**os.environ, **failing("EDQUOT", "write", journals, while_there=fault)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    await until(lambda: list(spans.glob(".open-*")), "the proxy")
    fault.touch()
    _, said = await asyncio.wait_for(process.communicate(), LIMIT_S)
    assert process.returncode != 0
    assert re.search(rb"spans that were lost since the start: [1-9]", said)
    assert b"dyno compare: spans were lost, as the proxy says above" in said
