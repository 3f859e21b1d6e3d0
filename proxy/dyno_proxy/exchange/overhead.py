"""What the proxy itself added to a request. Pure."""


def overhead_us(ready_ns: int | None, sent_ns: int | None, write_lag_ns: int | None) -> int | None:
    """What the proxy added: (sent - ready) + (a read's write - the read).

    Ready is the later of body_received and connected. For a streamed response the read is that of the first token,
    otherwise that of the last byte.
    """
    if write_lag_ns is None or sent_ns is None or ready_ns is None:
        return None
    # A body may be sent on before its last byte has come. Then the proxy waits for the client: no overhead.
    return ((sent_ns - ready_ns if sent_ns > ready_ns else 0) + write_lag_ns) // 1000
