"""metrics.py: what `/metrics` says of requests, by names and labels that dashboards rely on."""

import re
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from dyno_proxy.metrics import MODELS_LIMIT, OTHER, Metrics, tpot_s
from dyno_proxy.record import Record
from records import record, records, unstreamed

CHAT: Final = {"endpoint": "metis", "model": "gpt-oss-120b", "operation": "chat"}
OK: Final = CHAT | {"outcome": "ok"}

# The contract's names, with their labels (a histogram's `le` apart).
NAMES: Final = {
    "gen_ai_client_operation_duration_seconds": {"endpoint", "model", "operation", "outcome"},
    "gen_ai_client_operation_time_to_first_chunk_seconds": {"endpoint", "model", "operation"},
    "gen_ai_client_operation_time_per_output_chunk_seconds": {"endpoint", "model", "operation"},
    "gen_ai_client_token_usage": {"endpoint", "model", "operation", "token_type"},
    "dyno_ttft_seconds": {"endpoint", "model", "operation"},
    "dyno_tpot_seconds": {"endpoint", "model", "operation"},
    "dyno_requests_started_total": {"endpoint"},
    "dyno_requests_total": {"endpoint", "model", "operation", "outcome"},
    "dyno_active_requests": {"endpoint"},
    "dyno_request_bytes_total": {"endpoint"},
    "dyno_response_bytes_total": {"endpoint"},
    "dyno_overhead_seconds": {"endpoint"},
    "dyno_loop_lag_seconds": set(),
    "dyno_spans_written_total": set(),
    "dyno_spans_dropped_total": {"reason"},
    "dyno_endpoint_simulated": {"endpoint"},
    "dyno_build_info": {"version"},
}


def seen(metrics: Metrics, *sources: Record) -> Metrics:
    for source in sources:
        metrics.started(source.endpoint)
        metrics.finished(source)
        metrics.observe(source)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_contracts_names_and_labels() -> None:
    """Every metric of the contract is there once something happened, with exactly its labels, and no other is."""
    metrics = seen(Metrics("0.1.0"), record())
    metrics.spans_dropped("disk", 1)
    text, _ = metrics.render()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        for sample in family.samples:
            found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    assert found == NAMES


def test_one_request() -> None:
    """The figures of an ordinary chat, each as MEASURING.md has it."""
    metrics = seen(Metrics("0.1.0"), record())
    assert value(metrics, "dyno_requests_started_total", endpoint="metis") == 1
    assert value(metrics, "dyno_requests_total", **OK) == 1
    assert value(metrics, "dyno_active_requests", endpoint="metis") == 0
    assert value(metrics, "dyno_request_bytes_total", endpoint="metis") == 150
    assert value(metrics, "dyno_response_bytes_total", endpoint="metis") == 1500
    assert value(metrics, "dyno_endpoint_simulated", endpoint="metis") == 0
    assert value(metrics, "gen_ai_client_operation_duration_seconds_sum", **OK) == 0.3005
    assert value(metrics, "gen_ai_client_operation_time_to_first_chunk_seconds_sum", **CHAT) == 0.1995
    assert value(metrics, "dyno_ttft_seconds_sum", **CHAT) == 0.2
    assert value(metrics, "dyno_tpot_seconds_sum", **CHAT) == pytest.approx(0.080 / 5)
    assert value(metrics, "gen_ai_client_operation_time_per_output_chunk_seconds_count", **CHAT) == 4
    assert value(metrics, "gen_ai_client_operation_time_per_output_chunk_seconds_sum", **CHAT) == pytest.approx(0.08)
    assert value(metrics, "gen_ai_client_operation_time_per_output_chunk_seconds_bucket", **CHAT, le="0.02") == 4
    assert value(metrics, "gen_ai_client_token_usage_sum", **CHAT, token_type="input") == 12  # noqa: S106  # a label
    assert value(metrics, "gen_ai_client_token_usage_sum", **CHAT, token_type="output") == 6  # noqa: S106  # a label
    assert value(metrics, "dyno_overhead_seconds_sum", endpoint="metis") == 8e-5


def test_a_running_request_is_active() -> None:
    """Counters that must be right at once don't wait for the thread: started = active + outcomes, at any moment."""
    metrics = Metrics("0.1.0")
    metrics.started("metis")
    metrics.started("metis")
    assert value(metrics, "dyno_active_requests", endpoint="metis") == 2
    metrics.finished(record(outcome="client_cancelled"))
    assert value(metrics, "dyno_active_requests", endpoint="metis") == 1
    assert value(metrics, "dyno_requests_total", **CHAT | {"outcome": "client_cancelled"}) == 1


def test_only_successes_are_in_the_times() -> None:
    """A failed request has a duration under its outcome, and no TTFT: as in the tables."""
    metrics = seen(Metrics("0.1.0"), record(outcome="truncated"))
    assert value(metrics, "gen_ai_client_operation_duration_seconds_count", **CHAT | {"outcome": "truncated"}) == 1
    assert value(metrics, "dyno_ttft_seconds_count", **CHAT) == 0
    assert value(metrics, "gen_ai_client_operation_time_per_output_chunk_seconds_count", **CHAT) == 0


def test_what_is_not_streamed_has_no_first_token() -> None:
    """Its TTFT is unknown, never its latency."""
    metrics = seen(Metrics("0.1.0"), unstreamed())
    assert value(metrics, "dyno_ttft_seconds_count", **CHAT) == 0
    assert value(metrics, "gen_ai_client_operation_duration_seconds_count", **OK) == 1
    assert value(metrics, "gen_ai_client_token_usage_count", **CHAT, token_type="output") == 1  # noqa: S106  # a label


