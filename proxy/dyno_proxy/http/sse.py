"""Cuts a stream of server-sent events into its events' data. It doesn't matter how the bytes are split. Pure.

The format is that of WHATWG HTML, section 9.2. Lines end in LF, CR or CRLF. An empty line ends an event. The `data`
lines of one event are joined by LF. Lines that begin with a colon are comments.
"""

from collections.abc import Callable
from typing import Final, Protocol

MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
LONG_EVENT_BYTES: Final = 8 * 1024  # an event of more is skimmed, if somebody does that
_UNDECIDED_BYTES: Final = 1024  # as many line ends before a body's beginning leave open what it is
_NAME_BYTES: Final = 128  # of a line with an event's name
_BOM: Final = b"\xef\xbb\xbf"
_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


def is_stream(begun: bytes, *, end: bool) -> bool | None:
    """Whether a body that begins with these bytes is a stream of SSE events; None while more bytes must decide.

    `end`: the body has no more bytes. JSON never begins with an SSE field or comment.
    """
    received_bytes = len(begun)
    begun = begun.removeprefix(_BOM).lstrip(b"\r\n")
    if begun.startswith(_BEGINNINGS):
        return True
    if end or received_bytes > _UNDECIDED_BYTES or not any(each.startswith(begun) for each in (*_BEGINNINGS, _BOM)):
        return False
    return None


class Named(bytes):
    """An SSE event's data, whose `event` line says what the data itself doesn't: that it is an error, or its type."""

    name: str


# The names by which the APIs tell their events apart. They stand in the data too, if all is well.
_NAMES: Final = (b"response.", b"message_", b"content_block_")


class Skimming(Protocol):
    """Takes a long event's data piece by piece, and keeps what matters in it."""

    def feed(self, piece: bytes) -> None:
        """Take the data's next bytes."""
        ...

    def finish(self) -> bytes | None:
        """What remains of the data, which has ended; None where it was given up."""
        ...


class SseScanner:
    """Cuts a stream into SSE events. Any split of the same bytes gives the same events.

    `skim` makes what takes a long event's data. In the place of that stands then what it keeps of it. Without `skim`
    events are kept whole.
    """

    __slots__ = (
        *("_at_start", "_between", "_dropping", "_long", "_long_bytes", "_max_event_bytes", "_newline", "_pending"),
        *("_skim", "_skip_lf", "_whole_bytes", "oversized"),
    )

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES, skim: Callable[[], Skimming] | None = None) -> None:
        self._max_event_bytes = max_event_bytes
        self._skim = skim
        # What has no more bytes can't hold a longer event than is kept whole.
        self._whole_bytes = max_event_bytes if skim is None else min(max_event_bytes, LONG_EVENT_BYTES)
        self._long: _LongEvent | None = None  # an unfinished event that is being skimmed
        self._long_bytes = 0  # of it so far
        self._pending = bytearray()  # an unfinished event's bytes, never rescanned
        self._dropping = False  # the pending event is too long: the rest of it is dropped
        self._newline = False  # the bytes so far end in a line end, which is held back: it may be half of an empty line
        self._skip_lf = False  # the last byte was a CR: an LF that follows belongs to it
        self._at_start = True
        self._between = False  # nothing of an event is pending, not even half a line end
        self.oversized = 0  # how many events were too long, or given up when they were skimmed

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
            if data.count(b"\n") == 2 * len(events) and (
                len(data) <= self._whole_bytes or max(map(len, events)) + 6 <= self._whole_bytes
            ):
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
            if self._pending or self._dropping or self._long is not None or len(block) > self._whole_bytes:
                if self._is_long(block):
                    events += self._end_long(block)
                    continue
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
        self._between = not (
            self._pending or self._newline or self._skip_lf or self._dropping or self._at_start or self._long
        )
        return events

    def finish(self) -> list[bytes]:
        """The body has ended; returns the last event if its empty line is missing, as some servers leave it out."""
        if self._long is not None:
            return self._end_long(b"")
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
        if self._is_long(piece):
            self._go_on_with_long(piece)
            return
        self._pending += piece
        if len(self._pending) > self._max_event_bytes:
            self._pending.clear()
            self._dropping = True
            self.oversized += 1

    def _is_long(self, piece: bytes) -> bool:
        """Whether the event that goes on with this piece is one to be skimmed."""
        if self._long is not None:
            return True
        return self._skim is not None and not self._dropping and len(self._pending) + len(piece) > LONG_EVENT_BYTES

    def _go_on_with_long(self, piece: bytes) -> None:
        if self._long is None and self._skim is not None:
            self._long = _LongEvent(self._skim())
            self._long_bytes = 0
            piece = bytes(self._pending) + piece
            self._pending.clear()
        self._long_bytes += len(piece)
        if self._long is not None and self._long_bytes <= self._max_event_bytes:
            self._long.feed(piece)
        else:
            self._long = None
            self._dropping = True
            self.oversized += 1

    def _end_long(self, end: bytes) -> list[bytes]:
        """The data of the event that was skimmed, and whose last bytes are `end`; none where it was given up."""
        self._go_on_with_long(end)
        if self._long is None:  # it has become too long
            self._dropping = False
            return []
        found, self._long = self._long.finish(), None
        if found is None:
            self.oversized += 1
            return []
        return found

    def _take_pending(self, end: bytes) -> bytes:
        """The whole pending event, whose last bytes are `end`; empty where the event is too long."""
        whole = bytes(self._pending) + end
        self._pending.clear()
        if self._dropping or len(whole) > self._max_event_bytes:
            self.oversized += not self._dropping
            self._dropping = False
            return b""
        return whole


