"""What stored runs say about the claims, as data. `first` is the endpoint in the role of Metis, `second` Sophia."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dyno_analysis.query.row_types import ServerTimesRow
from dyno_analysis.report.comparison import PairedFigure
from dyno_analysis.stats.interval import Interval, simultaneous
from dyno_analysis.stats.load_crossings import RatioAt
from dyno_analysis.stats.makespan import Makespans
from dyno_analysis.stats.paired import PairedRatio
from dyno_analysis.stats.spread import SpreadRatio

# Each family of claims has one test, and all of them hold together with 95 %, whichever have evidence: single, sweep,
# offline, long context, variant, steadiness, money, energy, quality, other models.
FAMILIES: Final = 10
CONFIDENCE: Final = simultaneous(FAMILIES)
VERY_LONG: Final = 32_768  # input tokens; from here on a context is called very long
SHORT: Final = 2_048
THOUSANDS: Final = 1_000


@dataclass(frozen=True)
class Answered:
    """How many of its requests an endpoint answered."""

    ok: int
    requests: int

    @property
    def most(self) -> bool:
        """Whether nearly all were answered, so that figures are about what was asked."""
        return self.requests > 0 and self.ok >= 0.9 * self.requests


@dataclass(frozen=True)
class SweepPoint:
    """Both endpoints with so many requests at once; `ratio`: of output tokens a second."""

    concurrency: int
    first: Answered
    second: Answered
    first_tokens_per_s: float | None
    second_tokens_per_s: float | None
    ratio: RatioAt | None


@dataclass(frozen=True)
class Batch:
    """All requests at once: times until the last answer. `most`: requests in each endpoint's largest batch."""

    first: Answered
    second: Answered
    most: int
    makespans: Makespans | None


@dataclass(frozen=True)
class LongContext:
    """Prompts of more than VERY_LONG tokens that both answered; lengths in input tokens."""

    longest: float | None  # of all prompts that one answered
    very_long: PairedFigure | None
    first: Answered  # of all requests of the run
    second: Answered


@dataclass(frozen=True)
class Variants:
    """Two endpoints of which one offers the long variant of the other's model; short prompts that both answered."""

    long: str
    short: str
    paired: PairedFigure | None


@dataclass(frozen=True)
class Price:
    """What a token costs: the paired ratio of prompts' means. None: no price is known, or no prompt in common."""

    paired: PairedRatio | None
    first_an_answer: float | None
    second_an_answer: float | None


@dataclass(frozen=True)
class Scores:
    """Means of exact match and F1 from 0 to 1 over prompts that both answered; the intervals are of first - second."""

    prompts: int
    exact_match: tuple[float, float]
    f1: tuple[float, float]
    exact_match_interval: Interval | None
    f1_interval: Interval | None
    needed: int | None  # about so many prompts would tell; None: more of them wouldn't


@dataclass(frozen=True)
class Evidence:
    """Everything that the rules look at. None: no run holds it."""

    first: str
    second: str
    margin: float  # 0.05: within 5 % is no difference
    points: float  # 0.05: scores within 5 points are similar
    runs: Mapping[str, str]  # workload -> the run that counts for it
    simulated: Sequence[str]
    single: PairedFigure | None = None
    single_ttft: PairedFigure | None = None
    sweep: Sequence[SweepPoint] = ()
    batch: Batch | None = None
    long: LongContext | None = None
    variants: Variants | None = None
    steady: SpreadRatio | None = None
    relative_steady: SpreadRatio | None = None
    money: Price | None = None
    energy: Price | None = None
    scores: Scores | None = None
    other: PairedFigure | None = None
    server_times: Sequence[ServerTimesRow] = ()
