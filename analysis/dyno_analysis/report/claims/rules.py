"""The rules by which claims are decided: from the evidence to a verdict. Pure."""

from collections.abc import Callable, Sequence
from typing import Final

from dyno_analysis.query.row_types import ServerTimesRow
from dyno_analysis.render.table import duration, rate
from dyno_analysis.stats.makespan import FEWEST_ANSWERS
from dyno_analysis.stats.spread import FEWEST_REPEATS

from .decision import (
    Decision,
    Role,
    Ruling,
    Winner,
    more,
    more_prompts,
    no_run,
    other,
    paired_words,
    quicker,
    ratio_with_interval,
    smaller,
    undecided,
    won,
)
from .evidence import VERY_LONG, Answered, Batch, Evidence, Price, Scores, SweepPoint

Rule = Callable[[Evidence], Decision]
_BATCH_SIZES: Final = (1, 8, 32, 64)


def faster_alone(claimed: Role) -> Rule:
    """The claimed one answers single requests sooner."""

    def decide(evidence: Evidence) -> Decision:
        paired = evidence.single
        if paired is None:
            return no_run("single")
        figure = paired_words("latency", paired, evidence.margin)
        if evidence.single_ttft is not None:
            figure += f"; TTFT {_ratio(evidence.single_ttft.ratio.typical_ratio)}"
        return won(quicker(paired), claimed, figure, more_prompts(paired, evidence.margin))

    return decide


def more_tokens_from(claimed: Role, least: int) -> Rule:
    """The claimed one makes more tokens a second at each concurrency from `least` on."""

    def decide(evidence: Evidence) -> Decision:
        if not evidence.sweep:
            return no_run("sweep")
        points = [point for point in evidence.sweep if point.concurrency >= least]
        if not points:
            most = evidence.sweep[-1].concurrency
            return undecided(f"at most {most} at once were tried", f"a sweep with {least} or more at once")
        figure = f"tok/s: {'; '.join(_at_load(point, evidence) for point in points)}"
        if short := [point for point in points if not (point.first.most and point.second.most)]:
            n = short[0].concurrency
            return undecided(figure, f"endpoints that answer {n} at once, or fewer at once where that is their limit")
        winners = [_more_tokens(point, evidence.margin) for point in points]
        against = [winner for winner in winners if winner not in (claimed, None)]
        winner: Winner = against[0] if against else None if None in winners else claimed
        return won(winner, claimed, figure, "more prompts under these loads")

    return decide


def sooner_done(claimed: Role, least: int = 0) -> Rule:
    """The claimed one has all answers of a batch sooner; the batch must have `least` requests."""

    def decide(evidence: Evidence) -> Decision:
        batch = evidence.batch
        if batch is None:
            return no_run("offline")
        figure = _batch_words(batch, evidence)
        if not (batch.first.most and batch.second.most):
            return undecided(figure, "a batch that both endpoints answer")
        if batch.most < least:
            return undecided(figure, f"{least:,} requests at once, or more")
        if batch.makespans is None or batch.makespans.interval is None:
            return undecided(figure, f"{FEWEST_ANSWERS} requests at once, or more")
        winner = smaller(batch.makespans.interval, evidence.margin)
        return won(winner, claimed, figure, "three batches or more, of more requests")

    return decide


def faster_on_long(claimed: Role) -> Rule:
    """The claimed one answers prompts of more than VERY_LONG tokens sooner."""

    def decide(evidence: Evidence) -> Decision:
        found = evidence.long
        if found is None:
            return no_run("long-context")
        answered = _answered(found.first, found.second, evidence)
        if found.longest is None:
            return undecided(f"no prompt's tokens are known; {answered}", "endpoints that report input tokens")
        if found.very_long is None:
            both = f"the longest prompt had {found.longest:,.0f} tokens; {answered}"
            return undecided(both, f"prompts of more than {VERY_LONG:,} tokens that both answer")
        label = f"latency above {VERY_LONG:,} tokens (up to {found.longest:,.0f})"
        figure = paired_words(label, found.very_long, evidence.margin)
        if not (found.first.most and found.second.most):
            figure += f"; {answered}"
        return won(quicker(found.very_long), claimed, figure, more_prompts(found.very_long, evidence.margin))

    return decide


