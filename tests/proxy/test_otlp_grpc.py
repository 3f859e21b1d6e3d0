"""export/: OTLP over gRPC, and what `/metrics` shows of the export."""

import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # it ships none
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from dyno_proxy.metrics.metrics import Metrics
from rigs.otlp_export import ExportRig, Writer, ids, logged, numbered
from rigs.otlp_receiver import OtlpReceiver, Reply
from rigs.records import record

pytestmark = pytest.mark.usefixtures("no_settings_from_outside")


class GrpcReceiver(TraceServiceServicer):
    """A real gRPC server, that can be told to refuse."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.code: grpc.StatusCode | None = None
        self.rejected = 0

    def Export(  # noqa: N802  # gRPC's name
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        if self.code is not None:
            context.abort(self.code, "it says so")
        self.spans += [s for each in request.resource_spans for scope in each.scope_spans for s in scope.spans]
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = self.rejected
        return answer


@pytest.fixture
def grpc_receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[GrpcReceiver]:
    receiver = GrpcReceiver()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    yield receiver
    server.stop(None).wait()


def test_otlp_over_grpc(tmp_path: Path, grpc_receiver: GrpcReceiver) -> None:
    """With OTEL_EXPORTER_OTLP_PROTOCOL=grpc, spans reach a real gRPC server, and what it rejects is counted."""
    grpc_receiver.rejected = 1
    Writer(tmp_path).put(record(span_id=1), record(span_id=2, sampled=False), record(span_id=3))
    figures = ExportRig(tmp_path).send().figures
    assert ids(grpc_receiver.spans) == [1, 3]
    assert (figures.sent, figures.unsampled, figures.dropped) == (1, 1, {"refused": 1})


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED: it says so; set OTEL_EXPORTER_OTLP_HEADERS"),
        (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED: it says so; is it a receiver of OTLP over gRPC?"),
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE: it says so"),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT: it says so"),
    ],
)
def test_grpc_that_refuses(
    tmp_path: Path,
    grpc_receiver: GrpcReceiver,
    caplog: pytest.LogCaptureFixture,
    code: grpc.StatusCode,
    said: str,
) -> None:
    """As over HTTP: the log says why at once, and nothing is lost."""
    Writer(tmp_path).put(*numbered(3))
    grpc_receiver.code = code
    begun_s = time.monotonic()
    rig = ExportRig(tmp_path).send()
    assert time.monotonic() - begun_s < 20.0
    assert any(said in entry for entry in logged(caplog))
    grpc_receiver.code = None
    rig.send()
    assert ids(grpc_receiver.spans) == [1, 2, 3]


# Metrics


def test_exemplars_name_spans_that_are_exported() -> None:
    """Where spans are exported, a request whose span isn't sampled is no exemplar."""
    metrics = Metrics("0", exported=lambda source: source.sampled is True)
    for number, sampled in ((1, False), (2, True)):
        source = record(trace_id=number, sampled=sampled)
        metrics.started(source.endpoint)
        metrics.finished(source)
        metrics.observe(source)
    text = metrics.render("application/openmetrics-text")[0].decode()
    assert f'trace_id="{2:032x}"' in text
    assert f'trace_id="{1:032x}"' not in text


def test_the_figures_are_shown(tmp_path: Path, receiver: OtlpReceiver) -> None:
    """/metrics shows what was sent, what was dropped, and how long the oldest span has waited."""
    metrics = Metrics("0", otlp_of=tmp_path)

    def value(name: str, **labels: str) -> float:
        return metrics.registry.get_sample_value(name, labels) or 0.0

    assert value("dyno_otlp_spans_sent_total") == value("dyno_otlp_lag_seconds") == 0.0
    Writer(tmp_path).put(*numbered(3))
    receiver.behave = lambda _spans: Reply(503)
    rig = ExportRig(tmp_path).send()
    assert value("dyno_otlp_lag_seconds") > 1.0
    receiver.behave = lambda _spans: Reply(rejected=1)
    rig.send()
    assert value("dyno_otlp_spans_sent_total") == 2
    assert value("dyno_otlp_spans_dropped_total", reason="refused") == 1
    assert value("dyno_otlp_lag_seconds") == 0.0
