"""A result file of `vllm bench serve` as a run. Pure.

Without `--save-detailed` the file has no requests, and the import refuses it. The definitions are those of vLLM's
benchmarks/serve.py and benchmarks/lib/endpoint_request_func.py.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import PurePath
from typing import Any, Final

from dyno_analysis.errors import InputError
from dyno_analysis.ingest.failures import failure
from dyno_analysis.ingest.run import Ingested, number, record, whole

KIND: Final = "a result of vllm bench serve"
# By version where vLLM changed; the file doesn't name its version, but its events and tokens can be counted.
_MORE_EVENTS: Final = (
    (
        "TTFT: theirs ends with the first SSE event that has choices (in chat it may only name a role), as before vLLM "
        "0.33: this file has more events than tokens; ours ends with the first output"
    ),
    "inter-chunk latency (ITL): theirs counts every event with choices, the closing one too; ours those with output",
)
_TOKENS_ONLY: Final = (
    (
        "TTFT: theirs ends with the first SSE event that has tokens, as since vLLM 0.33: this file has no more "
        "events than tokens; ours ends with the first output"
    ),
    "inter-chunk latency (ITL): theirs counts the events with tokens; ours those with output",
)
_UNKNOWN: Final = (
    (
        "TTFT: theirs ends, before vLLM 0.33, with the first SSE event that has choices (in chat it may only name "
        "a role), since then with the first that has tokens; this file doesn't show which; ours ends with the first "
        "output"
    ),
    (
        "inter-chunk latency (ITL): theirs counts events with choices, since 0.33 events with tokens; ours those with "
        "output"
    ),
)
DIFFERENCES: Final = (
    (
        "reasoning: theirs sees it under 'reasoning' since 0.33, under 'reasoning_content' before; under the other "
        "name it isn't in theirs; ours sees both"
    ),
    "start: theirs is when the client asks for a connection; ours is when the proxy has the request",
    "latency: theirs ends with the last event counted (unknown if the request failed); ours with the response",
    "TPOT is the same: from the first token to the last, over output tokens - 1",
    "output tokens: the server's count, or a tokenizer's if the server gave none; the file doesn't say which",
    "its summary is over successful requests, with standard deviations of the population; ours are of the sample",
)
_OPERATIONS: Final = {"openai-chat": "chat", "openai": "text_completion", "vllm": "text_completion"}
_PARAMETERS: Final = ("backend", "tokenizer_id", "num_prompts", "request_rate", "burstiness", "max_concurrency")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def is_vllm_bench(document: Mapping[str, Any]) -> bool:
    """Whether the document is a result of vllm bench serve."""
    return {"date", "model_id", "duration", "completed", "request_throughput"} <= document.keys()


def ingest_vllm_bench(
    document: Mapping[str, Any], path: PurePath, content: bytes, endpoint: str | None = None
) -> Ingested:
    """Rows of a result; ids are made from `content`. InputError names what is wrong.

    The file doesn't name the endpoint. Without `endpoint`, the file's label or backend is taken for its name.
    """
    try:
        date = datetime.strptime(str(document["date"]), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError(f"'{path}': 'date' must be a time, not '{document['date']}'") from error
    digest = hashlib.sha256(content).hexdigest()
    endpoint = endpoint or str(document.get("label") or _backend(document))
    starts_s = _floats(document, "start_times", path)
    began = date - timedelta(seconds=number(document.get("duration")) or 0.0)
    spans, answers = [], []
    requests = _requests(document, path)
    differences = (*_by_what_it_shows(requests), *DIFFERENCES)
    for position, request in enumerate(requests):
        started_at = date if starts_s is None else began + timedelta(seconds=starts_s[position] - min(starts_s))
        span = _span(request) | _identity(f"{digest}/{position}") | _described(document, endpoint, started_at)
        span["imported_from"] = path.name
        spans.append(span)
        answers.append(_answer(span, request))
    run_id = f"vllm_bench_{date:%Y%m%d_%H%M%S}"
    return Ingested(
        kind=KIND,
        run_id=run_id,
        record=record(
            kind=KIND,
            file_name=path.name,
            digest=digest,
            run_id=run_id,
            started_at=began,
            finished_at=date,
            method=_method(document),
            parameters={name: document.get(name) for name in _PARAMETERS},
            endpoint=endpoint,
            model=str(document["model_id"]),
            prompts=len(spans),
            published=_published(document),
            differences=differences,
        ),
        spans=spans,
        prompts=[],
        answers=[answer for answer in answers if answer["answer"] is not None],
        started_known=starts_s is not None,
        differences=differences,
    )


def _by_what_it_shows(requests: list[dict[str, Any]]) -> tuple[str, ...]:
    """What TTFT and ITL are in this file: before vLLM 0.33 events without a token counted too."""
    counts = [
        (1 + len(request["itls"]), whole(request["output_lens"]) or 0)
        for request in requests
        if request["ttft"] and request["itls"] and not request["errors"] and whole(request["output_lens"])
    ]
    if not counts:
        return _UNKNOWN
    # One event may hold several tokens, so a single request with more events than tokens tells.
    return _MORE_EVENTS if any(events > tokens for events, tokens in counts) else _TOKENS_ONLY


def _backend(document: Mapping[str, Any]) -> str:
    return str(document.get("backend") or document.get("endpoint_type") or "vllm")


def _method(document: Mapping[str, Any]) -> str:
    """How the requests were sent, in a few words."""
    rate, at_once = document.get("request_rate", "unknown"), document.get("max_concurrency")
    return f"vllm bench serve, {rate} requests/s, at most {at_once or 'any number'} at once"


def _identity(text: str) -> dict[str, str]:
    """A span's ids, made from the text: the same request of the same file always has the same ones."""
    identity = hashlib.sha256(text.encode()).hexdigest()
    return {"trace_id": identity[:32], "span_id": identity[32:48]}


