"""OTLP gets every span that was stored: over kills of the proxy, its exporter and the collector, and compaction."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from rigs.dyno_command import dyno
from rigs.fake_upstream import fake_upstream
from rigs.imports import rows
from rigs.network import refusing_port
from rigs.otlp_export import exporters_of
from rigs.otlp_receiver import OtlpReceiver, Reply, otlp_receiver
from rigs.proxy_process import ProxyProcess, proxy_process
from rigs.raw_http import exchange, post_json
from rigs.until import until

ASK: Final = post_json("/e/v1/chat/completions", {"model": "m", "stream": True, "messages": []})
OFTEN: Final = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7"}


def settings(receiver: OtlpReceiver) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **OFTEN}


async def ask(proxy: ProxyProcess, count: int) -> None:
    for _ in range(count):
        await exchange(proxy.url, ASK)


def stored_ids(folder: Path) -> set[str]:
    return {span_id for (span_id,) in rows(folder, "span_id")}


def answering(status: int) -> Callable[[object], Reply]:
    return lambda _spans: Reply(status)


async def rows_of(proxy: ProxyProcess, count: int) -> None:
    await until(lambda: len(proxy.rows()) >= count, f"{count} rows", every_s=0.05)


async def test_kills_and_a_collector_that_comes_and_goes(tmp_path: Path) -> None:
    """Four times the collector goes away, takes spans without answering, or refuses; the exporter or the proxy is
    killed; journals become Parquet, and are emptied. In the end each stored span has arrived, and nothing else.
    """
    with otlp_receiver() as receiver:
        async with fake_upstream() as upstream:
            for turn in range(4):
                async with proxy_process(tmp_path, {"e": upstream.url}, **settings(receiver)) as proxy:
                    await ask(proxy, 15)
                    receiver.behave = answering((0, 503, 200, 0)[turn])
                    if turn == 2:
                        receiver.stop()
                    await ask(proxy, 15)
                    if turn % 2:
                        for pid in exporters_of(proxy.folder / "spans"):
                            os.kill(pid, signal.SIGKILL)
                    await rows_of(proxy, 30 * (turn + 1))
                    receiver.behave = lambda _spans: Reply()
                    if turn == 2:
                        receiver.start()
                    if turn == 3:
                        proxy.signal(signal.SIGKILL)
                        await proxy.exit_code()
            async with proxy_process(tmp_path, {"e": upstream.url}, **settings(receiver)) as proxy:
                stored = await asyncio.to_thread(stored_ids, tmp_path / "spans")
                await until(lambda: {*receiver.ids()} >= stored, "every span at the collector", every_s=0.1)
                assert "dyno_otlp_spans_dropped_total" in await metrics_of(proxy)
        assert len(stored) == 120
        assert {*receiver.ids()} == stored
        again = sum(count - 1 for count in Counter(receiver.ids()).values())
        assert again < 120
        assert await send_all(tmp_path, receiver) == "0 spans sent, 120 were sent before"


async def metrics_of(proxy: ProxyProcess) -> str:
    answer = await exchange(proxy.url, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return answer.content.decode()


async def send_all(folder: Path, receiver: OtlpReceiver, *flags: str) -> str:
    done = await asyncio.to_thread(
        dyno, "export", "--otlp", "--spans", folder / "spans", *flags, environment=settings(receiver)
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


async def test_what_has_become_parquet_is_sent(tmp_path: Path) -> None:
    """The collector is away while journals become Parquet, by the proxy's end. A later proxy sends their rows, in the
    order of their numbers, and the past before the first export only goes by `dyno export --otlp`.
    """
    with otlp_receiver() as receiver:
        async with fake_upstream() as upstream:
            async with proxy_process(tmp_path, {"e": upstream.url}) as proxy:
                await ask(proxy, 5)
            past = await asyncio.to_thread(stored_ids, tmp_path / "spans")
            receiver.stop()
            async with proxy_process(tmp_path, {"e": upstream.url}, **settings(receiver)) as proxy:
                await ask(proxy, 20)
                await proxy.said("Spans wait in the span files")
            assert await proxy.exit_code() == 0
            compacted = await asyncio.to_thread(dyno, "compact", "--spans", tmp_path / "spans")
            assert compacted.returncode == 0
            for journal in (tmp_path / "spans").glob("*Z-*.jsonl"):
                journal.unlink()  # as a later compaction does
            assert not list((tmp_path / "spans").glob("*Z-*.jsonl"))
            receiver.start()
            async with proxy_process(tmp_path, {"e": upstream.url}, **settings(receiver)) as proxy:
                await until(lambda: len(receiver.taken) >= 20, "the spans in Parquet", every_s=0.1)
                await ask(proxy, 5)
                await until(lambda: len(receiver.taken) >= 25, "new spans", every_s=0.1)
            stored = await asyncio.to_thread(stored_ids, tmp_path / "spans")
        assert {*receiver.ids()} == stored - past
        started = [span.start_time_unix_nano for span in receiver.taken]
        assert started == sorted(started)
        assert await send_all(tmp_path, receiver) == "5 spans sent, 25 were sent before"
        assert {*receiver.ids()} == stored
        assert await send_all(tmp_path, receiver, "--again") == "30 spans sent, 0 were sent before"


async def test_what_cannot_be_sent_by_hand(tmp_path: Path) -> None:
    """The command says how many went, why the rest didn't, and exits with 1; the next one sends the rest."""
    with otlp_receiver() as receiver:
        async with fake_upstream() as upstream, proxy_process(tmp_path, {"e": upstream.url}) as proxy:
            await ask(proxy, 10)
        receiver.behave = lambda _spans: Reply(200 if receiver.requests == 1 else 404)
        done = await asyncio.to_thread(
            dyno, "export", "--otlp", "--spans", tmp_path / "spans", environment=settings(receiver)
        )
        assert (done.returncode, done.stdout) == (1, "7 spans sent, 0 were sent before\n")
        assert f"the rest isn't sent: '{receiver.url}/v1/traces': status 404" in done.stderr
        receiver.behave = lambda _spans: Reply()
        assert await send_all(tmp_path, receiver) == "3 spans sent, 7 were sent before"


