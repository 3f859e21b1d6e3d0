"""The course that finds the highest load at which each endpoint meets all SLOs. Pure.

Each endpoint has a search of its own (boundary.py); they take turns, so that a drift meets all alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, Final, NamedTuple

from .boundary import Boundary, Bounds, Found
from .course import Result
from .holding import HeldQuestions, Stretch, held_lane, turns_at_most
from .schedule import Asked, Load, Phase, Shape, lane_to, openings, warmup_phases
from .slo import Slo

_FEWEST_ANSWERS: Final = 20
_OUTLINE_ANSWERS: Final = 100  # of each load that the outline shows


class Search(NamedTuple):
    """What is searched for, and between which loads; each is held for at least `hold_s`."""

    slos: tuple[Slo, ...]
    bounds: Bounds
    hold_s: float


class SearchCourse:
    """All endpoints' searches, in turn."""

    def __init__(self, shape: Shape, asked: Asked, search: Search) -> None:
        self._shape, self._asked, self._search = shape, asked, search
        self._boundaries = {name: Boundary(search.slos, search.bounds) for name in asked.endpoints}
        self._questions = HeldQuestions()
        self._cursor = dict.fromkeys(asked.endpoints, 0)
        self._stretch: Stretch | None = None
        self._ended = False
        self._sending = self._phases()

    def outline(self) -> Sequence[Phase]:
        """Twice as much load again and again, up to the highest: a search that meets its SLOs everywhere does that."""
        phases = warmup_phases(self._asked)
        load, prompt_ids = self._search.bounds.low, self._asked.prompt_ids[0]
        while True:
            load = min(load, self._search.bounds.high)
            questions = [(prompt_ids[number % len(prompt_ids)], 1) for number in range(_OUTLINE_ANSWERS)]
            phases += [
                Phase(
                    self._load(load), (lane_to(name, self._load(load), self._shape, self._asked, questions, "", None),)
                )
                for name in self._asked.endpoints
            ]
            if load >= self._search.bounds.high:
                return phases
            load *= 2

    def heard(self, result: Result) -> None:
        if not result.warmup:
            self._questions.heard(result)
        if self._stretch is not None and result.endpoint in self._stretch.endpoints:
            self._stretch.heard(result)

    def next(self) -> Phase | None:
        return next(self._sending, None)

    def found(self) -> Mapping[str, Any]:
        return {
            "kind": "search",
            "slo": [slo.name for slo in self._search.slos],
            "of": "concurrency" if self._search.bounds.whole else "rate",
            "bounds": [self._search.bounds.low, self._search.bounds.high],
            "hold_s": self._search.hold_s,
            "ended_by": "search" if self._ended else "stopped",
            "endpoints": {
                name: {**boundary.found()._asdict(), "points": boundary.points()}
                for name, boundary in self._boundaries.items()
            },
        }

    def said(self) -> Sequence[str]:
        slos = ", ".join(slo.name for slo in self._search.slos)
        lines = [f"The highest load that meets {slos}" + ("." if self._ended else ", as far as the search came.")]
        found = {name: boundary.found() for name, boundary in self._boundaries.items()}
        lines += [self._in_words(name, each) for name, each in found.items()]
        lines += [self._compared(first, second, found) for first, second in combinations(found, 2)]
        return lines

    def _phases(self) -> Iterator[Phase]:
        yield from warmup_phases(self._asked)
        opening = openings(self._asked)
        step = 0
        while True:
            loads = {name: boundary.next_load() for name, boundary in self._boundaries.items()}
            if all(load is None for load in loads.values()):
                self._ended = True
                return
            for name in (self._asked.endpoints[place] for place in next(opening)):
                load = loads[name]
                if load is not None:
                    yield self._visit(name, load, step)
                    stretch = self._stretch
                    if stretch is not None:
                        self._boundaries[name].visited(load, stretch.results)
                        self._cursor[name] += len(stretch.results)
                    step += 1

    def _visit(self, name: str, load: float, step: int) -> Phase:
        boundary = self._boundaries[name]
        scouting = boundary.scouting(load)
        stretch = Stretch(
            [name],
            self._load(load),
            self._search.hold_s,
            _FEWEST_ANSWERS,
            most=max(boundary.answers_at_most(), 4 * round(load) if self._search.bounds.whole else 0),
            decided=(lambda _: True) if scouting else partial(boundary.decided, load),
        )
        prompt_ids, begin = self._asked.prompt_ids[0], self._cursor[name] % len(self._asked.prompt_ids[0])
        rotated = [*prompt_ids[begin:], *prompt_ids[:begin]]
        questions = self._questions.questions([name], rotated, turns_at_most(stretch, _FEWEST_ANSWERS))
        self._stretch = stretch
        lane = held_lane(name, stretch, self._shape, self._asked, questions, str(step))
        return Phase(stretch.load, (lane,), self._shape.pause_s if step else 0.0)

    def _load(self, load: float) -> Load:
        return Load(round(load)) if self._search.bounds.whole else Load(None, load)

    def _in_words(self, name: str, found: Found) -> str:
        tried = sorted(self._boundaries[name].answers)
        if not tried:
            return f"{name}: no load was tried."
        if unknown := self._boundaries[name].unknown():
            return f"{name}: its answers say nothing of {', '.join(unknown)}."
        if found.load is None:
            return f"{name}: none of those that were tried, from {self._load(tried[0]).in_words()} on."
        low = "less" if found.low is None else f"{found.low:g}"
        if found.all_met:
            sure = "surely" if found.low == found.load else f"surely up to {low}"
            return f"{name}: all that were tried meet it, up to {self._load(found.load).in_words()} ({sure})."
        high = "more" if found.high is None else f"{found.high:g}"
        load = f"{found.load:.0f} at once" if self._search.bounds.whole else f"{found.load:.3g} a second"
        return f"{name}: {load}, with 95 % within {low} to {high}."

    def _compared(self, first: str, second: str, found: Mapping[str, Found]) -> str:
        for one, other in ((first, second), (second, first)):
            low, high = found[one].low, found[other].high
            if low is not None and high is not None and low > high:
                return f"{one} bears more load than {other}."
        return f"{first} or {second}, which bears more load: undecided, their intervals overlap."
