"""The messages between a worker and its parent, and the socket that carries them as long as both live."""

import asyncio
import socket
from typing import Final

import msgspec

from dyno_proxy.config.schema import Config

_LENGTH_BYTES: Final = 4


class Serve(msgspec.Struct, tag=True):
    """The parent's first order. It holds all that a worker needs to know."""

    config: Config
    slot: int  # the worker's own
    figures: str  # folder of the figures that workers share
    sockets: list[list[int]]  # by slot: file descriptors of the sockets for clients
    metrics_sockets: list[list[int]]  # by slot: file descriptors of the sockets for metrics


class Reload(msgspec.Struct, tag=True):
    """Take on this configuration. The worker answers Taken or Refused."""

    config: Config


class Listen(msgspec.Struct, tag=True):
    """Accept this slot's connections too, since its own worker is gone."""

    slot: int


class Release(msgspec.Struct, tag=True):
    """Accept no more of this slot's connections, since its own worker is back."""

    slot: int


class Stop(msgspec.Struct, tag=True):
    """Finish the running requests, then end. With `at_once`: cut them off instead."""

    at_once: bool


class Ready(msgspec.Struct, tag=True):
    """The worker serves."""


class Taken(msgspec.Struct, tag=True):
    """A new configuration is in force."""

    config: Config  # as it is in force: keys that need a restart have their old values
    waiting: list[str]  # the keys that changed but need a restart


class Refused(msgspec.Struct, tag=True):
    """The worker can't serve the configuration."""

    why: str


Order = Serve | Reload | Listen | Release | Stop
Answer = Ready | Taken | Refused


class Link:
    """One end of the socket between a worker and its parent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> "Link":
        """A link over this end of a connected pair of sockets."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end))

    def tell(self, message: Order | Answer) -> None:
        """Send a message. This never waits and never fails.

        The parent notices that a worker is gone when its process ends; a worker notices it of its parent when `order`
        returns None.
        """
        if not self._writer.is_closing():
            body = msgspec.msgpack.encode(message)
            self._writer.write(len(body).to_bytes(_LENGTH_BYTES) + body)

    async def order(self) -> Order | None:
        """Wait for the parent's next order; None when the parent is gone."""
        body = await self._message()
        return None if body is None else _ORDER.decode(body)

    async def answer(self) -> Answer | None:
        """Wait for the worker's next answer; None when the worker is gone."""
        body = await self._message()
        return None if body is None else _ANSWER.decode(body)

    def close(self) -> None:
        """Close this end. The other end then sees that this process is gone."""
        self._writer.close()

    async def _message(self) -> bytes | None:
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


_ORDER: Final = msgspec.msgpack.Decoder(Order)
_ANSWER: Final = msgspec.msgpack.Decoder(Answer)
