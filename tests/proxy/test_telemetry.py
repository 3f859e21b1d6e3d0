"""telemetry.py: every loss is counted, no fault affects traffic, and OTLP gets the spans that the sampler chooses."""

import asyncio
import logging
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # it ships none
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from dyno_proxy.attributes import SCHEMA_URL, SCOPE_NAME
from dyno_proxy.exchange.record import Record
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.telemetry.journal import SetupError
from dyno_proxy.telemetry.telemetry import QUEUE_BYTES, Telemetry
from rigs.journal_rows import stored
from rigs.records import record
from rigs.until import until_in_thread

WAIT_S: Final = 60.0


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_… variables of the person who runs the tests are removed, and OTLP's batches don't wait for five seconds."""
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for name in ("SERVICE_NAME", "RESOURCE_ATTRIBUTES", "TRACES_SAMPLER", "TRACES_SAMPLER_ARG", "SDK_DISABLED"):
        monkeypatch.delenv(f"OTEL_{name}", raising=False)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


class Rig:
    """Telemetry that writes into a folder."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.metrics = Metrics("0.1.0")
        self.telemetry = Telemetry(folder, self.metrics, "0.1.0", **options)

    def put(self, *sources: Record) -> None:
        for source in sources:
            self.telemetry.started(source.endpoint)
            self.telemetry.record(source)

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def dropped(self, reason: str) -> float:
        return self.value("dyno_spans_dropped_total", reason=reason)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(folder: Path = tmp_path / "spans", **options: Any) -> Rig:
        made.append(Rig(folder, **options))
        return made[-1]

    yield make
    for each in made:
        each.telemetry.close(1.0)


# The journal


def test_what_is_recorded_is_on_disk_within_a_quarter_second(rig: Callable[..., Rig]) -> None:
    """A span is on disk in time without a flush or an end: a kill loses no more than this (a busy machine gets
    longer)."""
    each = rig()
    started_s = time.monotonic()
    each.put(record())
    until_in_thread(lambda: list(each.folder.glob("*.jsonl")), "a journal")
    assert time.monotonic() - started_s < 5.0
    each.telemetry.flush(WAIT_S)
    assert len(stored(each.folder)) == 1


def test_flush_and_close_put_everything_on_disk(rig: Callable[..., Rig]) -> None:
    """More records than one write takes are written in order, each once. A second close is no error."""
    each = rig()
    each.put(*(record(span_id=number) for number in range(1, 2501)))
    assert each.telemetry.flush(WAIT_S)
    assert [row["seq"] for row in stored(each.folder)] == list(range(1, 2501))
    each.put(record(span_id=2501))
    assert each.telemetry.close(WAIT_S)
    assert each.telemetry.close(WAIT_S)
    assert [int(row["span_id"], 16) for row in stored(each.folder)] == list(range(1, 2502))
    assert each.value("dyno_spans_written_total") == 2501
    assert each.value("dyno_ttft_seconds_count", endpoint="metis", model="gpt-oss-120b", operation="chat") == 2501


@pytest.mark.parametrize("sampled", [None, False, True])
def test_every_request_has_a_row_whatever_its_flag(rig: Callable[..., Rig], *, sampled: bool | None) -> None:
    """Span files hold every request, also under a traceparent whose sampled flag is 0."""
    each = rig()
    each.put(record(sampled=sampled, parent_span_id=None if sampled is None else 7))
    assert each.telemetry.close(WAIT_S)
    assert len(stored(each.folder)) == 1


def test_counters_are_right_at_once(rig: Callable[..., Rig]) -> None:
    """The counters that must be right at once don't wait for the thread."""
    each = rig()
    each.telemetry.started("metis")
    assert each.value("dyno_active_requests", endpoint="metis") == 1
    each.telemetry.record(record())
    assert each.value("dyno_active_requests", endpoint="metis") == 0
    labels = {"endpoint": "metis", "model": "gpt-oss-120b", "operation": "chat", "outcome": "ok"}
    assert each.value("dyno_requests_total", **labels) == 1


def test_the_journals_lag(rig: Callable[..., Rig]) -> None:
    """The journal's lag is the age of the oldest record that isn't on disk yet, and 0 once all are."""
    each = rig()
    assert each.telemetry.lag_s() == 0.0
    ages_s = []
    for number in range(1, 6):  # the thread's next look, up to 200 ms away, may come at once now and then
        before_s = time.monotonic()
        each.put(record(span_id=number))
        time.sleep(0.02)
        each.put(record(span_id=100 + number))
        lag_s = each.telemetry.lag_s()
        assert lag_s <= time.monotonic() - before_s
        ages_s.append(lag_s)
        assert each.telemetry.flush(WAIT_S)
        assert each.telemetry.lag_s() == 0.0
    assert max(ages_s) >= 0.02


