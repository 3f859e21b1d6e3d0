"""The parts of an endpoint's network: an upstream with or without TLS, dead addresses, and a certificate authority.

Names end in .test, which no DNS server knows. The test gives their addresses, or an HTTP proxy reaches them.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from aiohappyeyeballs import AddrInfoType

from dyno_proxy.config.schema import EndpointConfig, TimeoutsConfig
from dyno_proxy.upstream.endpoint import Endpoint
from dyno_proxy.upstream.pool import Pool
from rigs.proxy_in_process import proxy_in_process
from rigs.raw_http import Answer, exchange, request_bytes
from rigs.until import LIMIT_S

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
ASK = request_bytes("GET", "/e/v1/models?a=1", ("X-Own", "1"))


@dataclass
class Upstream:
    """Answers each request with `ok`, and keeps what it received."""

    port: int = 0
    host: str = "127.0.0.1"
    heads: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)  # that TLS clients asked for
    alpn: list[str | None] = field(default_factory=list)
    connections: int = 0
    ended: int = 0  # connections
    answer_after: asyncio.Event = field(default_factory=asyncio.Event)  # set from the start
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reaches(self, *, heads: int = 0, ended: int = 0) -> None:
        """Wait until there are that many. Raises TimeoutError."""
        async with asyncio.timeout(LIMIT_S), self.changed:
            await self.changed.wait_for(lambda: len(self.heads) >= heads and self.ended >= ended)

    async def tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


@asynccontextmanager
async def upstream(
    tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", accepts: bytes = b""
) -> AsyncIterator[Upstream]:
    """`accepts`: bytes that a request's head must hold; otherwise the answer is a 401."""
    seen = Upstream(host=host)
    seen.answer_after.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        over: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        if over is not None:
            seen.alpn.append(over.selected_alpn_protocol())
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                seen.heads.append(head)
                await seen.tell()
                await seen.answer_after.wait()
                writer.write(OK if accepts in head else UNAUTHORIZED)
        seen.ended += 1
        await seen.tell()

    if tls is not None:
        tls.set_alpn_protocols(["h2", "http/1.1"])
        tls.sni_callback = lambda _object, name, _context: seen.names.append(name)
    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()


@contextmanager
def frank_upstream(tls: ssl.SSLContext) -> Iterator[int]:
    """The port of a TLS server that says why a handshake failed, as real servers do. asyncio's server doesn't."""

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is shut down
            while True:
                over = tls.wrap_socket(listening.accept()[0], server_side=True, do_handshake_on_connect=False)
                with over, contextlib.suppress(ssl.SSLError):
                    try:
                        over.do_handshake()
                        over.recv(65536)
                        over.sendall(OK)
                    finally:
                        over.shutdown(socket.SHUT_WR)  # read on without TLS: a reset would overtake the alert
                        over.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve, args=(listening,))
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


class Authority:
    """A certificate authority that no system trusts. Its certificate is in `file`."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        self.file = self.write("ca.pem", self.ca.cert_pem)

    def server(self, name: str = "127.0.0.1", *, wants_client: bool = False, **issue: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(name, **issue).configure_cert(context)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context

    def write(self, name: str, *blobs: trustme.Blob | bytes) -> str:
        path = self.folder / name
        path.write_bytes(b"".join(blob if isinstance(blob, bytes) else blob.bytes() for blob in blobs))
        return str(path)


def endpoint(
    url: str, *, connect_s: float = 20.0, resolve: Sequence[AddrInfoType] | None = None, **config: Any
) -> Endpoint:
    """`resolve`: the addresses of the endpoint's host, used instead of a name server's answer."""
    made = Endpoint("e", EndpointConfig(url=url, timeouts=TimeoutsConfig(connect_s=connect_s), **config))
    if resolve is not None:
        addresses = resolve

        async def look_up(_host: str, _port: int) -> Sequence[AddrInfoType]:
            return addresses

        made.pool = Pool(made.host, made.port, tls=None, proxy=None, connect_s=connect_s, resolve=look_up)
    return made


async def ask(made: Endpoint, folder: Path, times: int = 1) -> tuple[Answer, dict[str, Any]]:
    """Send so many requests through the proxy. Returns the last answer and its row."""
    async with proxy_in_process(made, folder / "spans") as proxy:
        for _ in range(times):
            answer = await exchange(proxy.url, ASK)
        return answer, await proxy.row(times)


def outcome(answer: Answer, row: dict[str, Any]) -> tuple[int, str, str | None]:
    """The status that the client got, and the row's outcome and error.type."""
    return answer.status, row["outcome"], row.get("error_type")


@contextmanager
def blackhole() -> Iterator[int]:
    """A port that never answers, like a port behind a firewall that drops packets: its queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@functools.cache
def _held(host: str) -> socket.socket:
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.bind((host, 0))
    return held


def refusing_port(host: str = "127.0.0.1") -> int:
    """A port that refuses connections. It stays bound, so no other program can listen on it meanwhile."""
    port: int = _held(host).getsockname()[1]
    return port


def free_port() -> int:
    """A port for a program that is about to start. Another one may take it first, so don't use it as a dead address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def at(port: int, host: str = "127.0.0.1") -> AddrInfoType:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return (family, socket.SOCK_STREAM, 6, "", (host, port))
