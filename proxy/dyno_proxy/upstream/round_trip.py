"""The round trip of a TCP connection, as the kernel measures it."""

import socket
import struct
import sys
from typing import Final

# Of struct tcp_info in Linux' include/uapi/linux/tcp.h: tcpi_rtt and tcpi_min_rtt, both in µs. What follows is cut off.
_ROUND_TRIPS: Final = struct.Struct("=68xI76xI")
_NOT_MEASURED: Final = (0, 2**32 - 1)


def round_trips_us(connection: socket.socket) -> tuple[int | None, int | None]:
    """The connection's smoothed round trip, and its shortest one of the last five minutes. One system call.

    A round trip is None where the kernel doesn't tell it: it isn't Linux, the connection is closed, or isn't TCP.
    """
    if sys.platform != "linux":
        return None, None
    try:
        rtt_us, min_rtt_us = _ROUND_TRIPS.unpack(
            connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIPS.size)
        )
    except (OSError, struct.error):  # closed; or an older kernel, which tells less
        return None, None
    return None if rtt_us in _NOT_MEASURED else rtt_us, None if min_rtt_us in _NOT_MEASURED else min_rtt_us
