"""round_trip.py: what the kernel says of a connection, and nothing where it says nothing."""

import socket
import sys

import pytest

from dyno_proxy.upstream.round_trip import round_trips_us


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it")
def test_an_open_connection_has_both() -> None:
    """An established connection has a smoothed round trip, and a shortest one that isn't longer; in whole µs."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        rtt_us, min_rtt_us = round_trips_us(connection)
    assert rtt_us is not None
    assert min_rtt_us is not None
    assert 0 < min_rtt_us <= rtt_us < 10_000_000


def test_what_has_no_round_trip() -> None:
    """A socket that was closed, that isn't TCP, or that isn't connected: nothing is known, and nothing is raised."""
    closed = socket.socket()
    closed.close()
    one, other = socket.socketpair()
    with one, other, socket.create_server(("127.0.0.1", 0)) as listening:
        assert [round_trips_us(each) for each in (closed, one, listening)] == [(None, None)] * 3
