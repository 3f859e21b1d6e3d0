"""metrics.py: `/metrics` reports requests under the names and labels that dashboards use."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from dyno_proxy.exchange.record import Record
from dyno_proxy.metrics.families import DURATION_BOUNDS_S
from dyno_proxy.metrics.metrics import OTHER, SERIES_LIMIT, Metrics, tpot_s
from dyno_proxy.metrics.multiprocess import Shared
from dyno_proxy.metrics.tallies import Tally, TallyHistogram
from rigs import records as records_module
from rigs.records import record, records, seen, unstreamed

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
    "dyno_reasoning_tokens_total": {"endpoint", "model", "operation"},
    "dyno_cached_tokens_total": {"endpoint", "model", "operation"},
    "dyno_retries_total": {"endpoint"},
    "dyno_mirror_copies_total": {"endpoint", "result"},
    "dyno_other_model_requests_total": set(),
    "dyno_loop_lag_seconds": set(),
    "dyno_journal_lag_seconds": set(),
    "dyno_gc_pause_seconds": set(),
    "dyno_spans_written_total": set(),
    "dyno_spans_dropped_total": {"reason"},
    "dyno_endpoint_simulated": {"endpoint"},
    "dyno_build_info": {"version"},
}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_contracts_names_and_labels() -> None:
    """Every documented metric is there once something has happened, with exactly its labels, and no other metric is."""
    metrics = seen(Metrics("0.1.0"), record())
    metrics.spans_dropped("disk", 1)
    metrics.mirrored("metis", "sent")
    text, _ = metrics.render()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        for sample in family.samples:
            found.setdefault(name, set()).update(set(sample.labels) - {"le"})
    assert found == NAMES


def test_one_request() -> None:
    """The figures of an ordinary chat agree with their definitions in docs/spans.md."""
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
    """Some counters must be right at once, so they don't wait for the thread: started = active + outcomes at any
    moment."""
    metrics = Metrics("0.1.0")
    metrics.started("metis")
    metrics.started("metis")
    assert value(metrics, "dyno_active_requests", endpoint="metis") == 2
    metrics.finished(record(outcome="client_cancelled"))
    assert value(metrics, "dyno_active_requests", endpoint="metis") == 1
    assert value(metrics, "dyno_requests_total", **CHAT | {"outcome": "client_cancelled"}) == 1


def test_only_successes_are_in_the_times() -> None:
    """A failed request has a duration under its outcome, and no TTFT, as in the tables."""
    metrics = seen(Metrics("0.1.0"), record(outcome="truncated"))
    assert value(metrics, "gen_ai_client_operation_duration_seconds_count", **CHAT | {"outcome": "truncated"}) == 1
    assert value(metrics, "dyno_ttft_seconds_count", **CHAT) == 0
    assert value(metrics, "gen_ai_client_operation_time_per_output_chunk_seconds_count", **CHAT) == 0


def test_what_is_not_streamed_has_no_first_token() -> None:
    """The TTFT of an unstreamed answer is unknown, never its latency."""
    metrics = seen(Metrics("0.1.0"), unstreamed())
    assert value(metrics, "dyno_ttft_seconds_count", **CHAT) == 0
    assert value(metrics, "gen_ai_client_operation_duration_seconds_count", **OK) == 1
    assert value(metrics, "gen_ai_client_token_usage_count", **CHAT, token_type="output") == 1  # noqa: S106  # a label


def test_chunks_are_not_tokens() -> None:
    """Token usage counts only what the server reported, never a number of chunks."""
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
        ({"last_token_us": 200_000}, None),
    ],
)
def test_tpot(changes: dict[str, Any], tpot: float | None) -> None:
    """TPOT follows the formula in docs/spans.md, and is unknown in each case that is listed there."""
    assert tpot_s(record(**changes)) == (None if tpot is None else pytest.approx(tpot))


def test_the_models_label_is_bounded() -> None:
    """A client can't create series by inventing models. Configured models keep their own series."""
    metrics = Metrics("0.1.0", {"metis": "configured"})
    seen(metrics, *(record(model=f"made up {number}") for number in range(300)), record(model="configured"))
    text, _ = metrics.render()
    models = {
        sample.labels["model"]
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "dyno_requests_total"
    }
    assert len(models) == SERIES_LIMIT + 2
    assert {"configured", OTHER} <= models
    assert value(metrics, "dyno_requests_total", **OK | {"model": OTHER}) == 300 - SERIES_LIMIT
    assert value(metrics, "dyno_requests_total", **OK | {"model": "configured"}) == 1


