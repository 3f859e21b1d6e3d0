"""A trace: a file of a known shape, or a folder of the proxy's span files, as requests in no order."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from dyno_driver.errors import WrongUseError

from .rows import columns_of_csv, prompt_texts, rows
from .shapes import SPANS, SPANS_IN_PARQUET, BadValueError, Request, Row, Shape, known_shapes, request_of, shape_of

_OPERATIONS: Final = ("chat", "text_completion")
_INPUT_MESSAGES: Final = "gen_ai.input.messages"
_NONE: Final = ""
_LONGEST_LIST: Final = 12  # columns that an error names


class Trace:
    """A trace's requests can be read several times. `left_out` says how many rows the last reading left out, by why.

    `endpoint`: only the requests to this endpoint, in span files. `shape` is known after the first row.
    """

    def __init__(self, path: Path, endpoint: str | None = None) -> None:
        self.path, self._endpoint = path, endpoint
        self.shape: Shape | None = None
        self.left_out: Counter[str] = Counter()
        self.endpoints: set[str] = set()
        self._files = self._listed()
        self._run_prompts: dict[str, dict[str, str]] = {}

    def requests(self) -> Iterator[Request]:
        """Each request once. Raises WrongUseError for another shape, or a cell that can't be read."""
        self.left_out.clear()
        seen: set[str] = set()
        number = 0
        for path in self._files:
            shape = None
            for place, row in rows(path):
                number += 1
                shape = shape or self._shape(path, row)
                spans = shape in (SPANS, SPANS_IN_PARQUET)
                why = self._unwanted(row, seen) if spans else None
                if why is not None:
                    self.left_out[why] += 1
                    continue
                try:
                    request = request_of(row, shape, number)
                except BadValueError as error:
                    raise WrongUseError(f"--trace {path}: {place}: {error}; correct the file") from error
                if not request.output_tokens:
                    self.left_out["without an answer"] += 1
                    continue
                yield request._replace(prompt=_captured(row) or self._of_run(row)) if spans else request
            if shape is None and not self.path.is_dir():
                self._shape(path, dict.fromkeys(columns_of_csv(path)))
        del self.left_out[_NONE]

    def first_ns(self) -> int | None:
        """When the trace's first request came, and None if it has none. This reads all of it."""
        return min((request.at_ns for request in self.requests()), default=None)

    def _listed(self) -> list[Path]:
        if not self.path.exists():
            raise WrongUseError(f"--trace {self.path}: no such file or folder; correct the path")
        if not self.path.is_dir():
            if not self.path.is_file():
                raise WrongUseError(f"--trace {self.path}: is neither a file nor a folder; give a trace's path")
            return [self.path]
        # Parquet files first: what a journal still holds of them is then left out.
        files = [
            path
            for kind in ("*.parquet", "*.jsonl")
            for path in sorted(self.path.glob(kind))
            if path.is_file() and path.stat().st_size and not path.name.startswith(("seed-", "."))
        ]
        if not files:
            raise WrongUseError(f"--trace {self.path}: has no span files; give the proxy's spans folder, or a file")
        return files

    def _shape(self, path: Path, row: Row) -> Shape:
        shape = shape_of(map(str, row))
        if shape is None or (self.path.is_dir() and shape not in (SPANS, SPANS_IN_PARQUET)):
            names = [" ".join(str(name).split())[:40] for name in row]
            more = f" and {len(names) - _LONGEST_LIST} more" if len(names) > _LONGEST_LIST else ""
            raise WrongUseError(
                f"--trace {path}: has columns {', '.join(names[:_LONGEST_LIST]) or 'without names'}{more}; known "
                f"shapes: {known_shapes()}"
            )
        if self._endpoint is not None and shape not in (SPANS, SPANS_IN_PARQUET):
            raise WrongUseError(f"--trace-endpoint: {shape.name} has no endpoints; leave it out")
        self.shape = self.shape or shape
        return shape

    def _unwanted(self, row: Row, seen: set[str]) -> str | None:
        """Why a span is no request to be sent again: `_NONE` where it isn't one at all; None if it is one."""
        span_id = str(row.get("span_id"))
        if span_id in seen:
            return _NONE  # a journal and the Parquet file that was made of it
        seen.add(span_id)
        if (endpoint := row.get("endpoint")) is not None:
            self.endpoints.add(str(endpoint))
        if self._endpoint is not None and endpoint != self._endpoint:
            return _NONE
        if row.get("operation") not in _OPERATIONS:
            return "of other operations than chat"
        if row.get("warmup"):
            return "that were warm-ups"
        if row.get("input_tokens") is None or row.get("output_tokens") is None:
            return "without token counts"
        return None

    def _of_run(self, row: Row) -> str | None:
        """The prompt's text, where a run of the driver sent it and the run's files lie in the folder."""
        run_id, prompt_id = row.get("run_id"), row.get("prompt_id")
        if not isinstance(run_id, str) or not isinstance(prompt_id, str):
            return None
        if run_id not in self._run_prompts:
            folder = self.path if self.path.is_dir() else self.path.parent
            # The name comes from a client's header: it must not lead elsewhere.
            inside = bool(run_id) and Path(run_id).name == run_id
            path = folder / "runs" / run_id / "prompts.parquet"
            self._run_prompts[run_id] = prompt_texts(path) if inside and path.is_file() else {}
        return self._run_prompts[run_id].get(prompt_id)


def _captured(row: Row) -> str | None:
    """The prompt's text, where the span holds it (OpenTelemetry's `gen_ai.input.messages`) and it is one message's."""
    attributes = row.get("attributes")
    pairs = dict(attributes) if isinstance(attributes, list) else attributes
    said = pairs.get(_INPUT_MESSAGES) if isinstance(pairs, Mapping) else None
    try:
        messages = json.loads(said) if isinstance(said, str) else None
    except ValueError:
        return None
    if not isinstance(messages, list) or len(messages) != 1:
        return None
    return _text(messages[0])


def _text(message: Any) -> str | None:
    parts = message.get("parts") if isinstance(message, dict) else None
    texts = [part.get("content") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    whole = [each for each in texts if isinstance(each, str)]
    return "".join(whole) if whole and len(whole) == len(texts) else None
