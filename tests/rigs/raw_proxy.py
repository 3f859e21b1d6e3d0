"""A small HTTP proxy, like the one through which a compute node reaches the world: CONNECT and absolute-form requests.

It always connects to the one address that it is given, whatever name a request has: no DNS knows the tests' names.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class RawProxy:
    port: int = 0
    heads: list[bytes] = field(default_factory=list)  # of the requests that it received

    def url(self, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.port}"


@asynccontextmanager
async def raw_proxy(
    host: str,
    port: int,
    *,
    answer: bytes | None = None,
    closes: bool = False,
    resets: bool = False,
    slow_s: float = 0.0,
) -> AsyncIterator[RawProxy]:
    """It answers after `slow_s`. With `answer` it sends that and opens no tunnel; then it closes, resets or waits."""
    proxy = RawProxy()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            proxy.heads.append(head)
            await asyncio.sleep(slow_s)
            if answer is not None:
                writer.write(answer)
                if resets:
                    over = writer.get_extra_info("socket")
                    over.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
                elif not closes:
                    await reader.read()
                return
            far_reader, far_writer = await asyncio.open_connection(host, port)
            with contextlib.closing(far_writer):
                if head.startswith(b"CONNECT "):
                    writer.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
                else:
                    far_writer.write(head)
                await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
