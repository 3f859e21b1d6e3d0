"""A verdict on one claim, and how the rules word it. Pure."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from dyno_analysis.render.table import ratio as ratio_words
from dyno_analysis.report.comparison import PairedFigure
from dyno_analysis.report.verdicts import interval_words
from dyno_analysis.stats.interval import Interval
from dyno_analysis.stats.paired import FEWEST_PROMPTS, Verdict

Role = Literal["first", "second"]
Winner = Literal["first", "second", "same"] | None
_MOST_NEEDED: Final = 100_000


class Ruling(Enum):
    """What is said of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_DECIDABLE = "not decidable from outside"


@dataclass(frozen=True)
class Decision:
    """A claim's verdict, the figure behind it and, if it is undecided, what would decide it."""

    ruling: Ruling
    figure: str
    would_decide: str = ""


def undecided(figure: str, would_decide: str) -> Decision:
    return Decision(Ruling.UNDECIDED, figure, would_decide)


def no_run(workload: str) -> Decision:
    """What is said where no run holds the evidence."""
    return undecided(f"no run of workload {workload} has both endpoints", f"a run of workload {workload}")


def won(winner: Winner, claimed: Role, figure: str, would_decide: str) -> Decision:
    """The verdict on 'the claimed one is better'. No difference contradicts it, whoever is claimed."""
    if winner is None:
        return undecided(figure, would_decide)
    return Decision(Ruling.SUPPORTED if winner == claimed else Ruling.CONTRADICTED, figure)


def smaller(held: Interval | None, margin: float) -> Winner:
    """Whose figure is smaller by the interval of first / second; `margin` 0.05: within 5 % is the same."""
    if held is None:
        return None
    if held.low >= 1 / (1 + margin) and held.high <= 1 + margin:
        return "same"
    if held.holds(1):
        return None
    return "second" if held.low > 1 else "first"


def quicker(paired: PairedFigure) -> Winner:
    """Who takes less time by the paired verdict."""
    by: dict[Verdict, Winner] = {
        Verdict.FIRST_SMALLER: "first",
        Verdict.SECOND_SMALLER: "second",
        Verdict.SAME: "same",
    }
    return by.get(paired.verdict)


def other(winner: Winner) -> Winner:
    """The other one, for figures of which more is better."""
    turned: dict[Winner, Winner] = {"first": "second", "second": "first"}
    return turned.get(winner, winner)


def ratio_with_interval(value: float, held: Interval | None, margin: float) -> str:
    """'1.59 (1.50 to 1.68)'."""
    words = interval_words(held, margin)
    return f"{ratio_words(value)} ({words or 'no interval'})"


def paired_words(label: str, paired: PairedFigure, margin: float) -> str:
    found = paired.ratio
    number = f"{found.prompts} prompt{'' if found.prompts == 1 else 's'}"
    return f"{label} {ratio_with_interval(found.typical_ratio, found.typical_interval, margin)} over {number}"


def more_prompts(paired: PairedFigure, margin: float) -> str:
    """What would decide a comparison over prompts that isn't decided."""
    found = paired.ratio
    if paired.verdict is Verdict.WITHHELD:
        return "a difference larger than the proxy's own part"
    if found.typical_interval is None:
        return f"{FEWEST_PROMPTS} prompts or more that both answered"
    return more(found.prompts, found.typical_ratio, found.typical_interval, margin, "prompts")


def more(n: int, value: float, held: Interval, margin: float, what: str) -> str:
    """About how many would decide it if the ratio stays: an interval narrows with the root of their number."""
    centre = abs(math.log(value))
    distance = max(centre, math.log1p(margin) - centre)
    half = (math.log(held.high) - math.log(held.low)) / 2 if held.low > 0 and math.isfinite(held.high) else math.inf
    needed = n * (half / distance) ** 2 if distance > 0 else math.inf
    if needed > _MOST_NEEDED:
        return f"far more {what}"
    if needed <= n:
        return f"more {what}"
    return f"about {_rounded_up(needed):,} {what}"


def _rounded_up(value: float) -> int:
    """With two digits."""
    unit = int(10 ** max(math.floor(math.log10(value)) - 1, 0))
    return math.ceil(value / unit) * unit
