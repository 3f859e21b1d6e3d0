import contextlib
import gzip
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from itertools import pairwise

import brotli  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_proxy.http.content_coding import MAX_MEMBERS, Decompressor, UndecodableError, content_codings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
PLAIN = b"".join(b'data: {"choices":[{"index":0,"delta":{"content":" %d"}}]}\n\n' % i for i in range(2_000))


def bare_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[start : start + 5_000], mtime=0) for start in range(0, len(data), 5_000))


def frames(data: bytes) -> bytes:
    return b"".join(zstd.compress(data[start : start + 5_000]) for start in range(0, len(data), 5_000))


CODED: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "x-gzip": (b"x-gzip", gzip.compress),
    "gzip in members": (b"gzip", members),
    "gzip and padding": (b"gzip", lambda data: gzip.compress(data, mtime=0) + b"\0" * 20),
    "deflate": (b"deflate", zlib.compress),
    "deflate without a frame": (b"deflate", bare_deflate),
    "br": (b"br", brotli.compress),
    "zstd": (b"zstd", zstd.compress),
    "zstd in frames": (b"zstd", frames),
    "gzip, then br": (b"gzip, br", lambda data: brotli.compress(gzip.compress(data, mtime=0))),
    "identity": (b"identity", bytes),
    "case and space": (b" GZip ,identity", gzip.compress),
}


def decoded(codings: bytes, pieces: list[bytes], base_bytes: int = 16 * MIB, ratio: int = 0) -> bytes:
    decompressor = Decompressor(content_codings(codings), base_bytes, ratio)
    return b"".join(map(decompressor.feed, pieces))


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(each % (len(data) + 1) for each in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(("codings", "compress"), CODED.values(), ids=CODED)
def test_codings_are_undone(codings: bytes, compress: Callable[[bytes], bytes]) -> None:
    """Each coding that clients ask for is decompressed, whole and byte by byte."""
    assert decoded(codings, [compress(PLAIN)]) == PLAIN
    short = compress(PLAIN[:300])
    assert decoded(codings, [short[at : at + 1] for at in range(len(short))]) == PLAIN[:300]


@given(
    data=st.binary(max_size=2_000), cuts=st.lists(st.integers(0, 10_000), max_size=5), name=st.sampled_from([*CODED])
)
def test_any_split_gives_the_same_bytes(data: bytes, cuts: list[int], name: str) -> None:
    """The places where the network cuts the compressed bytes don't matter."""
    codings, compress = CODED[name]
    assert decoded(codings, cut(compress(data), cuts)) == data


@given(junk=st.binary(max_size=3_000), cuts=st.lists(st.integers(0, 3_000), max_size=3), name=st.sampled_from([*CODED]))
def test_junk_is_one_kind_of_error(junk: bytes, cuts: list[int], name: str) -> None:
    """Bytes that aren't of their coding end in UndecodableError, or in a short output."""
    plain = b""
    with contextlib.suppress(UndecodableError):
        plain = decoded(CODED[name][0], cut(junk, cuts), MIB)
    assert len(plain) <= MIB


def flushing_zlib(wbits: int) -> Callable[[bytes], bytes]:
    stream = zlib.compressobj(wbits=wbits)
    return lambda data: stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)


def flushing_brotli() -> Callable[[bytes], bytes]:
    stream = brotli.Compressor()
    return lambda data: bytes(stream.process(data) + stream.flush())


def flushing_zstd() -> Callable[[bytes], bytes]:
    stream = zstd.ZstdCompressor()
    return lambda data: stream.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)


@pytest.mark.parametrize(
    ("codings", "compress"),
    [
        (b"gzip", flushing_zlib(31)),
        (b"deflate", flushing_zlib(15)),
        (b"deflate", flushing_zlib(-15)),
        (b"br", flushing_brotli()),
        (b"zstd", flushing_zstd()),
    ],
    ids=["gzip", "deflate", "bare deflate", "br", "zstd"],
)
def test_an_event_comes_with_the_read_that_completes_it(codings: bytes, compress: Callable[[bytes], bytes]) -> None:
    """If a server flushes after each event, each event can be read at once, although the stream has no end yet."""
    decompressor = Decompressor(content_codings(codings), MIB)
    for event in PLAIN.split(b"\n\n")[:50]:
        assert decompressor.feed(compress(event)) == event


