"""What was measured: a value a round for each figure and contestant, and what is said of them."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Figures. Times in µs, memory in MB.
CPU_REQUEST: Final = "CPU per request, in turn"
CPU_REQUEST_AT_RATE: Final = "CPU per request, at a rate"
CPU_LOOP: Final = "CPU per request of the first thread"
CPU_OWN: Final = "CPU per request of the process itself"
CPU_CHUNK: Final = "CPU per chunk, paced"
CPU_CHUNK_BURST: Final = "CPU per chunk, in bursts"
FIRST: Final = "first token"  # outside the upstream; a value a stream
TRANSIT_P50, TRANSIT_P99, TRANSIT_P999 = "transit p50", "transit p99", "transit p99.9"
BESIDE_P50, BESIDE_P99, BESIDE_P999 = "transit beside p50", "transit beside p99", "transit beside p99.9"
RSS, PSS = "RSS", "PSS"  # followed by the number of open streams
GROWTH: Final = "growth over the chunks"
ERROR_P50, ERROR_P99 = "error p50", "error p99"  # of the timing, followed by the event
BYTES_SPAN: Final = "bytes a span without response id and chunk times"
BYTES_RESPONSE_ID: Final = "bytes that the response id adds to a span"
BYTES_CHUNK_TIMES: Final = "bytes that a chunk's time adds to a span"

_LEAST_VALUES: Final = 100  # for a p99


@dataclass(frozen=True)
class Setting:
    """How much of it is measured."""

    folder: Path  # for what the contestants write
    quick: bool = False
    only: frozenset[str] | None = None  # contestants; None: all

    def names(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.only is None or name in self.only]

    def of(self, whole: float, quick: float) -> float:
        return quick if self.quick else whole

    def rounds(self, whole: int) -> int:
        return 2 if self.quick else whole

    def rounds_of_slow(self) -> int:
        """Of contestants that take so long that a few must do; none of them is a close call."""
        return 1 if self.quick else 2

    def room(self, part: str) -> Path:
        """A new folder for this part."""
        room = self.folder / part
        room.mkdir()
        return room


class Results:
    def __init__(self) -> None:
        self._values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, figure: str, contestant: str, value: float) -> None:
        self._values[figure, contestant].append(value)

    def values(self, figure: str, contestant: str) -> list[float]:
        return self._values.get((figure, contestant), [])

    def median(self, figure: str, contestant: str) -> float | None:
        values = self.values(figure, contestant)
        return statistics.median(values) if values else None

    def ratio(self, figure: str, contestant: str, to: str) -> float | None:
        """The median of the rounds' ratios: what disturbed a round disturbed both."""
        return _median(
            a / b for a, b in zip(self.values(figure, contestant), self.values(figure, to), strict=False) if b
        )

    def percentile_added(self, figure: str, contestant: str, to: str, percent: float) -> float | None:
        """The difference of two percentiles, where a value is a request's; None where they are too few to tell."""
        ours, theirs = self.values(figure, contestant), self.values(figure, to)
        if min(len(ours), len(theirs)) < _LEAST_VALUES:
            return None
        return percentile(sorted(ours), percent) - percentile(sorted(theirs), percent)

    def cell(self, figure: str, contestant: str, digits: int = 1) -> str:
        """The median, and the least and the greatest of the rounds."""
        values = self.values(figure, contestant)
        if not values:
            return "–"
        middle = number(statistics.median(values), digits)
        return middle if len(values) == 1 else f"{middle} ({number(min(values), digits)}–{number(max(values), digits)})"


def number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def times(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}x"


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank of values in order. Raises IndexError without any."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; the first column is text, the others are figures."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def missing_rows(missing: dict[str, str], titles: dict[str, str], columns: int) -> list[list[str]]:
    """A row for each contestant that isn't there, with the reason."""
    return [[titles[name], f"missing: {reason}", *[""] * (columns - 2)] for name, reason in missing.items()]


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None
