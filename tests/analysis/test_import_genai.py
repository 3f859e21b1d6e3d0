"""Spans that others wrote by the GenAI conventions, of several generations, as rows of `spans`."""

import json
from pathlib import Path
from typing import Any

import pytest

from dyno_analysis.ingest.otlp.genai import genai_row
from dyno_analysis.ingest.otlp.span import OtlpEvent, OtlpSpan
from rigs.dyno_command import dyno
from rigs.imports import SAMPLES, imported, rows

FIGURES = (
    "endpoint, provider, operation, model, streamed, status, outcome, error_type, input_tokens, output_tokens, "
    "finish_reason"
)
LOCAL, CLOSED = "127.0.0.1:18431", "127.0.0.1:9"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "openllmetry_0.62.jsonl",
            [
                (LOCAL, "openai", "chat", "gpt-oss-120b", False, None, "ok", None, 76, 20, "length"),
                (LOCAL, "openai", "chat", "gpt-oss-120b", True, None, "ok", None, 76, 20, "length"),
                (LOCAL, "openai", "chat", "gpt-oss-120b", False, 429, "rate_limited", "RateLimitError", *[None] * 3),
                (
                    *(CLOSED, "openai", "chat", "gpt-oss-120b", False, None),
                    *("upstream_unreachable", "APIConnectionError", None, None, None),
                ),
            ],
        ),
        (
            "openllmetry_0.40.jsonl",
            [
                (LOCAL, "OpenAI", "chat", "gpt-oss-120b", False, None, "ok", None, 76, 20, "length"),
                (LOCAL, "OpenAI", "chat", "gpt-oss-120b", True, None, "ok", None, None, None, "length"),
                (LOCAL, "OpenAI", "chat", "gpt-oss-120b", False, 429, "rate_limited", "429", *[None] * 3),
                (
                    *(CLOSED, "OpenAI", "chat", "gpt-oss-120b", False, None),
                    *("upstream_unreachable", "connection_error", None, None, None),
                ),
            ],
        ),
        (
            "openlit_1.45.jsonl",
            [
                (LOCAL, "openai", "chat", "gpt-oss-120b", False, None, "ok", None, 76, 20, "length"),
                (LOCAL, "openai", "chat", "gpt-oss-120b", True, None, "ok", None, 76, 20, "length"),
                (LOCAL, "openai", "chat", "gpt-oss-120b", False, 429, "rate_limited", "RateLimitError", *[None] * 3),
                (
                    *(CLOSED, "openai", "chat", "gpt-oss-120b", False, None),
                    *("upstream_unreachable", "APIConnectionError", None, None, None),
                ),
            ],
        ),
        (
            "envoy_openinference.jsonl",
            [
                (None, "openai", "chat", "gpt-5-nano", True, None, "ok", None, 10, 4, None),
                (None, "openai", "embeddings", "text-embedding-3-small", None, None, "ok", None, 5, None, None),
                (
                    *(None, "openai", "text_completion", "gpt-5-nano", False, 429),
                    *("rate_limited", "RateLimitError", None, None, None),
                ),
            ],
        ),
        (
            "envoy_genai.jsonl",
            [(None, "openai", "chat", "gpt-5-nano", True, None, "ok", None, 10, 4, "stop")],
        ),
        (
            "vllm_0.29_llm_request.json",
            [(None, None, None, None, None, None, "ok", None, 14, 8, None)],
        ),
    ],
)
def test_what_they_have_in_common(tmp_path: Path, file: str, expected: list[tuple[Any, ...]]) -> None:
    """Endpoint, model, outcome, tokens and so on are in their columns, whatever their names were; the rest is NULL."""
    imported(tmp_path, file)
    assert rows(tmp_path, FIGURES) == expected
    assert set(rows(tmp_path, "imported_from, usage_source, run_id, tpot_s")) == {(file, None, None, None)}


def test_times_of_a_stream(tmp_path: Path) -> None:
    """The first chunk, by event or attribute, is the first SSE event; what is called a first token is TTFT."""
    files = ("openllmetry_0.62.jsonl", "openlit_1.45.jsonl", "envoy_openinference.jsonl", "envoy_genai.jsonl")
    imported(tmp_path, *files)
    found = rows(tmp_path, "imported_from, first_event_us::VARCHAR, ttft_s, chunk_count", "streamed")
    assert sorted(found) == [
        ("envoy_genai.jsonl", "210000", None, None),
        ("envoy_openinference.jsonl", "210000", None, None),
        ("openlit_1.45.jsonl", None, pytest.approx(0.016179), None),
        ("openllmetry_0.62.jsonl", "18064", None, None),
    ]
    # OpenLIT calls the whole time of an unstreamed answer its time to first token.
    assert rows(tmp_path, "ttft_s", "NOT streamed AND imported_from = 'openlit_1.45.jsonl'") == [(None,)] * 3


def test_reasoning_and_cache(tmp_path: Path) -> None:
    """Both generations of Envoy's names."""
    imported(tmp_path, "envoy_openinference.jsonl", "envoy_genai.jsonl")
    found = rows(tmp_path, "reasoning_tokens, cached_tokens, response_model", "streamed")
    assert found == [(2, 8, None), (2, 8, "gpt-5-nano-2025-08-07")]