def test_a_full_queue_drops_and_counts(rig: Callable[..., Rig]) -> None:
    """If records come faster than they are written, memory is bounded, `record` doesn't wait, and written + dropped =
    recorded."""
    each = rig(queue_records=10)
    each.put(*(record(span_id=number) for number in range(1, 1001)))
    assert each.telemetry.flush(WAIT_S)
    dropped = each.dropped("queue_full")
    assert 0 < dropped <= 990
    each.put(record(span_id=5000))  # there is room again
    assert each.telemetry.close(WAIT_S)
    assert each.dropped("queue_full") == dropped
    assert each.value("dyno_spans_written_total") == 1001 - dropped == len(stored(each.folder))
    labels = {"endpoint": "metis", "model": "gpt-oss-120b", "operation": "chat", "outcome": "ok"}
    assert each.value("dyno_requests_total", **labels) == 1001


def test_chunk_times_count_against_the_queue(rig: Callable[..., Rig]) -> None:
    """A few endless streams can't fill the memory either. A single one is always taken."""
    each, chunks = rig(), QUEUE_BYTES // 40
    each.put(*(record(span_id=number, chunk_offsets_us=(5,) * chunks) for number in (1, 2)))
    assert each.telemetry.close(WAIT_S)
    assert each.dropped("queue_full") == 1
    assert [row["chunk_count"] for row in stored(each.folder)] == [chunks]


def test_after_the_end_records_are_counted_drops(rig: Callable[..., Rig]) -> None:
    """A request that ends after the drain is counted as lost."""
    each = rig()
    each.telemetry.close(WAIT_S)
    each.put(record())
    assert each.dropped("closed") == 1
    assert each.value("dyno_active_requests", endpoint="metis") == 0


def test_an_exception_stays_inside(rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture) -> None:
    """If a record raises an exception, only it is lost, and counted.

    The caller sees nothing, and the thread goes on.
    """
    each = rig()
    unforeseen = [record(baggage=None), record(chunk_offsets_us=None), record(status=object())]
    each.put(record(span_id=1), *unforeseen, *unforeseen, record(span_id=2))
    each.telemetry.flush(WAIT_S)
    each.put(record(span_id=3))
    assert each.telemetry.close(WAIT_S)
    assert [int(row["span_id"], 16) for row in stored(each.folder)] == [1, 2, 3]
    lost = sum(map(each.dropped, ("internal_error", "not_storable")))
    assert lost == 6
    assert each.value("dyno_spans_written_total") == 3
    assert each.value("dyno_requests_started_total", endpoint="metis") == 9
    assert "telemetry failed" in caplog.text


def test_a_disk_fault_is_counted(rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture) -> None:
    """If the folder becomes a file while the proxy runs, spans are dropped with one line in the log.

    Later they are written.
    """
    each = rig()
    shutil.rmtree(each.folder)
    each.folder.touch()
    each.put(record(span_id=1))
    each.telemetry.flush(WAIT_S)
    each.put(record(span_id=2))
    each.telemetry.flush(WAIT_S)
    assert each.dropped("disk") == 2
    assert [entry.levelno for entry in caplog.records] == [logging.ERROR]
    each.folder.unlink()
    each.put(record(span_id=3))
    assert each.telemetry.close(WAIT_S)
    assert [int(row["span_id"], 16) for row in stored(each.folder)] == [3]


def test_a_folder_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    """The fault is found before any traffic, and no thread is left behind."""
    (tmp_path / "spans").touch()
    threads = threading.active_count()
    with pytest.raises(SetupError, match="is a file"):
        Telemetry(tmp_path / "spans", Metrics("0"), "0")
    assert threading.active_count() == threads


def test_the_thread_gives_way(rig: Callable[..., Rig]) -> None:
    """While thousands of spans are built, another thread that needs the GIL gets it soon, not only after 5 ms.

    Beside a thread that never yields it would wait for 5 ms. Both are measured in turns, as a busy machine slows both.
    """
    each = rig()

    def work() -> None:
        end_s = time.monotonic() + 0.3
        while time.monotonic() < end_s:
            pass

    beside_telemetry_s, beside_work_s = [], []
    for _ in range(3):  # other programs of the machine may spoil one round
        each.put(*(record(span_id=number) for number in range(1, 5001)))
        beside_telemetry_s.append(wait_beside(lambda: each.telemetry.flush(WAIT_S)))
        beside_work_s.append(wait_beside(work))
    assert each.value("dyno_spans_written_total") == 15_000
    assert min(beside_telemetry_s) < 0.6 * min(beside_work_s)


