"""The connections to one endpoint: they are opened, kept while idle, and used again."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Final

from dyno_proxy.errors import ProxyUnreachableError, RefusedError, connect_ending, in_words

from .dial import Resolve, dial, look_up
from .relay import UpstreamConnection
from .single_flight import SharedCall
from .tunnel import HttpProxy, open_tunnel

IDLE_TIMEOUT_S: Final = 30.0  # shorter than usual servers', so that a request seldom meets a connection that closes
MAX_IDLE: Final = 128  # connections that may rest at once


class Pool:
    """The connections to one host and port. The one that was used last is used next, so that the others age out."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        proxy: HttpProxy | None,
        connect_s: float,
        idle_s: float = IDLE_TIMEOUT_S,
        resolve: Resolve = look_up,
    ) -> None:
        """`proxy`: the HTTP proxy on the way. With `tls` a tunnel leads through it, else requests name whole URLs."""
        self._host = host
        self._port = port
        self._tls = tls
        self._proxy = proxy
        self._connect_s = connect_s
        self._idle_s = idle_s
        peer = (host, port) if proxy is None else (proxy.host, proxy.port)
        # Shared, so that a name server that hangs blocks one of the resolver's few threads, not all of them.
        self._addresses = SharedCall(lambda: resolve(*peer))
        self._idle: list[UpstreamConnection] = []  # the longest idle first
        self._ageing: asyncio.TimerHandle | None = None
        self._closed = False
        self.max_idle = MAX_IDLE
        self.leads_back: Callable[[socket.socket], bool] = lambda _connected: False  # whether it leads to this proxy

    def resting(self) -> UpstreamConnection | None:
        """An idle connection that is still open, or None."""
        now_s = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.closed:
                continue
            if now_s - connection.idle_since_s > self._idle_s:
                connection.abort()
                continue
            return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises OSError, ssl.SSLError or TimeoutError, whose outcomes errors.py names.

        Raises RefusedError where it would lead back to this proxy.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_s):
            connected, begun_s = await self._dial()
            try:
                if self.leads_back(connected):
                    raise RefusedError("proxy_itself", "the endpoint's address is this proxy's own")
                if self._proxy is not None and self._tls is not None:
                    await open_tunnel(connected, self._host, self._port, self._proxy)
                round_trip_s = loop.time() - begun_s
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(loop),
                    sock=connected,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                    ssl_handshake_timeout=self._connect_s if self._tls else None,
                )
            except BaseException:
                connected.close()
                raise
        connection.round_trip_s = round_trip_s
        if self._proxy is None:  # else its round trip would be that to the HTTP proxy
            connection.socket = connected
        return connection

    def put_back(self, connection: UpstreamConnection) -> None:
        """Keep the connection for another request, or close it if it isn't reusable or this pool is full or closed."""
        connection.release()
        if len(self._idle) >= self.max_idle:
            self._idle = [other for other in self._idle if not other.closed]
        if self._closed or connection.closed or not connection.reusable or len(self._idle) >= self.max_idle:
            connection.abort()
            return
        self._idle.append(connection)
        if self._ageing is None:
            self._ageing = asyncio.get_running_loop().call_later(self._idle_s, self._age)

    def close(self) -> None:
        """Keep no connection from now on. Those in use serve their exchange to its end."""
        self._closed = True
        if self._ageing is not None:
            self._ageing.cancel()
        while self._idle:
            self._idle.pop().abort()

    async def _dial(self) -> tuple[socket.socket, float]:
        """A connected socket, and when connecting began, on the loop's clock."""
        try:
            addresses = await self._addresses()
            begun_s = asyncio.get_running_loop().time()
            return await dial(addresses, self._connect_s), begun_s
        except OSError as error:
            ending = connect_ending(error)
            if self._proxy is None or ending is None or ending[0] == "upstream_timeout":
                raise
            raise ProxyUnreachableError(f"the HTTP proxy at {self._proxy.address}: {in_words(ending)}") from error

    def _age(self) -> None:
        """Close the connections that have been idle too long, even if no request comes."""
        loop = asyncio.get_running_loop()
        oldest_s = loop.time() - self._idle_s
        for connection in self._idle:
            if connection.idle_since_s <= oldest_s:
                connection.abort()
        self._idle = [connection for connection in self._idle if not connection.closed]
        self._ageing = None
        if self._idle:
            self._ageing = loop.call_at(self._idle[0].idle_since_s + self._idle_s, self._age)
