"""More streams than the shell's limit on open files allows, in a real `dyno proxy`."""

import asyncio
import resource
from pathlib import Path
from urllib.parse import urlsplit

from rigs.fd_limit import soft_limit_of_fds
from rigs.raw_http import post_json
from rigs.raw_upstream import raw_upstream
from rigs.running_proxy import in_thread, running_proxy
from soak.process import proxy_pid

STREAMS = 400
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


async def test_under_a_soft_limit_of_256(tmp_path: Path) -> None:
    """The proxy raises the limit to the hard one: 400 streams (800 sockets) are open at once and end normally."""
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        await go_on.wait()
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(END), END))
        await reader.read()

    with soft_limit_of_fds(4 * STREAMS):
        async with raw_upstream(serve) as url:
            with soft_limit_of_fds(256):
                starting = in_thread(running_proxy(tmp_path, {"e": url + "/v1"}))
                proxy = await starting.__aenter__()
            try:
                soft, hard = resource.prlimit(proxy_pid(proxy.spans), resource.RLIMIT_NOFILE)
                assert soft == hard > 256
                parts = urlsplit(proxy.url)
                ask = post_json("/e/v1/chat/completions", {"model": "m", "stream": True, "messages": []})
                async with asyncio.timeout(60):
                    clients = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(STREAMS)]
                    for _, writer in clients:
                        writer.write(ask)
                    heads = {await reader.readuntil(b"\r\n\r\n") for reader, _ in clients}
                    assert len(heads) == 1
                    assert heads.pop().startswith(b"HTTP/1.1 200 OK\r\n")
                    assert await asyncio.to_thread(proxy.total, "dyno_active_requests") == STREAMS
                    go_on.set()
                    assert {(await reader.read())[-5:] for reader, _ in clients} == {b"0\r\n\r\n"}
                for _, writer in clients:
                    writer.close()
                assert {row["outcome"] for row in await proxy.rows(STREAMS)} == {"ok"}
            finally:
                await starting.__aexit__(None, None, None)