def test_chunks_are_not_tokens() -> None:
    """Token usage is the server's word alone: a number of chunks in its place doesn't count."""
    metrics = seen(Metrics("0.1.0"), record(usage_source="chunks", input_tokens=None, output_tokens=5))
    assert value(metrics, "gen_ai_client_token_usage_count", **CHAT, token_type="output") == 0  # noqa: S106  # a label


@pytest.mark.parametrize(
    ("changes", "tpot"),
    [
        ({}, 0.080 / 5),
        ({"first_chunk_tokens": 2}, 0.080 / 4),
        ({"usage_source": "chunks", "output_tokens": 5}, 0.080 / 4),
        # Four of six tokens were reasoning that nobody saw: two are left.
        ({"reasoning_tokens": 4}, 0.080 / 1),
        ({"reasoning_tokens": 4, "reasoning_streamed": True}, 0.080 / 5),
        ({"reasoning_tokens": 5}, None),
        ({"output_tokens": 2}, 0.080 / 1),
        ({"output_tokens": 1}, None),
        ({"output_tokens": 6, "first_chunk_tokens": 6}, None),
        ({"output_tokens": None}, None),
        ({"first_token_us": None, "last_token_us": None}, None),
        ({"streamed": False}, None),
        ({"last_token_us": 200_000}, 0.0),
    ],
)
def test_tpot(changes: dict[str, Any], tpot: float | None) -> None:
    """MEASURING.md's formula, and each case where it is unknown."""
    assert tpot_s(record(**changes)) == (None if tpot is None else pytest.approx(tpot))


def test_the_models_label_is_bounded() -> None:
    """A client that makes up models can't make up series; the configured ones keep their own."""
    metrics = Metrics("0.1.0", models=["configured"])
    seen(metrics, *(record(model=f"made up {number}") for number in range(300)), record(model="configured"))
    text, _ = metrics.render()
    models = {
        sample.labels["model"]
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "dyno_requests_total"
    }
    assert len(models) == MODELS_LIMIT + 1
    assert {"configured", OTHER} <= models
    assert value(metrics, "dyno_requests_total", **OK | {"model": OTHER}) == 300 - (MODELS_LIMIT - 1)
    assert value(metrics, "dyno_requests_total", **OK | {"model": "configured"}) == 1


@pytest.mark.parametrize("model", ["x" * 1000, "lone \ud800 surrogate"])
def test_a_model_that_is_no_label_is_other(model: str) -> None:
    """It would otherwise break the text for everyone, or fill it."""
    metrics = seen(Metrics("0.1.0"), record(model=model))
    metrics.render()
    assert value(metrics, "dyno_requests_total", **OK | {"model": OTHER}) == 1


def test_what_is_unknown_is_an_empty_label() -> None:
    """A rejected request that named no endpoint is counted all the same."""
    metrics = seen(Metrics("0.1.0"), record(endpoint=None, model=None, operation=None, outcome="rejected"))
    assert value(metrics, "dyno_requests_total", endpoint="", model="", operation="", outcome="rejected") == 1
    assert value(metrics, "dyno_active_requests", endpoint="") == 0


def test_configured_endpoints_show_zeros_from_the_start() -> None:
    """A rate needs its first zero: an endpoint without traffic is there, and not simulated until a response says so."""
    metrics = Metrics("0.1.0", endpoints=["metis"])
    assert value(metrics, "dyno_requests_started_total", endpoint="metis") == 0
    assert value(metrics, "dyno_endpoint_simulated", endpoint="metis") == 0
    seen(metrics, record(simulated=True), record(simulated=False))
    assert value(metrics, "dyno_endpoint_simulated", endpoint="metis") == 1


def test_loop_lag_is_asked_at_the_scrape() -> None:
    """Its newest reading, in seconds."""
    metrics = Metrics("0.1.0")
    readings = iter([1500, 250])
    metrics.follow_loop_lag(lambda: next(readings))
    assert value(metrics, "dyno_loop_lag_seconds") == 0.0015
    assert value(metrics, "dyno_loop_lag_seconds") == 0.00025


@settings(deadline=None)
@given(st.lists(records(), max_size=20))
def test_both_texts_can_be_parsed_whatever_came(sources: list[Record]) -> None:
    """Prometheus text and OpenMetrics, both valid, and started = the sum of outcomes."""
    metrics = Metrics("0.1.0")
    for source in sources:
        metrics.started(source.endpoint)
        metrics.finished(source)
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    totals = {"dyno_requests_started_total": 0.0, "dyno_requests_total": 0.0}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name in totals:
                totals[sample.name] += sample.value
    assert set(totals.values()) == {float(len(sources))}
    text, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert list(openmetrics_families(text.decode()))  # type: ignore[no-untyped-call]


def test_negative_counts_do_not_stop_observing() -> None:
    """A server that reports nonsense gets its nonsense counted; nothing breaks."""
    metrics = Metrics("0.1.0")
    seen(metrics, record(input_tokens=-5, output_tokens=-(10**30), chunk_offsets_us=(5, 3)))
    text, _ = metrics.render()
    (line,) = [line for line in text.decode().splitlines() if re.match(r"gen_ai_client_token_usage_sum.*input", line)]
    assert line.endswith(" -5.0")


def test_openmetrics_is_the_clients() -> None:
    """The content type is the library's own, so that both move together."""
    assert Metrics("0.1.0").render("application/openmetrics-text")[1] == openmetrics.exposition.CONTENT_TYPE_LATEST
