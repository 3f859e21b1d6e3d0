"""The raw results as JSON, in an extension of the published file's shape, so that its tools read both. Pure.

Extended by each request's outcome, TTFT and the rest, its trace id, its events and chunks; by standard deviation and
output tokens among the statistics; and by what the comparison found. `dyno import` reads it back.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from dyno_analysis.query.row_types import EndpointRow, ResultRow

from . import fairness
from .comparison import Comparison

# What the figures mean, in the file itself: the published one of this shape counted prompt tokens into its throughput.
DEFINITIONS = {
    "latency_sec": "from the request's head to the end of its response, at the proxy",
    "statistics": "over ok requests; warm-ups are in neither results nor statistics",
    "throughput_tokens_per_sec": "output tokens / latency, both summed; prompt tokens are not counted in",
    "tokens": "prompt and output tokens of a request",
    "output_tokens": "output tokens of a request, reasoning included",
    "response_length": "characters of an answer",
    "std_dev": "of the sample (n - 1)",
    "events_us": "microseconds after the request's head",
    "verdict": "on the typical request: the geometric mean of the prompts' ratios, first / second, by Student's t on "
    "log ratios; `confidence` is each interval's, so that all verdicts hold together with 95 %",
    "ratio": "of the means over the same prompts, with Fieller's interval; `mean_verdict` from 30 prompts on",
}
# A span's columns that no other key of a result has. With them `dyno import` reads back the same row.
FURTHER_COLUMNS = frozenset(
    (
        *("span_id", "parent_span_id", "operation", "response_model", "method", "path", "request_bytes"),
        *("response_bytes", "server_ttft_s", "server_latency_s", "server_queue_s", "workload", "send_lag_s"),
        *("due_at", "imported_from"),
    )
)
_LONGEST_NAMES = 200  # of the endpoints, in a file's name, which may have 255 bytes
_EVENT = re.compile(r"dyno\.event\.(\w+)_us")


def results_document(comparison: Comparison, results: Sequence[ResultRow], at: datetime) -> dict[str, Any]:
    """The document; `at` is its timestamp."""
    record = comparison.record
    prompts = dict(record.prompt_set) if record else {}
    document: dict[str, Any] = {
        "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "dataset": {
            "name": prompts.get("name"),
            "source": prompts.get("source"),
            "license": prompts.get("license"),
            "num_samples": prompts.get("count"),
            "description": prompts.get("description"),
        },
        "models": {name: comparison.figures[name].models for name in comparison.endpoints},
        "simulated": bool(comparison.simulated),
        "definitions": DEFINITIONS,
    }
    for name in comparison.endpoints:
        own = [row for row in results if row.endpoint == name]
        document[name] = {
            "simulated": bool(comparison.figures[name].simulated),
            "results": [_result(row, comparison.origin(name).endpoint) for row in own],
            "statistics": _statistics(comparison.figures[name], own),
        }
    document["comparison"] = {
        "seed": comparison.seed,
        "margin": comparison.margin,
        "paired_by": comparison.paired_by,
        "mirrors": [asdict(found) for found in comparison.mirrors],
        "verdicts": comparison.verdicts,
        "paired": [_json(paired) for paired in comparison.paired],
        "fixed_per_token": [_json(found) for found in comparison.fixed_per_token],
        "crossings": {name: _json(found) for name, found in comparison.crossings.items()},
        "quality": [asdict(score) for score in comparison.quality],
        "notes": fairness.notes(comparison),
    }
    document["runs"] = [dict(record.values) for record in comparison.records]
    return document


def results_name(comparison: Comparison, at: datetime) -> str:
    """`a_vs_b_results_YYYYMMDD_HHMMSS.json`. Names are cut if a file system couldn't hold them."""
    longest = _LONGEST_NAMES // max(len(comparison.endpoints), 1)
    safe = [re.sub(r"[^A-Za-z0-9.-]+", "_", name) for name in comparison.endpoints]
    names = "_vs_".join(safe)
    if len(names) > _LONGEST_NAMES:
        names = "_vs_".join(name[: max(longest - 4, 1)] for name in safe)[:_LONGEST_NAMES]
    return f"{names}_results_{at.astimezone(UTC):%Y%m%d_%H%M%S}.json"


