"""What the head of a response says, as far as an exchange looks at it. Pure."""

from typing import Final, NamedTuple

from dyno_proxy.http.content_coding import content_codings
from dyno_proxy.readers import seconds_said

_REQUEST_IDS: Final = frozenset((b"x-request-id", b"request-id"))
_ID_BYTES: Final = 256


class ResponseHead(NamedTuple):
    """What the headers say."""

    streamed: bool  # by its Content-Type it is a stream of SSE events
    codings: tuple[bytes, ...]
    simulated: bool
    retry_after_s: float | None
    request_id: str | None


def read_head(headers: list[tuple[bytes, bytes]]) -> ResponseHead:
    """What the headers say."""
    streamed = simulated = False
    codings: tuple[bytes, ...] = ()
    retry_after_s = request_id = None
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"content-type":
            streamed = value.split(b";", 1)[0].strip().lower() == b"text/event-stream"
        elif lowered == b"content-encoding":
            codings += content_codings(value)
        elif lowered == b"server":
            simulated = value == b"dyno-simulate"
        elif lowered == b"retry-after":
            retry_after_s = seconds_said(value.decode("latin-1"))
        elif lowered in _REQUEST_IDS:
            request_id = value[:_ID_BYTES].decode("latin-1")
    return ResponseHead(streamed, codings, simulated, retry_after_s, request_id)
