"""Loads that are held until enough has come: for so long, until the figures have settled, until something is decided.
Pure.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, Final

from .course import Result
from .schedule import (
    Asked,
    Lane,
    Load,
    Phase,
    Shape,
    Turn,
    closed_lane,
    how_interleaved,
    lane_to,
    openings,
    plan,
    warmup_phases,
)
from .settled import settled_from

_MOST_TIMES: Final = 5  # a load that hasn't settled is held so many times as long, and no longer
_MOST_TURNS: Final = 20_000  # of one stretch
_BLOCKS: Final = 2  # an endpoint has its turn so often under each load
_NEWS: Final = 5  # after so many further answers the figures are looked at again

Question = tuple[str, int]


class Stretch:
    """One load that is held at one endpoint, or at several in pairs. Told of answers, it says when it is over."""

    def __init__(
        self,
        endpoints: Sequence[str],
        load: Load,
        hold_s: float,
        least: int,
        *,
        most: int = _MOST_TURNS,
        decided: Callable[[Sequence[Result]], bool] = lambda _: True,
    ) -> None:
        self.endpoints, self.load, self.hold_s, self.most = tuple(endpoints), load, hold_s, most
        self._least, self._decided = least, decided
        self.results: list[Result] = []  # that count
        self.settled = False
        self._begun_s: float | None = None
        self._now_s = 0.0
        self._looked_at = 0  # results
        self._over = False

    @property
    def most_s(self) -> float:
        return _MOST_TIMES * self.hold_s

    @property
    def held_s(self) -> float:
        """From the first answer, with which the whole load is there, or from when its request was sent."""
        return 0.0 if self._begun_s is None else self._now_s - self._begun_s

    def heard(self, result: Result) -> None:
        if self._begun_s is None:
            # A load of several begins with a ramp, which has ended with its first answer.
            self._begun_s = result.at_s - (0.0 if result.warmup else result.latency_s or 0.0)
        if not self._over:
            self._now_s = max(self._now_s, result.at_s)
        if not result.warmup:
            self.results.append(result)

    def over(self) -> bool:
        """Whether no more is needed. Once it is, it stays so."""
        if self._over or self.held_s < self.hold_s or len(self.results) < self._least:
            return self._over
        if self.held_s >= self.most_s or len(self.results) >= self.most:
            self.settled = self._has_settled()
            self._over = True
        elif len(self.results) >= self._looked_at + max(_NEWS, self._looked_at // 10):
            self._looked_at = len(self.results)
            self.settled = self._has_settled()
            self._over = self.settled and self._decided(self.results)
        return self._over

    def _has_settled(self) -> bool:
        for endpoint in self.endpoints:
            own = [each for each in self.results if each.endpoint == endpoint]
            firsts_s = [each.ttft_s for each in own if each.ttft_s is not None]
            if settled_from([each.latency_s or 0.0 for each in own]) is None:
                return False
            if len(firsts_s) == len(own) and settled_from(firsts_s) is None:
                return False
        return True


class HeldQuestions:
    """What is asked while a load is held: the prompts in their order, then all of them again as further repeats."""

    def __init__(self) -> None:
        self._asked: dict[str, Counter[str]] = {}  # by endpoint: the highest repeat of each prompt

    def heard(self, result: Result) -> None:
        own = self._asked.setdefault(result.endpoint, Counter())
        own[result.prompt_id] = max(own[result.prompt_id], result.repeat)

    def questions(self, endpoints: Sequence[str], prompt_ids: Sequence[str], number: int) -> list[Question]:
        """So many questions; no endpoint is asked one of them twice."""
        again = Counter[str]()
        for endpoint in endpoints:
            again |= self._asked.get(endpoint, Counter())
        found: list[Question] = []
        for prompt_id in cycle(prompt_ids):
            if len(found) >= number:
                break
            again[prompt_id] += 1
            found.append((prompt_id, again[prompt_id]))
        return found


def held_lane(
    endpoint: str, stretch: Stretch, shape: Shape, asked: Asked, questions: Sequence[Question], block: str
) -> Lane:
    """A lane that holds the stretch's load at an endpoint. An open loop's ramp is a tenth of the least time."""
    load = stretch.load
    before = None if load.rate_per_s is None else max(1, round(0.1 * stretch.hold_s * load.rate_per_s))
    return lane_to(endpoint, load, shape, asked, questions, block, before)._replace(over=stretch.over)


def turns_at_most(stretch: Stretch, least: int) -> int:
    """So many requests are made ready; a stretch of which nothing is over uses them up."""
    rate = stretch.load.rate_per_s
    wanted = stretch.most if rate is None else math.ceil(rate * stretch.most_s)
    return max(min(wanted, _MOST_TURNS), least)


class HeldCourse:
    """Each load in turn is held at each endpoint, for at least `hold_s`, until its figures have settled."""

    def __init__(self, shape: Shape, asked: Asked, hold_s: float) -> None:
        self._shape, self._asked, self._hold_s = shape, asked, hold_s
        self._questions = HeldQuestions()
        self._stretches: list[Stretch] = []
        self._under_way: list[Stretch] = []
        self._sending = self._phases()

    def outline(self) -> Sequence[Phase]:
        return plan(self._shape, self._asked)

    def heard(self, result: Result) -> None:
        if not result.warmup:
            self._questions.heard(result)
        for stretch in self._under_way:
            if result.endpoint in stretch.endpoints and result.load == stretch.load:
                stretch.heard(result)

    def next(self) -> Phase | None:
        return next(self._sending, None)

    def found(self) -> Mapping[str, Any]:
        return {
            "kind": "held",
            "hold_s": self._hold_s,
            "stretches": [
                {
                    "endpoints": list(stretch.endpoints),
                    "load": stretch.load.in_words(),
                    "requests": len(stretch.results),
                    "held_s": round(stretch.held_s, 3),
                    "settled": stretch.settled,
                }
                for stretch in self._stretches
            ],
        }

    def said(self) -> Sequence[str]:
        restless = [
            f"{' and '.join(stretch.endpoints)} with {stretch.load.in_words()}"
            for stretch in self._stretches
            if not stretch.settled
        ]
        if not restless:
            return ()
        return [f"Figures that hadn't settled within {_MOST_TIMES * self._hold_s:g} s: {'; '.join(restless)}."]

    def _phases(self) -> Iterator[Phase]:
        yield from warmup_phases(self._asked)
        opening = openings(self._asked)
        for number, (load, prompt_ids) in enumerate(zip(self._shape.loads, self._asked.prompt_ids, strict=True)):
            for place, phase in enumerate(self._under(load, prompt_ids, opening)):
                yield phase._replace(pause_s=self._shape.pause_s if number or place else 0.0)

    def _under(self, load: Load, prompt_ids: Sequence[str], opening: Iterator[list[int]]) -> Iterator[Phase]:
        names, how = self._asked.endpoints, how_interleaved(self._shape, load)
        least = len(prompt_ids) * self._asked.repeats
        if how == "pair":
            (stretch,) = self._begin([names], load, least * len(names))
            questions = self._questions.questions(names, prompt_ids, turns_at_most(stretch, least))
            groups = tuple(
                tuple(Turn(names[place], *question, warmup=False, load=load) for place in next(opening))
                for question in questions
            )
            yield Phase(load, (closed_lane(load, groups)._replace(over=stretch.over),))
        elif how == "parallel":
            stretches = self._begin([[name] for name in names], load, least)
            yield Phase(load, tuple(self._lane(stretch, prompt_ids, least, "") for stretch in stretches))
        else:
            blocks = 1 if how == "whole" else _BLOCKS
            for block in range(blocks):
                begin = len(prompt_ids) * block // blocks
                rotated = [*prompt_ids[begin:], *prompt_ids[:begin]]
                for place in next(opening):
                    (stretch,) = self._begin([[names[place]]], load, math.ceil(least / blocks))
                    yield Phase(load, (self._lane(stretch, rotated, least, str(block)),))

    def _begin(self, endpoints: Sequence[Sequence[str]], load: Load, least: int) -> list[Stretch]:
        self._under_way = [Stretch(names, load, self._hold_s, least) for names in endpoints]
        self._stretches += self._under_way
        return self._under_way

    def _lane(self, stretch: Stretch, prompt_ids: Sequence[str], least: int, block: str) -> Lane:
        questions = self._questions.questions(stretch.endpoints, prompt_ids, turns_at_most(stretch, least))
        return held_lane(stretch.endpoints[0], stretch, self._shape, self._asked, questions, block)