def test_a_made_up_model_earns_no_label() -> None:
    """An endpoint answers invented model names with 404. They count as OTHER, and leave room for models that exist."""
    metrics = Metrics("0.1.0", {"metis": "configured"})
    junk = [record(model=f"junk {number}", outcome="http_error", status=404) for number in range(200)]
    refused = record(model="junk", outcome="rejected", status=None)
    seen(metrics, *junk, refused, record(model="real"), record(model="configured", outcome="http_error", status=500))
    assert value(metrics, "dyno_requests_total", **CHAT | {"model": OTHER, "outcome": "http_error"}) == 200
    assert value(metrics, "dyno_requests_total", **CHAT | {"model": OTHER, "outcome": "rejected"}) == 1
    assert value(metrics, "dyno_requests_total", **OK | {"model": "real"}) == 1
    assert value(metrics, "dyno_requests_total", **CHAT | {"model": "configured", "outcome": "http_error"}) == 1
    assert b"junk" not in metrics.render()[0]


def test_a_new_configuration_is_known() -> None:
    """A new configuration's endpoints show zeros at once, and its models keep their labels. Older counts stay."""
    metrics = seen(Metrics("0.1.0", {"metis": "old"}), record(model="old"))
    metrics.expect({"metis": "new", "sophia": None})
    assert value(metrics, "dyno_requests_started_total", endpoint="sophia") == 0
    seen(metrics, record(model="new", outcome="http_error", status=404))
    assert value(metrics, "dyno_requests_total", **CHAT | {"model": "new", "outcome": "http_error"}) == 1
    assert value(metrics, "dyno_requests_total", **OK | {"model": "old"}) == 1


@pytest.mark.parametrize("model", ["x" * 1000, "lone \ud800 surrogate"])
def test_a_model_that_is_no_label_is_other(model: str) -> None:
    """A strange model name counts as OTHER. Otherwise it would break the text for everyone, or fill it."""
    metrics = seen(Metrics("0.1.0"), record(model=model))
    metrics.render()
    assert value(metrics, "dyno_requests_total", **OK | {"model": OTHER}) == 1


def test_what_is_unknown_is_an_empty_label() -> None:
    """A rejected request that named no endpoint is counted too."""
    metrics = seen(Metrics("0.1.0"), record(endpoint=None, model=None, operation=None, outcome="rejected"))
    assert value(metrics, "dyno_requests_total", endpoint="", model="", operation="", outcome="rejected") == 1
    assert value(metrics, "dyno_active_requests", endpoint="") == 0


def test_configured_endpoints_show_zeros_from_the_start() -> None:
    """A rate needs a first zero, so an endpoint without traffic is there.

    It isn't simulated until a response says so.
    """
    metrics = Metrics("0.1.0", {"metis": None})
    assert value(metrics, "dyno_requests_started_total", endpoint="metis") == 0
    assert value(metrics, "dyno_endpoint_simulated", endpoint="metis") == 0
    seen(metrics, record(simulated=True), record(simulated=False))
    assert value(metrics, "dyno_endpoint_simulated", endpoint="metis") == 1


def test_loop_lag_is_asked_at_the_scrape() -> None:
    """The metric is the newest reading, in seconds."""
    metrics = Metrics("0.1.0")
    readings = iter([1500, 250])
    metrics.follow_loop_lag(lambda: next(readings))
    assert value(metrics, "dyno_loop_lag_seconds") == 0.0015
    assert value(metrics, "dyno_loop_lag_seconds") == 0.00025