class _LongEvent:
    """The lines (LF only) of one event, as they come. Hands the data in them on, and keeps nothing itself."""

    def __init__(self, skim: Skimming) -> None:
        self._skim = skim
        self._line = b""  # the beginning of a line whose field isn't known yet
        self._in_data: bool | None = None  # whether the line is of the data; None: not known yet
        self._has_data = False
        self._name = b""

    def feed(self, piece: bytes) -> None:
        """Take the event's next bytes."""
        first, *others = piece.split(b"\n")
        self._go_on(first)
        for part in others:
            self._end_line()
            self._go_on(part)

    def finish(self) -> list[bytes] | None:
        """The event has ended. Returns what remains of its data, if it has any; None where it was given up."""
        self._end_line()
        if not self._has_data:
            return []
        data = self._skim.finish()
        return None if data is None else [_named(data, self._name)]

    def _go_on(self, part: bytes) -> None:
        if self._in_data:
            self._skim.feed(part)
        elif self._in_data is None:
            self._line += part
            # With one byte more the space behind it can be told, too. The name of the event is taken at its line's end.
            if len(self._line) > len(b"data:") and not (b"event:".startswith(self._line[:6]) and self._is_short()):
                self._begin_line()

    def _is_short(self) -> bool:
        return len(self._line) <= _NAME_BYTES

    def _begin_line(self) -> None:
        line, self._line = self._line, b""
        if line.startswith(b"event:"):
            self._name = line[6:].strip()
        field, colon, value = line.partition(b":") if line.startswith(b"data:") else (line, b"", b"")
        self._in_data = field == b"data"
        if self._in_data:
            if self._has_data:
                self._skim.feed(b"\n")
            self._has_data = True
            if colon:
                self._skim.feed(value.removeprefix(b" "))

    def _end_line(self) -> None:
        if self._in_data is None:
            self._begin_line()
        self._in_data = None


def _data_of(block: bytes) -> bytes | None:
    """The data of one event's lines (LF only); None where it has no `data` line."""
    data = []
    name = b""
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.strip()
    if not data:
        return None
    joined = b"\n".join(data)
    return _named(joined, name) if name else joined


def _named(data: bytes, name: bytes) -> bytes:
    if name == b"error" or (name.startswith(_NAMES) and name not in data):
        named = Named(data)
        named.name = name.decode("utf-8", "replace")
        return named
    return data
