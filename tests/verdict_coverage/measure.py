"""How often the verdicts are false and the intervals miss, by simulated runs: the tables of docs/statistics.md."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np

from dyno_analysis.stats.interval import simultaneous
from dyno_analysis.stats.paired import FEWEST_FOR_MEANS
from dyno_driver.load.looks import Rule

from . import intervals, shapes
from .sequential import stopped
from .shapes import SHAPES, SHARED, STEADY, UNEQUAL, Array

PROMPTS: Final = (6, 10, 30, 100)
MARGIN: Final = 0.05
CONFIDENCE: Final = 0.95
NORMAL: Final = NormalDist()
BUDGETS: Final = (30, 60, 100, 300)  # pairs at most, in runs that may end early
# The spread of a run's mean log ratio, as a share of the margin, where 'no difference' is tried at the margin itself.
_NARROW: Final = 0.1
# So many runs for the true median of two shapes' ratio.
_MANY: Final = (4_000, 1_000)

# Title, the names of its rows, and the shares by row and number of prompts.
Rows = dict[str, list[float | None]]


def tables(seeds: int) -> str:
    """All tables in Markdown; `seeds` is the number of simulated runs of each cell."""
    parts = [
        ("False verdicts: 'faster' or 'slower' between identical endpoints", false_verdicts(seeds)),
        ("False verdicts on the ratio of means between identical endpoints", false_mean_verdicts(seeds)),
        ("False 'no difference within 5 %' at a true ratio of exactly 1.05, and of 1/1.05", false_equivalence(seeds)),
        ("Misses of the typical ratio's interval: a steady endpoint against another", misses(seeds, "typical")),
        ("Misses of the median ratio's interval: a steady endpoint against another", misses(seeds, "median")),
        ("Misses of the interval of the ratio of means: a steady endpoint against another", misses(seeds, "means")),
    ]
    early = [
        ("False verdicts of `--until verdict` between identical endpoints, by the most pairs", false_stops(seeds)),
        ("Misses after `--until ci=5%`, by the most pairs", misses_after_ci(seeds)),
    ]
    said = f"Each figure is the share of {seeds:,} simulated runs."
    written = [f"### {title}\n\n{_markdown(rows, PROMPTS)}" for title, rows in parts]
    return "\n\n".join([said, *written, *(f"### {title}\n\n{_markdown(rows, BUDGETS)}" for title, rows in early)])


def false_verdicts(seeds: int) -> Rows:
    """By shape; the last row is any false verdict in a table of three."""
    rows: Rows = {}
    for name in [shape.name for shape in SHAPES] + [SHARED]:
        rows[name] = [_share(seeds, n, name, "typical") for n in PROMPTS]
    rows["any of three figures, lognormal 0.5"] = [_any_of_three(seeds, n) for n in PROMPTS]
    return rows


def false_mean_verdicts(seeds: int) -> Rows:
    """By shape; None where the number of prompts is too small for a verdict."""
    names = [shape.name for shape in SHAPES] + [SHARED]
    return {
        name: [_share(seeds, n, name, "means") if n >= FEWEST_FOR_MEANS else None for n in PROMPTS] for name in names
    }


def false_equivalence(seeds: int) -> Rows:
    """By shape and side: the true ratio is the margin itself, and the spread so narrow that intervals fit into it."""
    rows: Rows = {}
    for name in [shape.name for shape in SHAPES] + [SHARED]:
        for side, sign in (("1.05", 1), ("1/1.05", -1)):
            cells: list[float | None] = []
            for n in PROMPTS:
                first, second = shapes.both(name, _rng(name, n), (seeds, n))
                # The logarithms' ratio keeps its shape, and gets the spread that is wanted.
                logs = np.log(first / second)
                wanted = _NARROW * math.log1p(MARGIN) * math.sqrt(n)
                ratio = np.exp(sign * math.log1p(MARGIN) + logs * wanted / logs.std())
                cells.append(float(intervals.no_difference(ratio, np.ones_like(ratio), MARGIN, CONFIDENCE).mean()))
            rows[f"{name}, at {side}"] = cells
    return rows


def misses(seeds: int, method: str) -> Rows:
    """By the other endpoint's shape: how often the true value isn't in the interval."""
    rows: Rows = {}
    for shape in UNEQUAL:
        cells: list[float | None] = []
        for n in PROMPTS:
            rng = _rng(shape.name, n)
            first, second = shape.draw(rng, (seeds, n)), STEADY.draw(rng, (seeds, n))
            if method == "typical":
                held, truth = intervals.log_t(first, second, CONFIDENCE), shape.mean_log - STEADY.mean_log
            elif method == "median":
                held, truth = intervals.median(first, second, CONFIDENCE), _true_median(shape.draw)
            else:
                held, truth = intervals.fieller(first, second, CONFIDENCE), shape.mean / STEADY.mean
            cells.append(held.misses(truth))
        rows[f"steady against {shape.name}"] = cells
    return rows


def false_stops(seeds: int) -> Rows:
    """By shape: how often identical endpoints end `--until verdict` in one, at any of its looks."""
    rule = Rule("verdict", None)
    return {
        name: [float(stopped(*shapes.both(name, _rng(name, n), (seeds, n)), rule).verdict.mean()) for n in BUDGETS]
        for name in [shape.name for shape in SHAPES] + [SHARED]
    }


def misses_after_ci(seeds: int) -> Rows:
    """By the noise of two identical endpoints: how often the interval at the end of `--until ci=5%` misses 1."""
    rows: Rows = {}
    noises = [(f"lognormal {sigma:g}", shapes.lognormal(sigma)) for sigma in (0.05, 0.1, 0.15, 0.2)]
    for name, draw in [*noises, ("normal, 20 %", shapes.normal), ("spiky: a tenth at 5 times", shapes.spiky)]:
        cells: list[float | None] = []
        for n in BUDGETS:
            rng = _rng(name, n)
            held = stopped(draw(rng, (seeds, n)), draw(rng, (seeds, n)), Rule("ci=5%", MARGIN))
            cells.append(float(((held.low > 0) | (held.high < 0)).mean()))
        rows[name] = cells
    return rows


def _share(seeds: int, n: int, name: str, method: str) -> float:
    first, second = shapes.both(name, _rng(name, n), (seeds, n))
    said = intervals.faster_or_slower if method == "typical" else intervals.means_differ
    return float(said(first, second, MARGIN, CONFIDENCE).mean())


def _any_of_three(seeds: int, n: int) -> float:
    rng = _rng("three", n)
    found: Array = np.zeros(seeds)
    for _ in range(3):
        first, second = (shapes.lognormal(0.5)(rng, (seeds, n)) for _ in range(2))
        found = np.maximum(found, intervals.faster_or_slower(first, second, MARGIN, simultaneous(3)))
    return float(found.mean())


def _true_median(draw: shapes.Draw) -> float:
    rng = np.random.default_rng(0)
    return float(np.median(np.log(draw(rng, _MANY) / STEADY.draw(rng, _MANY))))


def _rng(name: str, n: int) -> np.random.Generator:
    return np.random.default_rng([n, *name.encode()])


def _markdown(rows: Rows, numbers: Sequence[int]) -> str:
    header: Sequence[str] = ["", *(f"n = {n}" for n in numbers)]
    lines = [_row(header), _row(["---", *["--:"] * len(numbers)])]
    lines += [
        _row([name, *("" if cell is None else f"{100 * cell:.1f} %" for cell in cells)]) for name, cells in rows.items()
    ]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
