"""The answer of a comparison, before any table: what isn't so, what was found, and how sure it is. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dyno_analysis.render.table import UNKNOWN, Table, count, duration, percent, rate, ratio
from dyno_analysis.render.wrapping import width
from dyno_analysis.stats.interval import Interval, median_interval
from dyno_analysis.stats.paired import FEWEST_FOR_MEANS, FEWEST_PROMPTS, Verdict
from dyno_analysis.stats.regression import Dependence

from . import discrepancies, fairness, findings
from .comparison import Comparison, PairedFigure
from .lines import crossing_sentence
from .verdicts import interval_words, reason, verdict_words

_LONGEST_NAME: Final = 14  # a longer name gets a letter, so that each verdict has one line
_MOST_OUTCOMES: Final = 3
_FIGURES: Final = (("latency_s", "latency"), ("ttft_s", "first token"), ("tpot_s", "per token"))
_FASTER_WORDS: Final = {"ttft_s": "to the first token", "tpot_s": "per token"}
_AT_SPEED: Final = re.compile(r"simulated( at \S+ times) its profile's( speed)")


@dataclass(frozen=True)
class Answer:
    """What a person is told first. Sentences are whole; who shows them breaks them into lines."""

    banner: Sequence[str]
    letters: Mapping[str, str]  # endpoint -> the letter that stands for it here; empty: names are short
    said: Sequence[str]  # the answer first
    table: Table | None  # its rows are in order of importance
    needed: int  # so many rows are the verdicts on latency
    undecided: Sequence[str]
    notes: Sequence[str]  # what to know before quoting it


def answer(comparison: Comparison) -> Answer:
    """The answer, with letters for endpoints of long names."""
    letters = letters_for(comparison)
    short = shortening(letters)
    table = _table(comparison, short)
    *found, asked = said(comparison)
    return Answer(
        banner=banner(comparison),
        letters=letters,
        said=[short(sentence) for sentence in (*found, *_crossings(comparison), asked)],
        table=table,
        needed=0 if table is None else max(len({paired.second for paired in comparison.paired}), 1),
        undecided=[short(sentence) for sentence in _undecided(comparison)],
        notes=[short(note) for note in _notes(comparison)],
    )


def letters_for(comparison: Comparison) -> dict[str, str]:
    """A letter for each endpoint, if a name is so long that it would break the tables' rows; otherwise none."""
    if all(width(name) <= _LONGEST_NAME for name in comparison.endpoints):
        return {}
    return {name: _letter(place) for place, name in enumerate(comparison.endpoints)}


def shortening(letters: Mapping[str, str]) -> Callable[[str], str]:
    """What puts letters for names into a text."""
    if not letters:
        return lambda text: text
    names = sorted(letters, key=len, reverse=True)  # a name may be part of a longer one
    pattern = re.compile("|".join(map(re.escape, names)))
    return lambda text: pattern.sub(lambda found: letters[found[0]], text)


def banner(comparison: Comparison) -> list[str]:
    """What isn't so, before anything else: simulated, imported, interrupted."""
    simulated = comparison.simulated
    found = []
    if simulated and len(simulated) == len(comparison.endpoints):
        be = "is" if len(simulated) == 1 else "are"
        found.append(f"Simulated: {_all(simulated)} {be} Dyno's own simulator{_speed(comparison)}.")
    elif simulated:
        real = [name for name in comparison.endpoints if name not in simulated]
        be, be_not = ("is" if len(simulated) == 1 else "are"), ("isn't" if len(real) == 1 else "aren't")
        mixed = f"Mixed: {_joined(simulated)} {be} simulated, {_joined(real)} {be_not}"
        found.append(f"{mixed}. A simulator's figures say nothing about engines.")
    imported = [name for name in comparison.endpoints if comparison.figures[name].imported]
    own = [name for name in imported if comparison.is_from_own_file(name)]
    others = [name for name in imported if name not in own]
    if own:
        found.append(f"Imported from a results file of Dyno's own: {_joined(own)}.")
    if others:
        found.append(f"Imported, not measured by Dyno: {_joined(others)}.")
    if any(record.interrupted for record in comparison.records):
        found.append("Interrupted: these are the requests up to then.")
    invalid = [why for record in comparison.records for why in record.invalid_for_rate]
    if invalid:
        found.append(f"Invalid for rate, since the driver was the bottleneck: {'; '.join(invalid)}.")
    return found


