"""The spans folder is on a disk that is full or read-only: the real proxy goes on, and says what it lost."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dyno_analysis.spans import folder as span_folder
from rigs.fake_upstream import fake_upstream
from rigs.journal_rows import stored
from rigs.proxy_process import ProxyProcess, proxy_process, total
from rigs.small_disk import small_disk
from rigs.until import until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it mounts a tmpfs")

_DROPPED = "dyno_spans_dropped_total"
_ANSWER: list[Any] = [{"json": {"id": "1", "model": "m", "choices": [{"index": 0, "finish_reason": "stop"}]}}]


class Traffic:
    """Requests through a proxy. `sent` counts those that have their answer."""

    def __init__(self, session: aiohttp.ClientSession, proxy: ProxyProcess) -> None:
        self.sent = 0
        self._session = session
        self._proxy = proxy

    async def ask(self, count: int) -> None:
        """Send eight at once; each is answered with 200. Raises AssertionError."""
        left = iter(range(count))

        async def client() -> None:
            for _ in left:
                body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
                url = f"{self._proxy.base_url('e')}/chat/completions"
                async with self._session.post(url, json=body) as answer:
                    await answer.read()
                    assert answer.status == 200
                self.sent += 1

        await asyncio.gather(*(client() for _ in range(8)))

    async def dropped(self) -> float:
        return await total(self._session, self._proxy.url, _DROPPED)

    async def written(self) -> float:
        return await total(self._session, self._proxy.url, "dyno_spans_written_total")

    async def settled(self) -> float:
        """The drops, once each request is either written or dropped. Raises TimeoutError."""

        async def all_ended() -> bool:
            return await self.written() + await self.dropped() >= self.sent

        await until(all_ended, f"{self.sent} spans to be written or dropped", every_s=0.05)
        return await self.dropped()


async def test_a_full_disk(tmp_path: Path) -> None:
    """Each request has its answer.

    Spans that don't fit are counted and logged once. With room again, spans are written.
    """
    with small_disk(tmp_path / "spans", kilobytes=256) as disk:
        async with (
            fake_upstream(_ANSWER) as upstream,
            proxy_process(tmp_path, {"e": upstream.url}) as proxy,
            aiohttp.ClientSession() as session,
        ):
            traffic = Traffic(session, proxy)
            await traffic.ask(20)
            assert await traffic.settled() == 0
            disk.fill()
            for _ in range(4):  # several batches, each of which fails
                await traffic.ask(100)
                await asyncio.sleep(0.3)
            lost = await traffic.settled()
            assert lost > 100
            disk.make_room()
            written = await traffic.written()
            await traffic.ask(30)
            assert await traffic.settled() == lost
            assert await traffic.written() == written + 30
            assert len([line for line in proxy.lines if "spans can't be written" in line]) == 1
            assert len([line for line in proxy.lines if "spans are written again" in line]) == 1
        # Each line's checksum holds, and the view has each row once.
        assert len(stored(disk.path)) == traffic.sent - lost
        with span_folder.connect(disk.path) as connection:
            found = connection.execute("SELECT count(*), count(DISTINCT span_id) FROM spans").fetchall()
        assert found == [(traffic.sent - lost, traffic.sent - lost)]


async def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    """No proxy starts on a read-only folder: there is one line and exit code 2. The folder can still be read, and
    `dyno compact` says in one line why it can't compact."""
    with small_disk(tmp_path / "spans", kilobytes=1024) as disk:
        async with (
            fake_upstream(_ANSWER) as upstream,
            proxy_process(tmp_path, {"e": upstream.url}) as proxy,
            aiohttp.ClientSession() as session,
        ):
            traffic = Traffic(session, proxy)
            await traffic.ask(20)
            assert await traffic.settled() == 0
        disk.remount("ro")
        started = _dyno(tmp_path, "proxy", "--config", "dyno.toml", "--listen", "127.0.0.1:0")
        assert (started.returncode, started.stderr.count("\n")) == (2, 1)
        assert "spans folder 'spans' can't be written" in started.stderr
        read = _dyno(tmp_path, "sql", "SELECT count(*) FROM spans", "--format", "csv")
        assert (read.returncode, read.stdout.split()[-1]) == (0, "20")
        compacted = _dyno(tmp_path, "compact")
        assert compacted.returncode == 1
        assert "Read-only file system" in compacted.stderr
        assert "Traceback" not in compacted.stderr
        assert len(stored(disk.path)) == 20


async def test_a_disk_that_becomes_read_only(tmp_path: Path) -> None:
    """The disk becomes read-only, as the kernel does it after an error.

    Traffic goes on; spans do so once a journal can begin.
    """
    with small_disk(tmp_path / "spans", kilobytes=1024) as disk:
        async with (
            fake_upstream(_ANSWER) as upstream,
            proxy_process(tmp_path, {"e": upstream.url}) as proxy,
            aiohttp.ClientSession() as session,
        ):
            traffic = Traffic(session, proxy)
            disk.remount("ro")
            await traffic.ask(50)
            assert await traffic.settled() == 50
            disk.remount("rw")
            await traffic.ask(20)
            assert await traffic.settled() == 50
            assert len([line for line in proxy.lines if "spans can't be written" in line]) == 1
        assert len(stored(disk.path)) == 20


def _dyno(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dyno", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
