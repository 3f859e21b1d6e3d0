"""The load that requests were sent under, as their client said it. Pure."""

from typing import NamedTuple


class OfferedLoad(NamedTuple):
    """So many requests open at once, or so many new ones a second. Exactly one of the two fields is set."""

    concurrency: int | None
    rate_per_s: float | None

    def in_words(self) -> str:
        """What a person reads, and `read_load` takes: `8`, `2.5/s`."""
        return f"{self.rate_per_s:g}/s" if self.rate_per_s is not None else f"{self.concurrency}"


def read_load(text: str) -> OfferedLoad | None:
    """A load from its words; None if they are none."""
    number, _, unit = text.partition("/")
    try:
        load = OfferedLoad(None, float(number)) if unit == "s" else OfferedLoad(int(text), None)
    except ValueError:
        return None
    return load if 0 < (load.rate_per_s or load.concurrency or 0) < 1e9 else None
