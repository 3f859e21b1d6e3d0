"""`dyno collect` as a program: it gets spans from real senders, runs beside a proxy, is killed, and is used wrongly."""

import asyncio
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from rigs.collector_rig import message, post, running_collector
from rigs.dyno_command import dyno, refusal
from rigs.fake_upstream import fake_upstream
from rigs.journal_rows import stored
from rigs.network import free_port
from rigs.proxy_process import configure, proxy_process
from rigs.until import until


@pytest.mark.parametrize("compression", list(Compression))
def test_the_python_sdks_exporter(tmp_path: Path, compression: Compression) -> None:
    """The SDK's own exporter and batch processor send spans: every span arrives with all that it was given."""
    with running_collector(tmp_path) as collector:
        provider = TracerProvider(shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces", compression=compression)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        tracer = provider.get_tracer("tests.sender", "1.0")
        for number in range(600):
            with tracer.start_as_current_span(f"outer {number}") as outer:
                outer.set_attribute("gen_ai.request.model", "m")
                outer.add_event("half way", {"n": number})
                with tracer.start_as_current_span("inner"):
                    pass
        provider.shutdown()
        rows = collector.rows()
    assert len(rows) == 1200
    outers = {row["span_id"]: row for row in rows if row["name"].startswith("outer")}
    inners = [row for row in rows if row["name"] == "inner"]
    assert {row["parent_span_id"] for row in inners} == set(outers)
    assert {row["attributes"]["otel.scope.name"] for row in rows} == {"tests.sender"}
    assert {row["model"] for row in outers.values()} == {"m"}
    assert all("half way" in row["attributes"]["otel.events"] for row in outers.values())


def test_an_exporter_that_is_refused_sends_again(tmp_path: Path) -> None:
    """If the disk accepts nothing, the SDK gets a 503, waits, and sends the same batch again: no span is lost."""
    with running_collector(tmp_path) as collector:
        collected = collector.spans / "collected"
        for path in collected.iterdir():
            path.unlink()
        collected.rmdir()
        collected.write_text("in the way")
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")))
        tracer = provider.get_tracer("tests.sender")
        for number in range(20):
            tracer.start_span(f"span {number}").end()
        mended = threading.Timer(1.5, collected.unlink)
        mended.start()
        assert provider.force_flush(30_000)
        mended.join()
        provider.shutdown()
        assert sorted(row["name"] for row in collector.rows()) == sorted(f"span {number}" for number in range(20))


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    """After five kills under load, each span that was answered with 200 is in the folder, and each line is complete."""
    draw = random.Random(5)  # noqa: S311 - the same moments each time
    answered: set[str] = set()
    for number in range(5):
        answered |= asyncio.run(_load_and_kill(tmp_path / "spans", number, draw.uniform(0.2, 0.8)))
    rows = stored(tmp_path / "spans" / "collected")
    ids = [row["trace_id"] for row in rows]
    assert len(answered) > 100
    assert answered <= set(ids)
    assert len(ids) == len(set(ids))


async def _load_and_kill(spans: Path, number: int, after_s: float) -> set[str]:
    """The trace ids of the batches that were answered with 200."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dyno", "collect", "--listen", "127.0.0.1:0", "--spans", spans),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().split()[4].rstrip(",")
    answered: set[str] = set()

    async def send(sender: int) -> None:
        async with aiohttp.ClientSession() as session:
            for batch in range(100_000):
                trace_id = (number << 64) + (sender << 32) + batch + 1
                body = message({"trace_id": trace_id.to_bytes(16), "name": "x" * 500})
                try:
                    status, *_ = await post(session, url, body)
                except aiohttp.ClientError:
                    return
                assert status == 200
                answered.add(f"{trace_id:032x}")

    senders = [asyncio.create_task(send(sender)) for sender in range(8)]
    await asyncio.sleep(after_s)
    process.kill()
    await process.wait()
    await asyncio.gather(*senders)
    return answered


def test_sigterm_ends_it_in_order(tmp_path: Path) -> None:
    log = tmp_path / "collector.log"
    with running_collector(tmp_path) as collector:
        assert asyncio.run(_sent(collector.url, 1)) == 200
    assert len(stored(tmp_path / "spans" / "collected")) == 1
    assert len(log.read_text().splitlines()) == 1


async def test_beside_a_proxy(tmp_path: Path) -> None:
    """`[collector] listen` starts a separate process. It serves from the proxy's start, is started again if it dies,
    and ends with the proxy."""
    async with fake_upstream() as upstream:
        port = free_port()
        flags = ("--collector-listen", f"127.0.0.1:{port}")
        async with proxy_process(tmp_path, {"e": upstream.url}, *flags) as proxy:
            assert any(f"taking OTLP on http://127.0.0.1:{port}" in line for line in proxy.lines)
            url = f"http://127.0.0.1:{port}"
            assert await _sent(url, 1) == 200
            (child,) = _collectors(proxy.process.pid)
            os.kill(child, signal.SIGKILL)
            await proxy.said("the collector ended: signal 9; it is started again")
            assert await _sent(url, 2) == 200
            (child,) = _collectors(proxy.process.pid)
            proxy.signal(signal.SIGTERM)
            assert await proxy.exit_code() == 0
            assert not _lives(child)
        assert len(stored(tmp_path / "spans" / "collected")) == 2
        await _ends_with_a_killed_proxy(tmp_path, upstream.url, flags)


async def test_beside_workers(tmp_path: Path) -> None:
    """All workers share one collector."""
    async with fake_upstream() as upstream:
        port = free_port()
        configure(tmp_path, {"e": upstream.url})
        flags = ("--collector-listen", f"127.0.0.1:{port}", "--workers", "2")
        async with proxy_process(tmp_path, {"e": upstream.url}, *flags) as proxy:
            assert await _sent(f"http://127.0.0.1:{port}", 1) == 200
            assert len(_collectors(proxy.process.pid)) == 1
            proxy.signal(signal.SIGTERM)
            assert await proxy.exit_code() == 0
    assert len(stored(tmp_path / "spans" / "collected")) == 1


async def _ends_with_a_killed_proxy(folder: Path, upstream: str, flags: tuple[str, ...]) -> None:
    """The collector ends with the proxy, and doesn't keep the port."""
    async with proxy_process(folder, {"e": upstream}, *flags) as proxy:
        assert await _sent(f"http://{flags[1]}", 3) == 200
        (child,) = _collectors(proxy.process.pid)
        proxy.process.kill()
        await until(lambda: not _lives(child), "the collector to end")


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def _sent(url: str, trace_id: int) -> int:
    async with aiohttp.ClientSession() as session:
        status, *_ = await post(session, url, message({"trace_id": trace_id.to_bytes(16)}))
        return status


def _collectors(parent: int) -> list[int]:
    """Process ids of the parent's children that are collectors."""
    found = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        children = (task / "children").read_text(encoding="ascii").split()
        found += [int(pid) for pid in children if b"collect" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def test_wrong_use(tmp_path: Path) -> None:
    """Each mistake is one line that says what is wrong and how to fix it."""
    (tmp_path / "file").write_text("")
    toml = tmp_path / "dyno.toml"
    listen: dict[str, Any] = {
        "here": "'here' must be HOST:PORT, as in 127.0.0.1:4318",
        "0.0.0.0:4318": "is reachable by others; set proxy.keys_file",
    }
    for address, said in listen.items():
        assert said in refusal("collect", "--listen", address, "--spans", tmp_path / "spans")
        toml.write_text(f'[collector]\nlisten = "{address}"\n[endpoints.e]\nurl = "http://127.0.0.1:1/v1"\n')
        assert f"{toml}: collector.listen: " in refusal("proxy", "--config", toml, "--listen", "127.0.0.1:0")
    assert "is a file; name another with --spans" in refusal("collect", "--spans", tmp_path / "file")
    toml.write_text('[collector]\nlisten_on = "127.0.0.1:4318"\n')
    assert "unknown key 'collector.listen_on'; did you mean 'listen'?" in refusal("collect", "--config", toml)
    with running_collector(tmp_path) as collector:
        address = collector.url.removeprefix("http://")
        line = refusal("collect", "--listen", address, "--spans", tmp_path / "spans")
        assert "the port is in use; choose another with --listen HOST:PORT" in line
        toml.write_text('[endpoints.e]\nurl = "http://127.0.0.1:1/v1"\n')
        flags = ("--config", toml, "--listen", "127.0.0.1:0", "--spans", tmp_path / "spans")
        line = refusal("proxy", *flags, "--collector-listen", address)
        assert "the port is in use; choose another with --collector-listen HOST:PORT" in line
    assert "example:" in dyno("collect", "--help").stdout
