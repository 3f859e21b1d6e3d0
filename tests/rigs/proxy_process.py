"""`dyno proxy` as a process to which a test sends signals: what it prints, what it leaves, how it ends.

async with proxy_process(tmp_path, {"e": upstream.url}, "--workers", "2") as proxy:
    proxy.signal(signal.SIGHUP)
    await proxy.said("configuration reloaded")
"""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from rigs.journal_rows import rows_so_far
from rigs.until import LIMIT_S, until


@dataclass
class ProxyProcess:
    process: Process
    folder: Path
    url: str = ""
    lines: list[str] = field(default_factory=list)  # of both its streams

    def base_url(self, endpoint: str) -> str:
        return f"{self.url}/{endpoint}/v1"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def said(self, text: str, count: int = 1) -> str:
        """Wait until so many lines contain the text, and return the last. Raises TimeoutError."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [line for line in self.lines if text in line]
            return len(found) >= count

        try:
            await until(there, repr(text))
        except TimeoutError as error:
            raise TimeoutError(f"{error}: it isn't among {self.lines}") from None
        return found[-1]

    async def exit_code(self) -> int:
        async with asyncio.timeout(LIMIT_S):
            return await self.process.wait()

    def rows(self) -> list[dict[str, Any]]:
        """All journals' rows so far."""
        return rows_so_far(self.folder / "spans")

    def writers(self) -> set[int]:
        """Ids of the processes that have written spans."""
        return {int(path.name.split("_")[-2]) for path in (self.folder / "spans").glob("*Z-*.jsonl")}

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        return [
            int(status.parent.name)
            for status in Path("/proc").glob("[0-9]*/status")
            if f"\nPPid:\t{self.process.pid}\n" in _read(status)
        ]


def configure(folder: Path, endpoints: Mapping[str, str], proxy: str = "") -> None:
    """Write dyno.toml. `endpoints` are name -> URL; `proxy` has further keys of the table [proxy]."""
    tables = [f'[endpoints.{name}]\nurl = "{url}"\n' for name, url in endpoints.items()]
    # The file is renamed into place, so a proxy that reads it meanwhile sees the old or the new one.
    listen = "" if "listen =" in proxy else 'listen = "127.0.0.1:0"'
    (folder / "dyno.toml.new").write_text("\n".join(["[proxy]", listen, proxy, *tables]), encoding="utf-8")
    (folder / "dyno.toml.new").rename(folder / "dyno.toml")


@asynccontextmanager
async def proxy_process(
    folder: Path,
    endpoints: Mapping[str, str],
    *flags: str,
    proxy: str = "",
    before: Sequence[str] = (),
    **environment: str,
) -> AsyncIterator[ProxyProcess]:
    """The proxy runs until the block ends. Its configuration is `folder`/dyno.toml, as `configure` writes it.

    `before`: words of a program that starts the proxy's command.
    """
    configure(folder, endpoints, proxy)
    process = await asyncio.create_subprocess_exec(
        *(*before, sys.executable, "-m", "dyno", "proxy", "--config", "dyno.toml", *flags),
        cwd=folder,
        env={**os.environ, **environment},
        stdout=PIPE,
        stderr=STDOUT,
    )
    running = ProxyProcess(process, folder)
    reading = asyncio.create_task(_read_lines(running))
    try:
        line = await running.said("listening on")
        ready = re.search(r"listening on (http://[^,]+),", line)
        assert ready is not None
        running.url = ready[1]
        yield running
    finally:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if process.returncode is None:
                process.send_signal(number)
                await asyncio.wait((asyncio.create_task(process.wait()),), timeout=LIMIT_S / 2)
        await reading


async def total(session: aiohttp.ClientSession, url: str, name: str) -> float:
    """The sum of a metric's series."""
    async with session.get(f"{url}/metrics") as response:
        text = await response.text()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{| )", line))


async def _read_lines(running: ProxyProcess) -> None:
    assert running.process.stdout is not None
    async for line in running.process.stdout:
        running.lines.append(line.decode().rstrip("\n"))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # the process has ended meanwhile
        return ""
