"""A comparison in sentences: what was run, what was found, and what follows from it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from dyno_analysis.render.table import count, percent
from dyno_analysis.runs.record import RunRecord
from dyno_analysis.stats.paired import Verdict
from dyno_analysis.stats.regression import Line

from .comparison import Comparison, FixedPerToken, PairedFigure
from .tables import interval, verdict_text


def heading(comparison: Comparison) -> str:
    what = " against ".join(comparison.endpoints)
    if comparison.simulated:
        everyone = len(comparison.simulated) == len(comparison.endpoints)
        what += " (simulated)" if everyone else f" (simulated: {', '.join(comparison.simulated)})"
    if not comparison.runs:
        return f"{what}: {'mirrored' if comparison.by_mirror else 'stored'} traffic"
    return f"{what}: {'run' if len(comparison.runs) == 1 else 'runs'} {', '.join(comparison.runs)}"


def setup(comparison: Comparison) -> list[tuple[str, str]]:
    """What was run, as pairs of label and value from the run records. Labels without a value are left out."""
    lines: list[tuple[str, str | None]] = []
    for record in comparison.records:
        lines += _run(record, comparison)
    for name in comparison.endpoints:
        described = next((r.endpoints[name] for r in comparison.records if name in r.endpoints), {})
        lines.append((name, _endpoint(name, described, comparison)))
    return [(label, value) for label, value in lines if value]


def summary(comparison: Comparison) -> list[str]:
    """The findings in a few sentences."""
    found = [_paired_sentence(paired, comparison) for paired in comparison.paired if paired.figure == "latency_s"]
    rates = [
        f"{comparison.figures[name].output_tokens_per_s:.2f} by {name}"
        for name in comparison.endpoints
        if comparison.figures[name].output_tokens_per_s is not None
    ]
    if rates:
        found.append(f"Output tokens per second of latency: {', '.join(rates)}.")
    found += _line_sentences([fixed for fixed in comparison.fixed_per_token if fixed.lines[0].points])
    failing = [name for name in comparison.endpoints if comparison.figures[name].failed]
    if failing:
        each = ", ".join(
            f"{comparison.figures[name].failed} of {comparison.figures[name].counted} of {name}" for name in failing
        )
        found.append(f"Requests failed: {each}.")
    else:
        found.append("No request failed.")
    return found


def speed(comparison: Comparison) -> list[str]:
    """Speed-up, reduction of latency, improvement of throughput and consistency, against the first endpoint."""
    found = []
    for name in comparison.endpoints[1:]:
        first, other = comparison.figures[comparison.endpoints[0]], comparison.figures[name]
        if not first.mean_latency_s or not other.mean_latency_s:
            continue
        ratio = other.mean_latency_s / first.mean_latency_s
        found.append(
            f"Speed-up, by mean latencies: {name} / {first.endpoint} {ratio:.3f}; "
            f"{first.endpoint} / {name} {1 / ratio:.2f}."
        )
        found.append(f"Latency reduction by {name}: {percent(1 - ratio)}.")
        if first.output_tokens_per_s and other.output_tokens_per_s:
            gain = other.output_tokens_per_s / first.output_tokens_per_s - 1
            found.append(f"Throughput improvement by {name}: {percent(gain)}.")
        if first.stddev_latency_s is not None and other.stddev_latency_s is not None:
            found.append(
                f"Consistency (standard deviation of latency): {first.stddev_latency_s:.3f} s for {first.endpoint}, "
                f"{other.stddev_latency_s:.3f} s for {name}, over {first.ok} and {other.ok} requests."
            )
    return found


def when_to_use(comparison: Comparison) -> list[str]:
    """What this run's evidence shows, and what it can't show."""
    found = [_use_sentence(paired, comparison) for paired in comparison.paired if paired.figure == "latency_s"]
    found += [_crossing(comparison.fixed_per_token[0], other) for other in comparison.fixed_per_token[1:]]
    if comparison.quality:
        scores = ", ".join(f"{q.endpoint} {percent(q.f1)} over {q.n}" for q in comparison.quality)
        found.append(f"Answer quality (F1): {scores}. Differences aren't tested here.")
    found.append(
        "Not measured here, so nothing speaks for it: concurrent requests, batches, long contexts, energy, cost."
    )
    return found


def _run(record: RunRecord, comparison: Comparison) -> list[tuple[str, str | None]]:
    prompts, parameters = record.prompt_set, record.parameters
    domains = next((row.domains for row in comparison.prompt_texts if row.run_id == record.run_id), None)
    size = prompts.get("count")
    asked = [
        f"{label} {parameters[key]}"
        for key, label in (
            ("temperature", "temperature"),
            ("max_tokens", "max tokens"),
            ("repeat", "runs per prompt"),
            ("warmup", "warm-ups"),
        )
        if parameters.get(key) is not None
    ]
    if parameters.get("stream") is not None:
        asked.append("streamed" if parameters["stream"] else "not streamed")
    return [
        ("run", record.run_id),
        ("started", record.started_at),
        ("finished", record.finished_at or (None if record.imported_from else "not yet, or killed")),
        ("interrupted", "yes: these are the requests up to then" if record.interrupted else None),
        ("imported from", record.imported_from),
        ("command", record.command),
        ("prompts", _joined(prompts.get("name"), f"{size} prompts" if size is not None else None)),
        ("about", _joined(prompts.get("description"))),
        ("source", _joined(prompts.get("source"), prompts.get("license"))),
        ("domains", domains),
        ("workload", _joined(record.workload, record.order)),
        ("parameters", ", ".join(asked)),
        ("method", record.method),
        ("seed", record.seed),
    ]


def _endpoint(name: str, described: Mapping[str, Any], comparison: Comparison) -> str:
    row = comparison.figures[name]
    parts = (
        f"model {described.get('model') or row.models or 'not known'}",
        described.get("provider"),
        described.get("hardware"),
        described.get("url"),
        "simulated" if row.simulated else None,
    )
    return _joined(*dict.fromkeys(parts)) or ""


def _joined(*parts: object) -> str | None:
    return ", ".join(str(part) for part in parts if part) or None


def _paired_sentence(paired: PairedFigure, comparison: Comparison) -> str:
    ratio = paired.ratio
    over = f"on the same {count(ratio.prompts, 'prompt', 'prompts')}"
    held = interval(ratio.interval, "{:.2f}")
    measured = f"ratio of mean latencies {paired.first} : {paired.second} {ratio.ratio:.2f}"
    if held:
        measured += f", 95 % interval {held}"
    if paired.verdict is Verdict.SECOND_SMALLER:
        return f"{paired.second} is faster than {paired.first} {over} ({measured})."
    if paired.verdict is Verdict.FIRST_SMALLER:
        return f"{paired.second} is slower than {paired.first} {over} ({measured})."
    return f"{paired.second} against {paired.first} {over}: {verdict_text(paired, comparison.margin)} ({measured})."


def _line_sentences(lines: Sequence[FixedPerToken]) -> list[str]:
    found = [
        f"{fixed.endpoint}'s latency is about {_line(fixed.lines[0])}." for fixed in lines if fixed.lines[0].decided
    ]
    if undecided := [fixed.endpoint for fixed in lines if not fixed.lines[0].decided]:
        found.append(
            f"How much of the latency is fixed and how much goes by the token is undecided for {', '.join(undecided)}: "
            "more lengths needed."
        )
    return found


def _line(line: Line) -> str:
    slope = f"{(line.slope or 0) * 1e3:.1f} ms a token ({interval(line.slope_interval, '{:.1f}', 1e3)})"
    return f"{line.fixed:.2f} s ({interval(line.fixed_interval, '{:.2f}')}) + {slope}"


def _use_sentence(paired: PairedFigure, comparison: Comparison) -> str:
    kind = "For prompts and answers like these, asked as here"
    if paired.verdict is Verdict.SECOND_SMALLER:
        return f"{kind}, {paired.second} answers sooner than {paired.first}."
    if paired.verdict is Verdict.FIRST_SMALLER:
        return f"{kind}, {paired.first} answers sooner than {paired.second}."
    if paired.verdict is Verdict.SAME:
        return f"{kind}, latency is no reason to prefer {paired.first} or {paired.second}."
    return f"{kind}, {paired.first} against {paired.second} is {verdict_text(paired, comparison.margin)}."


def _crossing(first: FixedPerToken, other: FixedPerToken) -> str:
    """The length at which the two lines of latency over length meet, if both are decided."""
    a, b = first.lines[0], other.lines[0]
    if not (a.decided and b.decided) or a.slope is None or b.slope is None or a.fixed is None or b.fixed is None:
        return (
            f"Whether long answers change the order of {first.endpoint} and {other.endpoint} is undecided: "
            "the share per token isn't known for both."
        )
    if a.slope == b.slope:
        return f"{first.endpoint} and {other.endpoint} take the same time a token: length doesn't change their order."
    at = (b.fixed - a.fixed) / (a.slope - b.slope)
    if at <= 0:
        both = f"{first.endpoint} and {other.endpoint}"
        return f"By their lines of latency over length, no length changes the order of {both}."
    steeper = first.endpoint if a.slope > b.slope else other.endpoint
    flatter = other.endpoint if a.slope > b.slope else first.endpoint
    reach = max(first.longest_tokens, other.longest_tokens)
    beyond = f", beyond the {reach} measured" if at > reach else ""
    return (
        f"By their lines of latency over length, {steeper} answers sooner below about {at:,.0f} output tokens, "
        f"{flatter} above{beyond}."
    )
