"""Reports of GuideLLM (`guidellm run`, earlier `guidellm benchmark`) as runs, one per benchmark. Pure.

The fields are those of its schemas, and were tried with files of 0.2, 0.5 and 0.8. Before 0.3 a request's times stand
beside its tokens, later in `info.timings`; all are Unix seconds.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any, Final

from dyno_analysis.errors import InputError
from dyno_analysis.ingest.failures import failure
from dyno_analysis.ingest.otlp.genai import host_and_port
from dyno_analysis.ingest.run import Ingested, microseconds, number, record, whole

KIND: Final = "a GuideLLM report"
DIFFERENCES: Final = (
    "TTFT: theirs ends with the first output that it recognises (0.8 recognises reasoning, 0.5 doesn't); ours with any",
    "start: theirs is when the client asks for a connection; ours is when the proxy has the request",
    "TPOT: ours is their inter_token_latency_ms; their time_per_output_token_ms includes the first token's time",
    "clock: theirs is the wall clock, which may be set while a request runs; ours is monotonic",
    "inter-chunk latency: the file doesn't say when each chunk came (its token times are spaced evenly, not measured)",
    "output tokens: the server's count; before 0.3 a tokenizer's; the number of chunks if there is no other",
    "a request that the end of the benchmark cut off (incomplete) is client_cancelled",
)
_OUTCOMES: Final = (("successful", "ok"), ("errored", None), ("incomplete", "client_cancelled"))
_OPERATIONS: Final = {
    "chat_completions": "chat",
    "/v1/chat/completions": "chat",
    "text_completions": "text_completion",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
# The strategies in which each request has a due time; in the others a request starts when another one ends.
_OPEN_LOOPS: Final = frozenset(("constant", "poisson", "async", "async_constant", "async_poisson", "replay", "trace"))


def is_guidellm(document: Mapping[str, Any]) -> bool:
    """Whether the document is a GuideLLM report."""
    benchmarks = document.get("benchmarks")
    return isinstance(benchmarks, list) and all(isinstance(b, dict) and "metrics" in b for b in benchmarks)


def ingest_guidellm(
    document: Mapping[str, Any], path: PurePath, content: bytes, endpoint: str | None = None
) -> list[Ingested]:
    """The runs of a report. A request's trace and span ids are made from its own id.

    InputError if the report has no benchmark, or if a benchmark has no time or can't be read.
    """
    if not document["benchmarks"]:
        raise InputError(f"'{path}' is a GuideLLM report without a benchmark")
    digest = hashlib.sha256(content).hexdigest()
    return [
        _run(document, benchmark, number, path, digest, endpoint)
        for number, benchmark in enumerate(document["benchmarks"], start=1)
    ]


def _run(
    document: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    position: int,
    path: PurePath,
    digest: str,
    endpoint: str | None,
) -> Ingested:
    start_s, end_s = number(benchmark.get("start_time")), number(benchmark.get("end_time"))
    if start_s is None:
        raise InputError(f"'{path}': benchmarks[{position - 1}] has no 'start_time'")
    started_at = datetime.fromtimestamp(start_s, UTC)
    setup = _Setup(document, benchmark, endpoint)
    run_id = f"guidellm_{started_at:%Y%m%d_%H%M%S}_{position}"
    spans, answers, prompts = [], [], {}
    requests = _mapping(benchmark.get("requests"))
    for group, outcome in _OUTCOMES:
        for request in requests.get(group) or ():
            if not isinstance(request, dict):
                raise InputError(f"'{path}': benchmarks[{position - 1}].requests.{group} must be a list of objects")
            prompt = _prompt(request)
            span = _span(request, outcome, setup)
            if span["started_at_us"] is None:
                # A request without a start was never sent.
                continue
            spans.append(span | {"prompt_id": prompt and _prompt_id(prompt), "imported_from": path.name})
            answers.append(_answer(spans[-1], request))
            if prompt:
                prompts[_prompt_id(prompt)] = {"prompt_id": _prompt_id(prompt), "prompt": prompt}
    return Ingested(
        kind=KIND,
        run_id=run_id,
        record=record(
            kind=KIND,
            file_name=path.name,
            digest=digest,
            run_id=run_id,
            started_at=started_at,
            finished_at=None if end_s is None else datetime.fromtimestamp(end_s, UTC),
            method=f"GuideLLM {_mapping(document.get('metadata')).get('guidellm_version', '(before 0.4)')}, "
            f"strategy {setup.strategy_name or 'unknown'}",
            parameters={"strategy": dict(setup.strategy), "benchmark": position},
            endpoint=setup.endpoint,
            model=setup.model,
            prompts=len(prompts) or len(spans),
            published=_published(benchmark),
            differences=DIFFERENCES,
        ),
        spans=spans,
        prompts=list(prompts.values()),
        answers=[answer for answer in answers if answer["answer"] is not None or answer["error"] is not None],
        started_known=True,
        differences=DIFFERENCES,
    )


class _Setup:
    """What holds for all requests of a benchmark. Each version of the report has it in another place."""

    def __init__(self, document: Mapping[str, Any], benchmark: Mapping[str, Any], endpoint: str | None) -> None:
        config, worker = _mapping(benchmark.get("config")), _mapping(benchmark.get("worker"))
        backend, arguments = _mapping(config.get("backend")), _mapping(document.get("args"))
        target = backend.get("target") or worker.get("backend_target") or arguments.get("target")
        model = backend.get("model") or worker.get("backend_model") or arguments.get("model")
        self.strategy = _mapping(config.get("strategy") or _mapping(benchmark.get("args")).get("strategy"))
        self.strategy_name = self.strategy.get("type_")
        self.endpoint = endpoint or (host_and_port(target) if isinstance(target, str) else None) or "guidellm"
        self.model = model if isinstance(model, str) else None
        self.streams = backend.get("stream")
        form = backend.get("request_format") or arguments.get("request_format")
        self.operation = _OPERATIONS.get(str(form or arguments.get("data_request_formatter")))
        self.benchmark_id = str(config.get("id_") or benchmark.get("id_") or benchmark.get("start_time"))


def _span(request: Mapping[str, Any], outcome: str | None, setup: _Setup) -> dict[str, Any]:
    info = _mapping(request.get("info"))
    times, scheduler = _mapping(info.get("timings")), _mapping(request.get("scheduler_info"))

    def moment(*names: str) -> float | None:
        found = (number(holder.get(name)) for name in names for holder in (times, request, scheduler))
        return next((value for value in found if value is not None), None)

    start_s = moment("request_start", "start_time", "resolve_start", "worker_start")
    due_s = moment("targeted_start", "targeted_start_time") if setup.strategy_name in _OPEN_LOOPS else None

    def after_start(*names: str) -> int | None:
        at_s = moment(*names)
        return None if at_s is None or start_s is None else microseconds(at_s - start_s)

    identity = hashlib.sha256(f"guidellm/{setup.benchmark_id}/{request.get('request_id')}".encode()).hexdigest()
    operation = _OPERATIONS.get(str(request.get("request_type")), setup.operation)
    error = info.get("error") or request.get("error")
    named: tuple[str, str | None, int | None] = (
        (outcome, None, 200 if outcome == "ok" else None) if outcome else _failed(str(error or ""), times)
    )
    first_event_us = after_start("first_request_iteration", "first_iteration")
    first_token_us = after_start("first_token_iteration", "first_iteration", "first_token_time")
    chunks = whole(times.get("token_iterations")) or whole(times.get("iterations"))
    ok = named[0] == "ok"
    return {
        "trace_id": identity[:32],
        "span_id": identity[32:48],
        "name": f"{operation or 'request'} {setup.model or ''}".rstrip(),
        "kind": "CLIENT",
        "started_at_us": microseconds(start_s),
        "duration_us": after_start("request_end", "end_time", "resolve_end", "worker_end"),
        "operation": operation,
        "model": setup.model,
        "response_id": request.get("response_id") if isinstance(request.get("response_id"), str) else None,
        "input_tokens": whole(request.get("prompt_tokens")),
        "output_tokens": whole(request.get("output_tokens")) if ok else None,
        "cached_tokens": whole(_mapping(request.get("input_metrics")).get("cached_tokens")),
        "status": named[2],
        "error_type": named[1],
        "outcome": named[0],
        "endpoint": setup.endpoint,
        "streamed": _streamed(setup, ok, first_event_us if first_event_us is not None else first_token_us),
        "first_event_us": first_event_us,
        "first_token_us": first_token_us,
        "first_answer_us": after_start("first_output_token_iteration"),
        "last_token_us": after_start("last_token_iteration", "last_iteration", "last_token_time"),
        "chunk_count": chunks or None,
        "due_at_unix_us": microseconds(due_s),
        "send_lag_s": None if due_s is None or start_s is None else start_s - due_s,
        "repeat": 1,
        "warmup": False,
    }


def _failed(error: str, times: Mapping[str, Any]) -> tuple[str, str | None, int | None]:
    """The outcome by what the file shows, then by the error: an answer that had begun wasn't out of reach."""
    found = failure(error)
    begun = number(times.get("first_request_iteration")) is not None or bool(whole(times.get("request_iterations")))
    if begun and found[0] in ("upstream_unreachable", "http_error") and found[2] is None:
        return "truncated", found[1], 200
    return found


