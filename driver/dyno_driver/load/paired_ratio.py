"""The paired ratio of two endpoints over the prompts that both answered, as `dyno report` has it. Pure.

The analysis computes the same from stored spans (docs/statistics.md); a contract test holds both to each other.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, variance
from typing import Final, NamedTuple

from .distributions import t_quantile

# With fewer prompts there is no interval. With fewer blocks of time, their variation is unknown.
FEWEST_PROMPTS: Final = 6
FEWEST_BLOCKS: Final = 6

Times = Mapping[tuple[str, int], Sequence[float]]  # by prompt and block


class LogRatio(NamedTuple):
    """The mean of the prompts' log ratios, its squared standard error, and that error's degrees of freedom."""

    centre: float
    median: float
    squared_error: float
    degrees: int
    prompts: int

    def half_width(self, error: float) -> float:
        """Of the interval that misses with probability `error`, in logarithms."""
        return t_quantile(1 - error / 2, self.degrees) * math.sqrt(self.squared_error)


def log_ratio(first: Times, second: Times) -> LogRatio | None:
    """How the first's times compare with the second's; None with fewer than FEWEST_PROMPTS prompts of both.

    From FEWEST_BLOCKS blocks on, prompts and blocks are crossed: their squared errors add up, with Satterthwaite's
    degrees of freedom (Biometrics Bulletin 2, 1946).
    """
    one, other = _by_prompt(first), _by_prompt(second)
    logs = [fmean(one[prompt]) - fmean(other[prompt]) for prompt in sorted(one.keys() & other.keys())]
    if len(logs) < FEWEST_PROMPTS:
        return None
    parts = [(variance(logs) / len(logs), len(logs) - 1)]
    effects = _block_effects(first, second)
    if len(effects) >= FEWEST_BLOCKS:
        parts.append((variance(effects) / len(effects), len(effects) - 1))
    total = math.fsum(part for part, _ in parts)
    degrees = len(logs) - 1
    if len(parts) > 1 and total > 0:
        degrees = max(int(total**2 / math.fsum(part**2 / own for part, own in parts)), 1)
    return LogRatio(fmean(logs), median(logs), total, degrees, len(logs))


def _by_prompt(times: Times) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for (prompt, _), values in times.items():
        found[prompt] += map(math.log, values)
    return {prompt: logs for prompt, logs in found.items() if logs}


def _block_effects(first: Times, second: Times) -> list[float]:
    """By how much each block's log ratios lie off their prompts' means, over the prompts of more than one block."""
    ratios: dict[str, dict[int, float]] = defaultdict(dict)
    for (prompt, block), values in first.items():
        if values and (others := second.get((prompt, block))):
            ratios[prompt][block] = _mean_log(values) - _mean_log(others)
    off: dict[int, list[float]] = defaultdict(list)
    for blocks in ratios.values():
        if len(blocks) > 1:
            centre = fmean(blocks.values())
            for block, ratio in blocks.items():
                off[block].append(ratio - centre)
    return [fmean(off[block]) for block in sorted(off)]


def _mean_log(values: Iterable[float]) -> float:
    return fmean(map(math.log, values))
