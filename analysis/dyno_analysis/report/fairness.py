"""Finds in the data what makes a comparison unfair, or a figure misleading. Pure."""

from dyno_analysis.query.row_types import PairBalanceRow
from dyno_analysis.render.table import count

from .comparison import Comparison


def notes(comparison: Comparison) -> list[str]:
    """One note per finding. An empty list means that nothing was found, not that the comparison is fair."""
    return [
        *_sources(comparison),
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
    for balance in comparison.balances:
        for name in (balance.first_endpoint, balance.second_endpoint):
            alone = comparison.figures[name].ok - balance.pairs
            if alone > 0:
                other = balance.second_endpoint if name == balance.first_endpoint else balance.first_endpoint
                found.append(
                    f"{count(alone, 'answer', 'answers')} of {name} without one of {other} to the same prompt: "
                    "these are in the comparison table, but not in the paired ratios."
                )
    if any(row.repeats == 1 and row.prompts > 1 for row in comparison.interleaving):
        found.append("Each prompt was asked once: how far one prompt's latency varies by itself isn't known.")
    return found


def _mirrors(comparison: Comparison) -> list[str]:
    if comparison.by_mirror:
        found = [
            "Nobody waits for a copy: a client that reads slowly, or leaves, delays or ends only the original request."
        ]
        for row in comparison.mirrors:
            sides = [name for name in (row.endpoint, row.copied_to) if name is not None]
            if len(sides) == 2 and comparison.endpoints[0] not in sides:
                found.append(
                    f"The pairs of {sides[0]} and {sides[1]} aren't in the paired ratios, which compare others with "
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
    cause = "a chat template or tokenizer of its own"
    return [f"The same prompts count as different input: {second} counts {extent} ({differing}; {cause})."]


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
            found.append(f"No answer of {name} was ok: it can't be compared.")
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
