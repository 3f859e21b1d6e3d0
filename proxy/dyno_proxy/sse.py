"""Server-sent events: bytes in, the events' data out, whatever the split. Pure.

The format is WHATWG HTML's section 9.2: lines end in LF, CR or CRLF, an empty line ends an event, several `data`
lines of one event are joined by LF, lines that begin with a colon are comments.
"""

from typing import Final

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class SseScanner:
    """Cuts a stream into SSE events. Any split of the same bytes gives the same events."""

    __slots__ = ("_at_start", "_newline", "_pending", "_pending_bytes", "_skip_lf", "oversized")

    def __init__(self) -> None:
        self._pending: list[bytes] = []  # an unfinished event's bytes, never rescanned
        self._pending_bytes = 0
        self._newline = False  # the bytes so far end in one line end, held back: it may be half of an empty line
        self._skip_lf = False  # the last byte was CR: an LF that follows belongs to it
        self._at_start = True
        self.oversized = 0  # events longer than MAX_EVENT_BYTES, dropped

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` of each SSE event that these bytes complete; events without data are left out."""
        if not data:
            return []
        if self._at_start:
            data = self._strip_bom(data)
        if self._skip_lf:
            self._skip_lf = False
            if data.startswith(b"\n"):
                data = data[1:]
        if b"\r" in data:
            self._skip_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._newline and data:
            self._newline = False
            data = b"\n" + data

        *blocks, rest = data.split(b"\n\n")
        events = []
        for block in blocks:
            if self._pending_bytes:
                block = self._take_pending(block)
            payload = _data_of(block)
            if payload is not None:
                events.append(payload)
        if rest.endswith(b"\n"):
            self._newline = True
            rest = rest[:-1]
        if rest:
            self._hold(rest)
        return events

    def finish(self) -> list[bytes]:
        """What the end of the body leaves: an event whose empty line is missing. Some servers omit the last one."""
        payload = _data_of(self._take_pending(b""))
        return [] if payload is None else [payload]

    def _strip_bom(self, data: bytes) -> bytes:
        if self._pending_bytes:
            data = self._take_pending(data)
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._hold(data)
            return b""
        self._at_start = False
        return data.removeprefix(_BOM)

    def _hold(self, piece: bytes) -> None:
        self._pending.append(piece)
        self._pending_bytes += len(piece)
        if self._pending_bytes > MAX_EVENT_BYTES:
            # Its beginning is gone; what follows up to the next empty line is a remnant, read as one and ignored.
            self._pending = [b":"]
            self._pending_bytes = 1
            self.oversized += 1

    def _take_pending(self, end: bytes) -> bytes:
        whole = b"".join((*self._pending, end))
        self._pending.clear()
        self._pending_bytes = 0
        return whole


def _data_of(block: bytes) -> bytes | None:
    """The data of one event's lines (LF only); None where it has no `data` line."""
    if block.startswith(b"data:") and b"\n" not in block:
        return block[6:] if block.startswith(b" ", 5) else block[5:]
    data = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
    return b"\n".join(data) if data else None
