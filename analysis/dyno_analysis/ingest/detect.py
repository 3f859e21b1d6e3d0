"""Recognises a file to import by its content, and turns it into runs, a stream of rows, or training runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyno_analysis.errors import InputError

from .formats.cerebras_training import TrainingLog
from .formats.guidellm import ingest_guidellm, is_guidellm
from .formats.published_results import ingest, is_results
from .formats.vllm_bench import KIND as VLLM_BENCH
from .formats.vllm_bench import ingest_vllm_bench, is_vllm_bench
from .otlp.rows import OtlpRows
from .run import Ingested
from .source import Source, is_otlp

KINDS = (
    "OTLP spans (JSON lines, or the Collector's length-prefixed messages), results of the published shape, "
    "results of vllm bench serve, GuideLLM reports, Cerebras training logs"
)


@dataclass(frozen=True)
class Recognised:
    """A file whose kind is known. Exactly one of `runs`, `otlp` and `training` is set."""

    path: Path
    runs: tuple[Ingested, ...] = ()
    otlp: bool = False
    training: TrainingLog | None = None
    document: bytes | None = None  # the content, if the file is OTLP as one JSON document over many lines
    endpoint: str | None = None

    @contextmanager
    def rows(self) -> Iterator[OtlpRows]:
        """The rows of a file of OTLP spans. The file is read while they are iterated over."""
        with Source(self.path) as source:
            yield OtlpRows(source, self.document, self.endpoint)


def recognise(path: Path, endpoint: str | None = None) -> Recognised:
    """The file's kind, with its content unless it is a stream of OTLP spans. InputError if the kind is unknown.

    `endpoint` is the endpoint's name for files that don't name it.
    """
    with Source(path) as source:
        match source.kind():
            case "OTLP JSON lines" | "OTLP messages":
                return Recognised(path, otlp=True, endpoint=endpoint)
            case "JSON":
                return _document(path, source.whole(), endpoint)
            case "text":
                log = _training(source)
                if log.runs():
                    return Recognised(path, training=log)
        if source.cut:
            raise InputError(f"'{path}' is cut off before its kind can be recognised ({source.cut}); copy it again")
    raise unknown(path)


def unknown(path: Path, why: str = "") -> InputError:
    """The error for a file of an unknown kind; it lists the kinds that can be imported."""
    return InputError(f"'{path}' is of no kind that can be imported{why}; these can: {KINDS}")


def _document(path: Path, content: bytes, endpoint: str | None) -> Recognised:
    documents = _documents(path, content)
    if len(documents) == 1:
        document = documents[0][0]
        if not isinstance(document, dict):
            raise unknown(path, " (its JSON isn't an object)")
        if is_otlp(document):
            return Recognised(path, otlp=True, document=content, endpoint=endpoint)
        if is_guidellm(document):
            return _runs(path, ingest_guidellm(document, path, content, endpoint))
        if is_results(document):
            return _runs(path, [ingest(document, path, content)])
    if all(isinstance(document, dict) and is_vllm_bench(document) for document, _ in documents):
        return _runs(path, [ingest_vllm_bench(found, path, text, endpoint) for found, text in documents])
    raise unknown(path, " (no endpoint in it has 'results')" if len(documents) == 1 else "")


def _runs(path: Path, runs: list[Ingested]) -> Recognised:
    """InputError if no run has a single request: nothing could be made of a summary."""
    if not any(run.spans for run in runs):
        kind = runs[0].kind
        mend = "; measure with --save-detailed, which saves each request" if kind == VLLM_BENCH else ""
        raise InputError(f"'{path}' is {kind} without single requests: it has only a summary{mend}")
    return Recognised(path, tuple(runs))


def _documents(path: Path, content: bytes) -> list[tuple[Any, bytes]]:
    """The file's JSON documents with their bytes: one, or one per line as `vllm bench serve --append-result` writes."""
    try:
        try:
            return [(_parsed(content), content)]
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            return [(_parsed(line), line) for line in content.splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' can't be read: it isn't text in UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"'{path}' can't be read: broken JSON at {where}: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"'{path}' can't be read: its JSON is nested too deeply") from error


def _parsed(content: bytes) -> Any:
    document = json.loads(content)
    if b"\\ud" in content.lower():
        # JSON can spell half a surrogate pair but UTF-8 can't hold it, so it becomes a question mark.
        document = json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
    return document


def _training(source: Source) -> TrainingLog:
    log = TrainingLog(source.path.name)
    log.read((piece.where, piece.content.decode("utf-8", "replace"), piece.ended) for piece in source.lines())
    if source.cut:
        log.broken.append(f"its end: {source.cut}: what follows is lost")
    return log
