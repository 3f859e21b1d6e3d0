"""The rows of an OTLP file, one message after another, and counts of what didn't become a row."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from dyno_analysis.ingest.source import SPANS_OF_TEMPO, Piece, Source, is_otlp

from .genai import Row, genai_row
from .json_spans import json_spans
from .nesting import Said
from .protobuf_spans import protobuf_spans
from .requests import has_usage, names_a_model_only
from .span import OtlpSpan

# How many broken places of a file are named one by one.
BROKEN_SHOWN = 20


@dataclass
class OtlpRows:
    """Iterate over it once; the counts are complete afterwards.

    `broken` has a line for each of the first BROKEN_SHOWN broken places: where it is, and what is wrong. `document` is
    the content of a file that is one JSON document and was read already. `told` hears of every span, row or not, with
    its trace's id, before its row is yielded.
    """

    source: Source
    document: bytes | None = None
    endpoint: str | None = None
    told: Callable[[str, Said], None] = lambda _trace_id, _said: None
    rows: int = 0
    other_spans: int = 0  # spans that aren't requests to a model
    other_signals: int = 0  # messages of metrics or logs
    without_endpoint: int = 0
    broken: list[str] = field(default_factory=list)
    broken_count: int = 0

    def __iter__(self) -> Iterator[Row]:
        self._is_json = self.document is not None or self.source.kind() == "OTLP JSON lines"
        if self.document is not None:
            pieces: Iterator[Piece] = iter([Piece("the document", self.document)])
        else:
            pieces = self.source.lines() if self._is_json else self.source.messages()
        for piece in pieces:
            yield from self._rows(piece)
        if self.source.cut:
            self._report("its end", f"{self.source.cut}: what follows is lost")

    def _rows(self, piece: Piece) -> Iterator[Row]:
        if piece.wrong:
            self._report(piece.where, piece.wrong)
            return
        try:
            for span in _spans(piece.content, self._is_json):
                if isinstance(span, str):
                    self._report(piece.where, span)
                elif span is not None:
                    yield from self._row(piece.where, span)
                else:
                    self.other_signals += 1
        except ValueError as error:
            self._report(piece.where, str(error))

    def _row(self, where: str, span: OtlpSpan) -> Iterator[Row]:
        try:
            row = genai_row(span, self.endpoint)
        except ValueError as error:
            self._report(where, f"span '{span.name[:60]}': {error}")
            return
        self._tell(span, row)
        if row is None:
            self.other_spans += 1
            return
        self.rows += 1
        self.without_endpoint += row.get("endpoint") is None
        row["imported_from"] = self.source.path.name
        yield row

    def _tell(self, span: OtlpSpan, row: Row | None) -> None:
        if row is None:
            if span.trace_id and span.parent_span_id:
                self.told(span.trace_id, Said(span.span_id, span.parent_span_id))
            return
        own = "dyno.outcome" in span.attributes
        said = Said(
            span_id=row["span_id"],
            parent=span.parent_span_id or None,
            request=True,
            settled=own,
            usage=has_usage(span.attributes),
            server=span.kind == "SERVER",
            weak=not own and names_a_model_only(span),
            response=row.get("response_id"),
        )
        self.told(row["trace_id"], said)

    def _report(self, where: str, what: str) -> None:
        self.broken_count += 1
        if len(self.broken) < BROKEN_SHOWN:
            self.broken.append(f"{where}: {what}")


def _spans(content: bytes, is_json: bool) -> Iterator[OtlpSpan | str | None]:
    """A message's spans: a text instead of a broken span, None instead of a message of another signal."""
    # A message that follows its length may be JSON or protobuf.
    if not is_json and not content.startswith(b"{"):
        yield from protobuf_spans(content)
        return
    document = _json(content)
    if not is_otlp(document):
        raise ValueError("it isn't an OTLP message")
    if not {"resourceSpans", *SPANS_OF_TEMPO} & document.keys():
        yield None
    yield from json_spans(document)


def _json(content: bytes) -> Mapping[str, Any]:
    try:
        document: Mapping[str, Any] = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise ValueError(f"broken JSON: {error}") from error
        # orjson refuses half a surrogate pair: JSON can spell it, but UTF-8 can't hold it.
        document = json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
    return document
