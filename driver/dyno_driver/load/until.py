"""The courses of `--until` and `--blocks`: stages of pairs, with looks between them at which a run may end. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, combinations
from typing import Any, Final, Literal, NamedTuple

from .course import Result
from .looks import Look, Rule, alpha_spent, look_at, look_levels, planned_looks, stages
from .paired_ratio import log_ratio
from .schedule import Asked, Load, Phase, Shape, how_interleaved, openings, phases_under, warmup_phases

Figure = Literal["latency", "ttft", "tpot"]
FIGURES: Final[tuple[Figure, ...]] = ("latency", "ttft", "tpot")


class Until(NamedTuple):
    """What is asked for: `rule` None: nothing ends the run early. `blocks` of time, in each of which all is asked."""

    rule: Rule | None
    figure: Figure
    blocks: int


class _Stage(NamedTuple):
    phases: tuple[Phase, ...]
    pairs: int


class StagedCourse:
    """Stages of pairs under one load. After some of them it looks, and may end. `budget` ends it otherwise."""

    def __init__(self, shape: Shape, asked: Asked, until: Until) -> None:
        self._asked, self._until = asked, until
        self._stages = _staged(shape, asked, until)
        self._upto = list(accumulate(stage.pairs for stage in self._stages))
        self._planned = planned_looks([stage.pairs for stage in self._stages], until.blocks) if until.rule else []
        self._comparisons = list(combinations(asked.endpoints, 2))
        self._times: dict[str, dict[tuple[str, int], list[float]]] = {
            name: defaultdict(list) for name in asked.endpoints
        }
        self._looks: dict[tuple[str, str], list[Look]] = {names: [] for names in self._comparisons}
        self._looked_at: list[int] = []  # pairs
        self._sending = self._phases()
        self._ended_by: str | None = None  # None: something else ended the run

    def outline(self) -> Sequence[Phase]:
        return [*warmup_phases(self._asked), *(phase for stage in self._stages for phase in stage.phases)]

    def heard(self, result: Result) -> None:
        value = {"latency": result.latency_s, "ttft": result.ttft_s, "tpot": result.tpot_s}[self._until.figure]
        if result.ok and not result.warmup and value is not None and value > 0:
            block = (result.repeat - 1) // self._asked.repeats
            self._times[result.endpoint][result.prompt_id, block].append(value)

    def next(self) -> Phase | None:
        return next(self._sending, None)

    def found(self) -> Mapping[str, Any] | None:
        rule = self._until.rule
        if rule is None:
            return {"kind": "blocks", "blocks": self._until.blocks, "repeats_per_block": self._asked.repeats}
        self._last_look()
        done = self._looked_at[-1] if self._looked_at else 0
        return {
            "kind": "until",
            "rule": rule.name,
            "figure": self._until.figure,
            "blocks": self._until.blocks,
            "repeats_per_block": self._asked.repeats,
            "looks_planned": [self._upto[stage] for stage in self._planned],
            "look": len(self._looked_at),
            "pairs": done,
            "ended_by": self._ended_by or "stopped",
            "alpha_spent": alpha_spent(rule, done if self._ended_by == "rule" else self._upto[-1], self._upto[-1]),
            "comparisons": [
                {"first": first, "second": second, "looks": [look._asdict() for look in looks]}
                for (first, second), looks in self._looks.items()
            ],
        }

    def said(self) -> Sequence[str]:
        found = self.found()
        if found is None or self._until.rule is None:
            return ()
        why = {
            "rule": f"--until {found['rule']} ended the run at look {found['look']} of {len(self._planned)}",
            "budget": f"--until {found['rule']} wasn't reached within the {self._upto[-1]} pairs that were asked for",
        }.get(found["ended_by"], f"--until {found['rule']} wasn't reached before the run was stopped")
        lines = [f"{why}, after {found['pairs']} pairs."]
        for (first, second), looks in self._looks.items():
            if not looks:
                lines.append(f"{first} / {second}: no interval; it needs six prompts that both answered.")
                continue
            look = looks[-1]
            lines.append(
                f"{self._until.figure} of {first} / {second}: {look.ratio:.3f}, with {100 * look.confidence:.4g} % "
                f"within {look.low:.3f} to {look.high:.3f}{self._in_words(first, second, look)}"
            )
        return lines

    def _in_words(self, first: str, second: str, look: Look) -> str:
        if self._until.rule is None or self._until.rule.width is not None:
            return "."
        return {
            "first faster": f": {first} is faster.",
            "second faster": f": {second} is faster.",
            "undecided": ": undecided.",
        }[look.said]

    def _phases(self) -> Iterator[Phase]:
        yield from warmup_phases(self._asked)
        for number, stage in enumerate(self._stages):
            yield from stage.phases
            if number in self._planned and self._look(self._upto[number]):
                self._ended_by = "rule"
                return
        self._ended_by = "budget"

    def _look(self, pairs: int, *, last: bool = False) -> bool:
        """Look at all comparisons. Whether each of them may end here."""
        rule = self._until.rule
        if rule is None:
            return False
        self._looked_at.append(pairs)
        level = look_levels(rule, self._looked_at, self._upto[-1], len(self._comparisons), last=last)[-1]
        ends = []
        for (first, second), looks in self._looks.items():
            found = log_ratio(self._times[first], self._times[second])
            if found is not None:
                looks.append(look_at(found, rule, pairs, level))
            ends.append(found is not None and looks[-1].ends)
        return all(ends)

    def _last_look(self) -> None:
        """Where something else has ended the run, what has come by then is looked at with all of alpha that is left."""
        if self._ended_by is None and self._until.rule is not None:
            self._ended_by = "stopped"
            pairs = min((sum(map(len, times.values())) for times in self._times.values()), default=0)
            if pairs > (self._looked_at[-1] if self._looked_at else 0):
                self._look(pairs, last=True)


def _staged(shape: Shape, asked: Asked, until: Until) -> list[_Stage]:
    """The stages, without warm-ups. Pauses are between blocks."""
    load, prompts, opening = shape.loads[0], list(asked.prompt_ids[0]), openings(asked)
    found: list[_Stage] = []
    for block in range(until.blocks):
        first = 1 + block * asked.repeats
        questions = [(prompt, repeat) for repeat in range(first, first + asked.repeats) for prompt in prompts]
        parts = stages(len(prompts), asked.repeats) if until.rule and until.blocks == 1 else [len(questions)]
        begin = 0
        for part in parts:
            phases = [*phases_under(_sized(load, part), shape, asked, questions[begin : begin + part], opening)]
            if until.blocks > 1 or how_interleaved(shape, load) == "pair":
                # The pause is between blocks of time, or there is none: not between the parts of a block.
                phases = [phase._replace(pause_s=0.0) for phase in phases]
                phases[0] = phases[0]._replace(pause_s=shape.pause_s if block else 0.0)
            found.append(_Stage(tuple(phases), part))
            begin += part
    first_phase = found[0].phases[0]._replace(pause_s=0.0)
    found[0] = found[0]._replace(phases=(first_phase, *found[0].phases[1:]))
    return found


def _sized(load: Load, requests: int) -> Load:
    return load._replace(concurrency=requests) if load.all_at_once else load
