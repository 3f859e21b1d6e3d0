"""The proxy's own server in the test's process, in front of one endpoint: for what can't be tested from outside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno_proxy.metrics.loop_lag import LoopLag
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.server.access import Access
from dyno_proxy.server.connection import MeasuredServer
from dyno_proxy.server.handler import Handler
from dyno_proxy.server.keys import ClientKeys
from dyno_proxy.server.pages import Pages
from dyno_proxy.telemetry.telemetry import Telemetry
from dyno_proxy.upstream.endpoint import Endpoint
from rigs.journal_rows import rows_so_far
from rigs.until import until


@dataclass(frozen=True)
class ProxyInProcess:
    url: str
    spans: Path
    telemetry: Telemetry

    async def row(self, number: int = 1) -> dict[str, Any]:
        """The journal's row of the nth request that ended. Raises TimeoutError if it doesn't come."""

        async def is_there() -> bool:
            await asyncio.to_thread(self.telemetry.flush)
            return len(rows_so_far(self.spans)) >= number

        await until(is_there, f"{number} rows in {self.spans}", every_s=0.02)
        return rows_so_far(self.spans)[number - 1]


@asynccontextmanager
async def proxy_in_process(
    endpoint: Endpoint, spans: Path, keys: ClientKeys | None = None
) -> AsyncIterator[ProxyInProcess]:
    telemetry = Telemetry(spans, Metrics("test"))
    handler = Handler({endpoint.name: endpoint}, telemetry, LoopLag(asyncio.get_running_loop()), Pages(), Access(keys))
    server = MeasuredServer(handler, handler.refused)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield ProxyInProcess(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", spans, telemetry)
    finally:
        listening.close()
        await server.shutdown(1.0)
        endpoint.pool.close()
        await asyncio.to_thread(telemetry.close)