def _described(document: Mapping[str, Any], endpoint: str, started_at: datetime) -> dict[str, Any]:
    """The span's columns that all requests of the file share, and when this one started."""
    operation = _OPERATIONS.get(_backend(document))
    return {
        "kind": "CLIENT",
        "started_at_us": (started_at - _EPOCH) // timedelta(microseconds=1),
        "operation": operation,
        "name": f"{operation or 'request'} {document['model_id']}",
        "model": str(document["model_id"]),
        "endpoint": endpoint,
        "repeat": 1,
        "warmup": False,
    }


def _requests(document: Mapping[str, Any], path: PurePath) -> list[dict[str, Any]]:
    """Each request's own figures; an empty list if the file doesn't have them."""
    ttfts_s = _floats(document, "ttfts", path)
    if ttfts_s is None:
        return []
    columns: dict[str, list[Any]] = {"ttft": list(ttfts_s)}
    for name in ("itls", "input_lens", "output_lens", "errors", "generated_texts", "start_times"):
        values = document.get(name)
        if values is None:
            values = [None] * len(ttfts_s)
        if not isinstance(values, list) or len(values) != len(ttfts_s):
            raise InputError(f"'{path}': '{name}' must have one entry per request: {len(ttfts_s)}, as 'ttfts' has")
        columns[name] = values
    for position, gaps in enumerate(columns["itls"]):
        if gaps is not None and not (isinstance(gaps, list) and all(number(gap) is not None for gap in gaps)):
            raise InputError(f"'{path}': 'itls[{position}]' must be a list of numbers")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _span(request: Mapping[str, Any]) -> dict[str, Any]:
    ttft_s, gaps_s = request["ttft"], request["itls"]
    output_tokens = whole(request["output_lens"])
    error = request["errors"] or ""
    # A request that failed before its first event has no figures. It hasn't even a message if the server gave none.
    failed = bool(error) or (not ttft_s and not output_tokens)
    outcome, error_type, status = failure(str(error)) if failed else ("ok", None, 200)
    # Absolute times are rounded instead of gaps, so that rounding errors don't add up.
    offsets_us = [round(at_s * 1e6) for at_s in accumulate([ttft_s, *(gaps_s or [])])] if ttft_s else None
    last_us = offsets_us[-1] if offsets_us and gaps_s is not None else None
    return {
        "duration_us": None if failed else last_us,
        "input_tokens": whole(request["input_lens"]),
        "output_tokens": None if failed else output_tokens,
        "status": status,
        "error_type": error_type,
        "outcome": outcome,
        "streamed": True if offsets_us else None,
        "first_event_us": offsets_us[0] if offsets_us else None,
        "first_token_us": offsets_us[0] if offsets_us else None,
        "last_token_us": last_us,
        "chunk_offsets_us": offsets_us if gaps_s is not None else None,
        "chunk_count": len(offsets_us) if offsets_us and gaps_s is not None else None,
    }


def _answer(span: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    text = request["generated_texts"]
    return {
        "trace_id": span["trace_id"],
        "endpoint": span["endpoint"],
        "prompt_id": None,
        "repeat": 1,
        "warmup": False,
        "answer": text if isinstance(text, str) and span["outcome"] == "ok" else None,
        "error": request["errors"] or None,
        "status": span["status"],
    }


def _published(document: Mapping[str, Any]) -> dict[str, Any]:
    """The file's own summary under the names of the published shape. Its token rates are those of the whole system."""
    completed = whole(document.get("completed")) or 0
    asked = whole(document.get("num_prompts"))
    output = number(document.get("total_output_tokens"))
    latency = {
        ours: None if (value := number(document.get(f"{theirs}_e2el_ms"))) is None else value / 1000
        for ours, theirs in (("mean", "mean"), ("median", "median"), ("std_dev", "std"))
    }
    return {
        "num_requests": asked if asked is not None else completed + (whole(document.get("failed")) or 0),
        "successful_requests": completed,
        "latency": latency,
        "output_tokens": {"mean": output / completed if output is not None and completed else None},
        **{
            name: value
            for name, value in document.items()
            if number(value) is not None and name not in ("num_prompts", "completed")
        },
    }


def _floats(document: Mapping[str, Any], name: str, path: PurePath) -> list[float] | None:
    values = document.get(name)
    if values is None or values == []:
        return None
    if not isinstance(values, list) or not all(number(value) is not None for value in values):
        raise InputError(f"'{path}': '{name}' must be a list of numbers")
    return values
