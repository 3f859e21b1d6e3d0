"""Sends spans by OTLP, where environment variables configure it."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from .journal import SetupError

OTLP_QUEUE_FULL: Final = "otlp_queue_full"
OTLP_FAILED: Final = "otlp_failed"
_OTLP_PROTOCOLS: Final = ("http/protobuf", "grpc")

_log = logging.getLogger(__name__)


class Otlp:
    """Sampled spans to OTLP, by the SDK's exporters, its batch processor and its environment variables.

    When its queue is full, the processor drops spans without counting them. So the spans in it are counted here, and
    the queue is never filled.
    """

    def __init__(self, environ: Mapping[str, str], dropped: Callable[[str, int], None]) -> None:
        """Raises SetupError for a setting that can't be used."""
        name, protocol = "OTEL_EXPORTER_OTLP_PROTOCOL", _OTLP_PROTOCOLS[0]
        for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if environ.get(name):
                protocol = environ[name].strip()
                break
        if protocol not in _OTLP_PROTOCOLS:
            raise SetupError(f"{name}: '{protocol}' is not supported; use {' or '.join(_OTLP_PROTOCOLS)}")
        queue_size = environ.get("OTEL_BSP_MAX_QUEUE_SIZE", "2048")
        if not queue_size.isdecimal() or int(queue_size) == 0:
            raise SetupError(f"OTEL_BSP_MAX_QUEUE_SIZE: '{queue_size}' is not a positive number of spans")
        self._protocol = protocol
        self._queue_size = int(queue_size)
        self._dropped = dropped
        self._handed = 0
        self._exporter: CountedExporter | None = None
        self._processor: BatchSpanProcessor | None = None

    def start(self) -> None:
        """Import and make the exporter. Raises what that raises for its settings; then every span counts as dropped."""
        exporter: SpanExporter
        if self._protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

            exporter = GrpcExporter()
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

            exporter = HttpExporter()
        self._exporter = CountedExporter(exporter, self._dropped)
        self._processor = BatchSpanProcessor(self._exporter, max_queue_size=self._queue_size)

    def take(self, spans: Sequence[ReadableSpan]) -> None:
        """Queue the spans; those that find no room count as dropped."""
        if self._processor is None or self._exporter is None:
            self._dropped(OTLP_FAILED, len(spans))
            return
        for position, span in enumerate(spans):
            if self._handed - self._exporter.done >= self._queue_size:
                self._dropped(OTLP_QUEUE_FULL, len(spans) - position)
                return
            self._handed += 1
            self._processor.on_end(span)

    def close(self, timeout_s: float) -> bool:
        """Send what waits, within the time limit. False where the collector didn't take everything in that time."""
        if self._processor is None or self._exporter is None:
            return True
        # The processor's shutdown has a time limit of its own, 30 s, and no parameter for it.
        closing = threading.Thread(target=self._processor.shutdown, name="dyno-otlp-close", daemon=True)
        closing.start()
        closing.join(max(0.0, timeout_s))
        if not closing.is_alive():
            return True
        waiting = self._handed - self._exporter.give_up()
        _log.error("%d spans were not sent to OTLP within the time limit", waiting)
        self._dropped(OTLP_FAILED, waiting)
        return False


class CountedExporter(SpanExporter):
    """Counts what went through the exporter, and what it lost."""

    def __init__(self, exporter: SpanExporter, dropped: Callable[[str, int], None]) -> None:
        self._exporter = exporter
        self._dropped = dropped
        self._lock = threading.Lock()
        self._given_up = False
        self.done = 0  # spans that are through, sent or lost

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            with self._lock:
                if result is not SpanExportResult.SUCCESS and not self._given_up:
                    self._dropped(OTLP_FAILED, len(spans))
                self.done += len(spans)
        return result

    def give_up(self) -> int:
        """Stop without waiting. Returns how many spans were through; of the others nothing is counted any more."""
        with self._lock:
            self._given_up = True
            done = self.done
        self._exporter.shutdown()
        return done

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def otlp_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment names an OTLP endpoint for traces, and nothing in it switches them off."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return bool(environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
