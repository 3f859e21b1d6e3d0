"""What the proxy itself added to a request. Pure."""


def overhead_us(
    connected_ns: int | None, body_received_ns: int | None, sent_ns: int | None, write_lag_ns: int | None
) -> int | None:
    """What the proxy added: (sent - the later of body_received and connected) + (a read's write - the read).

    For a streamed response the read is that of the first token, otherwise that of the last byte.
    """
    if write_lag_ns is None or sent_ns is None or connected_ns is None:
        return None
    ready_ns = max(connected_ns, body_received_ns or 0)
    # A body may be sent on before its last byte has come. Then the proxy waits for the client: no overhead.
    return ((sent_ns - ready_ns if sent_ns > ready_ns else 0) + write_lag_ns) // 1000
