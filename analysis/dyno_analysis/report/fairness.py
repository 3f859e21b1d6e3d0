"""Finds in the data what makes a comparison unfair, or a figure misleading. Pure."""

from dyno_analysis.query.row_types import PairBalanceRow
from dyno_analysis.render.table import count
from dyno_analysis.stats.paired import FEWEST_BLOCKS

from .comparison import Comparison
from .tables import why_no_request

CAUSE = "; a chat template or tokenizer of its own"
_LEAST_MORE = 0.05  # tokens; less would be written as 0.0


def notes(comparison: Comparison) -> list[str]:
    """One note per finding. An empty list means that nothing was found, not that the comparison is fair."""
    return [
        *_sources(comparison),
        *_runs(comparison),
        *_prompts(comparison),
        *_mirrors(comparison),
        *_order(comparison),
        *(note for balance in comparison.balances for note in _input(balance)),
        *_requests(comparison),
        *_answers(comparison),
    ]


def _sources(comparison: Comparison) -> list[str]:
    found = []
    simulated = comparison.simulated
    if simulated and len(simulated) == len(comparison.endpoints):
        found.append(
            f"Simulated: {', '.join(simulated)}. These figures are a simulator's and say nothing about real endpoints."
        )
    elif simulated:
        found.append(f"Only {', '.join(simulated)} was simulated: a simulation is compared with a real endpoint.")
    imported = [name for name in comparison.endpoints if comparison.figures[name].imported]
    own = [name for name in imported if comparison.is_from_own_file(name)]
    imported = [name for name in imported if name not in own]
    if own:
        found.append(f"Imported from a results file of Dyno's own: {', '.join(own)}. Dyno measured what is in it.")
    if imported:
        found.append(
            f"Imported, not measured by Dyno: {', '.join(imported)}. "
            "The file doesn't say how and where the times were taken."
        )
    return found


def _prompts(comparison: Comparison) -> list[str]:
    found = [
        f"{row.distinct_prompts} of {row.prompts} prompts of run {row.run_id} are distinct."
        for row in comparison.prompt_texts
        if row.distinct_prompts < row.prompts
    ]
    if len(comparison.endpoints) < 2:
        return found
    for row in comparison.interleaving:
        if row.prompts == 0 and row.requests:
            found.append(
                "Requests without a prompt id can't be paired: the endpoints may have been asked different things."
            )
            break
    for second in comparison.endpoints[1:]:
        found += _alone(comparison, second)
    latencies = [
        paired.ratio for paired in comparison.paired if paired.figure == "latency_s" and paired.ratio.prompts > 1
    ]
    if latencies and all(r.first_requests == r.second_requests == r.prompts for r in latencies):
        found.append("Each prompt was asked once: how far one prompt's latency varies by itself isn't known.")
    return found


def _alone(comparison: Comparison, second: str) -> list[str]:
    """The answers to prompts that only one of two endpoints has answered."""
    first = comparison.endpoints[0]
    paired = comparison.verdict_of(second)
    if paired is None:
        both = comparison.figures[first].ok and comparison.figures[second].ok
        none = f"{first} and {second} answered no prompt in common, so there is no verdict on them."
        return [none] if both else []
    found = []
    sides = ((first, second, paired.ratio.first_requests), (second, first, paired.ratio.second_requests))
    for name, other, used in sides:
        alone = comparison.figures[name].ok - used
        if alone > 0:
            found.append(
                f"{count(alone, 'answer', 'answers')} of {name} without one of {other} to the same prompt: "
                "these are in the comparison table, but in no verdict."
            )
    return found


def _runs(comparison: Comparison) -> list[str]:
    runs = comparison.pooled_runs
    blocks = min((paired.ratio.blocks for paired in comparison.paired), default=1)
    if runs and blocks >= FEWEST_BLOCKS:
        typical = f"{len(runs)} runs are pooled. Typical requests' intervals are over prompts and runs: their variances"
        return [f"{typical} add up. Those of medians and means are over prompts alone."]
    if runs:
        pooled = (
            f"{len(runs)} runs are pooled. The intervals are over prompts: how far the ratio varies from one run to"
        )
        return [f"{pooled} another is unknown below {FEWEST_BLOCKS} runs, so they hold for these runs only."]
    if any(origin.run_id is not None for origin in comparison.origins.values()):
        apart = "Each run has columns of its own. A difference between two runs may be one of time, not of endpoints."
        return [f"{apart} --pool makes one column of an endpoint's runs."]
    return []


