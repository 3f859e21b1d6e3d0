"""Where the highest load lies that meets all SLOs, from the points so far; and which load is tried next. Pure.

Misses grow with the load. So the points are fitted by a rising step function (pool adjacent violators: Ayer and
others, Annals of Mathematical Statistics 26, 1955), and the boundary is where it crosses an SLO's limit. AIPerf's
search for one system's saturation (docs.nvidia.com/aiperf, adaptive search) does alike; the bounds are ours.

    bottom …… surely meets …… seems to meet │ seems to fail …… surely fails …… top
                          the next load lies here, until both are near each other
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .course import Result
from .slo import Slo, Standing, answers_needed, standing

# Each bound of each point errs with this probability, so that those of a search hold together with some 95 %.
ERROR: Final = 0.0025
NEAR: Final = 0.05  # loads that lie within 5 % of each other aren't told apart
_MOST_VISITS: Final = 24
_VISITS_OF_LOAD: Final = 3
_MIDDLE: Final = (0.35, 0.65)  # of a gap, on a logarithmic scale: the next load lies in this part of it


class Bounds(NamedTuple):
    """The loads that are tried: requests at once (`whole` numbers), or requests a second."""

    low: float
    high: float
    whole: bool


class Found(NamedTuple):
    """The highest load that meets all, between the highest that surely does and the highest that still may.

    `load` None: no load that was tried meets them. `low` None: none surely does. `high` None: none surely doesn't.
    `all_met`: every load that was tried seems to meet them.
    """

    load: float | None
    low: float | None
    high: float | None
    all_met: bool = False


@dataclass
class Boundary:
    """One endpoint's search."""

    slos: Sequence[Slo]
    bounds: Bounds
    answers: dict[float, list[Result]] = field(default_factory=dict)
    visits: dict[float, int] = field(default_factory=dict)
    standings: dict[float, list[Standing | None]] = field(default_factory=dict)

    def visited(self, load: float, results: Sequence[Result]) -> None:
        """The load was held, and these are its answers."""
        self.answers.setdefault(load, []).extend(results)
        self.visits[load] = self.visits.get(load, 0) + 1
        self.standings[load] = self._standings(self.answers[load])

    def scouting(self, load: float) -> bool:
        """Whether this load is only passed on the way up, so that a first impression will do."""
        return load < self.bounds.high and load not in self.visits and self._seeming()[1] is None

    def unknown(self) -> list[str]:
        """The SLOs of which no answer told anything."""
        return [
            slo.name
            for number, slo in enumerate(self.slos)
            if self.standings and all(found[number] is None for found in self.standings.values())
        ]

    def decided(self, load: float, results: Sequence[Result]) -> bool:
        """Whether these answers, with earlier ones, show that the load surely meets all, or surely doesn't."""
        found = self._standings([*self.answers.get(load, ()), *results])
        return self._meets(found) or self._fails(found)

    def answers_at_most(self) -> int:
        """More than so many aren't asked for in one visit."""
        return 3 * max(answers_needed(slo, ERROR) for slo in self.slos)

    def next_load(self) -> float | None:
        """The load at which the boundary is least certain; None: it is known, or not worth more."""
        if sum(self.visits.values()) >= _MOST_VISITS or self.unknown():
            return None
        if not self.answers:
            return self.bounds.low
        below, above = self._seeming()
        if above is None and below is not None:
            return self._again(below) if below >= self.bounds.high else min(self._rounded(2 * below), self.bounds.high)
        if below is None and above is not None:
            return self._again(above) if above <= self.bounds.low else max(self._rounded(above / 2), self.bounds.low)
        if below is None or above is None:
            return None
        if not self._near(below, above):
            return self._between(below, above)
        low, high = self._sure()
        return self._outward(low, below, self.bounds.low) or self._outward(high, above, self.bounds.high)

    def found(self) -> Found:
        """The boundary as it is known by now."""
        if self.unknown():
            return Found(None, None, None)
        low, high = self._sure()
        below, above = self._seeming()
        most = None if high is None else high - 1 if self.bounds.whole else high
        if below is None:
            return Found(None, low, most)
        load = below if above is None else self._crossing(below, above)
        load = math.floor(load + 1e-9) if self.bounds.whole else load
        return Found(min(max(load, low or load), most or load), low, most, above is None)

    def points(self) -> list[dict[str, object]]:
        """Every load that was tried, with what its answers say of each SLO."""
        return [
            {
                "load": load,
                "requests": len(self.answers[load]),
                "visits": self.visits[load],
                "slos": {
                    slo.name: None if each is None else each._asdict()
                    for slo, each in zip(self.slos, self.standings[load], strict=True)
                },
            }
            for load in sorted(self.answers)
        ]

    def _standings(self, results: Sequence[Result]) -> list[Standing | None]:
        return [standing(slo, results, ERROR) for slo in self.slos]

    def _meets(self, found: Sequence[Standing | None]) -> bool:
        return all(each is not None and each.high <= slo.target for slo, each in zip(self.slos, found, strict=True))

    def _fails(self, found: Sequence[Standing | None]) -> bool:
        return any(each is not None and each.low > slo.target for slo, each in zip(self.slos, found, strict=True))

    def _sure(self) -> tuple[float | None, float | None]:
        """The highest load that surely meets all below the lowest that surely doesn't, and the latter."""
        known = self.standings.items()
        high = min((load for load, found in known if self._fails(found)), default=None)
        meets = [load for load, found in known if self._meets(found) and (high is None or load < high)]
        return max(meets, default=None), high

    def _fits(self) -> list[tuple[Slo, dict[float, float]]]:
        """For each SLO its rising fit, by load."""
        fits = []
        for number, slo in enumerate(self.slos):
            known = {load: own for load, found in self.standings.items() if (own := found[number]) is not None}
            loads = sorted(known)
            fitted = isotonic([known[load].value for load in loads], [known[load].weight for load in loads])
            fits.append((slo, dict(zip(loads, fitted, strict=True))))
        return fits

    def _seeming(self) -> tuple[float | None, float | None]:
        """The highest load at which every fit meets its SLO, and the lowest at which one doesn't."""
        fits = self._fits()
        fails = [load for slo, fit in fits for load, value in fit.items() if value > slo.target]
        above = min(fails, default=None)
        return max((load for load in self.answers if above is None or load < above), default=None), above

    def _crossing(self, below: float, above: float) -> float:
        """Where the first of the fits crosses its limit, on a line between the two over the load's logarithm."""
        places = [above]
        for slo, fit in self._fits():
            if below in fit and above in fit and fit[above] > slo.target:
                part = (slo.target - fit[below]) / (fit[above] - fit[below])
                places.append(below * (above / below) ** part)
        return min(places)

    def _between(self, below: float, above: float) -> float:
        least, most = (below * (above / below) ** part for part in _MIDDLE)
        load = self._rounded(min(max(self._crossing(below, above), least), most))
        if self.bounds.whole:
            load = min(max(load, below + 1), above - 1)
        return load

    def _outward(self, sure: float | None, seeming: float, end: float) -> float | None:
        """The next load on this side of the boundary, until one that is sure is near; None: there is none to try."""
        if sure is not None and (sure == seeming or self._near(*sorted((sure, seeming)))):
            return None
        if (again := self._again(seeming)) is not None:
            return again
        other = sure if sure is not None else end
        load = self._rounded(math.sqrt(other * seeming))
        for place in (load, other):
            if place != sure and (place not in self.visits or self._again(place) is not None):
                return place
        return None

    def _again(self, load: float) -> float | None:
        """The load itself, if more answers may decide it."""
        return None if self.visits[load] >= _VISITS_OF_LOAD or self._known(load) else load

    def _known(self, load: float) -> bool:
        return self._meets(self.standings[load]) or self._fails(self.standings[load])

    def _near(self, below: float, above: float) -> bool:
        return above / below <= 1 + NEAR or (self.bounds.whole and above - below <= 1)

    def _rounded(self, load: float) -> float:
        return max(round(load), 1) if self.bounds.whole else float(f"{load:.3g}")


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The rising series that is nearest to the values, by weighted squares: pool adjacent violators."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            last, before = pools.pop(), pools.pop()
            both = before[1] + last[1]
            mean = (before[0] * before[1] + last[0] * last[1]) / both if both else before[0]
            pools.append((mean, both, before[2] + last[2]))
    return [mean for mean, _, many in pools for _ in range(many)]