def said(comparison: Comparison) -> list[str]:
    """The answer as a sentence with its interval, then where figures disagree, then what was asked and what failed."""
    first, *others = comparison.endpoints
    if not others:
        found = [_alone(comparison, first)]
    elif len(others) == 1:
        found = [_against(comparison, first, others[0]), *_disagreements(comparison, others[0])]
    elif not any(comparison.figures[name].ok for name in comparison.endpoints):
        found = [f"No verdict: none of the {len(comparison.endpoints)} endpoints gave an ok answer."]
    else:
        each = "; ".join(_briefly(comparison, first, name) for name in others)
        found = [f"Against {first}, typically: {each}."]
    return [*found, " ".join([_asked(comparison), *findings.failures(comparison), *_outcomes(comparison)])]


def _crossings(comparison: Comparison) -> list[str]:
    """Above which length the order changes, where an interval carries it."""
    disputed = {fixed.endpoint for fixed in comparison.fixed_per_token if not fixed.lines_agree}
    return [
        crossing_sentence(comparison, name)
        for name, line in comparison.crossings.items()
        if line.at is not None and line.interval is not None and not disputed & {comparison.endpoints[0], name}
    ]


def _alone(comparison: Comparison, name: str) -> str:
    row = comparison.percentiles.get((name, "latency_s"))
    if row is None:
        return f"{name} gave no ok answer."
    points = comparison.lengths[name].latency_s
    held = median_interval(points) if len(points) == row.n else None
    sure = "" if held is None else f"; 95 %: {duration(held.low)} to {duration(held.high)}"
    streamed = comparison.percentiles.get((name, "ttft_s"))
    token = "" if streamed is None else f" Its first token typically came after {duration(streamed.p50)}."
    return f"{name} typically answered in {duration(row.p50)} (median{sure}).{token}"


def _against(comparison: Comparison, first: str, second: str) -> str:
    paired = comparison.verdict_of(second)
    if paired is None:
        silent = [name for name in (first, second) if not comparison.figures[name].ok]
        nothing = f"{_joined(silent)} gave no ok answer" if silent else "they answered no prompt in common"
        return f"No verdict on {first} and {second}: {nothing}."
    found = paired.ratio
    held = interval_words(found.typical_interval, comparison.margin)
    if paired.verdict in (Verdict.SECOND_SMALLER, Verdict.FIRST_SMALLER):
        faster, slower = (second, first) if paired.verdict is Verdict.SECOND_SMALLER else (first, second)
        times, between = _times(paired, comparison.margin)
        return f"{faster} typically answers {times} times sooner than {slower} (95 %: {between})."
    measured = f"ratio {ratio(found.typical_ratio)}" + ("" if held is None else f", 95 %: {held}")
    if paired.verdict is Verdict.SAME:
        within = f"within {comparison.margin * 100:g} %"
        return f"{first} and {second} typically take the same time, {within} ({measured})."
    why = reason(paired, comparison.margin)
    because = f"; {why}" if why else ""
    # No word here says that one is ahead, for no interval carries it.
    what = "Undecided" if paired.verdict is Verdict.UNDECIDED else "Withheld"
    return f"{what}: how the latencies of {first} and {second} compare ({measured}{because})."


def _briefly(comparison: Comparison, first: str, second: str) -> str:
    """The verdict on `second` as a clause of a sentence that begins with the first endpoint's name."""
    paired = comparison.verdict_of(second)
    if paired is None:
        silent = not comparison.figures[second].ok or not comparison.figures[first].ok
        return f"{second} " + ("can't be compared without an ok answer" if silent else "has no prompt in common")
    if paired.verdict in (Verdict.SECOND_SMALLER, Verdict.FIRST_SMALLER):
        times, between = _times(paired, comparison.margin)
        how = "sooner" if paired.verdict is Verdict.SECOND_SMALLER else "later"
        return f"{second} {times} times {how} ({between})"
    held = interval_words(paired.ratio.typical_interval, comparison.margin)
    measured = "" if held is None else f" ({held})"
    return f"{second} {verdict_words(paired.verdict, paired, comparison.margin)}{measured}"


