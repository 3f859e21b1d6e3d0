"""Connections to one endpoint: opened, kept while they rest, handed out again."""

import asyncio
import ssl
from typing import Final

from .relay import UpstreamConnection

CONNECT_TIMEOUT_S: Final = 30.0
IDLE_TIMEOUT_S: Final = 30.0  # below the usual servers' own, so that a request seldom meets a closing connection
MAX_IDLE: Final = 128


class Pool:
    """The connections to one host and port; newest first, so that the rest ages out."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._idle: list[UpstreamConnection] = []

    def resting(self) -> UpstreamConnection | None:
        """A connection that is open and unused, or None."""
        now_s = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.closed:
                continue
            if now_s - connection.idle_since_s > IDLE_TIMEOUT_S:
                connection.abort()
                continue
            return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises OSError, ssl.SSLError or TimeoutError (errors.py names their outcomes)."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(loop),
                self._host,
                self._port,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )
        return connection

    def put_back(self, connection: UpstreamConnection) -> None:
        connection.release()
        if connection.reusable and not connection.closed and len(self._idle) < MAX_IDLE:
            self._idle = [other for other in self._idle if not other.closed] if len(self._idle) > 16 else self._idle
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().abort()
