"""Tells which user of this machine is at the other end of a connection over loopback. Linux alone tells it.

The kernel answers by sock_diag(7), which `ss` uses too: we name the other end's socket by its addresses and get its
owner. A question takes some 10 µs. Other systems, and containers that have no sock_diag, give no answer.
"""

import os
import socket
import struct
from pathlib import Path
from typing import Any, Final

from dyno_proxy.config.address import is_loopback

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_ALL_STATES: Final = 0xFFFFFFFF
_LISTEN: Final = 10

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ASKED: Final = struct.Struct("=BBBxI")  # struct inet_diag_req_v2 up to its id: family, protocol, extensions, states
_ADDRESSES: Final = struct.Struct("!HH16s16s")  # struct inet_diag_sockid: the socket's ports and addresses
_ANY_SOCKET: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # its rest: interface, cookie
_TOLD: Final = struct.Struct("=BBBB48sIIIII")  # struct inet_diag_msg: …, state, …, id, …, uid, inode


def peer_uid(local: Any, peer: Any) -> int | None:
    """The user id of the socket whose own address is `peer` and that is connected to `local`; None if nobody tells.

    `local`, `peer`: addresses as getsockname() and getpeername() return them.
    """
    try:
        told = _ask(local, peer)
    except OSError:
        return None
    if told is None:
        return None
    _, state, _, _, _, _, _, _, uid, inode = told
    # A socket without an inode was closed by its program: the kernel then says 0, which would be root.
    if state == _LISTEN or not inode or (uid == _overflow_uid() and not _knows_all_users()):
        return None
    return int(uid)


def is_abandoned(local: Any, peer: Any) -> bool:
    """Whether the socket at `peer` is on this machine, and no program has it open any more; False if nobody tells.

    The kernel keeps such a socket until all that was written to it is delivered.
    """
    if not (is_loopback(peer[0]) or peer[0] == local[0]):
        return False
    try:
        told = _ask(local, peer)
    except OSError:
        return False
    return told is not None and told[1] != _LISTEN and not told[-1]


def can_tell() -> bool:
    """Whether this system tells who is at the other end: it is asked for a connection of our own."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()),
            server.accept()[0] as accepted,
        ):
            return peer_uid(accepted.getsockname(), accepted.getpeername()) == os.geteuid()
    except OSError:
        return False


def _ask(local: Any, peer: Any) -> tuple[Any, ...] | None:
    if not hasattr(socket, "AF_NETLINK"):
        return None
    family = socket.AF_INET6 if len(peer) == 4 else socket.AF_INET
    ports_and_addresses = _ADDRESSES.pack(peer[1], local[1], _packed(family, peer[0]), _packed(family, local[0]))
    question = _ASKED.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES) + ports_and_addresses + _ANY_SOCKET
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        header = _HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
        kernel.sendto(header + question, (0, 0))
        answer = kernel.recv(4096, socket.MSG_DONTWAIT)  # it is here as soon as the question is asked
    kind = _HEADER.unpack_from(answer)[1]
    if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < _HEADER.size + _TOLD.size:
        return None
    told = _TOLD.unpack_from(answer, _HEADER.size)
    # Where no such socket is connected, the kernel may name one that listens on its port.
    return told if told[4].startswith(ports_and_addresses) else None


def _packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address.partition("%")[0]).ljust(16, b"\0")


def _overflow_uid() -> int:
    """The id that stands for all users whom this user namespace doesn't know."""
    return int(Path("/proc/sys/kernel/overflowuid").read_text())


def _knows_all_users() -> bool:
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
