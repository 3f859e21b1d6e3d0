"""How latency and TTFT go with the prompt's length: each endpoint's figures in bins of length. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dyno_analysis.render.table import Table, count, seconds, tokens
from dyno_analysis.stats.interval import Array, samples_needed

from .comparison import Comparison, PromptBin, PromptLengths
from .lines import LENGTHS_SAMPLED
from .titles import titled

_MOST_BINS: Final = 4


@dataclass(frozen=True)
class _Points:
    length: Array
    latency_s: Array
    ttft_s: Array
    output_tokens: Array


def prompt_lengths(columns: Mapping[str, Any], endpoints: Sequence[str]) -> PromptLengths | None:
    """The bins of the rows of prompt_lengths.sql; None if all prompts are of one length, or none is known.

    The edges are quantiles of all lengths, so that a bin has about as many requests as another one. There are two to
    four bins: as many as leave each endpoint enough requests in a bin for a median's interval, but two at least.
    Lengths are input tokens, or characters if no request's tokens are known.
    """
    by_tokens = not np.isnan(columns["input_tokens"].astype(np.float64)).all()
    lengths = columns["input_tokens" if by_tokens else "characters"].astype(np.float64)
    known = ~np.isnan(lengths)
    pooled = lengths[known]
    if len(np.unique(pooled)) < 2:
        return None
    points = {
        name: _Points(
            lengths[own],
            *(columns[column][own].astype(np.float64) for column in ("latency_s", "ttft_s", "output_tokens")),
        )
        for name in endpoints
        if (own := known & (columns["endpoint"] == name)).any()
    }
    fewest = min(len(own.length) for own in points.values())
    bins = min(max(fewest // samples_needed(0.5), 2), _MOST_BINS)
    edges = np.unique(np.quantile(pooled, np.arange(1, bins) / bins, method="inverted_cdf"))
    unknown = {name: int((~known & (columns["endpoint"] == name)).sum()) for name in endpoints}
    found = []
    for place in range(len(edges) + 1):
        inside = pooled[np.searchsorted(edges, pooled) == place]
        if len(inside):
            found += [_bin(name, points.get(name), edges, place, inside) for name in endpoints]
    return PromptLengths("tokens" if by_tokens else "characters", found, unknown)


def _bin(endpoint: str, points: _Points | None, edges: Array, place: int, inside: Array) -> PromptBin:
    shortest, longest = float(inside.min()), float(inside.max())
    if points is None:
        return PromptBin(endpoint, shortest, longest, 0, None, None, None)
    own = np.searchsorted(edges, points.length) == place
    n = int(own.sum())
    latency_s, ttft_s, output = (
        _known(values[own]) for values in (points.latency_s, points.ttft_s, points.output_tokens)
    )
    return PromptBin(
        endpoint,
        shortest,
        longest,
        n,
        float(np.median(latency_s)) if len(latency_s) else None,
        float(np.median(ttft_s)) if len(ttft_s) else None,
        float(output.mean()) if len(output) else None,
    )


def prompt_length_table(comparison: Comparison) -> Table | None:
    """Medians of latency and TTFT by the prompt's length; None if all prompts are of one length, or none is known."""
    found = comparison.prompt_lengths
    if found is None:
        return None
    enough = samples_needed(0.5)
    table = []
    before = None
    for each in found.bins:
        span = _span(each)
        few = " (few)" if each.n < enough else ""
        figures = [seconds(each.median_latency_s), seconds(each.median_ttft_s), tokens(each.mean_output_tokens)]
        table.append(["" if span == before else span, each.endpoint, f"{each.n:,}{few}", *figures])
        before = span
    notes = [
        "Over ok requests. The bins' edges are quantiles of all prompts' lengths."
        + (" A prompt's length is the mean over the endpoints." if found.unit == "tokens" else ""),
        "Longer prompts may also have longer answers: compare the last column.",
    ]
    if any(each.n < enough for each in found.bins):
        notes.append(f"Few: below {enough} requests a median has no 95 % interval.")
    if any(found.unknown.values()):
        left_out = ", ".join(f"{count(n, 'request', 'requests')} of {name}" for name, n in found.unknown.items() if n)
        notes.append(f"Not in it, since their prompts' lengths aren't known: {left_out}.")
    if comparison.lengths_sampled:
        notes.append(LENGTHS_SAMPLED)
    columns = [f"prompt, {found.unit}", "", "n", "latency, s (median)", "TTFT, s (median)", "output tokens (mean)"]
    return Table(titled("Prompts by length", comparison), columns, "llrrrr", table, notes, "prompts-by-length")


def _span(each: PromptBin) -> str:
    ends = [f"{end:,.1f}".removesuffix(".0") for end in (each.shortest, each.longest)]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _known(values: Array) -> Array:
    return values[~np.isnan(values)]