def variant_slower(evidence: Evidence) -> Decision:
    """The long variant of a model answers short prompts later than the short one."""
    found = evidence.variants
    if found is None:
        return Decision(Ruling.NOT_DECIDABLE, "no endpoint offers the model with and without the long context")
    if found.paired is None:
        return undecided(
            f"{found.long} and {found.short} have no short prompt in common", "a run with both, of short prompts"
        )
    figure = paired_words(f"latency {found.long} : {found.short}", found.paired, evidence.margin)
    # The first of the pair is the long one, so that it is slower where the second is quicker.
    return won(quicker(found.paired), "second", figure, more_prompts(found.paired, evidence.margin))


def steadier(claimed: Role) -> Rule:
    """The claimed one's latency spreads less around its prompt's mean, in seconds."""

    def decide(evidence: Evidence) -> Decision:
        found = evidence.steady
        if "steady" not in evidence.runs:
            return no_run("steady")
        if found is None:
            return undecided("too few repeats", f"{FEWEST_REPEATS} answers of each endpoint, prompts repeated")
        figure = (
            f"standard deviation {duration(found.first)} : {duration(found.second)}, "
            f"ratio {ratio_with_interval(found.ratio, found.interval, evidence.margin)}"
        )
        if evidence.relative_steady is not None:
            figure += f"; of the logarithm {_ratio(evidence.relative_steady.ratio)}"
        return won(smaller(found.interval, evidence.margin), claimed, figure, "more repeats, in more blocks of time")

    return decide


def cheaper(claimed: Role, what: str, unit: str, key: str) -> Rule:
    """The claimed one's output token takes less of `what`: money or energy."""

    def decide(evidence: Evidence) -> Decision:
        found: Price | None = getattr(evidence, what)
        if found is None or found.paired is None:
            return undecided(
                "not known of both endpoints", f"`{key}` of both in dyno.toml, and answers with their tokens"
            )
        paired = found.paired
        figure = (
            f"{what} an output token "
            f"{ratio_with_interval(paired.typical_ratio, paired.typical_interval, evidence.margin)}"
        )
        if found.first_an_answer is not None and found.second_an_answer is not None:
            figure += f"; an answer {found.first_an_answer:.4g} : {found.second_an_answer:.4g}{unit}"
        held = paired.typical_interval
        needs = (
            "6 prompts or more that both answered"
            if held is None
            else more(paired.prompts, paired.typical_ratio, held, evidence.margin, "prompts")
        )
        return won(smaller(held, evidence.margin), claimed, figure, needs)

    return decide


def similar_scores(evidence: Evidence) -> Decision:
    """Exact match and F1 lie within the margin of each other; contradicted where one is told to lie outside of it."""
    scores = evidence.scores
    if scores is None:
        return undecided("no answer has a reference", "a run over prompts with reference answers, such as squad")
    figure = _score_words(scores)
    margin = evidence.points
    held = [scores.exact_match_interval, scores.f1_interval]
    known = [each for each in held if each is not None]
    if any(each.low > margin or each.high < -margin for each in known):
        return Decision(Ruling.CONTRADICTED, figure)
    if len(known) == len(held) and all(-margin <= each.low and each.high <= margin for each in known):
        return Decision(Ruling.SUPPORTED, f"{figure}; within {margin * 100:g} points")
    needs = f"about {scores.needed:,} prompts" if scores.needed else "more prompts, or another margin"
    return undecided(f"{figure}; margin {margin * 100:g} points", needs)