def test_what_else_is_counted() -> None:
    """Reasoning and cached tokens, retries, mirrors, garbage collections and the journal's lag are counted."""
    metrics = Metrics("0.1.0", {"metis": None})
    seen(metrics, record(reasoning_tokens=3, cached_tokens=8, retries=2), record(reasoning_tokens=1, retries=0))
    metrics.mirrored("metis", "sent")
    metrics.mirrored("metis", "sent")
    metrics.mirrored("metis", "busy")
    for pause_ns in (30_000, 150_000, 7_000_000):
        metrics.gc_paused(pause_ns)
    metrics.follow_journal_lag(lambda: 1.5)
    assert value(metrics, "dyno_reasoning_tokens_total", **CHAT) == 4
    assert value(metrics, "dyno_cached_tokens_total", **CHAT) == 8
    assert value(metrics, "dyno_retries_total", endpoint="metis") == 2
    assert value(metrics, "dyno_mirror_copies_total", endpoint="metis", result="sent") == 2
    assert value(metrics, "dyno_mirror_copies_total", endpoint="metis", result="busy") == 1
    assert value(metrics, "dyno_gc_pause_seconds_count") == 3
    assert value(metrics, "dyno_gc_pause_seconds_sum") == pytest.approx(0.00718)
    assert value(metrics, "dyno_gc_pause_seconds_bucket", le="0.0002") == 2
    assert value(metrics, "dyno_journal_lag_seconds") == 1.5


def test_each_scrape_adds_up() -> None:
    """While requests begin and end in another thread, each scrape has started = active + the sum of outcomes."""
    metrics = Metrics("0.1.0", {"metis": None})
    done = threading.Event()

    def traffic() -> None:
        sources = [record(model=f"m{number}", outcome=("ok", "truncated")[number % 2]) for number in range(20)]
        while not done.is_set():
            for source in sources:
                metrics.started("metis")
                metrics.started("metis")
                metrics.finished(source)
                metrics.finished(source)

    thread = threading.Thread(target=traffic)
    thread.start()
    scrapes = 0
    try:
        until_s = time.monotonic() + 2.0
        while time.monotonic() < until_s or scrapes <= 10:  # a busy machine takes longer
            sums: dict[str, float] = {}
            for family in metrics.registry.collect():
                sums[family.name] = sum(sample.value for sample in family.samples)
            assert sums["dyno_requests_started"] == sums["dyno_active_requests"] + sums["dyno_requests"]
            scrapes += 1
    finally:
        done.set()
        thread.join()
    assert scrapes > 10


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1000.0) | st.sampled_from(DURATION_BOUNDS_S), max_size=50), st.integers(0, 50))
def test_tallies_are_the_librarys_histograms(values: list[float], cut: int) -> None:
    """Values may be observed singly or together, and handed on in parts: the text is as if a histogram saw each
    value."""
    registries = [CollectorRegistry() for _ in range(3)]
    families = [TallyHistogram("h_s", "x", buckets=DURATION_BOUNDS_S, registry=registry) for registry in registries]
    singly, together = Tally(DURATION_BOUNDS_S, 1), Tally(DURATION_BOUNDS_S, 1)
    for part in (values[:cut], values[cut:]):
        for each in part:
            families[0].observe(each)
            singly.observe(each)
        together.observe_sorted(sorted(part))
        singly.publish(families[1], ())
        together.publish(families[2], ())
    theirs, ours, ours_together = (
        {(sample.name, sample.labels.get("le")): sample.value for each in registry.collect() for sample in each.samples}
        for registry in registries
    )
    assert ours == pytest.approx(theirs)
    assert ours_together == pytest.approx(theirs)


def test_exemplars_lead_to_the_trace() -> None:
    """In OpenMetrics a bucket has the newest request that fell into it as an exemplar.

    The plain text has no exemplars.
    """
    metrics = seen(Metrics("0.1.0"), record(), record(trace_id=7, span_id=8, first_token_us=200_001))
    text = metrics.render("application/openmetrics-text")[0].decode()
    exemplars = {
        (sample.name, sample.labels["le"]): sample.exemplar
        for family in openmetrics_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None
    }
    ttft = exemplars["dyno_ttft_seconds_bucket", "0.25"]
    assert ttft.labels == {"trace_id": f"{7:032x}", "span_id": f"{8:016x}"}
    assert ttft.value == 0.200001
    assert float(ttft.timestamp) == pytest.approx(1_795_557_540.300501)
    assert {name.removesuffix("_bucket") for name, _ in exemplars} == {
        *("gen_ai_client_operation_duration_seconds", "gen_ai_client_operation_time_to_first_chunk_seconds"),
        *("gen_ai_client_operation_time_per_output_chunk_seconds", "gen_ai_client_token_usage"),
        *("dyno_ttft_seconds", "dyno_tpot_seconds", "dyno_overhead_seconds"),
    }
    assert b"trace_id" not in metrics.render("text/plain")[0]


