"""The messages between a worker and its parent, over a socket that both hold open while they live."""

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
    """Take on this configuration."""

    config: Config


class Listen(msgspec.Struct, tag=True):
    """Accept this slot's connections too: its own worker has ended."""

    slot: int


class Release(msgspec.Struct, tag=True):
    """Accept this slot's connections no longer: it has a worker again."""

    slot: int


class Stop(msgspec.Struct, tag=True):
    """Drain and end. `at_once`: don't wait for running requests."""

    at_once: bool


class Ready(msgspec.Struct, tag=True):
    """The worker serves."""


class Taken(msgspec.Struct, tag=True):
    """This configuration is in force, but for the keys `waiting`, which need a restart."""

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
        """The link over this end of a socket pair."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end))

    def tell(self, message: Order | Answer) -> None:
        """Send a message. Never waits or fails: a worker's end, or None from `order()`, tells that it is gone."""
        if not self._writer.is_closing():
            body = msgspec.msgpack.encode(message)
            self._writer.write(len(body).to_bytes(_LENGTH_BYTES) + body)

    async def order(self) -> Order | None:
        """The parent's next order; None when the parent is gone."""
        body = await self._message()
        return None if body is None else _ORDER.decode(body)

    async def answer(self) -> Answer | None:
        """The worker's next answer; None when the worker is gone."""
        body = await self._message()
        return None if body is None else _ANSWER.decode(body)

    def close(self) -> None:
        """Close this end."""
        self._writer.close()

    async def _message(self) -> bytes | None:
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
            return await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


_ORDER: Final = msgspec.msgpack.Decoder(Order)
_ANSWER: Final = msgspec.msgpack.Decoder(Answer)
