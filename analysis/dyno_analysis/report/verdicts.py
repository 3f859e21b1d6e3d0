"""The verdicts of a comparison as tables and words. Pure."""

from collections.abc import Sequence

from dyno_analysis.render.table import Table, milliseconds, ratio
from dyno_analysis.stats.interval import Interval, samples_needed
from dyno_analysis.stats.paired import FEWEST_FOR_MEANS, FEWEST_PROMPTS, PairedRatio, Verdict

from .comparison import Comparison, PairedFigure
from .titles import titled

LABELS = {"latency_s": "latency", "ttft_s": "TTFT", "tpot_s": "TPOT"}


def verdict_table(comparison: Comparison) -> Table | None:
    """The verdict on each figure, over the prompts that two endpoints both answered; None without such a prompt."""
    if not comparison.paired:
        return None
    margin = comparison.margin
    table = []
    for paired in comparison.paired:
        found = paired.ratio
        table.append(
            [
                _label(paired),
                str(found.prompts),
                ratio(found.typical_ratio),
                interval_words(found.typical_interval, margin) or f"needs {FEWEST_PROMPTS} prompts",
                verdict_words(paired.verdict, paired, margin),
            ]
        )
    table += [_of_means(paired, margin) for paired in comparison.paired if paired.figure == "latency_s"]
    notes = [
        "Typical request: the geometric mean of the prompts' ratios. Above 1, the second takes less time.",
        f"Intervals: Student's t on log ratios; {together(comparison)}.",
        f"'No difference': the whole interval lies within {margin * 100:g} %.",
        *_why(comparison),
        f"Ratio of means: Fieller's interval, which carries a verdict from {FEWEST_FOR_MEANS} prompts on.",
        *_rare(comparison),
    ]
    columns = ["typical request", "prompts", "ratio", "interval", "verdict"]
    return Table(titled("Verdicts", comparison), columns, "lrrrl", table, notes, "verdicts")


def evidence_table(comparison: Comparison) -> Table | None:
    """What stands behind the verdicts: each side's requests and typical time, the median, the proxy's own part."""
    if not comparison.paired:
        return None
    table = []
    for paired in comparison.paired:
        found = paired.ratio
        needed = samples_needed(0.5, found.confidence)
        table.append(
            [
                _label(paired),
                f"{found.first_requests:,} : {found.second_requests:,}",
                f"{milliseconds(found.first_typical)} : {milliseconds(found.second_typical)}",
                ratio(found.median_ratio),
                interval_words(found.median_interval, comparison.margin) or f"needs {needed} prompts",
                milliseconds(abs(found.first_typical - found.second_typical)),
                milliseconds(paired.overhead_s),
            ]
        )
    notes = [
        f"Median of the prompts' ratios: its interval by order statistics is exact; {together(comparison)}.",
        "Proxy's own: how much of the difference its overhead may be, by the mean difference with its error.",
        "Overhead that both share cancels out. A verdict is withheld if the proxy's own is as large as the effect.",
    ]
    columns = ["", "requests", "typical, ms", "median ratio", "interval", "effect, ms", "proxy's own, ms"]
    return Table(titled("Behind the verdicts", comparison), columns, "lrrrrrr", table, notes, "verdicts")


def verdict_words(verdict: Verdict, paired: PairedFigure, margin: float) -> str:
    """The verdict in a few words; `margin` 0.05 is 5 %."""
    return {
        Verdict.SECOND_SMALLER: f"{paired.second} faster",
        Verdict.FIRST_SMALLER: f"{paired.second} slower",
        Verdict.SAME: f"no difference within {margin * 100:g} %",
        Verdict.UNDECIDED: "undecided",
        Verdict.WITHHELD: "withheld",
    }[verdict]


