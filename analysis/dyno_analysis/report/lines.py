"""latency = fixed + per token, as a table and in words, and what follows for short and long answers. Pure."""

from dyno_analysis.render.table import UNKNOWN, Table, decimals, seconds
from dyno_analysis.stats.crossing import Order
from dyno_analysis.stats.interval import Interval
from dyno_analysis.stats.paired import Verdict
from dyno_analysis.stats.regression import FEWEST_POINTS, Dependence, Line

from .comparison import MOST_LENGTHS, Comparison, FixedPerToken
from .titles import titled

LENGTHS_SAMPLED = f"If an endpoint has over {MOST_LENGTHS:,} requests, a sample is picked by their ids; n is its size."
_WORDS = {
    Dependence.GROWS: "grows with length",
    Dependence.FALLS: "falls with length",
    Dependence.NONE: "doesn't depend on length",
    Dependence.UNDECIDED: "undecided, more lengths needed",
}


def fixed_per_token_table(comparison: Comparison) -> Table:
    """latency = fixed + per token. It tells a slow way to the engine (fixed) from a slow engine (per token)."""
    table = [
        [
            found.endpoint,
            line.method,
            str(line.points),
            f"{found.shortest_tokens} to {found.longest_tokens}" if line.points else UNKNOWN,
            seconds(line.fixed),
            _interval(line.fixed_interval, 2) or UNKNOWN,
            _slope(line),
            _interval(line.slope_interval, 1, 1e3) or UNKNOWN,
            dependence_words(line, dependence),
        ]
        for found in comparison.fixed_per_token
        for line, dependence in zip(found.lines, found.dependences, strict=True)
    ]
    notes = [
        "Over ok requests. The fixed part is the line at 0 tokens, which is mostly outside the lengths measured.",
        f"'Doesn't depend': over these lengths the slope makes under {comparison.margin * 100:g} % of mean latency.",
        "Each interval holds by itself with 95 %.",
    ]
    if comparison.lengths_sampled:
        notes.append(LENGTHS_SAMPLED)
    interval = "95 % interval"
    columns = ["", "method", "n", "output tokens", "fixed, s", interval, "per token, ms", interval, "verdict"]
    return Table(
        titled("Latency = fixed + per token", comparison),
        columns,
        "llrrrrrrl",
        table,
        notes,
        "latency--fixed--per-token",
    )


def dependence_words(line: Line, dependence: Dependence) -> str:
    """Whether latency depends on the answer's length, in words."""
    if dependence is Dependence.UNDECIDED and line.points < FEWEST_POINTS:
        return f"undecided, fewer than {FEWEST_POINTS} requests"
    return _WORDS[dependence]


def line_sentences(comparison: Comparison) -> list[str]:
    """How each endpoint's latency goes with its answers' length, where both methods say the same."""
    found, undecided = [], []
    for fixed in comparison.fixed_per_token:
        if not fixed.lines[0].points:
            continue
        if fixed.agreed is Dependence.UNDECIDED:
            undecided.append(fixed.endpoint)
        elif fixed.agreed is None:
            found.append(_disagreement(fixed))
        elif fixed.agreed is Dependence.NONE:
            found.append(
                f"{fixed.endpoint}'s latency doesn't depend on its answers' length, from {fixed.shortest_tokens} to "
                f"{fixed.longest_tokens} tokens (by less than {comparison.margin * 100:g} %)."
            )
        else:
            found.append(f"{fixed.endpoint}'s latency is about {_line(fixed.lines[0])}.")
    if undecided:
        found.append(
            f"How much of the latency is fixed and how much goes by the token is undecided for {', '.join(undecided)}: "
            "more lengths needed."
        )
    return found


def crossing_sentence(comparison: Comparison, second: str) -> str:
    """Whether the answers' length changes the order of the first endpoint and `second`, as far as an interval says."""
    first = comparison.endpoints[0]
    found = comparison.crossings[second]
    reach = f"{found.shortest:,.0f} to {found.longest:,.0f} output tokens"
    undecided = f"Whether longer answers change the order of {first} and {second} is undecided"
    disputed = [
        fixed.endpoint
        for fixed in comparison.fixed_per_token
        if not fixed.lines_agree and fixed.endpoint in (first, second)
    ]
    if disputed:
        return f"{undecided}: least squares and Theil–Sen disagree on {' and '.join(disputed)}."
    if found.at is not None and found.interval is not None:
        below, above = (first, second) if found.order is Order.FIRST_LOWER_BELOW else (second, first)
        return (
            f"By their lines of latency over length, {below} answers sooner below about {found.at:,.0f} output tokens "
            f"and {above} above (95 % interval {found.interval.low:,.0f} to {found.interval.high:,.0f}; "
            f"both were measured from {reach})."
        )
    lower = {Order.FIRST_LOWER: Verdict.FIRST_SMALLER, Order.SECOND_LOWER: Verdict.SECOND_SMALLER}.get(found.order)
    paired = comparison.verdict_of(second)
    if lower is not None and paired is not None and paired.verdict is lower:
        sooner = first if lower is Verdict.FIRST_SMALLER else second
        return f"By their lines of latency over length, {sooner} answers sooner at all lengths measured ({reach})."
    return f"{undecided}: their lines of latency over length don't tell."


def _disagreement(fixed: FixedPerToken) -> str:
    said = ", ".join(
        f"{line.method} says '{dependence_words(line, dependence)}'"
        for line, dependence in zip(fixed.lines, fixed.dependences, strict=True)
    )
    return f"How {fixed.endpoint}'s latency goes with its answers' length is disputed: {said}."


def _line(line: Line) -> str:
    slope = f"{_slope(line)} ms a token ({_interval(line.slope_interval, 1, 1e3)})"
    held = line.fixed_interval
    digits = 2 if held is None else decimals(held.low, held.high, 2)
    return f"{line.fixed:.{digits}f} s ({_interval(held, 2)}) + {slope}"


def _slope(line: Line) -> str:
    if line.slope is None:
        return UNKNOWN
    held = line.slope_interval
    digits = 2 if held is None else max(decimals(held.low * 1e3, held.high * 1e3, 1), 2)
    return f"{line.slope * 1e3:.{digits}f}"


def _interval(found: Interval | None, least: int, scale: float = 1) -> str | None:
    """'LOW to HIGH', each times `scale`, with the decimals that show its width; None without an interval."""
    if found is None:
        return None
    digits = decimals(found.low * scale, found.high * scale, least)
    return f"{found.low * scale:.{digits}f} to {found.high * scale:.{digits}f}"
