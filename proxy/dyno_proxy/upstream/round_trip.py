"""The round trip of a TCP connection, as the kernel measures it."""

import socket
import struct
import sys
from typing import Final

# Of struct tcp_info in Linux' include/uapi/linux/tcp.h: tcpi_rtt and tcpi_min_rtt, both in µs. What follows is cut off.
_ROUND_TRIPS: Final = struct.Struct("=68xI76xI")
_NOT_MEASURED: Final = 2**32 - 1
# Every request pays for the call, so it looks nothing up.
_TCP: Final = socket.IPPROTO_TCP
_TCP_INFO: Final = socket.TCP_INFO if sys.platform == "linux" else None
_BYTES: Final = _ROUND_TRIPS.size
_unpack: Final = _ROUND_TRIPS.unpack


def round_trips_us(connection: socket.socket) -> tuple[int | None, int | None]:
    """The connection's smoothed round trip, and its shortest one of the last five minutes. One system call.

    A round trip is None where the kernel doesn't tell it: it isn't Linux, the connection is closed, or isn't TCP.
    """
    if _TCP_INFO is None:
        return None, None
    try:
        rtt_us, min_rtt_us = _unpack(connection.getsockopt(_TCP, _TCP_INFO, _BYTES))
    except (OSError, struct.error):  # closed; or an older kernel, which tells less
        return None, None
    return rtt_us or None, None if min_rtt_us == _NOT_MEASURED else min_rtt_us or None