def _mirrors(comparison: Comparison) -> list[str]:
    if comparison.by_mirror:
        found = [
            "Nobody waits for a copy: a client that reads slowly, or leaves, delays or ends only the original request."
        ]
        for row in comparison.mirrors:
            sides = [name for name in (row.endpoint, row.copied_to) if name is not None]
            if len(sides) == 2 and comparison.endpoints[0] not in sides:
                found.append(
                    f"The pairs of {sides[0]} and {sides[1]} aren't in the verdicts, which compare others with "
                    f"{comparison.endpoints[0]}; see --endpoints {','.join(sides)}."
                )
        return found
    copies = {
        name: sum(row.mirrored for row in comparison.mirrors if row.copied_to == name) for name in comparison.endpoints
    }
    return [
        f"{n:,} of {comparison.figures[name].requests:,} requests of {name} are a mirror's copies, "
        "which nobody waited for; --paired-by mirror compares them with their originals."
        for name, n in copies.items()
        if n
    ]


def _order(comparison: Comparison) -> list[str]:
    found = []
    for row in comparison.interleaving:
        run = f" in run {row.run_id}" if row.run_id and len(comparison.interleaving) > 1 else ""
        if row.endpoints < 2 or row.requests <= row.endpoints:
            continue
        if row.starts == 1:
            found.append(
                f"The requests' start times aren't known{run}. So it isn't known whether the endpoints were asked "
                "in turn, or one wholly after the other."
            )
        elif row.changes == row.endpoints - 1:
            found.append(
                f"Not interleaved{run}: one endpoint was asked wholly after the other, so a change over time "
                "looks like a difference between them."
            )
    for balance in comparison.balances:
        ordered = balance.first_asked_first + balance.second_asked_first
        earlier = max(balance.first_asked_first, balance.second_asked_first)
        if ordered >= 6 and earlier == ordered:
            first = balance.first_asked_first == ordered
            name = balance.first_endpoint if first else balance.second_endpoint
            found.append(f"{name} was asked first in every pair: a cache shared by both would favour the other.")
    return found


def _input(balance: PairBalanceRow) -> list[str]:
    if not balance.different_input or balance.mean_more_input is None:
        return []
    first, second = balance.first_endpoint, balance.second_endpoint
    if balance.mean_more_input < 0:
        first, second = second, first
    extent = (
        f"{abs(balance.mean_more_input):.0f} more in each"
        if balance.least_more_input == balance.most_more_input
        else f"{abs(balance.mean_more_input):.1f} more on average"
    )
    differing = f"{balance.different_input} of {balance.with_input_tokens} pairs differ"
    if abs(balance.mean_more_input) < _LEAST_MORE:
        return [f"Some prompts count as different input at {first} and {second}, though not on average: {differing}."]
    return [f"The same prompts count as different input: {second} counts {extent} ({differing}{CAUSE})."]


def _requests(comparison: Comparison) -> list[str]:
    found = []
    unstreamed = [
        name for name in comparison.endpoints if comparison.figures[name].ok and not comparison.figures[name].streamed
    ]
    if unstreamed:
        found.append(f"Not streamed: {', '.join(unstreamed)}. TTFT, TTFA, TPOT and inter-chunk latency aren't known.")
    for name in comparison.endpoints:
        row = comparison.figures[name]
        if not row.ok:
            why = "No answer was ok" if row.requests else f"Requests: {why_no_request(row)}"
            found.append(f"{name} can't be compared. {why}.")
        if row.with_output_tokens < row.ok:
            found.append(
                f"The output tokens of {row.ok - row.with_output_tokens} of {row.ok} answers of {name} aren't known: "
                "throughput, TPOT and lengths are those of the others."
            )
        if row.streamed and row.streamed < row.ok:
            found.append(f"{row.streamed} of {row.ok} answers of {name} were streamed: latencies mix both kinds.")
        if row.counted_by_chunks:
            found.append(
                f"{name} gave no usage in {count(row.counted_by_chunks, 'answer', 'answers')}: "
                "chunks are counted instead of tokens, and a chunk may have several tokens."
            )
        gaps = comparison.gaps.get(name)
        if gaps and gaps.share_of_one_read >= 0.5:
            found.append(
                f"{gaps.share_of_one_read * 100:.0f} % of {name}'s chunks shared a network read with the one before: "
                "its inter-chunk latencies are those of something on the way, not the engine's."
            )
    return found


def _answers(comparison: Comparison) -> list[str]:
    found = []
    for name in comparison.endpoints:
        row = comparison.figures[name]
        if row.cut_by_length:
            found.append(f"{row.cut_by_length} of {row.ok} answers of {name} were cut off by the token limit.")
        if row.models and ", " in row.models:
            found.append(f"{name} was asked for several models: {row.models}.")
    lengths = {name: comparison.figures[name].mean_output_tokens for name in comparison.endpoints}
    known = {name: length for name, length in lengths.items() if length}
    if len(known) > 1:
        longest, shortest = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
        if known[longest] > 1.1 * known[shortest]:
            excess = f"{(known[longest] / known[shortest] - 1) * 100:.0f} %"
            found.append(
                f"{longest}'s answers are {excess} longer than {shortest}'s: "
                "part of the difference in latency is a difference in work."
            )
    return found