async def test_workers_have_one_exporter(tmp_path: Path) -> None:
    """All workers' spans arrive by one exporter, and each worker's /metrics shows its figures once. SIGTERM sends the
    rest."""
    with otlp_receiver() as receiver:
        async with (
            fake_upstream() as upstream,
            proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2", **settings(receiver)) as proxy,
        ):
            await asyncio.gather(*(ask(proxy, 5) for _ in range(6)))
            await until(lambda: len(receiver.taken) >= 30, "spans of all workers", every_s=0.1)
            assert len(exporters_of(proxy.folder / "spans")) == 1
            await until(lambda: shows(proxy, "dyno_otlp_spans_sent_total 30.0"), "the figures", every_s=0.2)
        assert len({*receiver.ids()}) == len(receiver.taken) == 30
        assert await proxy.exit_code() == 0


async def shows(proxy: ProxyProcess, line: str) -> bool:
    return line in (await metrics_of(proxy)).splitlines()


async def test_without_the_variable_there_is_no_exporter(tmp_path: Path) -> None:
    """As ever: no process, no file of its own, no figures."""
    async with fake_upstream() as upstream, proxy_process(tmp_path, {"e": upstream.url}) as proxy:
        await ask(proxy, 2)
        assert exporters_of(proxy.folder / "spans") == []
        assert "dyno_otlp" not in await metrics_of(proxy)
    assert not list((tmp_path / "spans").glob(".dyno.otlp*"))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "has no scheme; write http://localhost:4318"),
        ("OTEL_TRACES_EXPORTER", "console", "'console' is not supported; use otlp or none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100", "100 is below OTEL_BSP_MAX_EXPORT_BATCH_SIZE, which is 512"),
        ("DYNO_OTLP_KEEP", "1GB", "DYNO_OTLP_KEEP: otlp.keep: '1GB' must be an age, such as 24h or 7d"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_wrong_variable_is_said_at_the_start(
    tmp_path: Path, name: str, value: str, message: str, workers: str
) -> None:
    """One line, exit code 2, and nothing listens."""
    config = tmp_path / "dyno.toml"
    config.write_text(f'[endpoints.e]\nurl = "http://127.0.0.1:{refusing_port()}/v1"\n', encoding="utf-8")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", name: value}
    flags = ("--listen", "127.0.0.1:0", "--spans", tmp_path / "spans", "--workers", workers)
    done = await asyncio.to_thread(dyno, "proxy", "--config", config, *flags, environment=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
