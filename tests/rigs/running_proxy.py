"""`dyno proxy` as a real process in front of given upstreams, and what it leaves: rows of its journal, and metrics."""

import asyncio
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rigs.journal_rows import rows_so_far
from rigs.programs import running
from rigs.until import LIMIT_S, until_in_thread

_READY = r"dyno proxy: listening on (?P<url>http://\S+), spans in (?P<spans>.+)"

Value = TypeVar("Value")


@dataclass(frozen=True)
class RunningProxy:
    url: str  # without a path
    spans: Path
    log: Path  # both its streams

    def base_url(self, endpoint: str) -> str:
        """The base URL that a client uses for the endpoint."""
        return f"{self.url}/{endpoint}/v1"

    def read_rows(self) -> list[dict[str, Any]]:
        """The journal's rows so far, in the order of their end."""
        return rows_so_far(self.spans)

    def wait_for_rows(self, count: int) -> list[dict[str, Any]]:
        """Wait until there are `count` rows; a journal is written within 250 ms. Raises TimeoutError."""
        until_in_thread(lambda: len(self.read_rows()) >= count, f"{count} rows in {self.spans}", every_s=0.02)
        return self.read_rows()

    async def rows(self, count: int) -> list[dict[str, Any]]:
        """`wait_for_rows`, beside a running loop."""
        return await asyncio.to_thread(self.wait_for_rows, count)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=LIMIT_S) as response:
            text: bytes = response.read()
        return text.decode()

    def total(self, counter: str) -> int:
        """The sum of a counter's series in /metrics."""
        lines = [line for line in self.metrics().splitlines() if line.startswith(counter + "{")]
        return int(sum(float(line.rpartition(" ")[2]) for line in lines))

    def started(self) -> int:
        """Requests that the proxy has started, by its own counter: each leaves one row."""
        return self.total("dyno_requests_started_total")


@contextmanager
def running_proxy(
    folder: Path, endpoints: Mapping[str, str], config: str = "", environment: Mapping[str, str] | None = None
) -> Iterator[RunningProxy]:
    """Runs until the block ends. `endpoints`: name → URL; `config`: more of dyno.toml. Spans go to `folder`/spans."""
    tables = [f'[endpoints.{name}]\nurl = "{url}"\n' for name, url in endpoints.items()]
    toml, spans, log = folder / "dyno.toml", folder / "spans", folder / "proxy.log"
    toml.write_text("\n".join([*tables, config]))
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "dyno",
        "proxy",
        "--config",
        toml,
        "--listen",
        "127.0.0.1:0",
        "--spans",
        spans,
    ]
    with running(command, _READY, log, {**os.environ, **(environment or {})}) as (ready,):
        yield RunningProxy(ready["url"], spans, log)


@asynccontextmanager
async def in_thread(context: AbstractContextManager[Value]) -> AsyncIterator[Value]:
    """Enter and leave a blocking context beside a loop that must go on, for example because it serves the upstream."""
    with ExitStack() as stack:
        value = await asyncio.to_thread(stack.enter_context, context)
        try:
            yield value
        finally:
            await asyncio.to_thread(stack.close)
