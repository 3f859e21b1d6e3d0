"""A message in reads: cut at these places, or at each place in turn."""

from collections.abc import Iterable, Iterator
from itertools import pairwise


def cut(whole: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes in reads that end at these places; places outside of them don't count."""
    inside = sorted(place for place in set(places) if 0 < place < len(whole))
    return [whole[start:end] for start, end in pairwise([0, *inside, len(whole)])]


def every_cut(whole: bytes) -> Iterator[list[bytes]]:
    """Byte by byte, and in two at every place."""
    yield cut(whole, range(len(whole)))
    for place in range(1, len(whole)):
        yield cut(whole, [place])