def finite(item: Any) -> Any:
    """The value with null for each number that JSON doesn't have, and with an Enum's own value."""
    if isinstance(item, Enum):
        return item.value
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    if isinstance(item, dict):
        return {key: finite(each) for key, each in item.items()}
    return [finite(each) for each in item] if isinstance(item, list | tuple) else item


def _json(found: Any) -> Any:
    """A dataclass's fields as JSON values: a verdict as its words, an interval's infinite end as null."""
    return finite(asdict(found))


def _started_at(us: int | None) -> str | None:
    """A request's start; None if its span doesn't say it, or says a year that no calendar has."""
    if us is None:
        return None
    try:
        return datetime.fromtimestamp(us / 1e6, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return None


def _result(row: ResultRow, endpoint: str) -> dict[str, Any]:
    attributes = json.loads(row.attributes)
    total = None if row.input_tokens is None or row.output_tokens is None else row.input_tokens + row.output_tokens
    extended = {
        "outcome": row.outcome,
        "error": row.error,
        "error_type": row.error_type,
        "status": row.status,
        "streamed": row.streamed,
        "simulated": row.simulated,
        "ttfb_sec": row.ttfb_s,
        "ttft_sec": row.ttft_s,
        "ttfa_sec": row.ttfa_s,
        "tpot_sec": row.tpot_s,
        "started_at": _started_at(row.started_at_us),
        "started_at_unix_us": row.started_at_us,
        "trace_id": row.trace_id,
        "run_id": row.run_id,
        "question": row.question,
        "reference_answers": row.reference_answers,
        "reasoning": row.reasoning,
        "events_us": {
            event.group(1): int(value) for name, value in attributes.items() if (event := _EVENT.fullmatch(name))
        },
        "chunk_offsets_us": row.chunk_offsets_us,
        "overhead_us": row.overhead_us,
        "loop_lag_us": row.loop_lag_us,
        "attributes": {name: value for name, value in attributes.items() if not _EVENT.fullmatch(name)},
        "span": ({} if endpoint == row.endpoint else {"endpoint": endpoint})
        | {
            name: value
            for name, value in json.loads(row.span).items()
            if name in FURTHER_COLUMNS and value not in (None, [])
        },
    }
    return {
        "endpoint": row.endpoint,
        "prompt_id": int(row.prompt_id) if row.prompt_id and row.prompt_id.isdecimal() else row.prompt_id,
        "prompt": row.prompt,
        "run": row.repeat,
        "response": row.answer,
        "latency_sec": row.latency_s,
        "metadata": {
            "model": row.model,
            "provider": row.provider,
            "finish_reason": row.finish_reason,
            "prompt_tokens": row.input_tokens,
            "completion_tokens": row.output_tokens,
            "total_tokens": total,
            "reasoning_tokens": row.reasoning_tokens,
            "cached_tokens": row.cached_tokens,
            "usage_source": row.usage_source,
        },
        **{key: value for key, value in extended.items() if value not in (None, {}, [])},
    }


def _statistics(figures: EndpointRow, results: Sequence[ResultRow]) -> dict[str, Any]:
    ok = [row for row in results if row.outcome == "ok"]
    totals = [
        row.input_tokens + row.output_tokens
        for row in ok
        if row.input_tokens is not None and row.output_tokens is not None
    ]
    lengths = [len(row.answer) for row in ok if row.answer is not None]
    return {
        "num_requests": figures.requests,
        "successful_requests": figures.ok,
        "failed_requests": figures.failed,
        "latency": {
            "mean": figures.mean_latency_s,
            "min": figures.min_latency_s,
            "max": figures.max_latency_s,
            "median": figures.median_latency_s,
            "std_dev": figures.stddev_latency_s,
        },
        "tokens": {"mean": sum(totals) / len(totals) if totals else None, "total": sum(totals)},
        "input_tokens": {"mean": figures.mean_input_tokens, "total": figures.sum_input_tokens},
        "output_tokens": {"mean": figures.mean_output_tokens, "total": figures.sum_output_tokens},
        "response_length": {"mean": sum(lengths) / len(lengths) if lengths else None},
        "throughput_tokens_per_sec": figures.output_tokens_per_s,
    }