def test_an_engines_own_times(tmp_path: Path) -> None:
    """vLLM's times are the server's, and its attributes stay too; missing ids are made from the span's content."""
    imported(tmp_path, "vllm_0.29_llm_request.json")
    ((queue_s, ttft_s, latency_s, whole_s, prefill, request_id),) = rows(
        tmp_path,
        "server_queue_s, server_ttft_s, server_latency_s, latency_s, "
        "attributes['gen_ai.latency.time_in_model_prefill'], attributes['gen_ai.request.id']",
    )
    assert (queue_s, ttft_s, latency_s) == (5.4589007049798965e-05, 0.11554598808288574, 0.25359678268432617)
    assert whole_s == pytest.approx(0.254922)
    assert (prefill, request_id) == ("0.057814636995317414", "req-vllm-029-001")
    ids = rows(tmp_path, "length(trace_id), length(span_id)")
    assert "0 requests added; 1 already stored" in imported(tmp_path, "vllm_0.29_llm_request.json")
    assert ids == [(32, 16)]


def test_spans_around_the_requests_are_left_out(tmp_path: Path) -> None:
    """HTTP clients' spans, tools and agents make no row; the command says how many there were."""
    assert "4 requests added; 4 other spans left out" in imported(tmp_path, "openlit_1.45.jsonl")
    said = imported(tmp_path, "envoy_genai.jsonl")
    assert "1 request added; 1 other span left out" in said
    assert "1 request without an endpoint's name: name it with --endpoint NAME" in said


def test_the_endpoint_can_be_named(tmp_path: Path) -> None:
    """`--endpoint` replaces the address that the spans have, if they have one."""
    done = dyno(
        *("import", SAMPLES / "envoy_genai.jsonl", SAMPLES / "openlit_1.45.jsonl"),
        *("--spans", tmp_path, "--endpoint", "sophia"),
    )
    assert done.returncode == 0
    assert rows(tmp_path, "DISTINCT ON (endpoint) endpoint") == [("sophia",)]


def other(**changes: Any) -> OtlpSpan:
    values: dict[str, Any] = {
        "trace_id": "0a" * 16,
        "span_id": "0b" * 8,
        "parent_span_id": "",
        "name": "chat m",
        "kind": "CLIENT",
        "start_ns": 1_000_000_000,
        "end_ns": 2_000_000_000,
        "attributes": {"gen_ai.operation.name": "chat"},
        "events": (),
        "status_code": 0,
        "status_message": "",
        "resource": {},
        "scope": "",
    }
    return OtlpSpan(**values | changes)


def test_secrets_stay_behind() -> None:
    """No row has headers or queries, since they may contain keys."""
    canary = "sk-canary"
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.headers": f"{{'Authorization': '{canary}'}}",
        "llm.headers": canary,
        "http.request.header.authorization": [canary],
        "url.query": f"key={canary}",
        "url.full": f"https://h/v1/chat?key={canary}",
        "http.url": f"https://h/v1/chat?key={canary}",
        "http.target": f"/v1/chat?key={canary}",
    }
    made = genai_row(other(attributes=attributes))
    assert made is not None
    assert canary not in json.dumps(made)
    assert (made["path"], made["endpoint"]) == ("/v1/chat", "h")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"attributes": {"http.response.status_code": 401}}, ("auth", "401", 401)),
        ({"attributes": {"error.type": "503"}}, ("http_error", "503", 503)),
        ({"attributes": {"error.type": "timeout"}}, ("upstream_timeout", "timeout", None)),
        ({"status_code": 2}, ("http_error", "_OTHER", None)),
        ({"status_code": 2, "status_message": "Gateway Timeout"}, ("http_error", "504", 504)),
        (
            {
                "status_code": 2,
                "events": (OtlpEvent("exception", 0, {"exception.type": "openai.AuthenticationError"}),),
            },
            ("auth", "openai.AuthenticationError", None),
        ),
    ],
)
def test_outcomes_of_failures(changes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """A failure has the outcome that its status, its error's name or its message speaks of."""
    attributes = {"gen_ai.operation.name": "chat", **changes.pop("attributes", {})}
    made = genai_row(other(attributes=attributes, **changes))
    assert made is not None
    assert (made["outcome"], made["error_type"], made.get("status")) == expected


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": 7, "gen_ai.request.model": ["m"]},
        {"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": "many", "server.port": "x", "server.address": 3},
        {"gen_ai.request.model": "m", "gen_ai.request.stream": True, "gen_ai.server.time_to_first_token": "soon"},
        {"llm.request.type": {"a": 1}, "llm.invocation_parameters": "{"},
        {"llm.request.type": "chat", "llm.invocation_parameters": "[1]", "url.full": "http://[", "url.path": 4},
        {"gen_ai.request.model": "m", "gen_ai.usage.output_tokens": 2**70, "error.type": 5},
    ],
)
def test_values_of_other_types_are_kept_as_text(attributes: dict[str, Any]) -> None:
    """If a column can't hold a value, the row is kept, and so is the value, in the map."""
    made = genai_row(other(attributes=attributes))
    assert made is not None
    kept = made["attributes"].keys() | made.keys()
    assert made["outcome"] in ("ok", "http_error")
    assert len(kept & {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.operation.name"}) <= 1
    json.dumps(made)
