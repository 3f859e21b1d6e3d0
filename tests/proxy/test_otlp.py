"""otlp.py: OTLP gets the spans that the sampler chooses. A collector that fails only costs spans, which are counted."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from contextlib import asynccontextmanager
from pathlib import Path

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
from dyno_proxy.metrics.metrics import Metrics
from dyno_proxy.telemetry.journal import SetupError
from dyno_proxy.telemetry.telemetry import Telemetry
from rigs.journal_rows import stored
from rigs.records import record
from rigs.telemetry_rig import WAIT_S, TelemetryRig, forget_otel_settings, telemetry_rigs


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_… variables of the person who runs the tests are removed."""
    forget_otel_settings(monkeypatch)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., TelemetryRig]]:
    """Makes telemetry on a folder."""
    with telemetry_rigs(tmp_path / "spans") as make:
        yield make


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


async def test_otlp_gets_the_span(rig: Callable[..., TelemetryRig], receiver: Receiver) -> None:
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
    rig: Callable[..., TelemetryRig],
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


async def test_a_mended_value_costs_no_batch(rig: Callable[..., TelemetryRig], receiver: Receiver) -> None:
    """Protobuf can hold neither 10**30 nor a lone surrogate. A span with such a value still arrives with the others."""
    each = rig()
    each.put(record(span_id=1), record(span_id=2, seed=10**30, model="\ud800"), record(span_id=3))
    assert await asyncio.to_thread(each.telemetry.close, WAIT_S)
    assert len(receiver.spans()) == 3
    assert each.dropped("otlp_failed") == 0


async def test_the_services_name_is_the_users(
    rig: Callable[..., TelemetryRig], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
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


def test_otlp_over_grpc(rig: Callable[..., TelemetryRig], monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_collector_that_refuses_is_counted(
    rig: Callable[..., TelemetryRig], monkeypatch: pytest.MonkeyPatch
) -> None:
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


async def test_a_stalled_collector_holds_nothing_up(
    rig: Callable[..., TelemetryRig], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    rig: Callable[..., TelemetryRig], receiver: Receiver, monkeypatch: pytest.MonkeyPatch, off: tuple[str, str]
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
