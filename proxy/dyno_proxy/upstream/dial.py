"""From a host name to a connected socket: each of its addresses is tried within one time limit."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from aiohappyeyeballs import AddrInfoType, start_connection

Resolve = Callable[[str, int], Coroutine[Any, Any, Sequence[AddrInfoType]]]

_NEXT_ADDRESS_AFTER_S: Final = 0.25  # RFC 8305, section 8
# Without keep-alive probes nobody would notice a peer that vanished while a model was thinking, and firewalls would
# forget the quiet connection. The figures are those of OpenAI's and Anthropic's SDKs.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))


async def look_up(host: str, port: int) -> Sequence[AddrInfoType]:
    """The addresses of a name, in the system's order of preference. Raises socket.gaierror."""
    with contextlib.suppress(socket.gaierror):  # an address needs no lookup, and so no thread
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def dial(addresses: Sequence[AddrInfoType], limit_s: float) -> socket.socket:
    """A socket to the first address that answers. When one fails or is slow, the next is tried (Happy Eyeballs).

    The caller cancels this after `limit_s`; each address is tried before that. Raises OSError where none answers.
    """
    turn_s = min(_NEXT_ADDRESS_AFTER_S, limit_s / (len(addresses) + 1))
    return await start_connection(addresses, happy_eyeballs_delay=turn_s, socket_factory=_socket)


def _socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        if hasattr(socket, option):  # not every system has them
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made
