"""A model of an endpoint under load, without time passing: it answers a course's phases, and tells it of each answer.

Requests wait in one line for `servers` places. An answer takes what is drawn, given how many are open.
"""

import heapq
import random
from collections.abc import Callable
from typing import NamedTuple

from dyno_driver.load.course import Course, Result
from dyno_driver.load.schedule import Lane, Phase, Turn


class Taken(NamedTuple):
    """How long an answer takes once it has its place: until its first token, and for each token after that."""

    first_s: float
    token_s: float = 0.0
    tokens: int = 1


Draw = Callable[[int], Taken]  # from how many are open


def seeded(seed: int) -> random.Random:
    """What a model draws from."""
    return random.Random(seed)  # noqa: S311 - reproducible, nothing secret


class Model:
    """Endpoints by name: how many places each has, and what an answer takes there."""

    def __init__(self, endpoints: dict[str, tuple[int, Draw]]) -> None:
        self._endpoints, self.now_s = endpoints, 0.0
        self.sent: list[Turn] = []

    def play(self, course: Course) -> None:
        """Send all phases of the course."""
        while (phase := course.next()) is not None:
            self.now_s += phase.pause_s
            for lane in phase.lanes:
                self._lane(phase, lane, course)

    def _lane(self, phase: Phase, lane: Lane, course: Course) -> None:
        if phase.load.concurrency is None:
            self._open(lane, course)
        else:
            self._closed(phase.load.concurrency, lane, course)

    def _open(self, lane: Lane, course: Course) -> None:
        begun_s, at = self.now_s, _Line(self, course)
        counted = [turn for group in lane.groups for turn in group]
        left = len(counted)
        for turn in (*lane.ramp, *counted, *lane.drain):
            due_s = begun_s + (turn.due_s or 0.0)
            left -= sum(not ended.warmup for ended in at.until(due_s))
            if not turn.warmup and lane.over is not None and lane.over():
                turn, left = turn._replace(warmup=True), left - 1
            if not left:
                break
            at.came(turn, due_s)
        at.until(float("inf"))

    def _closed(self, concurrency: int, lane: Lane, course: Course) -> None:
        at, groups, under_way = _Line(self, course), iter(lane.groups), 0
        drain = iter(lane.drain * 50)

        def send_next() -> None:
            nonlocal under_way
            group = None if lane.over is not None and lane.over() else next(groups, None)
            if group is not None:
                under_way += 1
                at.came(group[0], self.now_s)
            elif under_way and lane.drain:
                at.came(next(drain), self.now_s)

        for turn in lane.ramp:
            at.came(turn, self.now_s)
        for _ in range(0 if lane.ramp else concurrency):
            send_next()
        while (ended := at.one()) is not None:
            under_way -= not ended.warmup
            send_next()

    def takes(self, endpoint: str) -> tuple[int, Draw]:
        return self._endpoints[endpoint]


class _Line:
    """The requests of one lane that are open, by when they end."""

    def __init__(self, model: Model, course: Course) -> None:
        self._model, self._course = model, course
        self._ends: list[tuple[float, int, Result]] = []
        self._free_s: list[float] = []
        self._number = 0

    def came(self, turn: Turn, at_s: float) -> None:
        servers, draw = self._model.takes(turn.endpoint)
        self._model.sent.append(turn)
        if not self._free_s:
            self._free_s = [at_s] * servers
        begin_s = max(heapq.heappop(self._free_s), at_s)
        taken = draw(len(self._ends) + 1)
        end_s = begin_s + taken.first_s + taken.token_s * (taken.tokens - 1)
        heapq.heappush(self._free_s, end_s)
        self._number += 1
        result = Result(
            turn.endpoint,
            turn.prompt_id,
            turn.repeat,
            turn.warmup,
            turn.load,
            end_s,
            True,
            end_s - at_s,
            begin_s + taken.first_s - at_s,
            taken.token_s if taken.tokens > 1 else None,
        )
        heapq.heappush(self._ends, (end_s, self._number, result))

    def one(self) -> Result | None:
        """The next that ends; the course has heard of it."""
        if not self._ends:
            return None
        end_s, _, result = heapq.heappop(self._ends)
        self._model.now_s = max(self._model.now_s, end_s)
        self._course.heard(result)
        return result

    def until(self, at_s: float) -> list[Result]:
        found = []
        while self._ends and self._ends[0][0] <= at_s and (result := self.one()) is not None:
            found.append(result)
        return found