@pytest.mark.parametrize("codings", [b"lzma", b"compress", b"gzip, lzma", b"gzip, gzip, gzip, gzip", b"gzip;q=1"])
def test_unknown_codings(codings: bytes) -> None:
    """An unknown coding, or too many known ones, are refused before a byte is read."""
    with pytest.raises(UndecodableError, match="encoding"):
        Decompressor(content_codings(codings), MIB)


def zeros(size: int) -> dict[str, bytes]:
    """The given number of zero bytes, in every coding."""
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(16 * MIB)
    gzipped = b"".join([*(packer.compress(block) for _ in range(size // len(block))), packer.flush()])
    squeezer = brotli.Compressor(quality=1, lgwin=24)
    brotlied = b"".join([*(squeezer.process(block) for _ in range(size // len(block))), squeezer.finish()])
    framer = zstd.ZstdCompressor()
    zstded = b"".join([*(framer.compress(block) for _ in range(size // len(block))), framer.flush()])
    return {"gzip": gzipped, "br": brotlied, "zstd": zstded, "gzip, br": brotli.compress(gzipped, quality=1)}


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    return zeros(256 * MIB)


@pytest.mark.parametrize("codings", ["gzip", "br", "zstd", "gzip, br"])
@pytest.mark.parametrize("piece_bytes", [1, 1_000, 10_000_000])
def test_bombs_are_not_expanded(bombs: dict[str, bytes], codings: str, piece_bytes: int) -> None:
    """A body that would be 256 MiB ends as soon as it exceeds its limit.

    Time and memory stay in proportion to the limit.
    """
    bomb = bombs[codings]
    pieces = [bomb[at : at + piece_bytes] for at in range(0, min(len(bomb), 2_000 * piece_bytes), piece_bytes)]
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before_s = time.process_time()
    with pytest.raises(UndecodableError, match="too_long"):
        decoded(codings.encode(), pieces, MIB, 64)
    assert time.process_time() - before_s < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


def test_a_stream_may_grow_with_what_was_received() -> None:
    """A long stream passes because of the ratio. The base limit alone would end it."""
    pieces = [gzip.compress(PLAIN, mtime=0) for _ in range(20)]
    assert decoded(b"gzip", pieces, 1_000, 64) == PLAIN * 20
    with pytest.raises(UndecodableError, match="too_long"):
        decoded(b"gzip", pieces, 1_000, 1)


@pytest.mark.parametrize(("codings", "empty"), [(b"gzip", gzip.compress(b"", mtime=0)), (b"zstd", zstd.compress(b""))])
def test_members_without_end(codings: bytes, empty: bytes) -> None:
    """A million empty members cost some µs each and yield nothing, so they end the reading."""
    before_s = time.process_time()
    with pytest.raises(UndecodableError, match="encoding"):
        decoded(codings, [empty * MAX_MEMBERS * 5])
    assert time.process_time() - before_s < 2


def test_a_window_beyond_the_standards_is_refused() -> None:
    """A zstd header can ask for 2 GiB of memory before the first byte. Such a stream is refused: HTTP allows 8 MiB."""
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    packer = zstd.ZstdCompressor(options=options)
    with pytest.raises(UndecodableError, match="encoding"):
        decoded(b"zstd", [packer.compress(bytes(200 * MIB)) + packer.flush()])


def test_libraries_are_imported_when_needed() -> None:
    """The proxy starts without importing brotli and zstd, which would take some ms."""
    program = (
        "import sys, dyno_proxy.exchange.exchange; print([m for m in ('brotli', 'backports.zstd') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