def _disagreements(comparison: Comparison, second: str) -> list[str]:
    """Which of TTFT and TPOT have the other endpoint ahead, where latency has a verdict."""
    latency = comparison.verdict_of(second)
    ahead = None if latency is None else _faster(latency)
    clauses = []
    for figure, words in _FASTER_WORDS.items():
        paired = comparison.verdict_of(second, figure)
        other = None if paired is None else _faster(paired)
        if ahead is not None and paired is not None and other is not None and other != ahead:
            times, sure = _times(paired, comparison.margin)
            clauses.append(f"{other} is {times} times faster {words} (95 %: {sure})")
    return [f"But {', and '.join(clauses)}."] if clauses else []


def _faster(paired: PairedFigure) -> str | None:
    return {Verdict.SECOND_SMALLER: paired.second, Verdict.FIRST_SMALLER: paired.first}.get(paired.verdict)


def _times(paired: PairedFigure, margin: float) -> tuple[str, str]:
    """How many times faster the faster one is, and the interval of that; both above 1."""
    value, held = paired.ratio.typical_ratio, paired.ratio.typical_interval
    if paired.verdict is Verdict.FIRST_SMALLER:
        value = 1 / value
        held = None if held is None else Interval(1 / held.high, 1 / held.low)
    return ratio(value, (1.0,)), interval_words(held, margin) or UNKNOWN


def _asked(comparison: Comparison) -> str:
    """'10 prompts, in turn, streamed.'"""
    numbers = [paired.ratio.prompts for paired in comparison.paired if paired.figure == "latency_s"]
    rows = [comparison.figures[name] for name in comparison.endpoints]
    ok, streamed = sum(row.ok for row in rows), sum(row.streamed for row in rows)
    if numbers and len(numbers) == len(comparison.endpoints) - 1:
        least, most = min(numbers), max(numbers)
        parts = [count(least, "prompt", "prompts") if least == most else f"{least:,} to {most:,} prompts"]
    else:
        parts = [count(sum(row.requests for row in rows), "request", "requests")]
    if comparison.pooled_runs:
        parts.append(f"{len(comparison.pooled_runs)} runs pooled")
    if comparison.by_mirror:
        parts.append("mirrored")
    elif _in_turn(comparison):
        parts.append("in turn")
    if ok:
        parts.append("streamed" if streamed == ok else "partly streamed" if streamed else "not streamed")
    return f"{', '.join(parts)}."


def _outcomes(comparison: Comparison) -> list[str]:
    """How the requests ended that failed, the most frequent first."""
    left_out = ("client_cancelled", "rejected")
    failed = sorted((row for row in comparison.failures if row.outcome not in left_out), key=lambda row: -row.n)
    told = [
        f"{row.n:,} of {row.endpoint} {row.outcome}{f' ({row.error_type})' if row.error_type else ''}"
        for row in failed[:_MOST_OUTCOMES]
    ]
    more = f" and {len(failed) - _MOST_OUTCOMES} more" if len(failed) > _MOST_OUTCOMES else ""
    return [f"Outcomes: {', '.join(told)}{more}."] if told else []


def _in_turn(comparison: Comparison) -> bool:
    """Whether the endpoints were asked by turns, and not one wholly after the other."""
    rows = [row for row in comparison.interleaving if row.requests]
    return bool(rows) and all(row.endpoints > 1 and row.starts > 1 and row.changes >= row.endpoints for row in rows)


def _table(comparison: Comparison, short: Callable[[str], str]) -> Table | None:
    """Both sides of each ratio, its interval and the verdict; None if no prompt is common to two endpoints."""
    if not comparison.paired:
        return None
    first, *others = map(short, comparison.endpoints)
    several = len(others) > 1
    rows: list[list[str]] = []
    for figure, label in _FIGURES:
        found = [paired for paired in comparison.paired if paired.figure == figure]
        rows += _labelled(label, [_typical_row(paired, comparison, short) for paired in found], several)
    means = [paired for paired in comparison.paired if paired.figure == "latency_s"]
    rows += _labelled("mean latency", [_mean_row(paired, comparison, short) for paired in means], several)
    if not several:
        rows += _further(comparison)
        return Table("", ["typical", first, others[0], "ratio", "95 %", "verdict"], "lrrrrl", rows)
    return Table("", ["typical", "", first, "other", "ratio", "95 %", "verdict"], "llrrrrl", rows)


