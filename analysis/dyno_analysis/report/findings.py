"""A comparison in sentences: what was run, what was found, and what follows from it. Pure."""

from collections.abc import Mapping
from typing import Any

from dyno_analysis.render.table import count, percent, ratio
from dyno_analysis.runs.record import RunRecord
from dyno_analysis.stats.paired import Verdict

from .comparison import Comparison, PairedFigure
from .lines import crossing_sentence, line_sentences
from .tables import why_no_request
from .verdicts import carried, equal_sets, interval_words, reason, together, verdict_words


def heading(comparison: Comparison) -> str:
    what = " against ".join(comparison.endpoints)
    if comparison.simulated:
        everyone = len(comparison.simulated) == len(comparison.endpoints)
        what += " (simulated)" if everyone else f" (simulated: {', '.join(comparison.simulated)})"
    if not comparison.runs:
        pooled = f" with {len(comparison.pooled_runs)} runs, pooled" if comparison.pooled_runs else ""
        return f"{what}: {'mirrored' if comparison.by_mirror else 'stored'} traffic{pooled}"
    if len(comparison.runs) == 1:
        return f"{what}: run {comparison.runs[0]}"
    return f"{what}: {'pooled runs' if comparison.pooled_runs else 'runs'} {', '.join(comparison.runs)}"


def setup(comparison: Comparison) -> list[tuple[str, str]]:
    """What was run, as pairs of label and value from the run records. Labels without a value are left out."""
    lines: list[tuple[str, str | None]] = []
    for record in comparison.records:
        lines += _run(record, comparison)
    for name in comparison.endpoints:
        origin = comparison.origin(name)
        records = [record for record in comparison.records if origin.run_id in (None, record.run_id)]
        described = next((r.endpoints[origin.endpoint] for r in records if origin.endpoint in r.endpoints), {})
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
    found += line_sentences(comparison)
    return found + failures(comparison)


def failures(comparison: Comparison) -> list[str]:
    """What became of the requests that weren't ok. 'No request failed' needs an answer of every endpoint."""
    found = []
    figures = [comparison.figures[name] for name in comparison.endpoints]
    if failing := [row for row in figures if row.failed]:
        each = ", ".join(f"{row.failed} of {row.counted} of {row.endpoint}" for row in failing)
        found.append(f"Requests failed: {each}.")
    for row in figures:
        if not row.requests:
            found.append(f"Requests of {row.endpoint}: {why_no_request(row)}.")
        elif not row.counted:
            ended = [(row.rejected, "rejected by the proxy"), (row.cancelled, "cancelled by the client")]
            how = " and ".join(f"{n} {what}" for n, what in ended if n)
            found.append(f"No request of {row.endpoint} was answered: {how}.")
    if refused := [row for row in figures if row.counted and row.rejected]:
        each = ", ".join(f"{row.rejected} of {row.endpoint}" for row in refused)
        found.append(f"The proxy rejected requests, which count as no endpoint's failure: {each}.")
    return found or ["No request failed."]


def speed(comparison: Comparison) -> list[str]:
    """Speed-up, reduction of latency, improvement of throughput and consistency, against the first endpoint.

    Only a verdict makes a ratio a speed-up, a reduction or an improvement.
    """
    found = []
    for name in comparison.endpoints[1:]:
        first, other = comparison.figures[comparison.endpoints[0]], comparison.figures[name]
        if not first.mean_latency_s or not other.mean_latency_s:
            continue
        by_means = other.mean_latency_s / first.mean_latency_s
        faster = name if by_means < 1 else first.endpoint
        decided = carried(comparison, name, "mean_latency_s") == faster
        what = "Speed-up, by mean latencies" if decided else "Ratio of mean latencies, which no verdict carries"
        sets = "" if equal_sets(comparison, name) else ", over unequal sets of requests"
        found.append(
            f"{what}{sets}: {name} / {first.endpoint} {by_means:.3f}; "
            f"{first.endpoint} / {name} {first.mean_latency_s / other.mean_latency_s:.2f}."
        )
        if decided:
            found.append(f"Latency reduction by {name}: {percent(1 - by_means)}.")
        if first.output_tokens_per_s and other.output_tokens_per_s:
            gain = other.output_tokens_per_s / first.output_tokens_per_s - 1
            better = decided and (gain > 0) == (faster == name)
            change = "Throughput improvement by" if better else "Difference in throughput, which no verdict carries, of"
            found.append(f"{change} {name}: {percent(gain)}.")
        if first.stddev_latency_s is not None and other.stddev_latency_s is not None:
            found.append(
                f"Consistency (standard deviation of latency): {first.stddev_latency_s:.3f} s for {first.endpoint}, "
                f"{other.stddev_latency_s:.3f} s for {name}, over {first.ok} and {other.ok} requests."
            )
    return found


def when_to_use(comparison: Comparison) -> list[str]:
    """What this run's evidence shows, and what it can't show."""
    found = [_use_sentence(paired, comparison) for paired in comparison.paired if paired.figure == "latency_s"]
    found += [crossing_sentence(comparison, name) for name in comparison.crossings]
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
    found = paired.ratio
    over = f"on the same {count(found.prompts, 'prompt', 'prompts')}"
    held = interval_words(found.typical_interval, comparison.margin)
    measured = f"typical ratio of latencies {paired.first} : {paired.second} {ratio(found.typical_ratio)}"
    if held:
        measured += f", interval {held}; {together(comparison)}"
    if paired.verdict is Verdict.SECOND_SMALLER:
        return f"{paired.second} is typically faster than {paired.first} {over} ({measured})."
    if paired.verdict is Verdict.FIRST_SMALLER:
        return f"{paired.second} is typically slower than {paired.first} {over} ({measured})."
    return f"{paired.second} against {paired.first} {over}: {_verdict(paired, comparison)} ({measured})."


def _verdict(paired: PairedFigure, comparison: Comparison) -> str:
    words = verdict_words(paired.verdict, paired, comparison.margin)
    why = reason(paired, comparison.margin)
    return words if why is None else f"{words}: {why}"


def _use_sentence(paired: PairedFigure, comparison: Comparison) -> str:
    kind = "For prompts and answers like these, asked as here"
    if paired.verdict is Verdict.SECOND_SMALLER:
        return f"{kind}, {paired.second} answers sooner than {paired.first}."
    if paired.verdict is Verdict.FIRST_SMALLER:
        return f"{kind}, {paired.first} answers sooner than {paired.second}."
    if paired.verdict is Verdict.SAME:
        return f"{kind}, latency is no reason to prefer {paired.first} or {paired.second}."
    return f"{kind}, {paired.first} against {paired.second} is {_verdict(paired, comparison)}."
