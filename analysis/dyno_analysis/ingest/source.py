"""A file to import as a stream of bytes; its kind is recognised by its content alone.

    FILE ──gzip, zstd, or as it is──▶ Source ──kind()──▶ 'OTLP JSON lines', 'OTLP messages', 'JSON', 'text'
                                        └──lines(), messages(), whole()──▶ pieces with their place in the file

The Collector's file exporter writes one JSON object per line, or messages that each follow their length (4 bytes, big
endian). A message is protobuf. With `compression: zstd`, versions that didn't compress whole files yet wrote each
message, JSON or protobuf, as a zstd frame of its own. If a file's end is missing, its whole pieces are yielded, and
`Source.cut` then says why.
"""

import gzip
import io
import json
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, NamedTuple

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


from dyno_analysis.errors import InputError

Kind = Literal["OTLP JSON lines", "OTLP messages", "JSON", "text", "unknown"]

PIECE_BYTES: Final = 64_000_000  # the longest line or message; the Collector's batches have some megabytes
DOCUMENT_BYTES: Final = 512_000_000  # the longest JSON document, which is held in memory whole

_LOOK_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 16
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_LENGTH: Final = struct.Struct(">I")
_SPANS_FIELD: Final = 0x0A  # TracesData's first byte: field 1, length-delimited
_BROKEN: Final = (EOFError, OSError, zlib.error, zstd.ZstdError)
# The keys of the signals that a Collector writes; a file may hold several.
SIGNALS = ("resourceSpans", "resourceMetrics", "resourceLogs", "resourceProfiles")
# Tempo's API answers with 'batches', where OTLP has 'resourceSpans'; its newer one puts them into 'trace'.
SPANS_OF_TEMPO = ("batches", "trace")
_SCOPES: Final = frozenset(("scopeSpans", "instrumentationLibrarySpans"))
_OTLP_LINE: Final = re.compile(rb'\s*\{\s*"(?:' + "|".join((*SIGNALS, *SPANS_OF_TEMPO)).encode() + rb')"\s*:\s*\S')


class Piece(NamedTuple):
    """A line or a message, and its place in the file. `wrong` says why it couldn't be read; None if it could.

    `ended` is false for a last line without a line end, which may be cut off.
    """

    where: str
    content: bytes
    wrong: str | None = None
    ended: bool = True


