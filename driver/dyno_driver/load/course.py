"""What a run sends next, from what has come so far. Pure: results and their times are told to it.

    next() ─▶ a phase ─▶ is sent ─▶ each answer's figures ─▶ heard(result) ─▶ next() ─▶ … ─▶ None: the run is done

A static plan is the simplest course: nothing depends on what came.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from .schedule import Load, Phase


class Result(NamedTuple):
    """The figures of one answer, as the client saw it. None for what isn't known.

    `at_s` is when it ended, in s of the run's monotonic clock. A request that failed (`ok` is False) has no figures
    that count.
    """

    endpoint: str
    prompt_id: str
    repeat: int  # from 1
    warmup: bool
    load: Load
    at_s: float
    ok: bool
    latency_s: float | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None  # per output token after the first
    itl_s: float | None = None  # per chunk after the first


class Course(Protocol):
    """What a run sends."""

    def outline(self) -> Sequence[Phase]:
        """The phases that are in view before anything has come: what a dry run prints, and the largest loads."""
        ...

    def heard(self, result: Result) -> None:
        """An answer has ended, also a warm-up's."""
        ...

    def next(self) -> Phase | None:
        """What is sent after the phase that has ended. None: the run is done."""
        ...

    def found(self) -> Mapping[str, Any] | None:
        """What it decided, for run.json; None if nothing depended on what came."""
        ...

    def said(self) -> Sequence[str]:
        """The same in sentences."""
        ...


class StaticCourse:
    """Phases that were planned before the first request."""

    def __init__(self, phases: Sequence[Phase]) -> None:
        self._phases = tuple(phases)
        self._left = iter(self._phases)

    def outline(self) -> Sequence[Phase]:
        return self._phases

    def heard(self, result: Result) -> None:
        pass

    def next(self) -> Phase | None:
        return next(self._left, None)

    def found(self) -> None:
        return None

    def said(self) -> Sequence[str]:
        return ()
