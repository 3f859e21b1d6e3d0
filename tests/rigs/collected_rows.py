"""Rows of collected spans for tests, written by the format alone: spans of clients, gateways and engines."""

from pathlib import Path
from typing import Any

from rigs.stored_spans import span, write

TRACE = "a" * 32
VLLM = {
    "gen_ai.latency.time_in_queue": "0.1",
    "gen_ai.latency.time_in_model_prefill": "0.2",
    "gen_ai.latency.time_in_model_decode": "0.4",
    "gen_ai.latency.time_to_first_token": "0.3",
    "resource.service.name": "vllm",
    "otel.scope.name": "vllm.llm_engine",
}


def sid(name: str) -> str:
    """A span id that a person recognises."""
    return name.encode().hex().ljust(16, "0")[:16]


def request(name: str, parent: str | None = None, **columns: Any) -> dict[str, Any]:
    """The proxy's span of a request of 1 s: 10 ms for the body, 20 ms for connecting, 1 ms for the proxy itself."""
    known = {
        "trace_id": TRACE,
        "span_id": sid(name),
        "parent_span_id": sid(parent) if parent else None,
        "path": "/metis/v1/chat/completions",
        "body_received_us": 10_000,
        "connected_us": 30_000,
        "sent_us": 30_500,
        "headers_us": 40_000,
        "overhead_end_us": 1_000,
    }
    return span(**(known | columns))


def collected(name: str, kind: str, parent: str | None = None, took_s: float = 0.9, **columns: Any) -> dict[str, Any]:
    """A span of another program."""
    known = {
        "trace_id": TRACE,
        "span_id": sid(name),
        "parent_span_id": sid(parent) if parent else None,
        "name": name,
        "kind": kind,
        "duration_us": round(took_s * 1e6),
        **dict.fromkeys(("operation", "model", "status", "endpoint", "outcome", "streamed")),
    }
    return span(**(known | columns))


def engine(name: str, parent: str | None = None, took_s: float = 0.9, **columns: Any) -> dict[str, Any]:
    """vLLM's own span: 0.1 s in the queue, 0.2 s of prefill, 0.4 s of decode."""
    return collected(name, "SERVER", parent, took_s, **({"attributes": VLLM} | columns))


def store(folder: Path, requests: list[dict[str, Any]], others: list[dict[str, Any]]) -> Path:
    """Write rows of both kinds into their folders. Returns the spans folder."""
    write(folder, requests)
    write(folder / "collected", others)
    return folder
