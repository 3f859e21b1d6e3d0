"""Notices that a client has left while its connection isn't read: nobody else would hear of it.

aiohttp stops reading where a body comes faster than it goes on: the endpoint doesn't read, the proxy still connects,
waits for a token or before a retry. The end of the connection then lies behind bytes that nobody reads. TCP tells some
ends all the same. If the client's kernel still holds bytes that ours has no room for, TCP tells nothing: its end comes
behind them. Where the client is on this machine, the kernel is asked whether its socket still belongs to a program.
Elsewhere the client's kernel gives up after a minute or two, and resets the connection.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final

from .peer_user import is_abandoned

_LOOK_EVERY_S: Final = 0.1
_ASK_EACH: Final = 2  # every so many looks, the kernel is asked, which takes longer
_LEAVING: Final = select.POLLERR | select.POLLHUP | getattr(select, "POLLRDHUP", 0)  # only Linux has POLLRDHUP


class Departure:
    """Aborts a client's connection once the client has left, as long as `unread()` says that nobody reads from it."""

    __slots__ = ("_looks", "_loop", "_timer", "_transport", "_unread")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, unread: Callable[[], bool]
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._unread = unread
        self._timer: asyncio.TimerHandle | None = None
        self._looks = 0

    def watch(self) -> None:
        """Look from now on, until the connection is read again."""
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_EVERY_S, self._look)

    def stop(self) -> None:
        """The connection is closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._transport.is_closing() or not self._unread():
            return
        self._looks += 1
        if self._has_left():
            self._transport.abort()  # aiohttp then cancels the request
        else:
            self.watch()

    def _has_left(self) -> bool:
        connection = self._transport.get_extra_info("socket")
        if connection is None:
            return True
        poll = select.poll()
        poll.register(connection.fileno(), _LEAVING)
        if poll.poll(0):
            return True
        get, asked = self._transport.get_extra_info, self._looks % _ASK_EACH == 0
        return asked and is_abandoned(get("sockname"), get("peername"))