class Source:
    """An open file, decompressed. InputError if it can't be opened.

    `cut` says why its end is missing; None as long as that isn't known. Each file is read once, by one of `lines`,
    `messages` and `whole`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut: str | None = None
        try:
            self._file = path.open("rb")
            magic = self._file.read(4)
            self._file.seek(0)
        except OSError as error:
            raise InputError(f"'{path}' can't be read: {error.strerror}") from error
        self._stream: io.BufferedIOBase = self._file
        if magic.startswith(_GZIP):
            self._stream = gzip.GzipFile(fileobj=self._file)
        elif magic == _ZSTD:
            self._stream = zstd.ZstdFile(self._file)
        self._ahead = bytearray()
        self._ended = False
        self._look = self._fill(_LOOK_BYTES)

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def kind(self) -> Kind:
        """The file's kind, by its first megabyte."""
        start = bytes(self._ahead[:_LOOK_BYTES])
        if _is_message(start):
            return "OTLP messages"
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if text.startswith((b"{", b"[")):
            return "OTLP JSON lines" if _has_otlp_line(text) else "JSON"
        return "text" if text and b"\0" not in text else "unknown"

    def lines(self) -> Iterator[Piece]:
        """The lines that aren't empty, without their line ends. `where` has the line's number."""
        number = 0
        while True:
            end = self._ahead.find(b"\n")
            searched = len(self._ahead)
            while end < 0 and searched <= PIECE_BYTES and self._fill(_READ_BYTES):
                end = self._ahead.find(b"\n", searched)
                searched = len(self._ahead)
            if end < 0 and searched > PIECE_BYTES:
                number += 1
                self._skip_line()
                yield Piece(f"line {number}", b"", f"longer than {PIECE_BYTES:,} bytes")
                continue
            if end < 0 and (not self._ahead or self.cut):
                return  # a line that is cut off can't be read
            line = bytes(self._ahead[: end if end >= 0 else len(self._ahead)])
            del self._ahead[: len(line) + 1]
            number += 1
            if line.strip():
                yield Piece(f"line {number}", line.rstrip(b"\r"), ended=end >= 0)

    def messages(self) -> Iterator[Piece]:
        """The messages, decompressed if they were compressed one by one. `where` has the message's number."""
        number = 0
        while self._have(_LENGTH.size):
            (length,) = _LENGTH.unpack_from(self._ahead)
            number += 1
            where = f"message {number}"
            if length > PIECE_BYTES:
                yield Piece(where, b"", f"its length is {length:,} bytes, which is too long; the rest is left out")
                return
            if not self._have(_LENGTH.size + length):
                self.cut = self.cut or "it ends inside a message"
                return
            message = bytes(self._ahead[_LENGTH.size : _LENGTH.size + length])
            del self._ahead[: _LENGTH.size + length]
            yield _decompressed(where, message)
        if self._ahead:
            self.cut = self.cut or "it ends inside a message's length"

    def whole(self) -> bytes:
        """The whole document; InputError if it is too large or its end is missing."""
        while len(self._ahead) <= DOCUMENT_BYTES and self._fill(_READ_BYTES * 16):
            pass
        if len(self._ahead) > DOCUMENT_BYTES:
            raise InputError(f"'{self.path}' is too large: its JSON document has more than {DOCUMENT_BYTES:,} bytes")
        if self.cut:
            raise InputError(f"'{self.path}' is cut off: {self.cut}; a JSON document must be whole")
        return bytes(self._ahead)

    def _have(self, size: int) -> bool:
        while len(self._ahead) < size:
            if not self._fill(max(_READ_BYTES, size - len(self._ahead))):
                return False
        return True

    def _fill(self, size: int) -> bool:
        """Read at most about `size` more bytes; False if the file has ended, whole or cut off."""
        filled = 0
        while filled < size and not self._ended:
            try:
                # One step of decompression at a time, so that all before a broken place is read.
                content = self._stream.read1(min(_READ_BYTES, size - filled))
            except _BROKEN as error:
                self.cut = "its compressed content ends early" if isinstance(error, EOFError) else str(error)
                content = b""
            if not content:
                self._ended = True
            self._ahead += content
            filled += len(content)
        return filled > 0

    def _skip_line(self) -> None:
        while True:
            end = self._ahead.find(b"\n")
            if end >= 0:
                del self._ahead[: end + 1]
                return
            self._ahead.clear()
            if not self._fill(_READ_BYTES):
                return


def _is_message(start: bytes) -> bool:
    if len(start) <= _LENGTH.size:
        return False
    (length,) = _LENGTH.unpack_from(start)
    content = start[_LENGTH.size :]
    return 0 < length <= PIECE_BYTES and (content[0] == _SPANS_FIELD or content.startswith(_ZSTD))


def _has_otlp_line(text: bytes) -> bool:
    """Whether a line is an OTLP object. If the first megabyte has no whole line, whether it begins like one."""
    *lines, rest = text.split(b"\n")
    if not lines:
        return _OTLP_LINE.match(rest) is not None
    for line in lines:
        if _OTLP_LINE.match(line):
            try:
                return is_otlp(json.loads(line))
            except ValueError:
                continue
    return False


def _decompressed(where: str, message: bytes) -> Piece:
    if not message.startswith(_ZSTD):
        return Piece(where, message)
    try:
        with zstd.ZstdFile(io.BytesIO(message)) as frame:
            content = frame.read(PIECE_BYTES + 1)
    except _BROKEN as error:
        return Piece(where, b"", f"zstd: {error}")
    if len(content) > PIECE_BYTES:
        return Piece(where, b"", f"longer than {PIECE_BYTES:,} bytes once decompressed")
    return Piece(where, content)


def is_otlp(document: object) -> bool:
    """Whether a parsed JSON document is an OTLP message, of spans or of another signal."""
    return isinstance(document, dict) and (any(signal in document for signal in SIGNALS) or _is_tempo(document))


def _is_tempo(document: dict[str, object]) -> bool:
    trace = document.get("trace")
    if isinstance(trace, dict):
        return "resourceSpans" in trace or _is_tempo(trace)
    batches = document.get("batches")
    return isinstance(batches, list) and all(isinstance(b, dict) and _SCOPES & b.keys() for b in batches)
