"""The listening sockets of one server, by slot: opened, given away, closed while there are too many clients."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from dyno_proxy.config.address import is_loopback
from dyno_proxy.server.connection import MeasuredServer

from .sockets import BACKLOG


class Listening:
    """Accepts a server's connections."""

    def __init__(self, server: MeasuredServer) -> None:
        self._server = server
        server.accept = self._accept
        self._sockets: dict[int, list[socket.socket]] = {}  # by slot; copies of the caller's
        self._accepting: dict[int, list[asyncio.Server]] = {}
        self._reopening: asyncio.Task[None] | None = None

    async def open(self, slot: int, sockets: Sequence[socket.socket]) -> None:
        """Accept connections on a slot's listening sockets, which stay the caller's."""
        self._sockets[slot] = [each.dup() for each in sockets]
        await self._open(slot)

    def close(self, slot: int) -> None:
        """Accept no more connections on this slot's sockets. Accepted ones stay."""
        self._pause(slot)
        for each in self._sockets.pop(slot, ()):
            each.close()

    def close_all(self) -> None:
        """The same for every slot."""
        for slot in list(self._sockets):
            self.close(slot)

    def is_reached_by(self, connected: socket.socket) -> bool:
        """Whether a connection that was made leads to these sockets."""
        peer, own = connected.getpeername(), connected.getsockname()
        local = peer[0] == own[0] or is_loopback(peer[0])
        for each in (each for sockets in self._sockets.values() for each in sockets):
            bound = each.getsockname()
            if bound[1] == peer[1] and (bound[0] == peer[0] or (local and _is_any(bound))):
                return True
        return False

    async def _open(self, slot: int) -> None:
        loop = asyncio.get_running_loop()
        self._accepting[slot] = [
            await loop.create_server(self._server, sock=each.dup(), backlog=BACKLOG) for each in self._sockets[slot]
        ]

    def _pause(self, slot: int) -> None:
        for each in self._accepting.pop(slot, ()):
            each.close()

    def _accept(self, accept: bool) -> None:
        """Clients that aren't accepted wait in the sockets' queues."""
        if not accept:
            for slot in list(self._accepting):
                self._pause(slot)
        elif self._reopening is None or self._reopening.done():
            self._reopening = asyncio.get_running_loop().create_task(self._reopen())

    async def _reopen(self) -> None:
        for slot in list(self._sockets):
            if slot not in self._accepting:
                await self._open(slot)


def _is_any(bound: Any) -> bool:
    return ipaddress.ip_address(bound[0]).is_unspecified
