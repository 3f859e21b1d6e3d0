"""Exact match and F1 of long prompts, by their length and by the depth at which the answer stands in them. Pure."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from dyno_analysis.query.row_types import AnswerRow
from dyno_analysis.render.table import UNKNOWN, Table, percent
from dyno_analysis.stats import squad

from .comparison import Comparison
from .titles import titled

# What the driver writes as a long prompt's domain.
_DOMAIN: Final = re.compile(r"(\d+(?:\.\d+)?)(k?) tokens, depth (\d+(?:\.\d+)?) ?%")
_WORKLOAD: Final = "long-context"


class _Group(NamedTuple):
    """Prompts of one length: sorted by it, then by depth in percent; -1: not known."""

    tokens: float
    depth: float
    words: str


def long_context_table(comparison: Comparison) -> Table | None:
    """Scores by length and depth; None if no scored answer is to a prompt of known length in a long-context run.

    A length is the one that the prompt was made with. Where the prompt's record doesn't say it, it is the bin of the
    prompt's input tokens, as in the table of prompts by length.
    """
    if not any(record.workload == _WORKLOAD for record in comparison.records):
        return None
    tokens = _mean_tokens(comparison)
    scores: dict[_Group, dict[str, list[tuple[float, float]]]] = {}
    for answer in comparison.answers:
        group = _group(answer, tokens, comparison)
        if group is not None and (references := answer.reference_answers):
            scored = (squad.exact_match(answer.answer, references), squad.f1(answer.answer, references))
            scores.setdefault(group, {}).setdefault(answer.endpoint, []).append(scored)
    rows = []
    for group in sorted(scores):
        for place, name in enumerate(comparison.endpoints):
            own = scores[group].get(name, [])
            means = [percent(sum(each) / len(own)) for each in zip(*own, strict=True)] if own else [UNKNOWN] * 2
            depth = UNKNOWN if group.depth < 0 else f"{group.depth:g} %"
            rows.append([*(["", ""] if place else [group.words, depth]), name, str(len(own)), *means])
    if not rows:
        return None
    notes = ["Depth: where in the prompt the answer stands, from 0 % (at its beginning) to 100 %. Nothing is tested."]
    columns = ["prompt, tokens", "depth", "endpoint", "answers", "exact match", "F1"]
    title = titled("Answer quality by length and depth", comparison)
    return Table(title, columns, "lllrrr", rows, notes, "answer-quality")


def _mean_tokens(comparison: Comparison) -> Mapping[str, float]:
    """Each prompt's input tokens, the mean over all answers to it."""
    counted: dict[str, list[int]] = {}
    for answer in comparison.answers:
        if answer.input_tokens is not None:
            counted.setdefault(answer.prompt_id, []).append(answer.input_tokens)
    return {prompt_id: sum(each) / len(each) for prompt_id, each in counted.items()}


def _group(answer: AnswerRow, tokens: Mapping[str, float], comparison: Comparison) -> _Group | None:
    said = _DOMAIN.fullmatch(answer.domain or "")
    if said is not None:
        return _Group(float(said[1]) * (1000 if said[2] else 1), float(said[3]), f"{said[1]}{said[2]}")
    bins = comparison.prompt_lengths
    length = tokens.get(answer.prompt_id)
    if length is None or bins is None or bins.unit != "tokens":
        return None
    for each in bins.bins:
        if each.shortest <= length <= each.longest:
            return _Group(each.shortest, -1.0, f"{each.shortest:,.0f} to {each.longest:,.0f}")
    return None