def reason(paired: PairedFigure, margin: float) -> str | None:
    """Why a verdict on the typical request isn't what its interval would say; None: the interval says it all."""
    found = paired.ratio
    held = found.typical_interval
    if paired.verdict is Verdict.WITHHELD and held is not None:
        same = held.low >= 1 / (1 + margin) and held.high <= 1 + margin
        smaller, effect = (
            min(found.first_typical, found.second_typical),
            abs(found.first_typical - found.second_typical),
        )
        against = f"a margin of {milliseconds(margin * smaller)}" if same else f"an effect of {milliseconds(effect)}"
        return f"the proxy's own {milliseconds(paired.overhead_s)} ms against {against} ms"
    if paired.verdict is Verdict.UNDECIDED and held is None:
        return f"fewer than {FEWEST_PROMPTS} prompts"
    if paired.verdict is Verdict.UNDECIDED and held is not None and not held.holds(1):
        return "the median of the ratios points to the other side"
    return None


def together(comparison: Comparison) -> str:
    """How the intervals' confidence is meant, as a clause."""
    n = comparison.verdicts
    if n < 2:
        return "they hold with 95 %"
    each = f"each by itself with {100 * (1 - 0.05 / n):.2f} %"
    return f"{'both' if n == 2 else f'all {n}'} verdicts hold together with 95 %, {each}"


def carried(comparison: Comparison, second: str, figure: str = "") -> str | None:
    """The endpoint that a verdict calls faster, of the first one and `second`; None: no verdict carries such a word.

    For the means (`mean_latency_s`, throughput) the verdict on the ratio of means must say it too, if there is one.
    """
    paired = comparison.verdict_of(second)
    if paired is None:
        return None
    said = {paired.verdict}
    if figure in ("mean_latency_s", "output_tokens_per_s") and paired.mean_verdict is not None:
        said.add(paired.mean_verdict)
    if said == {Verdict.SECOND_SMALLER}:
        return paired.second
    return paired.first if said == {Verdict.FIRST_SMALLER} else None


def equal_sets(comparison: Comparison, second: str) -> bool:
    """Whether the tables' figures of the first endpoint and `second` are of the same prompts, each equally often."""
    paired = comparison.verdict_of(second)
    if paired is None or not paired.equal:
        return False
    first, other = comparison.figures[paired.first], comparison.figures[second]
    return (first.ok, other.ok) == (paired.ratio.first_requests, paired.ratio.second_requests)


def interval_words(found: Interval | None, margin: float) -> str | None:
    """'LOW to HIGH' of a ratio; None without an interval. Each end is written on its side of 1 and of the margin."""
    if found is None:
        return None
    landmarks = (1.0, 1 + margin, 1 / (1 + margin))
    return f"{ratio(found.low, landmarks)} to {ratio(found.high, landmarks)}"


def _label(paired: PairedFigure) -> str:
    return f"{LABELS[paired.figure]} {paired.first} : {paired.second}"


def _of_means(paired: PairedFigure, margin: float) -> list[str]:
    found = paired.ratio
    verdict = paired.mean_verdict
    return [
        f"mean {_label(paired)}",
        str(found.prompts),
        ratio(found.ratio),
        interval_words(found.interval, margin) or f"needs {FEWEST_PROMPTS} prompts",
        _no_verdict(found) if verdict is None else verdict_words(verdict, paired, margin),
    ]


def _no_verdict(found: PairedRatio) -> str:
    few = found.prompts < FEWEST_FOR_MEANS
    return f"(no verdict below {FEWEST_FOR_MEANS})" if few else "(no verdict over runs)"


def _why(comparison: Comparison) -> list[str]:
    return [
        f"The verdict on {_label(paired)} is {paired.verdict.value}: {why}."
        for paired in comparison.paired
        if (why := reason(paired, comparison.margin)) is not None
    ]


def _rare(comparison: Comparison) -> Sequence[str]:
    fewest = min(paired.ratio.prompts for paired in comparison.paired)
    return () if fewest >= FEWEST_FOR_MEANS else (f"No method sees a rare slow mode in {fewest} prompts.",)
