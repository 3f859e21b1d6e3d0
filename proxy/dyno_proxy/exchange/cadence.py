"""Whether an intermediary, not the engine, sets the rhythm of a stream's chunks. Pure."""

from collections.abc import Sequence
from operator import sub
from typing import Final

GATEWAY: Final = "gateway"

MAX_CHUNKS: Final = 4096  # looked at, from the first: a rhythm shows early
_MIN_CHUNKS: Final = 40
_MIN_PAUSES: Final = 4
_PAUSE_US: Final = 15_000  # between bursts; a gateway that polls every 25 ms pauses for no less
_TOGETHER_US: Final = 1_000  # chunks of one burst are written one after another
_PAUSED_SHARE: Final = 0.75  # of the time between the first chunk and the last
_BURST_CHUNKS: Final = 8.0  # a mean; an engine's step yields fewer
_FLUSH_US: Final = (450_000, 750_000)  # a timer of 0.5 s, checked as a chunk arrives
_FLUSH_BURST_CHUNKS: Final = 2.5


def chunk_cadence(offsets_us: Sequence[int]) -> str | None:
    """GATEWAY where the chunks come in bursts that an engine wouldn't make; None where they don't, or are too few.

    A stream is flagged where three things hold. Nearly all the time passes in pauses of 15 ms and more. Most chunks
    follow the one before within 1 ms. A burst between two pauses has 8 chunks or more on average, or 2.5 where the
    pauses last about half a second. ALCF's gateway in front of Sophia does this, and so do intermediaries like it: it
    collects 20 chunks or 0.5 s of the stream, and is polled every 25 ms.

    Arrivals alone can't tell some things apart. These are flagged too: an engine that makes 8 tokens or more in steps
    of 15 ms or more (block diffusion, or speculation that is nearly always right); a stream whose client reads in
    gulps; a stream that this proxy read in gulps because its loop lagged. A gateway isn't flagged where its engine is
    so slow that it collects a chunk or two at a time, or so fast that writing a burst takes most of the time.

    Costs about 10 µs for 200 chunks.
    """
    count = min(len(offsets_us), MAX_CHUNKS)
    if count < _MIN_CHUNKS:
        return None
    gaps_us = list(map(sub, offsets_us[1:count], offsets_us))
    pauses_us = [gap_us for gap_us in gaps_us if gap_us >= _PAUSE_US]
    burst_chunks = count / (len(pauses_us) + 1)
    if len(pauses_us) < _MIN_PAUSES or burst_chunks < _FLUSH_BURST_CHUNKS:
        return None
    if sum(pauses_us) < _PAUSED_SHARE * (offsets_us[count - 1] - offsets_us[0]):
        return None
    if burst_chunks < _BURST_CHUNKS:
        shortest_us, longest_us = _FLUSH_US
        if not shortest_us <= sorted(pauses_us)[len(pauses_us) // 2] <= longest_us:
            return None
    together = len([gap_us for gap_us in gaps_us if gap_us < _TOGETHER_US])
    return GATEWAY if together > len(gaps_us) / 2 else None
