"""Undoes content codings on the proxy's own copy of a response, as it streams, within bounds. Pure.

It knows gzip, deflate (with zlib's frame and without), br, zstd, and several codings one upon another. A hostile
response may expand a millionfold. So each coding's output is bounded before it is made, and more is an error.
"""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

# Why a response can't be looked into
ENCODING: Final = "encoding"  # the coding is unknown, or the bytes aren't in that coding
TOO_LONG: Final = "too_long"  # it would be longer than allowed once decompressed

MAX_MEMBERS: Final = 10_000  # gzip's members or zstd's frames. Each takes some µs, and only 20 bytes of input
MAX_CODINGS: Final = 3  # one upon another
_ZSTD_WINDOW_LOG: Final = 23  # 8 MiB, the most that RFC 9659 lets a server ask of a client
PIECE_BYTES: Final = 64 * 1024  # of output at a time
_BEGINNING_BYTES: Final = 1024  # compressed, they show what a body is
_SLICE_BYTES: Final = 16 * 1024  # zlib copies the rest of its input at the end of a member; of a slice that is little


class UndecodableError(Exception):
    """The response can't be looked into; `why` is ENCODING or TOO_LONG."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def content_codings(value: bytes) -> tuple[bytes, ...]:
    """The codings in a Content-Encoding header, in the order in which they were applied, without `identity`."""
    codings = (coding.strip() for coding in value.lower().split(b","))
    return tuple(coding for coding in codings if coding not in (b"", b"identity"))


class Decompressor:
    """Undoes `codings`, which were applied in this order.

    The output may have `base_bytes`, and `ratio` more for each byte received. Raises UndecodableError where a coding
    isn't known.
    """

    def __init__(self, codings: Iterable[bytes], base_bytes: int, ratio: int = 0) -> None:
        outermost_first = list(codings)[::-1]
        if len(outermost_first) > MAX_CODINGS or not all(coding in _DECODERS for coding in outermost_first):
            raise UndecodableError(ENCODING)
        self._decoders: list[_Decoder] = [_DECODERS[coding]() for coding in outermost_first]
        inner = len(self._decoders) - 1
        # The bytes that each coding may still put out. Compressed bytes don't shrink much by another coding.
        self._left = [*[_SLICE_BYTES] * inner, base_bytes]
        self._ratios = [*[2] * inner, ratio]

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes that the data completes, PIECE_BYTES or little more at a time. Some pieces are empty.

        Whoever takes them may do something else in between, since none takes long. Raises UndecodableError.
        """
        for level, ratio in enumerate(self._ratios):
            self._left[level] += ratio * len(data)
        return self._undo(0, data) if self._decoders else iter((data,))

    def feed(self, data: bytes) -> bytes:
        """All the plain bytes that the data completes. Raises UndecodableError."""
        return b"".join(self.pieces(data))

    def _undo(self, level: int, data: bytes) -> Iterator[bytes]:
        innermost = level == len(self._decoders) - 1
        for piece in self._decoders[level].pieces(data):
            self._left[level] -= len(piece)
            if self._left[level] < 0:
                raise UndecodableError(TOO_LONG)
            if innermost:
                yield piece
            else:
                yield from self._undo(level + 1, piece)


def beginning(codings: Iterable[bytes], body: bytes) -> bytes:
    """The first plain bytes of a compressed body; none where too little has come. Raises UndecodableError."""
    for piece in Decompressor(codings, 16 * PIECE_BYTES).pieces(body[:_BEGINNING_BYTES]):
        if piece:
            return piece
    return b""


class _Decoder(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The output of the data, as Decompressor's `pieces`. Raises UndecodableError."""
        ...


class _Stream(Protocol):
    """One member, frame or stream; zlib's and zstd's objects both have this interface."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...


def _outputs(stream: _Stream, data: bytes, error: type[Exception]) -> Iterator[bytes]:
    """What the stream makes of the data, up to its own end."""
    rest: bytes | None = data
    while rest is not None and not stream.eof:
        try:
            plain = stream.decompress(rest, PIECE_BYTES)
        except error as fault:
            raise UndecodableError(ENCODING) from fault
        yield plain
        tail: bytes | None = getattr(stream, "unconsumed_tail", None)
        if tail is None:  # zstd's keeps the rest itself
            rest = None if stream.eof or stream.needs_input else b""  # type: ignore[attr-defined]  # zlib's has none
        else:
            rest = tail if tail or len(plain) >= PIECE_BYTES else None


class _Members:
    """gzip's members or zstd's frames, one after another. Bytes behind them that begin no other one are padding."""

    def __init__(self, begin: Callable[[], _Stream], first_bytes: bytes, error: type[Exception]) -> None:
        self._begin = begin
        self._first_bytes = first_bytes  # one of these begins a member
        self._error = error
        self._count = 0
        self._member: _Stream | None = None
        self._over = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _SLICE_BYTES):
            piece = data[start : start + _SLICE_BYTES]
            while piece and not self._over:
                if self._member is None:
                    self._over = self._count > 0 and piece[0] not in self._first_bytes
                    self._count += 1
                    if self._over:
                        break
                    if self._count > MAX_MEMBERS:
                        raise UndecodableError(ENCODING)
                    self._member = self._begin()
                yield from _outputs(self._member, piece, self._error)
                piece = self._member.unused_data
                if self._member.eof:
                    self._member = None


def _gzip() -> _Decoder:
    return _Members(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), b"\x1f", zlib.error)


def _zstd() -> _Decoder:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return _Members(lambda: zstd.ZstdDecompressor(options=options), _ZSTD_FIRST_BYTES, zstd.ZstdError)


class _Deflate:
    """Deflate with zlib's frame, as the standard demands, or without it, as some servers send it."""

    def __init__(self) -> None:
        self._start = b""
        self._stream: _Stream | None = None

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            data = self._start + data
            if len(data) < 2:
                self._start = data
                return
            framed = data[0] & 0x0F == zlib.DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
            self._stream = zlib.decompressobj(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)
        for start in range(0, len(data), _SLICE_BYTES):
            yield from _outputs(self._stream, data[start : start + _SLICE_BYTES], zlib.error)


class _Brotli:
    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped]

        self._stream = brotli.Decompressor()
        self._error: type[Exception] = brotli.error

    def pieces(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _SLICE_BYTES):
            rest = data[start : start + _SLICE_BYTES]
            try:
                plain: bytes = self._stream.process(rest, output_buffer_limit=PIECE_BYTES)
                yield plain
                # A full piece means that there may be more, although all input is taken.
                while len(plain) >= PIECE_BYTES or not self._stream.can_accept_more_data():
                    plain = self._stream.process(b"", output_buffer_limit=PIECE_BYTES)
                    yield plain
            except self._error as error:
                raise UndecodableError(ENCODING) from error


_ZSTD_FIRST_BYTES: Final = b"\x28" + bytes(range(0x50, 0x60))  # of a frame, and of the kinds that are to be skipped

_DECODERS: Final[dict[bytes, Callable[[], _Decoder]]] = {
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": _Deflate,
    b"br": _Brotli,
    b"zstd": _zstd,
}