def test_workers_share_figures(tmp_path: Path) -> None:
    """Any worker's text is the sum of all. A restarted worker counts on. Gauges of a dead worker are gone."""

    def worker(slot: int, requests: int, running: int) -> str:
        """A process that serves so many requests, leaves so many running, and prints its /metrics."""
        program = (
            "import sys; from pathlib import Path; from dyno_proxy.metrics.metrics import Metrics; "
            "from dyno_proxy.metrics.multiprocess import Shared; from rigs.records import record; "
            f"m = Metrics('0', {{'metis': None}}, Shared(Path({str(tmp_path)!r}), {slot}))\n"
            f"for _ in range({requests}): m.started('metis'); m.finished(record()); m.observe(record())\n"
            f"for _ in range({running}): m.started('metis')\n"
            "m.gc_paused(1000); m.spans_written(1)\n"
            "sys.stdout.write(m.render('application/openmetrics-text')[0].decode())"
        )
        folders = [str(Path(records_module.__file__).parents[1])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout

    worker(0, 3, 1)
    Shared(tmp_path, 0).forget_live()  # it has died
    worker(1, 10, 2)
    text = worker(0, 5, 4)  # its successor
    figures = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in openmetrics_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    endpoint = (("endpoint", "metis"),)
    assert figures["dyno_requests_started_total", endpoint] == 3 + 1 + 10 + 2 + 5 + 4
    assert figures["dyno_active_requests", endpoint] == 2 + 4
    assert figures["dyno_build_info", (("version", "0"),)] == 1
    assert figures["dyno_gc_pause_seconds_count", ()] == 3
    assert figures["dyno_spans_written_total", ()] == 3
    assert figures["dyno_overhead_seconds_count", endpoint] == 18
    assert figures["dyno_overhead_seconds_bucket", (*endpoint, ("le", "0.0001"))] == 18
    assert figures["dyno_overhead_seconds_sum", endpoint] == pytest.approx(18 * 8e-5)
    assert "trace_id" not in text


def test_another_programs_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If prometheus-client's variable is set for another program, a single process still doesn't share its figures."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics = seen(Metrics("0.1.0"), record())
    assert value(metrics, "dyno_requests_total", **OK) == 1
    assert not list(tmp_path.iterdir())


@settings(deadline=None, max_examples=40)
@given(st.lists(records(), max_size=20))
def test_both_texts_can_be_parsed_whatever_came(sources: list[Record]) -> None:
    """Both Prometheus' text and OpenMetrics are valid, and started = the sum of outcomes."""
    metrics = Metrics("0.1.0")
    seen(metrics, *sources)
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


def test_nonsense_does_not_stop_observing() -> None:
    """If a server reports numbers below zero or absurdly large ones, they aren't counted, and the text stays valid."""
    nonsense = {"input_tokens": -5, "output_tokens": 10**400, "reasoning_tokens": 10**5000, "cached_tokens": -1}
    metrics = seen(Metrics("0.1.0"), record(**nonsense), record(output_tokens=-(10**30)))
    assert value(metrics, "gen_ai_client_token_usage_count", **CHAT, token_type="input") == 1  # noqa: S106  # a label
    assert value(metrics, "gen_ai_client_token_usage_count", **CHAT, token_type="output") == 0  # noqa: S106  # a label
    assert value(metrics, "dyno_reasoning_tokens_total", **CHAT) == 0
    assert value(metrics, "dyno_cached_tokens_total", **CHAT) == 0
    assert list(openmetrics_families(metrics.render("application/openmetrics-text")[0].decode()))  # type: ignore[no-untyped-call]


def test_openmetrics_is_the_clients() -> None:
    """The content type comes from the library, so that it changes with the library."""
    assert Metrics("0.1.0").render("application/openmetrics-text")[1] == openmetrics.exposition.CONTENT_TYPE_LATEST
