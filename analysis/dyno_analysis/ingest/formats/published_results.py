"""A results file of the published benchmark's shape, which ours have too, as rows of spans. Pure.

The document has `timestamp`, and for each endpoint an object under its name. That has `statistics` and `results`, a
list of objects with `prompt_id`, `prompt`, `run`, `response`, `latency_sec` and `metadata` (`model`, `finish_reason`,
`prompt_tokens`, `completion_tokens`). The further fields of our own files are read back too. What a file lacks stays
unknown: the published file doesn't say when a request started, so every request has the file's own timestamp.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any, cast

from dyno_analysis import times
from dyno_analysis.errors import InputError
from dyno_analysis.ingest.failures import failure
from dyno_analysis.ingest.run import Ingested
from dyno_analysis.runs.record import OWN_KIND, SCHEMA, RunJson, unreadable_schema
from dyno_analysis.spans.columns import fitted

KIND = "a results file of the published benchmark's shape"
# The proxy's outcomes.
OUTCOMES = (
    "ok",
    "http_error",
    "rate_limited",
    "auth",
    "upstream_unreachable",
    "upstream_timeout",
    "truncated",
    "stream_error",
    "client_cancelled",
    "rejected",
    "lost",
)
EVENTS = (
    "body_received",
    "connected",
    "sent",
    "headers",
    "first_event",
    "first_token",
    "first_answer",
    "last_token",
    "done",
)
# Attributes that have a column in the journal: the column, and the function that makes its value from the text.
OWN_COLUMNS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "gen_ai.response.id": ("response_id", str),
    "dyno.usage.first_chunk_tokens": ("first_chunk_tokens", int),
    "dyno.reasoning.streamed": ("reasoning_streamed", lambda text: text == "true"),
    "dyno.connection.reused": ("connection_reused", lambda text: text == "true"),
    "dyno.overhead.end_us": ("overhead_end_us", int),
}
# A latency above this (30 years) means that the file's unit isn't seconds.
LONGEST_S = 1e9
_RUN_ID = re.compile(r"\w[\w.-]{0,99}")  # a folder's name, so neither `.` nor `..`
_FURTHER_ATTRIBUTES = (
    *("operation", "response_model", "method", "path", "request_bytes", "response_bytes"),
    *("server_ttft_s", "server_latency_s", "server_queue_s", "send_lag_s"),
)
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")
# The published benchmark's prompt.
_PROMPT_FORMAT = re.compile(r"Context: (?P<context>.*?)\s+Question: (?P<question>.*?)\s+Answer:\s*", re.DOTALL)


def is_results(document: Mapping[str, Any]) -> bool:
    """Whether the document has the published benchmark's shape."""
    return bool(_endpoints(document))


def ingest(document: Mapping[str, Any], path: PurePath, content: bytes) -> Ingested:
    """Rows of a results document; its ids are made from `content`, the file's bytes. InputError names what is wrong."""
    endpoints = _endpoints(document)
    timestamp = _timestamp(document, path)
    digest = hashlib.sha256(content).hexdigest()
    own = _is_own(document)
    run_id = _run_id(document, timestamp, own=own)
    spans: list[dict[str, Any]] = []
    prompts: dict[str, dict[str, Any]] = {}
    answers: list[dict[str, Any]] = []
    named: dict[str, Mapping[str, Any]] = {}  # by the endpoint's own name, which a column of one run hasn't
    for name, section in endpoints.items():
        for position, result in enumerate(section["results"], start=1):
            where = f"'{path}': {name}.results[{position - 1}]"
            if not isinstance(result, dict):
                raise InputError(f"{where} must be an object")
            prompt_id = _prompt_id(result, position)
            identity = hashlib.sha256(f"{digest}/{name}/{position}".encode()).hexdigest()
            span = _span(result, where, timestamp, _mapping(document.get("models")).get(name))
            trace_id = result.get("trace_id")
            span |= {
                "seq": len(spans) + 1,
                "trace_id": trace_id if isinstance(trace_id, str) and _TRACE_ID.fullmatch(trace_id) else identity[:32],
                "span_id": identity[32:48],
                "endpoint": name,
                "run_id": run_id,
                "workload": None if own else "single",
                "prompt_id": prompt_id,
                **_further(_mapping(result.get("span"))),
                "imported_from": path.name,
            }
            spans.append(span)
            prompts.setdefault(prompt_id, _prompt(result, prompt_id))
            answers.append(_answer(result, span))
            named.setdefault(span["endpoint"], section)
        if not section["results"]:
            named.setdefault(name, section)
    return Ingested(
        kind=OWN_KIND if own else KIND,
        run_id=run_id,
        record=_record(document, named, run_id, path.name, digest, timestamp, len(prompts), own=own),
        spans=spans,
        prompts=list(prompts.values()),
        answers=answers,
        started_known=all("started_at_unix_us" in r for section in endpoints.values() for r in section["results"]),
    )


