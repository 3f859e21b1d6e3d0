"""A client's reads: where in them each request's head begins and ends, and what is too long. Pure.

    one read:   │ rest of a body │ head │ body │ head │ body │ begin of a head │
    the calls:    `all_body()`     `head()`      `head()`      `behind()`
                  or `hold()`

    the next:   │ more of that head │ more │ its end │ body │
    the calls:    `head_goes_on()`    same   `head()`

The caller's parser has seen each read before we do. It says how many heads ended in the read, and how many bytes of
each body it has taken. It doesn't say where in the read they lay, and that is found here. Where TCP split the bytes
means nothing: any split of the same bytes has the same heads begin, end, and be too long.
"""

import re
from typing import Final

_HEAD_END: Final = b"\r\n\r\n"
_head_end: Final = re.compile(_HEAD_END).search  # in a head's many short lines, twice as fast as bytes.find
_EMPTY_LINES: Final = b"\r\n"
_SPACE: Final = 0x20  # no head begins with a byte up to this one


class RequestReads:
    """The reads of one connection, in their order."""

    __slots__ = (
        *("_bare_bytes", "_bare_since", "_body_bytes", "_tail"),
        *("begun_bytes", "behind_at", "held", "last", "max_head_bytes"),
    )

    def __init__(self, max_head_bytes: int) -> None:
        """`max_head_bytes`: a head may have so many bytes, its empty line included."""
        self.max_head_bytes = max_head_bytes
        self.begun_bytes = 0  # of a head that has begun and isn't whole yet
        self.held = b""  # bytes that the parser was given and has put off; they belong before the next read
        self.last = False  # `end()` was called
        self._tail = b""  # the last 3 bytes of the head that has begun, which may be the beginning of its end
        self.behind_at = 0  # in this read: where the last message that was found ends, if something lies behind it
        self._body_bytes = 0  # what the parser has taken of the last request's body
        self._bare_bytes = 0  # of that body, read without data
        self._bare_since = 0  # what the parser had taken of the body when those began

    def head(self, read: bytes, body_bytes: int) -> bool:
        """The next head that ended in this read; `body_bytes` of its body are here too. Returns whether it's too long.

        To be called once for each head, in their order.
        """
        start = self.behind_at
        found = _head_end(read, start)
        if self.begun_bytes or found is None or read[start] <= _SPACE:
            return self._unusual_head(read, body_bytes)
        end = found.end()
        at = end + body_bytes
        self._body_bytes = body_bytes
        self.behind_at = 0 if at == len(read) else at
        return end - start > self.max_head_bytes

    def _unusual_head(self, read: bytes, body_bytes: int) -> bool:
        """A head that began in an earlier read, or behind empty lines."""
        start, tail, begun_bytes = self.behind_at, self._tail, self.begun_bytes
        self.forget_head()
        if not begun_bytes:
            start = len(read) - len(read[start:].lstrip(_EMPTY_LINES))
        window = tail + read if begun_bytes else read
        found = window.find(_HEAD_END, start)
        # The caller's parser takes nothing for a head that doesn't end so. If it did, the read would be one head.
        end = found + len(_HEAD_END) - len(tail) if found >= 0 else len(read) - body_bytes
        at = end + body_bytes
        self._body_bytes = body_bytes
        self.behind_at = 0 if at == len(read) else at
        return begun_bytes + end - start > self.max_head_bytes

    def behind(self, read: bytes) -> bool:
        """What lies at `behind_at`, if the last request's body has ended. Returns whether another head begins there."""
        at, self.behind_at = self.behind_at, 0
        return self.head_goes_on(read[at:])

    def head_goes_on(self, read: bytes) -> bool:
        """A read in which no head ends, and which is of no body. Returns whether a head begins in it."""
        begins = not self.begun_bytes
        if begins:
            read = read.lstrip(_EMPTY_LINES)  # empty lines before a request mean nothing
            if self.last or not read:
                return False
        self.begun_bytes += len(read)
        self._tail = (self._tail + read[-3:])[-3:]
        return begins

    @property
    def head_too_long(self) -> bool:
        """Whether the head that has begun is too long already."""
        return self.begun_bytes > self.max_head_bytes

    def forget_head(self) -> None:
        """The head that has begun is over: it was parsed, or refused."""
        self.begun_bytes = 0
        self._tail = b""

    def end(self) -> None:
        """The connection ends with the request that came last: what lies behind it means nothing."""
        self.last = True
        self.forget_head()

    def all_body(self, read_bytes: int, body_bytes: int) -> bool:
        """A read that begins in a body; `body_bytes`: what the parser has taken of it by now.

        Returns whether there is nothing more to do: all of the read was the body's data, as it mostly is, or there was
        data in the last request's body, behind which nothing counts.
        """
        taken = body_bytes - self._body_bytes
        self._body_bytes = body_bytes
        if taken == read_bytes or (taken and self.last):
            return True
        self.behind_at = taken
        return False

    def hold(self, read: bytes) -> None:
        """The parser has put off what lies behind the last message that was found. It belongs before the next read."""
        at, self.behind_at = self.behind_at, 0
        if not self.last:
            self.held = read[at:]

    def with_held(self, read: bytes) -> bytes:
        """This read, behind what the parser had put off."""
        read, self.held = self.held + read, b""
        return read

    def too_bare(self, read_bytes: int) -> bool:
        """A read of the last request's body without data. Returns whether there are too many such bytes in a row.

        They are chunk extensions or trailers. The parser keeps some of them, and has no limit for all.
        """
        if self._bare_since != self._body_bytes:
            self._bare_since = self._body_bytes
            self._bare_bytes = 0
        self._bare_bytes += read_bytes
        return self._bare_bytes > self.max_head_bytes