def wait_beside(work: Callable[[], object]) -> float:
    """The median time for which this thread waits for the GIL while another one works."""
    working = threading.Thread(target=work)
    working.start()
    waits_s = []
    while working.is_alive():
        before_s = time.perf_counter()
        time.sleep(0.0005)
        waits_s.append(time.perf_counter() - before_s - 0.0005)
    return statistics.median(waits_s)


def test_record_is_cheap(rig: Callable[..., Rig]) -> None:
    """`record` runs on the event loop after each request, and takes some 10 µs of CPU (the limit here is for a slow
    machine)."""
    each = rig()
    sources = [record(span_id=number) for number in range(1, 5001)]
    best_s = min(timed(each.telemetry.record, sources[first : first + 500]) for first in range(0, 5000, 500))
    assert best_s < 60e-6


def timed(call: Callable[[Record], None], sources: list[Record]) -> float:
    started_s = time.thread_time()
    for source in sources:
        call(source)
    return (time.thread_time() - started_s) / len(sources)


# OTLP


class Receiver:
    """A real OTLP receiver, and the decoded messages that reached it."""

    def __init__(self) -> None:
        self.resources: list[ResourceSpans] = []
        self.url = ""

    def take(self, body: bytes) -> None:
        self.resources += ExportTraceServiceRequest.FromString(body).resource_spans

    def spans(self) -> list[Span]:
        return [span for each in self.resources for scope in each.scope_spans for span in scope.spans]


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """Listens for OTLP over HTTP, and sets OTEL_EXPORTER_OTLP_ENDPOINT to its address."""
    each = Receiver()

    async def traces(request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        each.take(await request.read())
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async with serving(traces) as each.url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", each.url)
        yield each


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/traces", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_otlp_gets_the_span(rig: Callable[..., Rig], receiver: Receiver) -> None:
    """The span decoded from protobuf agrees with the journal's row: ids, kind, times, attributes, resource, scope,
    schema."""
    each = rig()
    each.put(record(), record(span_id=2, outcome="http_error", error_type="500", status=500, tracestate="a=1"))
    assert await asyncio.to_thread(each.telemetry.close, WAIT_S)
    assert len(stored(each.folder)) == 2
    span, failed = receiver.spans()
    assert span.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert span.span_id.hex() == "b7ad6b7169203331"
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert span.name == "chat gpt-oss-120b"
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (
        1_795_557_540_000_001_000,
        1_795_557_540_300_501_000,
    )
    attributes = {attribute.key: attribute.value for attribute in span.attributes}
    assert attributes["gen_ai.response.time_to_first_chunk"].double_value == 0.1995
    assert attributes["gen_ai.usage.output_tokens"].int_value == 6
    assert [item.int_value for item in attributes["dyno.chunk.offsets_us"].array_value.values] == [
        *(200_000, 220_000, 240_000, 260_000, 280_000)
    ]
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert failed.trace_state == "a=1"
    (resource,) = {each.resource.SerializeToString(): each for each in receiver.resources}.values()
    named = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert (named["service.name"], named["service.version"]) == ("dyno-proxy", "0.1.0")
    scope = resource.scope_spans[0]
    assert (scope.scope.name, scope.scope.version, scope.schema_url) == (SCOPE_NAME, "0.1.0", SCHEMA_URL)


@pytest.mark.parametrize(
    ("sampler", "argument", "sent"),
    [
        (None, None, {"root", "sampled"}),  # parentbased_always_on, the SDK's default
        ("parentbased_always_on", None, {"root", "sampled"}),
        ("always_on", None, {"root", "sampled", "not sampled"}),
        ("always_off", None, set()),
        ("parentbased_always_off", None, {"sampled"}),
        ("traceidratio", "0", set()),
        ("parentbased_traceidratio", "0", {"sampled"}),
        ("parentbased_traceidratio", "1", {"root", "sampled"}),
    ],
)
async def test_the_sampler_decides_what_otlp_gets(
    rig: Callable[..., Rig],
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str | None,
    argument: str | None,
    sent: set[str],
) -> None:
    """OTEL_TRACES_SAMPLER works as in the SDK. The journal has all spans, whatever it says."""
    for name, value in (("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)):
        if value is not None:
            monkeypatch.setenv(name, value)
    each = rig()
    each.put(
        record(response_id="root", parent_span_id=None, sampled=None),
        record(response_id="sampled", sampled=True),
        record(response_id="not sampled", sampled=False),
    )
    assert await asyncio.to_thread(each.telemetry.close, WAIT_S)
    received = {
        attribute.value.string_value
        for span in receiver.spans()
        for attribute in span.attributes
        if attribute.key == "gen_ai.response.id"
    }
    assert received == sent
    assert len(stored(each.folder)) == 3


async def test_a_mended_value_costs_no_batch(rig: Callable[..., Rig], receiver: Receiver) -> None:
    """Protobuf can hold neither 10**30 nor a lone surrogate. A span with such a value still arrives with the others."""
    each = rig()
    each.put(record(span_id=1), record(span_id=2, seed=10**30, model="\ud800"), record(span_id=3))
    assert await asyncio.to_thread(each.telemetry.close, WAIT_S)
    assert len(receiver.spans()) == 3
    assert each.dropped("otlp_failed") == 0


async def test_the_services_name_is_the_users(
    rig: Callable[..., Rig], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override our defaults."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=9,deployment.environment.name=test")
    each = rig()
    each.put(record())
    assert await asyncio.to_thread(each.telemetry.close, WAIT_S)
    named = {attribute.key: attribute.value.string_value for attribute in receiver.resources[0].resource.attributes}
    assert named["service.name"] == "theirs"
    assert named["service.version"] == "9"
    assert named["deployment.environment.name"] == "test"


def test_otlp_over_grpc(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_EXPORTER_OTLP_PROTOCOL=grpc, spans reach a real gRPC server."""
    receiver = Receiver()

    class Service(TraceServiceServicer):
        def Export(  # noqa: N802  # gRPC's name
            self, request: ExportTraceServiceRequest, _context: grpc.ServicerContext
        ) -> ExportTraceServiceResponse:
            receiver.resources += request.resource_spans
            return ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(Service(), server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        each = rig()
        each.put(record(span_id=1), record(span_id=2, sampled=False))
        assert each.telemetry.close(WAIT_S)
        assert [span.span_id for span in receiver.spans()] == [(1).to_bytes(8, "big")]
    finally:
        server.stop(None).wait()


async def test_a_collector_that_refuses_is_counted(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that OTLP loses are counted as OTLP's drops. The journal has them."""

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=400)

    async with serving(refuse) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        each = rig()
        each.put(record(), record())
        assert await asyncio.to_thread(each.telemetry.close, WAIT_S)
    assert each.dropped("otlp_failed") == 2
    assert each.value("dyno_spans_written_total") == 2


async def test_a_stalled_collector_holds_nothing_up(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the collector never answers, the journal is written, OTLP's queue is bounded, its drops count, the end is in
    time."""

    async def stall(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
    async with serving(stall) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        each = rig()
        each.put(*(record(span_id=number) for number in range(1, 101)))
        assert await asyncio.to_thread(each.telemetry.flush, WAIT_S)
        assert len(stored(each.folder)) == 100
        assert each.dropped("otlp_queue_full") == 80
        before_s = time.monotonic()
        assert not await asyncio.to_thread(each.telemetry.close, 0.5)
        assert time.monotonic() - before_s < 5.0
    assert each.dropped("otlp_queue_full") + each.dropped("otlp_failed") == 100


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/json",
            "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' is not supported; use http/protobuf or grpc",
        ),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many", "OTEL_BSP_MAX_QUEUE_SIZE: 'many' is not a positive number of spans"),
    ],
)
def test_a_bad_otlp_setting_is_an_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """The fault is one line that names the variable."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError) as raised:
        Telemetry(tmp_path, Metrics("0"), "0")
    assert str(raised.value) == message


@pytest.mark.parametrize("off", [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
async def test_otlp_can_be_switched_off(
    rig: Callable[..., Rig], receiver: Receiver, monkeypatch: pytest.MonkeyPatch, off: tuple[str, str]
) -> None:
    """The SDK's own variables switch OTLP off. The journal is still written."""
    monkeypatch.setenv(*off)
    each = rig()
    each.put(record())
    assert await asyncio.to_thread(each.telemetry.close, WAIT_S)
    assert receiver.spans() == []
    assert len(stored(each.folder)) == 1


def test_exporters_are_imported_only_where_configured() -> None:
    """Without OTLP its exporters aren't imported. Their import takes longer than the rest of the proxy's start."""
    program = (
        "import sys, dyno_proxy.telemetry.telemetry\n"
        "print([name for name in sys.modules if 'exporter' in name or name in ('grpc', 'requests', 'duckdb')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
