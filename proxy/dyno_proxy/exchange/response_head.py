"""What the head of a response says, as far as an exchange looks at it. Pure."""

from typing import Final

from dyno_proxy.http.content_coding import content_codings
from dyno_proxy.readers import seconds_said

_REQUEST_IDS: Final = (b"x-request-id", b"request-id")
_LOOKED_AT: Final = frozenset((b"content-type", b"content-encoding", b"server", b"retry-after", *_REQUEST_IDS))
_ID_BYTES: Final = 256


def read_head(
    headers: list[tuple[bytes, bytes]],
) -> tuple[bool, tuple[bytes, ...], bool, float | None, str | None]:
    """What the headers say: whether it is a stream of SSE events, by its Content-Type; its content codings; whether
    Dyno simulated it; the wait that it asks for, in s; the endpoint's id of the request. (A tuple is made fastest.)"""
    streamed = simulated = False
    codings: tuple[bytes, ...] = ()
    retry_after_s = request_id = None
    for name, value in headers:
        lowered = name.lower()
        if lowered not in _LOOKED_AT:
            continue
        if lowered == b"content-type":
            streamed = value.split(b";", 1)[0].strip().lower() == b"text/event-stream"
        elif lowered == b"content-encoding":
            codings += content_codings(value)
        elif lowered == b"server":
            simulated = value == b"dyno-simulate"
        elif lowered == b"retry-after":
            retry_after_s = seconds_said(value.decode("latin-1"))
        else:
            request_id = value[:_ID_BYTES].decode("latin-1")
    return streamed, codings, simulated, retry_after_s, request_id
