"""`make coverage`: its formulas are the report's, and the verdicts keep their promises over a few thousand runs."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dyno_analysis.stats.interval import Interval
from dyno_analysis.stats.paired import Prompts, Verdict, mean_verdict, paired_ratio, typical_verdict
from verdict_coverage import intervals, measure, shapes
from verdict_coverage.shapes import Array

TESTS = Path(__file__).parents[1]
STATISTICS = TESTS.parent / "docs" / "statistics.md"
SEEDS = 2_000
NAMES = [*(shape.name for shape in shapes.SHAPES), shapes.SHARED]


def prompts_of(first: Array, second: Array) -> Prompts:
    once = np.ones(len(first))
    return Prompts(once, once, first, second, np.log(first), np.log(second), np.full(len(first), np.nan))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [6, 30])
def test_the_tables_are_of_the_reports_own_formulas(name: str, n: int) -> None:
    """Run by run, the intervals and verdicts of the tables are those that a report prints."""
    first, second = shapes.both(name, np.random.default_rng(n), (40, n))
    second[::3] = first[::3] * np.random.default_rng(1).lognormal(0.01, 0.01, (14, n))
    held = [way(first, second, 0.95) for way in (intervals.log_t, intervals.median, intervals.fieller)]
    said = intervals.faster_or_slower(first, second, 0.05, 0.95)
    same = intervals.no_difference(first, second, 0.05, 0.95)
    of_means = intervals.means_differ(first, second, 0.05, 0.95)
    differ = (Verdict.FIRST_SMALLER, Verdict.SECOND_SMALLER)
    for run in range(40):
        found = paired_ratio(prompts_of(first[run], second[run]))
        _agrees(found.typical_interval, held[0], run, np.exp)
        _agrees(found.median_interval, held[1], run, np.exp)
        _agrees(found.interval, held[2], run, np.positive)
        verdict = typical_verdict(found, 0.05, None)
        assert (verdict in differ, verdict is Verdict.SAME) == (bool(said[run]), bool(same[run]))
        if n >= 30:
            assert (mean_verdict(found, 0.05, None) in differ) == bool(of_means[run])


def _agrees(
    one: Interval | None, many: intervals.Intervals, run: int, ratio: Callable[[np.float64], np.float64]
) -> None:
    assert one is not None
    assert (one.low, one.high) == pytest.approx((ratio(many.low[run]), ratio(many.high[run])), rel=1e-6)


def test_false_verdicts_are_rare() -> None:
    """Identical endpoints of any shape get 'faster' or 'slower' in 5 % of runs; the bound has three standard errors."""
    for rows in (measure.false_verdicts(SEEDS), measure.false_mean_verdicts(SEEDS)):
        for name, cells in rows.items():
            assert max(cell for cell in cells if cell is not None) <= 0.071, name


def test_false_equivalence_is_rare() -> None:
    """At the margin itself 'no difference' comes in 2.5 % a side; the bound has three standard errors."""
    for name, cells in measure.false_equivalence(SEEDS).items():
        assert max(cell for cell in cells if cell is not None) <= 0.04, name


def test_the_median_holds_for_any_shape() -> None:
    """Unequal shapes: the median's interval holds what it says, and log-t where logarithms are symmetric."""
    assert max(max(cell or 0 for cell in cells) for cells in measure.misses(SEEDS, "median").values()) <= 0.066
    typical = measure.misses(SEEDS, "typical")
    for name in ("lognormal 0.5", "lognormal 1"):
        assert max(cell or 0 for cell in typical[f"steady against {name}"]) <= 0.071


def test_the_page_has_the_tables(tmp_path: Path) -> None:
    """The command writes between the page's two marks, and the page has each table with its rows."""
    page = tmp_path / "statistics.md"
    text = STATISTICS.read_text(encoding="utf-8")
    page.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "verdict_coverage", "--seeds", "20", "--write", str(page)]
    subprocess.run(command, cwd=TESTS, check=True, capture_output=True, timeout=120)
    written = page.read_text(encoding="utf-8")
    assert "the share of 20 simulated runs" in written
    assert "the share of 20,000 simulated runs" in text
    figures = re.compile(r"\d+\.\d %")
    assert figures.sub("", written).replace("of 20 simulated", "of 20,000 simulated") == figures.sub("", text)
    page.write_text("no marks", encoding="utf-8")
    done = subprocess.run(command, cwd=TESTS, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "each once" in done.stderr) == (2, True)
