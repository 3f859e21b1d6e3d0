"""Python's own HTTP server behind the proxy. It writes each response's head in several pieces."""

import asyncio
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

import aiohttp
import pytest

from rigs.running_proxy import in_thread, running_proxy

REQUESTS = 1000
BODY = b'{"object":"list","data":[]}'


class _Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


def _application(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])
    return [BODY[:5], BODY[5:]]


@contextmanager
def wsgiref_server(pause_s: float) -> Iterator[str]:
    """The server's base URL. `pause_s`: between its writes; 0 leaves them to the system."""

    class Slow(ServerHandler):
        def _write(self, data: bytes) -> None:
            super()._write(data)
            self._flush()
            time.sleep(pause_s)

    class Handler(WSGIRequestHandler):
        def handle(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.parse_request():
                return
            kind: Any = Slow if pause_s else ServerHandler
            handler = kind(self.rfile, self.wfile, self.get_stderr(), self.get_environ(), multithread=True)
            handler.request_handler = self  # as WSGIRequestHandler does
            handler.run(_application)

        def log_message(self, *_: Any) -> None:
            pass

    with _Threads(("127.0.0.1", 0), Handler) as server:
        server.set_app(_application)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            serving.join()


@pytest.mark.parametrize("pause_s", [0.0, 0.001], ids=["as it is", "1 ms between its writes"])
async def test_a_thousand_of_a_thousand(tmp_path: Path, pause_s: float) -> None:
    """Each response passes, wherever its pieces end."""
    async with (
        in_thread(wsgiref_server(pause_s)) as url,
        in_thread(running_proxy(tmp_path, {"e": url})) as proxy,
        aiohttp.ClientSession() as session,
    ):
        few = asyncio.Semaphore(20)

        async def ask() -> tuple[int, bytes]:
            async with few, session.get(f"{proxy.base_url('e')}/models") as response:
                return response.status, await response.read()

        assert Counter(await asyncio.gather(*(ask() for _ in range(REQUESTS)))) == {(200, BODY): REQUESTS}
        assert Counter(row["outcome"] for row in await proxy.rows(REQUESTS)) == {"ok": REQUESTS}