def batch_sizes_answered(evidence: Evidence) -> Decision:
    """Both answer with each number of requests at once."""
    if not evidence.sweep:
        return no_run("sweep")
    points = {point.concurrency: point for point in evidence.sweep if point.concurrency in _BATCH_SIZES}
    figure = "; ".join(
        f"{n}: {rate(point.first_tokens_per_s)} : {rate(point.second_tokens_per_s)}" for n, point in points.items()
    )
    figure = f"tok/s at {figure}" if points else "none of them was tried"
    failed = [point for point in points.values() if not (point.first.most and point.second.most)]
    if failed:
        told = _answered(failed[0].first, failed[0].second, evidence)
        return Decision(Ruling.CONTRADICTED, f"{figure}; at {failed[0].concurrency} {told}")
    if missing := [str(n) for n in _BATCH_SIZES if n not in points]:
        return undecided(figure, f"a sweep with {', '.join(missing)} at once")
    return Decision(Ruling.SUPPORTED, figure)


def others_compared(evidence: Evidence) -> Decision:
    """Raw requests to other kinds of models were answered by both endpoints and compared."""
    paired = evidence.other
    if paired is None:
        return no_run("raw")
    figure = paired_words("latency", paired, evidence.margin)
    if paired.ratio.typical_interval is None:
        return undecided(figure, more_prompts(paired, evidence.margin))
    return Decision(Ruling.SUPPORTED, figure)


def causes(evidence: Evidence) -> Decision:
    """Never decidable from outside. What the servers say of their own times narrows it."""
    told = [_server_words(row) for row in evidence.server_times if row.told]
    said = "; ".join(told) if told else "neither server says where its time went"
    return Decision(Ruling.NOT_DECIDABLE, said)


def _more_tokens(point: SweepPoint, margin: float) -> Winner:
    return None if point.ratio is None else other(smaller(point.ratio.interval, margin))


def _at_load(point: SweepPoint, evidence: Evidence) -> str:
    if not (point.first.most and point.second.most):
        return f"at {point.concurrency} {_answered(point.first, point.second, evidence)}"
    if point.ratio is None:
        return f"at {point.concurrency} not known"
    return f"at {point.concurrency} {ratio_with_interval(point.ratio.ratio, point.ratio.interval, evidence.margin)}"


def _batch_words(batch: Batch, evidence: Evidence) -> str:
    found = batch.makespans
    answered = _answered(batch.first, batch.second, evidence)
    if found is None:
        return answered
    words = f"{batch.most:,} at once took {duration(found.first_s)} : {duration(found.second_s)}, ratio "
    words += ratio_with_interval(found.ratio, found.interval, evidence.margin)
    return words if batch.first.most and batch.second.most else f"{words}; {answered}"


def _answered(first: Answered, second: Answered, evidence: Evidence) -> str:
    sides: Sequence[tuple[str, Answered]] = ((evidence.first, first), (evidence.second, second))
    return " and ".join(f"{name} answered {each.ok:,} of {each.requests:,}" for name, each in sides)


def _score_words(scores: Scores) -> str:
    parts = []
    for label, (first, second), held in (
        ("exact match", scores.exact_match, scores.exact_match_interval),
        ("F1", scores.f1, scores.f1_interval),
    ):
        ends = "no interval" if held is None else f"{held.low * 100:+.1f} to {held.high * 100:+.1f}"
        parts.append(f"{label} {first * 100:.1f} : {second * 100:.1f} ({ends} points)")
    return f"{', '.join(parts)} over {scores.prompts:,} prompts"


def _server_words(row: ServerTimesRow) -> str:
    parts = [
        f"{label} {duration(value)}"
        for label, value in (("queue", row.queue_s), ("first token", row.ttft_s), ("whole", row.latency_s))
        if value is not None
    ]
    return f"{row.endpoint}'s server says: {', '.join(parts)} (medians)"


def _ratio(value: float) -> str:
    return f"{value:.3g}"
