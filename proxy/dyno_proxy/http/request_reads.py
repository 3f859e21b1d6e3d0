"""How long a client's heads are, and what comes in its bodies without data, counted read by read. Pure.

    a read ─┬─ ended heads          requests(): may one of them be longer than a head may be?
            ├─ goes on with a head  head(): does it begin here, and how long is it by now?
            └─ goes on with a body  body(): has too much come without any data?

The parser, which is aiohttp's, says which of the three a read is. It doesn't say where in a read a message ends, and it
has no limit on all of a head, nor on chunk extensions and trailers. So a head's length is known exactly where it fills
its reads alone; elsewhere `requests()` gives an upper bound, and its caller measures the head itself.
"""

from typing import Final

_HEAD_END: Final = b"\r\n\r\n"


class RequestReads:
    """The counts of one connection. Every read goes to one of the methods `requests`, `head` and `body`."""

    __slots__ = ("_bare_bytes", "_behind_bytes", "_body_bytes", "head_bytes")

    def __init__(self) -> None:
        self.head_bytes = 0  # of a head that isn't whole yet
        self._behind_bytes = 0  # of the last read, where a head may have begun in it behind another message
        self._body_bytes = 0  # data of the body so far
        self._bare_bytes = 0  # of the body, since its last data

    def requests(self, data: bytes, count: int, max_head_bytes: int) -> tuple[bool, bool]:
        """The read ended `count` heads.

        Returns whether one of them may be too long, and whether the read holds one message alone from its start.
        """
        may_be_long = self._behind_bytes + self.head_bytes + len(data) > max_head_bytes
        alone = count == 1 and not self.head_bytes and not self._behind_bytes
        self.head_bytes = self._bare_bytes = 0
        self._behind_bytes = len(data)
        return may_be_long, alone

    def behind(self, data: bytes, body_bytes: int) -> bytes:
        """What follows the one message that the read holds from its start; `body_bytes`: how long its body is."""
        if data.startswith((b"\r", b"\n")):  # empty lines before the request
            data = data.lstrip(b"\r\n")
        head_end = data.find(_HEAD_END)
        rest = data[head_end + len(_HEAD_END) + body_bytes :]
        if not rest:
            self._behind_bytes = 0
        return rest

    def head(self, data: bytes) -> bool:
        """The read, or its rest behind a message, ended no head. `head_bytes` grows; True where a head begins."""
        begins = not self.head_bytes
        if begins and not data.strip(b"\r\n"):
            return False  # empty lines before a request mean nothing
        self.head_bytes += len(data)
        return begins

    def body(self, data: bytes, body_bytes: int, max_bare_bytes: int, *, held_back: bool) -> bool:
        """The read goes on with a body that has `body_bytes` of data by now. False once too much came without data.

        `held_back`: nobody reads the body just now, so its data may wait in the parser.
        """
        self._behind_bytes = len(data)
        if body_bytes != self._body_bytes or held_back:
            self._body_bytes = body_bytes
            self._bare_bytes = 0
            return True
        self._bare_bytes += len(data)
        return self._bare_bytes <= max_bare_bytes
