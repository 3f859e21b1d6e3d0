"""Stopping rules: when a run looks at the paired ratio so far, and whether it may stop there. Pure.

ci=5%     the interval's ends lie within 5 % of the ratio. Every look's interval is a 95 % one.
verdict   the interval says faster or slower. The looks share the 5 % that may be false (spending.py).
"""

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from .paired_ratio import FEWEST_BLOCKS, LogRatio
from .spending import levels, spent

ALPHA: Final = 0.05
# What looks for a verdict share is a little less: times of few different values err a little oftener than normal ones.
_SHARED_ALPHA: Final = 0.048
FIRST_LOOK: Final = 20  # pairs
_GROWTH: Final = 1.25  # from one look to the next, at least

Said = Literal["first faster", "second faster", "undecided"]


class Rule(NamedTuple):
    """`width` 0.05: the interval's ends must lie within 5 % of the ratio. None: there must be a verdict."""

    name: str  # as the user wrote it
    width: float | None


class Look(NamedTuple):
    """What was seen of two endpoints after so many pairs; all ratios are first / second."""

    pairs: int
    ratio: float
    low: float
    high: float
    confidence: float  # of this interval
    said: Said
    ends: bool  # whether the rule may stop here


def read_rule(text: str) -> Rule | None:
    """`verdict`, or `ci=` and a percentage above 0; None for anything else."""
    if text == "verdict":
        return Rule(text, None)
    kind, _, number = text.partition("=")
    try:
        width = float(number.removesuffix("%")) / 100 if kind == "ci" and number.endswith("%") else math.nan
    except ValueError:
        return None
    return Rule(text, width) if 0 < width < math.inf else None


def planned_looks(pairs_by_stage: Sequence[int], blocks: int) -> list[int]:
    """After which stages (from 0) there is a look, of a run that asks so many pairs in each.

    The first look is at FIRST_LOOK pairs or later; where there are several blocks, the first at which their variation
    is known. The last stage always has one.
    """
    found: list[int] = []
    pairs, last = 0, 0
    for stage, own in enumerate(pairs_by_stage):
        pairs += own
        known = blocks == 1 or stage + 1 >= FEWEST_BLOCKS
        if stage == len(pairs_by_stage) - 1 or (pairs >= FIRST_LOOK and known and pairs >= _GROWTH * last):
            found.append(stage)
            last = pairs
    return found


def stages(prompts: int, passes: int) -> list[int]:
    """In which parts the pairs of one block are asked, so that a look may follow each.

    Within the first pass over the prompts a part is a growing number of them; later a part is a whole pass, so that
    every prompt has been asked equally often.
    """
    parts, done = [], 0
    while done < prompts:
        upto = FIRST_LOOK if not done else math.ceil(done * _GROWTH)
        parts.append(min(upto, prompts) - done)
        done = min(upto, prompts)
    return parts + [prompts] * (passes - 1)


def look_levels(rule: Rule, pairs: Sequence[int], most: int, comparisons: int, *, last: bool = False) -> list[float]:
    """How often each look's interval may miss. `pairs`: how many have come by each look; `most`: how many were planned.

    `last`: something else has ended the run. The last look then has what is left of alpha, whenever it comes.
    """
    if rule.width is not None:
        return [ALPHA / comparisons] * len(pairs)
    alpha = _SHARED_ALPHA / comparisons
    spent_by = [spent(number / most, alpha) for number in pairs]
    return levels(tuple(pairs), (*spent_by[:-1], alpha) if last else tuple(spent_by))


def look_at(found: LogRatio, rule: Rule, pairs: int, level: float) -> Look:
    """What this look says, with the interval of its own level."""
    off = found.half_width(level)
    low, high = found.centre - off, found.centre + off
    said: Said = "undecided"
    # The median must not point to the other side, as in the report.
    if low > 0 and found.median >= 0:
        said = "second faster"
    elif high < 0 and found.median <= 0:
        said = "first faster"
    ends = said != "undecided" if rule.width is None else off <= math.log1p(rule.width)
    return Look(pairs, math.exp(found.centre), math.exp(low), math.exp(high), 1 - level, said, ends)


def alpha_spent(rule: Rule, pairs: int, most: int) -> float | None:
    """How much of the 5 % the looks so far had; None for a rule that spends none."""
    return None if rule.width is not None else spent(min(pairs / most, 1.0), _SHARED_ALPHA)
