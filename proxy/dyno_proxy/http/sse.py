"""Cuts a stream of server-sent events into its events' data. It doesn't matter how the bytes are split. Pure.

The format is WHATWG HTML's section 9.2: lines end in LF, CR or CRLF, an empty line ends an event, several `data`
lines of one event are joined by LF, lines that begin with a colon are comments.
"""

from typing import Final

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


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
        self._pending = bytearray()  # the bytes of an unfinished event; they are never scanned again
        self._dropping = False  # the unfinished event is too long, so the rest of it is dropped
        self._newline = False  # the bytes so far end with a line end. It is held back, as half of an empty line perhaps
        self._skip_lf = False  # the last byte was CR: an LF that follows belongs to it
        self._at_start = True  # a byte order mark may still come
        self._between = False  # no part of an event is pending, not even half a line end
        self.oversized = 0  # how many events were dropped, since they were longer than `max_event_bytes`

    def feed(self, data: bytes) -> list[bytes]:
        """Take the stream's next bytes. Returns the `data` of each SSE event that they complete, if it has any."""
        if (  # the read holds whole events of one line each, as nearly all reads of a stream do
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
        """The body has ended. Returns the data of a last event whose empty line is missing, as some servers send it."""
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
