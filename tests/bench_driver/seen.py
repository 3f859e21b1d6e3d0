"""The upstream that all drivers ask: it answers with bytes made beforehand, and notes when each request came.

`dyno drive` takes it for a proxy (`GET /endpoints`), so that no proxy's time is in its figures.
"""

import asyncio
import json
import re
import time
from array import array
from typing import Any, Final

from bench.messages import ANSWER, CONTENT_LENGTH, MODEL, Script
from bench.upstream import Upstream, listen

ENDPOINT: Final = "up"
_STREAMED: Final = re.compile(rb'"stream": ?true')
_DUE_AT: Final = re.compile(rb"dyno\.due_at_unix_us=(\d+)")


class Seen:
    """What came since it was made, or since `again`. Stamps are nanoseconds, in the order of arrival."""

    def __init__(self) -> None:
        self.script = Script(chunks=1)  # of every stream
        self.open = 0
        self.again()

    def again(self) -> None:
        self.arrived_ns = array("q")  # monotonic
        self.late_ns = array("q")  # behind the due time that the request itself says; only dyno's says it
        self.most_open = 0
        self.chunks = 0  # that were written


class SeeingUpstream(Upstream):
    """One connection of a driver."""

    seen: Seen

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        received = self._received + data
        head_end = received.find(b"\r\n\r\n") + 4
        length = CONTENT_LENGTH.search(received)
        if head_end < 4 or (length is not None and len(received) < head_end + int(length[1])):
            self._received = received
            return
        self._received = b""
        if not received.startswith(b"POST") or b"/completions" not in received[: received.find(b"\r\n")]:
            self._transport.write(_about(received))
            return
        seen = self.seen
        seen.arrived_ns.append(now_ns)
        due = _DUE_AT.search(received, 0, head_end)
        if due is not None:
            seen.late_ns.append(time.time_ns() - int(due[1]) * 1000)
        if _STREAMED.search(received, head_end) is None:
            self._transport.write(ANSWER)
            return
        seen.open += 1
        seen.most_open = max(seen.open, seen.most_open)
        self._streaming = True
        self._stream(seen.script, now_ns)

    _streaming = False

    def _write(self) -> None:
        self.seen.chunks += 1
        super()._write()

    def _over(self) -> None:
        if self._streaming:
            self._streaming = False
            self.seen.open -= 1

    def _ended(self) -> None:
        self._over()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._over()


async def seeing() -> tuple[asyncio.Server, int, Seen]:
    """It listens on a free port of this machine; returns the port too."""
    seen = Seen()
    server, port = await listen(type("Seeing", (SeeingUpstream,), {"seen": seen}))
    return server, port, seen


def _about(request: bytes) -> bytes:
    path = request.split(b" ", 2)[1].decode("latin-1")
    document: dict[str, Any]
    if path.endswith("/endpoints"):
        endpoint = {"name": ENDPOINT, "url": "http://127.0.0.1/v1", "model": MODEL}
        document = {"endpoints": [endpoint], "version": "benchmark", "max_requests": None}
    elif path.endswith("/models"):
        document = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
    else:
        document = {}
    body = json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
