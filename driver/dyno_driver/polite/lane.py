"""One endpoint's lane: its rate limit, the pauses that it asked for, and whether it is down."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

from dyno_driver.client import Answer

from .bucket import Bucket

DEAD_AFTER: Final = 3  # failures in a row
_FIRST_BACKOFF_S: Final = 0.5
_LONGEST_BACKOFF_S: Final = 30.0
_TOO_MANY: Final = 429
_COLD: Final = 503
_DOWN: Final = (502, _COLD)


@dataclass(slots=True)
class Lane:
    """Times are s of the monotonic clock."""

    name: str
    bucket: Bucket | None
    per_s: float | None
    down: asyncio.Event | None = None  # set when it is over
    paused_until_s: float = 0.0
    answers: int = 0
    failures: int = 0  # in a row, as of an endpoint that is down
    refusals: int = 0  # pauses in a row
    refused_since_s: float | None = None
    too_many: int = 0  # answers with 429
    paused_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)  # for the rate limit
    not_sent: int = 0


def is_down(answer: Answer) -> bool:
    """Whether the answer is of an endpoint that is down, or whose model isn't loaded."""
    return answer.error is not None and answer.status in _DOWN


def is_cold(answer: Answer) -> bool:
    """Whether the answer is as of a model that is being loaded."""
    return answer.status == _COLD


def is_too_many(answer: Answer) -> bool:
    return answer.status == _TOO_MANY


def asks_to_wait(answer: Answer) -> bool:
    """Whether the next request shouldn't come at once."""
    return is_too_many(answer) or (answer.status == _COLD and answer.wait_s is not None)


def backoff_s(attempt: int) -> float:
    """How long to wait after so many attempts (from 0): twice as long each time, with jitter, at most 30 s."""
    whole_s = min(_FIRST_BACKOFF_S * 2.0 ** min(attempt, 16), _LONGEST_BACKOFF_S)
    return whole_s * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