def _labelled(label: str, rows: Sequence[tuple[str, list[str]]], several: bool) -> list[list[str]]:
    """The rows with their label; with several other endpoints, it stands in the first one, and names follow."""
    if not several:
        return [[label, *cells] for _, cells in rows]
    return [["" if number else label, name, *cells] for number, (name, cells) in enumerate(rows)]


def _typical_row(paired: PairedFigure, comparison: Comparison, short: Callable[[str], str]) -> tuple[str, list[str]]:
    found = paired.ratio
    return short(paired.second), [
        duration(found.first_typical),
        duration(found.second_typical),
        ratio(found.typical_ratio),
        _dash(found.typical_interval, comparison.margin),
        short(_verdict(paired.verdict, paired, comparison.margin)),
    ]


def _mean_row(paired: PairedFigure, comparison: Comparison, short: Callable[[str], str]) -> tuple[str, list[str]]:
    found = paired.ratio
    few = f"no verdict, n < {FEWEST_FOR_MEANS}" if found.prompts < FEWEST_FOR_MEANS else "no verdict"
    verdict = few
    if paired.mean_verdict is not None:
        verdict = short(_verdict(paired.mean_verdict, paired, comparison.margin))
    return short(paired.second), [
        duration(found.first_mean),
        duration(found.second_mean),
        ratio(found.ratio),
        _dash(found.interval, comparison.margin),
        verdict,
    ]


def _further(comparison: Comparison) -> list[list[str]]:
    """Throughput and answer quality of two endpoints, which have no verdict."""
    figures = [comparison.figures[name].output_tokens_per_s for name in comparison.endpoints]
    rows = []
    if any(value is not None for value in figures):
        rows.append(["output tok/s", *map(rate, figures), "", "", ""])
    scores = {score.endpoint: score.f1 for score in comparison.quality}
    if scores:
        rows.append(["F1", *(percent(scores.get(name)) for name in comparison.endpoints), "", "", "not tested"])
    return rows


def _verdict(verdict: Verdict, paired: PairedFigure, margin: float) -> str:
    """The faster endpoint by its name, whichever side it is on."""
    if verdict is Verdict.FIRST_SMALLER:
        return f"{paired.first} faster"
    return "no difference" if verdict is Verdict.SAME else verdict_words(verdict, paired, margin)


def _dash(held: Interval | None, margin: float) -> str:
    words = interval_words(held, margin)
    return f"needs n ≥ {FEWEST_PROMPTS}" if words is None else words.replace(" to ", " – ")


def _undecided(comparison: Comparison) -> list[str]:
    fixed = [each for each in comparison.fixed_per_token if each.lines[0].points]
    if any(each.agreed is Dependence.UNDECIDED for each in fixed):
        return ["Undecided: how latency grows with length; answers of more lengths are needed."]
    disputed = [each.endpoint for each in fixed if each.agreed is None]
    return [f"Disputed: how the latency of {_joined(disputed)} grows with its answers' length."] if disputed else []


def _notes(comparison: Comparison) -> list[str]:
    """The notes without those that the banner has, and without causes; the likeliest last."""
    found = [
        note.replace(fairness.CAUSE, "")
        for note in (*fairness.notes(comparison), *discrepancies.discrepancies(comparison))
    ]
    told = ("Simulated: ", "Only ", "Imported")
    return sorted(
        (note for note in found if not note.startswith(told)), key=lambda note: note.startswith("Each prompt")
    )


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else f"E{place + 1}"


def _speed(comparison: Comparison) -> str:
    """', at 5 times speed', if all simulated endpoints' records say so."""
    speeds = set()
    for name in comparison.simulated:
        own = comparison.origin(name).endpoint
        told = [str(record.endpoints[own].get("hardware")) for record in comparison.records if own in record.endpoints]
        speeds |= {found[1] + found[2] if (found := _AT_SPEED.fullmatch(text)) else "" for text in told or [""]}
    return f",{speeds.pop()}" if len(speeds) == 1 and "" not in speeds else ""


def _all(names: Sequence[str]) -> str:
    words = _joined(names)
    if len(names) > 1 and width(words) > 40:
        return "both endpoints" if len(names) == 2 else f"all {len(names)} endpoints"
    return words


def _joined(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
