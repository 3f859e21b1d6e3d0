"""Cuts a stream of server-sent events into its events' data. It doesn't matter how the bytes are split. Pure.

The format is that of WHATWG HTML, section 9.2. Lines end in LF, CR or CRLF. An empty line ends an event. The `data`
lines of one event are joined by LF. Lines that begin with a colon are comments.
"""

from typing import Final

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


def is_stream(begun: bytes, *, end: bool) -> bool | None:
    """Whether a body that begins with these bytes is a stream of SSE events; None while more bytes must decide.

    `end`: the body has no more bytes. JSON never begins with an SSE field or comment.
    """
    begun = begun.removeprefix(_BOM).lstrip(b"\r\n")
    if begun.startswith(_BEGINNINGS):
        return True
    if end or not any(each.startswith(begun) for each in (*_BEGINNINGS, _BOM)):
        return False
    return None


class SseScanner:
    """Cuts a stream into SSE events. Any split of the same bytes gives the same events."""

    __slots__ = (
        "_at_start",
        "_between",
        "_dropping",
        "_max_event_bytes",
        "_newline",
        "_pending",
        "_skip_lf",
        "oversized",
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._pending = bytearray()  # an unfinished event's bytes, never rescanned
        self._dropping = False  # the pending event is too long: the rest of it is dropped
        self._newline = False  # the bytes so far end in a line end, which is held back: it may be half of an empty line
        self._skip_lf = False  # the last byte was a CR: an LF that follows belongs to it
        self._at_start = True
        self._between = False  # nothing of an event is pending, not even half a line end
        self.oversized = 0  # how many events were too long, and dropped

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` of each SSE event that these bytes complete; events without data are left out."""
        if (  # the fast path: whole events of one line each, as in nearly all reads of a stream
            self._between
            and data.startswith(b"data: ")
            and data.endswith(b"\n\n")
            and b"\r" not in data
            and len(data) <= self._max_event_bytes
        ):
            events = data[6:-2].split(b"\n\ndata: ")
            if data.count(b"\n") == 2 * len(events):
                return events
        if self._at_start:
            data = self._strip_bom(data)
        if self._skip_lf and data:
            self._skip_lf = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._skip_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._newline and data:
            self._newline = False
            data = b"\n" + data

        blocks = data.split(b"\n\n")
        rest = blocks.pop()
        events = []
        for block in blocks:
            if self._pending or self._dropping or len(block) > self._max_event_bytes:
                block = self._take_pending(block)
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(block[6:])
            elif block:
                payload = _data_of(block)
                if payload is not None:
                    events.append(payload)
        if rest:
            if rest.endswith(b"\n"):
                self._newline = True
                rest = rest[:-1]
            self._hold(rest)
        self._between = not (self._pending or self._newline or self._skip_lf or self._dropping or self._at_start)
        return events

    def finish(self) -> list[bytes]:
        """The body has ended; returns the last event if its empty line is missing, as some servers leave it out."""
        payload = _data_of(self._take_pending(b""))
        return [] if payload is None else [payload]

    def _strip_bom(self, data: bytes) -> bytes:
        if self._pending:
            data = self._take_pending(data)
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._hold(data)
            return b""
        self._at_start = False
        return data.removeprefix(_BOM)

    def _hold(self, piece: bytes) -> None:
        if self._dropping:
            return
        self._pending += piece
        if len(self._pending) > self._max_event_bytes:
            self._pending.clear()
            self._dropping = True
            self.oversized += 1

    def _take_pending(self, end: bytes) -> bytes:
        """The whole pending event, whose last bytes are `end`; empty where the event is too long."""
        whole = bytes(self._pending) + end
        self._pending.clear()
        if self._dropping or len(whole) > self._max_event_bytes:
            self.oversized += not self._dropping
            self._dropping = False
            return b""
        return whole


def _data_of(block: bytes) -> bytes | None:
    """The data of one event's lines (LF only); None where it has no `data` line."""
    data = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
    return b"\n".join(data) if data else None
