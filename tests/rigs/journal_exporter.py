"""An exporter of journals on a folder, in the test's own process, and what it reported about its spans."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from dyno_proxy.exchange.record import Record
from dyno_proxy.telemetry.journal import JournalExporter
from dyno_proxy.telemetry.span import record_span, scope

RESOURCE: Final = Resource({})
SCOPE: Final = scope("0.1.0")


class Journal:
    """An exporter that writes to a folder, and what it reported about its spans."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.written = 0
        self.dropped: Counter[str] = Counter()
        self.exporter = JournalExporter(folder, written=self._write, dropped=self._drop, **options)

    def _write(self, count: int) -> None:
        self.written += count

    def _drop(self, reason: str, count: int) -> None:
        self.dropped[reason] += count

    def put(self, *sources: Record) -> SpanExportResult:
        return self.exporter.export([span_of(source) for source in sources])

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl"))


def span_of(source: Record) -> ReadableSpan:
    return record_span(source, resource=RESOURCE, scope=SCOPE, sampled=False)