def _is_own(document: Mapping[str, Any]) -> bool:
    """Whether Dyno wrote the file from requests that it measured, and not from another tool's."""
    runs = document.get("runs")
    if not isinstance(runs, list) or not {"definitions", "comparison"} <= document.keys():
        return False
    if runs:
        return all(_mapping(run).get("imported_kind") in (None, OWN_KIND) for run in runs)
    results = (result for section in _endpoints(document).values() for result in section["results"])
    return not any("imported_from" in _mapping(_mapping(result).get("span")) for result in results)


def _run_id(document: Mapping[str, Any], timestamp: datetime, *, own: bool) -> str:
    """The run's own id, if the file holds one run of Dyno's."""
    runs = document.get("runs")
    if own and isinstance(runs, list) and len(runs) == 1:
        named = _mapping(runs[0]).get("run_id")
        if isinstance(named, str) and _RUN_ID.fullmatch(named):
            return named
    return f"published_{timestamp:%Y%m%d_%H%M%S}"


def _further(said: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that only files of Dyno's own have, where they fit."""
    found = {name: fitted(name, said.get(name)) for name in _FURTHER_ATTRIBUTES}
    found |= {
        name: said[name]
        for name in ("span_id", "parent_span_id", "workload", "endpoint")
        if isinstance(said.get(name), str)
    }
    if isinstance(due_at := said.get("due_at"), str):
        with contextlib.suppress(ValueError, OverflowError):
            found["due_at_unix_us"] = round(times.parse(due_at).timestamp() * 1e6)
    return {name: value for name, value in found.items() if value is not None}


def _endpoints(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        name: value
        for name, value in document.items()
        if isinstance(value, dict) and isinstance(value.get("results"), list)
    }


def _timestamp(document: Mapping[str, Any], path: PurePath) -> datetime:
    text = document.get("timestamp")
    if not isinstance(text, str):
        raise InputError(f"'{path}' isn't a results file: it has no 'timestamp'")
    try:
        return times.parse(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(f"'{path}': 'timestamp' must be a time, not '{text}'") from error


def _prompt_id(result: Mapping[str, Any], position: int) -> str:
    """The file's own id; otherwise the position, since a file without ids has the same order for every endpoint."""
    given = result.get("prompt_id")
    return str(position) if given is None else str(given)


def _span(result: Mapping[str, Any], where: str, timestamp: datetime, model: object) -> dict[str, Any]:
    metadata = _mapping(result.get("metadata"))
    outcome, error_type, status = _outcome(result)
    latency_s = _number(result, "latency_sec", where)
    if latency_s is None and outcome == "ok":
        raise InputError(f"{where} has no 'latency_sec'")
    if latency_s is not None and not 0 <= latency_s <= LONGEST_S:
        raise InputError(f"{where}: 'latency_sec' must be between 0 and {LONGEST_S:g} seconds, not {latency_s:g}")
    started_at_us = _whole(result, "started_at_unix_us", where)
    if started_at_us is None:
        started_at_us = (timestamp - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    asked = metadata.get("model") or model
    finish_reason = metadata.get("finish_reason")
    events = _mapping(result.get("events_us"))
    offsets_us = _offsets_us(result, where)
    span: dict[str, Any] = {
        "name": f"chat {asked}" if asked else "chat",
        "kind": "CLIENT",
        "started_at_us": started_at_us,
        "duration_us": None if latency_s is None else round(latency_s * 1e6),
        "operation": "chat",
        "provider": _text(metadata.get("provider")),
        "model": _text(asked),
        "finish_reasons": [finish_reason] if isinstance(finish_reason, str) else None,
        "input_tokens": _whole(metadata, "prompt_tokens", where),
        "output_tokens": _whole(metadata, "completion_tokens", where),
        "reasoning_tokens": _whole(metadata, "reasoning_tokens", where),
        "cached_tokens": _whole(metadata, "cached_tokens", where),
        "status": status,
        "error_type": error_type,
        "outcome": outcome,
        "streamed": bool(result.get("streamed", False)),
        "simulated": True if result.get("simulated") is True else None,
        "usage_source": _text(metadata.get("usage_source")),
        **{f"{event}_us": _whole(events, event, where) for event in EVENTS},
        "chunk_offsets_us": offsets_us,
        "chunk_count": None if offsets_us is None else len(offsets_us),
        "overhead_us": _whole(result, "overhead_us", where),
        "loop_lag_us": _whole(result, "loop_lag_us", where),
        "repeat": _whole(result, "run", where) or 1,
        "warmup": False,
    }
    rest = {}
    for name, value in _mapping(result.get("attributes")).items():
        if name in OWN_COLUMNS:
            column, convert = OWN_COLUMNS[name]
            span[column] = convert(str(value))
        else:
            rest[name] = str(value)
    span["attributes"] = rest
    return span


def _outcome(result: Mapping[str, Any]) -> tuple[str, str | None, int | None]:
    """Outcome, error type and status. Our own files have them; from others' they are guessed by the error's text."""
    status = result.get("status")
    status = status if isinstance(status, int) else None
    said = result.get("outcome")
    if said in OUTCOMES:
        return said, _text(result.get("error_type")), status
    error = result.get("error")
    if not error and result.get("response") is not None:
        return "ok", None, status
    return failure(str(error or ""), status)


def _prompt(result: Mapping[str, Any], prompt_id: str) -> dict[str, Any]:
    references = result.get("reference_answers")
    prompt = _text(result.get("prompt"))
    parts = _PROMPT_FORMAT.fullmatch(prompt or "")
    return {
        "prompt_id": prompt_id,
        "context": parts["context"] if parts else None,
        "question": _text(result.get("question")) or (parts["question"] if parts else None),
        "prompt": prompt,
        "reference_answers": references if isinstance(references, list) else None,
    }


def _answer(result: Mapping[str, Any], span: Mapping[str, Any]) -> dict[str, Any]:
    error = result.get("error")
    return {
        "trace_id": span["trace_id"],
        "endpoint": span["endpoint"],
        "prompt_id": span["prompt_id"],
        "repeat": span["repeat"],
        "warmup": False,
        "answer": _text(result.get("response")),
        "reasoning": _text(result.get("reasoning")),
        "finish_reason": (span["finish_reasons"] or [None])[0],
        "error": None if error is None else str(error),
        "status": span["status"],
        "sent_at_us": None,
    }


def _record(
    document: Mapping[str, Any],
    endpoints: Mapping[str, Mapping[str, Any]],
    run_id: str,
    file_name: str,
    digest: str,
    timestamp: datetime,
    prompts: int,
    *,
    own: bool,
) -> RunJson:
    """Raises InputError where the file holds the run.json of a newer Dyno."""
    dataset, models = _mapping(document.get("dataset")), _mapping(document.get("models"))
    # A file of our own has its run's record.
    runs = document.get("runs")
    kept = _mapping(runs[0]) if isinstance(runs, list) and len(runs) == 1 else {}
    described = _mapping(kept.get("endpoints"))
    named = " ".join(str(dataset[key]) for key in ("name", "version") if dataset.get(key))
    if (why := unreadable_schema(kept)) is not None:
        raise InputError(f"'{file_name}' holds a run that {why}")
    record = {
        "schema": SCHEMA,
        "workload": "single",
        "parameters": {},
        "method": "imported from a results file; how its requests were made isn't in it",
        **kept,
        "run_id": run_id,
        "started_at": kept.get("started_at") or timestamp.isoformat().replace("+00:00", "Z"),
        "finished_at": kept.get("finished_at"),
        "interrupted": bool(kept.get("interrupted")),
        "prompt_set": {
            "name": named or None,
            "source": dataset.get("url") or dataset.get("source"),
            "license": dataset.get("license"),
            "count": prompts,
            "description": dataset.get("description"),
        },
        "endpoints": {name: {"model": models.get(name), **_mapping(described.get(name))} for name in endpoints},
        "imported_from": file_name,
        "imported_kind": OWN_KIND if own else KIND,
        "imported_sha256": digest,
        "published": {} if own else {name: _mapping(s.get("statistics")) for name, s in endpoints.items()},
    }
    return cast(RunJson, record)


def _offsets_us(result: Mapping[str, Any], where: str) -> list[int] | None:
    offsets = result.get("chunk_offsets_us")
    if offsets is None:
        return None
    if not isinstance(offsets, list) or not all(type(offset) is int for offset in offsets):
        raise InputError(f"{where}: 'chunk_offsets_us' must be a list of whole numbers")
    return offsets


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(values: Mapping[str, Any], key: str, where: str) -> float | None:
    value = values.get(key)
    if value is None:
        return None
    # A number must fit into the span files' 64-bit integers.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**62:
        raise InputError(f"{where}: '{key}' must be a number in range, not {str(value)[:40]!r}")
    return value


def _whole(values: Mapping[str, Any], key: str, where: str) -> int | None:
    value = _number(values, key, where)
    return None if value is None else int(value)
