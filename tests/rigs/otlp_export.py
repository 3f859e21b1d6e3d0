"""The export of a spans folder in the test's process, as the variables in its environment configure it."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan

from dyno_proxy.exchange.record import Record
from dyno_proxy.export.delivery import Answer, Delivery
from dyno_proxy.export.exporter import Exporter, Limits
from dyno_proxy.export.http_endpoint import HttpEndpoint
from dyno_proxy.export.spans import Spans
from dyno_proxy.file_modes import PRIVATE
from dyno_proxy.metrics.otlp_figures import STATE, Figures, read_figures
from dyno_proxy.telemetry.journal import JournalExporter
from dyno_proxy.telemetry.otlp_settings import GRPC, otlp_settings
from rigs.records import record


def exporters_of(spans: Path) -> list[int]:
    """Process ids of the exporters of this spans folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if b"send-otlp" in words and os.fsencode(spans) in words:
            found.append(int(entry.name))
    return found


class ExportRig:
    """An exporter of a folder. Rows of every age are sent, unless `keep_s` is given."""

    def __init__(self, folder: Path, *, from_us: int = 0, keep_s: float | None = None, **limits: Any) -> None:
        self.folder = folder
        settings = otlp_settings(os.environ)
        if settings.protocol == GRPC:
            from dyno_proxy.export.grpc_endpoint import GrpcEndpoint

            self._send = GrpcEndpoint(settings.certificates).send
        else:
            self._send = HttpEndpoint().send
        self.answers: list[Answer] = []
        chosen = {"batch": settings.batch, "waiting": settings.waiting, "delay_s": settings.delay_s, "keep_s": keep_s}
        self.exporter = Exporter(
            folder,
            Spans("0.1.0", settings.environ),
            Delivery(self._heard).deliver,
            Limits(**chosen | limits),
            from_us=from_us,
            access=PRIVATE,
            where=settings.url,
        )

    def send(self) -> "ExportRig":
        """Send what there is, once: as at the end of a proxy."""
        while self.exporter.round(final=True):
            pass
        return self

    @property
    def figures(self) -> Figures:
        return read_figures(self.folder / STATE)

    def _heard(self, spans: Sequence[ReadableSpan]) -> Answer:
        self.answers.append(self._send(spans))
        return self.answers[-1]


class Writer:
    """A writer of journals, as a proxy's telemetry is one."""

    def __init__(self, folder: Path, **options: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.journal = JournalExporter(
            folder, written=lambda _count: None, dropped=lambda _reason, _count: None, **options
        )

    def put(self, *sources: Record) -> None:
        for source in sources:
            seq = self.journal.next_seq()
            line = self.journal.line(source, seq)
            assert line is not None
            self.journal.write(line, seq, 1)


def numbered(count: int, first: int = 1) -> list[Record]:
    return [record(span_id=number) for number in range(first, first + count)]


def ids(spans: list[Span]) -> list[int]:
    return [int.from_bytes(span.span_id) for span in spans]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our own lines; the SDK's are switched off in the exporter's process."""
    return [
        entry.getMessage()
        for entry in caplog.records
        if entry.levelno >= logging.WARNING and entry.name.startswith("dyno_proxy")
    ]