def _streamed(setup: _Setup, ok: bool, first_us: int | None) -> bool | None:
    if first_us is not None:
        return True  # only a stream has a first event
    return setup.streams if ok and isinstance(setup.streams, bool) else None


def _prompt(request: Mapping[str, Any]) -> str | None:
    """The prompt's text, if the file has it: before 0.3 in a field of its own, later in the request's body."""
    prompt = request.get("prompt")
    if isinstance(prompt, str):
        return prompt
    try:
        body = json.loads(request.get("request_args") or "").get("body")
    except (TypeError, ValueError, AttributeError):
        return None
    body = _mapping(body)
    said = body.get("messages") or body.get("prompt")
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False) if said else None


def _prompt_id(prompt: str) -> str:
    """An id made from the text, so that the same text is the same prompt in every run."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def _answer(span: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    error = _mapping(request.get("info")).get("error") or request.get("error")
    return {
        "trace_id": span["trace_id"],
        "endpoint": span["endpoint"],
        "prompt_id": span["prompt_id"],
        "repeat": 1,
        "warmup": False,
        "answer": request["output"] if isinstance(request.get("output"), str) and span["outcome"] == "ok" else None,
        "reasoning": request.get("reasoning_output") or None,
        "error": str(error) if error else None,
        "status": span["status"],
    }


def _published(benchmark: Mapping[str, Any]) -> dict[str, Any]:
    """GuideLLM's own summary of the successful requests, under the names of the published shape."""
    metrics = _mapping(benchmark.get("metrics"))
    totals = _mapping(metrics.get("request_totals") or benchmark.get("request_totals"))
    latency = _mapping(_mapping(metrics.get("request_latency")).get("successful"))
    output = _mapping(_mapping(metrics.get("output_token_count")).get("successful"))
    return {
        "num_requests": whole(totals.get("total")),
        "successful_requests": whole(totals.get("successful")),
        "latency": {name: number(latency.get(name)) for name in ("mean", "median", "min", "max", "std_dev")},
        "output_tokens": {"mean": number(output.get("mean"))},
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
