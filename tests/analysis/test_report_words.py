"""What a report says in words: nothing that no interval carries."""

import re
from pathlib import Path

import numpy as np
import pytest

from rigs.dyno_command import cells, dyno
from rigs.stored_spans import pair, write

COMPARING = re.compile(r"faster|slower|sooner|higher|[Ss]peed-up,|reduction|improvement")
# Sentences that explain the words.
EXPLAINS = ("'Faster' and 'higher' stand beside", "takes less time", "favour the other")


def claims(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if COMPARING.search(line)]
    return [line for line in lines if not any(words in line for words in EXPLAINS)]


def report(folder: Path, first: list[float], second: list[float], tokens: list[int] | None = None) -> tuple[str, str]:
    """What is printed of these latencies, prompt by prompt, and report.md."""
    rows = []
    for number, times in enumerate(zip(first, second, strict=True)):
        both = pair(str(number), *times, output_tokens=tokens[number] if tokens else 50 + number)
        rows += both if number % 2 else [both[1], both[0]]
    write(folder, rows)
    out = dyno("report", "--spans", folder, "--out", folder / "out")
    assert out.returncode == 0, out.stderr
    return out.stdout, (folder / "out" / "report.md").read_text(encoding="utf-8")


def test_undecided_makes_no_claim(tmp_path: Path) -> None:
    """Beside an undecided verdict no table, line or finding says that an endpoint is faster, or anything like it."""
    rng = np.random.default_rng(5)
    first, second = (rng.lognormal(0, 0.5, 10).tolist() for _ in range(2))
    for text in report(tmp_path, first, second):
        assert "undecided" in text
        assert claims(text) == []
    out, _ = report(tmp_path, first, second)
    assert re.fullmatch(r"\d\.\d\dx", cells(out, "mean latency, s")[2])


def test_a_verdict_carries_its_words_and_no_others(tmp_path: Path) -> None:
    """With a verdict, each ratio that says the same has its word; a row that points to the other side has none."""
    first = [2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 2.7]
    second = [1.0, 1.1, 1.1, 1.2, 1.2, 1.3, 1.3, 2.8]
    out, report_md = report(tmp_path, first, second)
    assert cells(out, "latency metis : sophia")[-1] == "sophia faster"
    assert cells(out, "mean latency, s")[2].endswith("faster (sophia)")
    assert cells(out, "max latency, s")[2] == "1.04x"
    assert "Speed-up, by mean latencies: sophia / metis" in report_md
    assert "For prompts and answers like these, asked as here, sophia answers sooner than metis." in report_md


def test_means_that_disagree_carry_no_speed_up(tmp_path: Path) -> None:
    """From 30 prompts on the means have a verdict of their own; where it is undecided, no mean is called faster."""
    first = [2.0 + n / 100 for n in range(40)]
    second = [time / 2 for time in first[:38]] + [60.0, 70.0]
    out, report_md = report(tmp_path, first, second)
    assert cells(out, "latency metis : sophia")[-1] == "sophia faster"
    assert cells(out, "mean latency metis : sophia")[-1] == "undecided"
    assert cells(out, "mean latency, s")[2].endswith("x")
    assert "Ratio of mean latencies, which no verdict carries" in report_md
    assert "improvement" not in report_md


@pytest.mark.parametrize("seed", range(6))
def test_no_crossing_of_identical_endpoints(tmp_path: Path, seed: int) -> None:
    """Two identical endpoints of growing latency: their lines cross somewhere, but nothing is made of it."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(20, 300, 10).tolist()
    first, second = ([1 + 0.01 * n + abs(rng.normal(0, 0.3)) for n in tokens] for _ in range(2))
    _, report_md = report(tmp_path, first, second, tokens)
    assert "output tokens and" not in report_md
    assert "Whether longer answers change the order of metis and sophia is undecided" in report_md


def test_a_crossing_is_stated_with_its_interval(tmp_path: Path) -> None:
    """A short fixed part against a short time per token: the crossing is said, with an interval."""
    rng = np.random.default_rng(1)
    tokens = list(range(20, 420, 10))
    first, second = ([a + b * n + rng.normal(0, 0.05) for n in tokens] for a, b in ((0.5, 0.01), (2.5, 0.0002)))
    out, report_md = report(tmp_path, first, second, tokens)
    (said,) = [line for line in report_md.splitlines() if "By their lines" in line]
    assert "metis answers sooner below about 20" in said
    assert "and sophia above (95 % interval " in said
    # A fast engine's slope has the digits that it needs.
    assert re.fullmatch(r"0\.\d\d+", cells(out, "sophia", "least squares")[4]), out


def test_latency_that_does_not_depend_on_length(tmp_path: Path) -> None:
    """Many flat points are called flat, not undecided; a law from five requests isn't stated."""
    rng = np.random.default_rng(2)
    tokens = rng.integers(20, 400, 400).tolist()
    first, second = (rng.lognormal(0, 0.05, 400).tolist() for _ in range(2))
    out, _ = report(tmp_path / "flat", first, second, tokens)
    assert cells(out, "metis", "Theil–Sen")[-1] == "doesn't depend on length"
    assert "metis's latency doesn't depend on its answers' length" in out
    few = [1.0, 2.0, 3.0, 4.0, 5.0]
    out, _ = report(tmp_path / "few", few, few, [10, 20, 30, 40, 50])
    assert cells(out, "metis", "least squares")[-1] == "undecided, fewer than 6 requests"
    assert "latency is about" not in out


def test_methods_that_disagree_are_named(tmp_path: Path) -> None:
    """Where least squares and Theil–Sen say different things, no law is stated, and the report says so."""
    rng = np.random.default_rng(4)
    tokens = list(range(20, 220, 10))
    first = [1 + 0.001 * n + rng.normal(0, 0.01) for n in tokens[:-2]] + [9.0, 0.2]
    out, report_md = report(tmp_path, first, [2 * time for time in first], tokens)
    assert cells(out, "metis", "Theil–Sen")[-1] == "grows with length"
    assert "How metis's latency goes with its answers' length is disputed: least squares says 'undecided" in out
    assert "least squares and Theil–Sen disagree on metis and sophia" in report_md


def test_exchanged_endpoints_turn_everything(tmp_path: Path) -> None:
    """With the endpoints exchanged, the verdict turns, and the printed ratio and interval invert."""
    rng = np.random.default_rng(8)
    report(tmp_path, rng.lognormal(0.6, 0.2, 12).tolist(), rng.lognormal(0, 0.2, 12).tolist())
    one = cells(dyno("report", "--spans", tmp_path).stdout, "latency metis : sophia")
    other = cells(dyno("report", "--spans", tmp_path, "--endpoints", "sophia,metis").stdout, "latency sophia : metis")
    assert (one[-1], other[-1]) == ("sophia faster", "metis slower")
    low, high = map(float, one[2].split(" to "))
    turned_low, turned_high = map(float, other[2].split(" to "))
    assert (turned_low, turned_high) == pytest.approx((1 / high, 1 / low), abs=0.005)
