"""HTTP/1.1 as a client reads it: the head of an answer, and where its body ends (RFC 9112). Pure: bytes go in.

head ─▶ 1xx: another head
     ─▶ length known ─▶ ended          (Content-Length, or a status that has no body)
     ─▶ in chunks ─▶ trailer ─▶ ended  (Transfer-Encoding: chunked)
     ─▶ until the connection ends
"""

import re
import zlib
from typing import Final, NamedTuple

LARGEST_HEAD_BYTES: Final = 128 * 1024
_LARGEST_LINE_BYTES: Final = 16 * 1024  # of a chunk's size with its extensions, or of a trailer

_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) +(\d{3})(?: *| +([^\r\n]*))\r?", re.ASCII)
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
_LENGTH: Final = re.compile(r"\d{1,15}", re.ASCII)


class NotHttpError(Exception):
    """The bytes are no answer of HTTP/1.1; the message says what is wrong with them."""


class Head(NamedTuple):
    """The head of an answer. Names of headers are in lower case; of a name that comes twice, the values are joined."""

    status: int
    reason: str
    headers: dict[str, str]
    keeps_open: bool  # the server lets the connection be used again

    @property
    def media_type(self) -> str:
        """The Content-Type without its parameters, in lower case; empty if there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class AnswerReader:
    """Reads one answer. `feed` takes bytes, cut anywhere, and returns those of the body.

    `head` is None until it is complete. `ended`: the body's last byte has come; what is beyond it is in `excess`.
    """

    def __init__(self) -> None:
        self.head: Head | None = None
        self.ended = False
        self.excess = b""
        self._held = b""  # an incomplete head, or an incomplete line between chunks
        self._left: int | None = None  # bytes of the body, or of a chunk; None: until the connection ends
        self._chunked = False
        self._after_data = False  # a chunk's data is complete, its line end isn't
        self._in_trailer = False
        self._decoder: zlib._Decompress | None = None

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; returns those of the body that they bring. Raises NotHttpError."""
        if self.head is None:
            data = self._begin(data)
            if self.head is None or self.ended:
                return b""
        if self._chunked:
            body = self._from_chunks(data)
        elif self._left is None:
            body = data
        else:
            body = data[: self._left]
            self._left -= len(body)
            if not self._left:
                self._end(data[len(body) :])
        return body if self._decoder is None else self._decoded(body)

    def connection_ended(self) -> bool:
        """Whether the answer is complete now that the connection has ended."""
        self.ended = self.ended or (self.head is not None and not self._chunked and self._left is None)
        return self.ended

    def _begin(self, data: bytes) -> bytes:
        """Read heads up to the final one; returns what follows it."""
        data = self._held + data
        while True:
            end = _head_end(data)
            if end < 0:
                if len(data) > LARGEST_HEAD_BYTES:
                    raise NotHttpError(f"the answer's head is over {LARGEST_HEAD_BYTES // 1024} KiB")
                if len(data) >= 5 and not data.startswith(b"HTTP/"):
                    raise NotHttpError(f"no HTTP: {_shown(data)}")
                self._held = data
                return b""
            head, data = _head(data[:end]), data[end:]
            if head.status >= 200 or head.status == 101:
                break  # others only announce the final one
        self.head, self._held = head, b""
        self._frame(head)
        if self.ended:
            self.excess = data
        return data

    def _frame(self, head: Head) -> None:
        coding = head.headers.get("transfer-encoding", "").strip().lower()
        length = head.headers.get("content-length")
        if head.status in (101, 204, 304):
            self._left = 0
        elif coding:
            if coding != "chunked":
                raise NotHttpError(f"unknown Transfer-Encoding: {coding}")
            self._chunked, self._left = True, 0
        elif length is not None:
            told = {part.strip() for part in length.split(",")}
            [only] = told if len(told) == 1 else [""]
            if not _LENGTH.fullmatch(only):
                raise NotHttpError(f"Content-Length: {length}")
            self._left = int(only)
        self.ended = self._left == 0 and not self._chunked
        coding = head.headers.get("content-encoding", "").strip().lower()
        if coding in ("gzip", "x-gzip", "deflate") and not self.ended:
            self._decoder = zlib.decompressobj(wbits=47)  # a gzip or zlib header, whichever comes
        elif coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise NotHttpError(f"Content-Encoding: {coding}, which wasn't asked for")

    def _from_chunks(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        pieces, at = [], 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._after_data = not self._left
                pieces.append(piece)
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._held = data[at:]
                if len(self._held) > _LARGEST_LINE_BYTES:
                    raise NotHttpError("a chunk's first line doesn't end")
                break
            line = data[at:end].removesuffix(b"\r")
            at = end + 1
            if self._after_data:
                if line:
                    raise NotHttpError("a chunk is longer than it says")
                self._after_data = False
            elif self._in_trailer:
                if not line:
                    self._end(data[at:])
                    break
            else:
                self._size(line)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _size(self, line: bytes) -> None:
        text = line.partition(b";")[0].strip()
        if not _SIZE.fullmatch(text):
            raise NotHttpError(f"a chunk's size: {_shown(line)}")
        self._left = int(text, 16)
        self._in_trailer = not self._left

    def _end(self, excess: bytes) -> None:
        self.ended, self.excess = True, excess

    def _decoded(self, body: bytes) -> bytes:
        decoder = self._decoder
        if decoder is None:
            return body
        try:
            return decoder.decompress(body)
        except zlib.error as error:
            raise NotHttpError(f"the body isn't what its Content-Encoding says: {error}") from error


def _head_end(data: bytes) -> int:
    """Where the head's empty line ends; -1 if it hasn't come."""
    end = data.find(b"\r\n\r\n")
    if end >= 0:
        return end + 4
    end = data.find(b"\n\n")
    return end + 2 if end >= 0 else -1


def _head(data: bytes) -> Head:
    first, *lines = data.decode("latin-1").rstrip("\r\n").split("\n")
    found = _STATUS_LINE.fullmatch(first)
    if found is None:
        raise NotHttpError(f"no HTTP/1.1: {first[:50]}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise NotHttpError(f"a header without a name: {line[:50].strip()}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    told = headers.get("connection")
    options = [] if told is None else [option.strip() for option in told.lower().split(",")]
    keeps_open = "close" not in options and (found[1] == "1" or "keep-alive" in options)
    return Head(int(found[2]), (found[3] or "").strip(), headers, keeps_open)


def _shown(line: bytes) -> str:
    """The beginning of a line, to be shown."""
    return line[:50].decode("utf-8", "replace").strip()
