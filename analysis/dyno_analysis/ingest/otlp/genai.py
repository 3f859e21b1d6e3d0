"""A span of a request to a model as a row of the span files: our own, or others' by the GenAI conventions. Pure.

Our own spans come back as they were stored. An attribute of others' spans goes into the column for it, whatever the
name that its version of the conventions has; the rest stays in the map `attributes` under its own name. The names were
read in the senders' sources: OpenLLMetry (opentelemetry-instrumentation-openai 0.40 and 0.62), OpenLIT 1.45, Envoy AI
Gateway (OpenInference, and the GenAI conventions), LiteLLM, vLLM (`llm_request`).
"""

import hashlib
import json
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from dyno_analysis.ingest.failures import NO_NAME, failure
from dyno_analysis.spans.columns import ATTRIBUTE_COLUMNS, attribute_text, fitted

from .requests import is_request, operation_of
from .span import ERROR, OtlpSpan

Row = dict[str, Any]

# For each column, names other than that of the conventions 1.41. The first one that a span has counts.
_OTHER_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "provider": ("gen_ai.system", "llm.provider", "llm.system"),
    "model": ("llm.request.model", "llm.model_name", "embedding.model_name"),
    "finish_reasons": ("gen_ai.response.finish_reason", "llm.response.finish_reason"),
    "input_tokens": ("gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens", "llm.token_count.prompt"),
    "output_tokens": ("gen_ai.usage.completion_tokens", "llm.usage.completion_tokens", "llm.token_count.completion"),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    "cached_tokens": (
        "gen_ai.usage.cache_read_input_tokens",
        "llm.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "method": ("http.method",),
    "status": ("http.status_code",),
    "path": ("http.target",),
}
_TRUTHS: Final = {"true": True, "false": False}
_ASKED_TO_STREAM: Final = (
    "gen_ai.request.stream",
    "gen_ai.request.streaming",
    "gen_ai.request.is_stream",
    "gen_ai.is_streaming",
    "llm.is_streaming",
)
# Seconds from the request's start to the first token, measured by the client that wrote the span.
_CLIENTS_TTFT: Final = ("gen_ai.response.time_to_first_token", "gen_ai.server.time_to_first_token")
_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
_CHUNK_EVENTS: Final = frozenset(
    ("gen_ai.content.completion.chunk", "llm.content.completion.chunk", "First Token Stream Event")
)
# vLLM's own times in seconds. They stay in the attributes too, since collected spans, which aren't mapped to columns,
# have them there.
_ENGINES_TIMES: Final = {
    "server_ttft_s": "gen_ai.latency.time_to_first_token",
    "server_latency_s": "gen_ai.latency.e2e",
    "server_queue_s": "gen_ai.latency.time_in_queue",
}
_URLS: Final = ("url.full", "http.url", "gen_ai.openai.api_base")
_FINISH_REASON: Final = re.compile(r"gen_ai\.completion\.(\d+)\.finish_reason")
# Attributes that are dropped: headers contain keys and tokens, and queries may.
_SECRET: Final = re.compile(r".*\bheaders?\b.*|url\.query")


def genai_row(span: OtlpSpan, endpoint: str | None = None) -> Row | None:
    """The span's row, without `seq`; None if the span isn't a request to a model.

    `endpoint`, if given, is the endpoint's name in rows of others' spans. Raises ValueError for a span without a start.
    """
    if not span.start_ns:
        raise ValueError("it has no start")
    own = "dyno.outcome" in span.attributes
    if not own and not is_request(span):
        return None
    trace_id, span_id = _ids(span)
    row: Row = {
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_span_id": span.parent_span_id or None,
        "name": span.name,
        "kind": span.kind,
        "started_at_us": span.start_ns // 1000,
        "duration_us": (span.end_ns - span.start_ns) // 1000 if span.end_ns >= span.start_ns else None,
    }
    rest = {name: value for name, value in span.attributes.items() if value is not None}
    if own:
        if "dyno.event.first_event_us" in rest:
            rest.pop(_FIRST_CHUNK, None)  # the same moment, in seconds
        if "dyno.path" in rest:
            rest["dyno.endpoint.path"] = rest.get("url.path")
            rest["url.path"] = rest.pop("dyno.path")  # the path at the proxy
        if rest.get("dyno.usage.source") == "chunks" and "dyno.chunk.count" in rest:
            rest.setdefault("gen_ai.usage.output_tokens", rest["dyno.chunk.count"])
    else:
        _translate(span, rest, row, endpoint)
    for name, column, kind in ATTRIBUTE_COLUMNS:
        value = fitted(column, rest.get(name) if own else _plain(rest.get(name), kind))
        if value is not None:
            del rest[name]
            row[column] = value
    if not own:
        row["streamed"] = _streamed(row, rest, span)
        if row["streamed"]:
            _stream_times(row, rest, span)
        _hide(rest)
    row["attributes"] = {name: attribute_text(value) for name, value in rest.items()}
    return row


def _plain(value: object, kind: str) -> object:
    """A count that is written as a text or with a decimal point, as a number."""
    if kind != "int":
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.partition(".")[0])
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _ids(span: OtlpSpan) -> tuple[str, str]:
    """The span's ids; if it has none, ids made from its content."""
    if span.trace_id and span.span_id:
        return span.trace_id, span.span_id
    said = [span.name, span.start_ns, span.end_ns, dict(span.attributes)]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
    return span.trace_id or digest[:32], span.span_id or digest[32:48]


def _translate(span: OtlpSpan, rest: MutableMapping[str, object], row: Row, endpoint: str | None) -> None:
    """Rename others' attributes in `rest` to the names of `ATTRIBUTE_COLUMNS`; put computed values into `row`."""
    for column, canonical, names in _RENAMED:
        for name in names:
            if canonical not in rest and fitted(column, _plain(rest.get(name), _KINDS[column])) is not None:
                rest[canonical] = rest.pop(name)
    operation = rest.get("gen_ai.operation.name") or rest.pop("llm.request.type", None)
    operation = operation_of(span, operation)
    if isinstance(operation, str):
        rest["gen_ai.operation.name"] = operation
    _finish_reasons(rest)
    for column, name in _ENGINES_TIMES.items():
        row[column] = fitted(column, rest.get(name))
    if isinstance(path := rest.get("url.path"), str):
        rest["url.path"] = path.partition("?")[0]
    row["endpoint"] = endpoint or _endpoint(span)
    _outcome(span, rest, row)
    for name in ("service.name", "service.version"):
        if span.resource.get(name) is not None:
            rest.setdefault(name, span.resource[name])
    if span.scope:
        rest.setdefault("otel.scope.name", span.scope)


def _finish_reasons(rest: MutableMapping[str, object]) -> None:
    name = "gen_ai.response.finish_reasons"
    if name in rest:
        if isinstance(one := rest[name], str):
            rest[name] = _listed(one)
        if not rest[name]:
            del rest[name]
        return
    found = {int(match.group(1)): key for key in rest if (match := _FINISH_REASON.fullmatch(key))}
    if found:
        rest[name] = [str(rest.pop(found[index])) for index in sorted(found)]


def _listed(text: str) -> list[str]:
    """The reasons in a text: one, or a list of them as JSON or Python writes it (LiteLLM)."""
    if not text.lstrip().startswith(("[", "(")):
        return [text] if text.strip() else []
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):
        return [reason for reason in _IN_QUOTES.findall(text) if reason] or [text]
    return [str(reason) for reason in listed if reason not in (None, "")] if isinstance(listed, list) else [text]


def _endpoint(span: OtlpSpan) -> str | None:
    """Where the request went, as the span says: host and port. For an engine's own span it is the engine's name."""
    attributes = span.attributes
    host, port = attributes.get("server.address"), attributes.get("server.port")
    if not isinstance(host, str):
        for name in _URLS:
            if isinstance(url := attributes.get(name), str) and (found := host_and_port(url)):
                return found
        service = span.resource.get("service.name")
        return service if span.kind == "SERVER" and isinstance(service, str) else None
    return f"{host}:{port}" if isinstance(port, int) and port not in (80, 443) else host


def host_and_port(url: str) -> str | None:
    """`host:port` of a URL, without the ports 80 and 443; None if it isn't a URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return f"{host}:{port}" if host and port not in (None, 80, 443) else host


def _outcome(span: OtlpSpan, rest: MutableMapping[str, object], row: Row) -> None:
    status = fitted("status", rest.get("http.response.status_code"))
    error_type = rest.get("error.type")
    failed = span.status_code == ERROR or error_type is not None or (isinstance(status, int) and status >= 400)
    if not failed:
        row["outcome"] = "ok"
        return
    exceptions = [event.attributes for event in span.events if event.name == "exception"]
    messages = [span.status_message, *(str(said.get("exception.message") or "") for said in exceptions)]
    names = [str(error_type or ""), *(str(said.get("exception.type") or "") for said in exceptions)]
    known = status if isinstance(status, int) else None
    # A message may contain the status. If none does, the error's name says what kind it is.
    tried = [failure(text, known) for text in (*messages, *names) if text] or [failure("", known)]
    outcome, named, status = next((found for found in tried if found[1] != NO_NAME), tried[0])
    row["outcome"] = outcome
    if status is not None:
        rest["http.response.status_code"] = status
    if not isinstance(error_type, str):
        rest["error.type"] = next((name for name in names if name), named)


def _streamed(row: Row, rest: Mapping[str, object], span: OtlpSpan) -> bool | None:
    """Whether the answer was streamed; None if that isn't known.

    It was if a chunk came, or if a stream was asked for and the request didn't fail.
    """
    if any(event.name in _CHUNK_EVENTS for event in span.events):
        return True
    said = (_truth(rest.get(name)) for name in _ASKED_TO_STREAM)
    asked = next((each for each in said if each is not None), None)
    if asked is None:
        # OpenInference has the request's parameters as JSON.
        try:
            parameters = json.loads(str(rest.get("llm.invocation_parameters", "")))
        except ValueError:
            return None
        asked = _truth(parameters.get("stream", False)) if isinstance(parameters, dict) else None
    if row["outcome"] == "ok":
        return asked
    return False if asked is False else None


def _truth(value: object) -> bool | None:
    """A truth value, also as the text that LiteLLM writes for it; None for anything else."""
    return value if isinstance(value, bool) else _TRUTHS.get(value.strip().lower()) if isinstance(value, str) else None


def _stream_times(row: Row, rest: MutableMapping[str, object], span: OtlpSpan) -> None:
    """Put the times of the first chunk and token into `row`, by the clock of the span's writer."""
    if isinstance(seconds := fitted("server_ttft_s", rest.get(_FIRST_CHUNK)), int | float):
        del rest[_FIRST_CHUNK]
        row["first_event_us"] = round(seconds * 1e6)
    elif chunks := [event.time_ns for event in span.events if event.name in _CHUNK_EVENTS]:
        row["first_event_us"] = max(0, (min(chunks) - span.start_ns) // 1000)
    for name in _CLIENTS_TTFT:
        if isinstance(seconds := fitted("server_ttft_s", rest.get(name)), int | float):
            row["first_token_us"] = round(seconds * 1e6)
            break


def _hide(rest: MutableMapping[str, object]) -> None:
    for name in [name for name in rest if _SECRET.fullmatch(name)]:
        del rest[name]
    for name in _URLS:
        if isinstance(url := rest.get(name), str):
            rest[name] = url.partition("?")[0]


_IN_QUOTES: Final = re.compile(r"['\"]([^'\"]*)['\"]")
_WHOLE: Final = re.compile(r"-?\d{1,18}(?:\.0*)?", re.ASCII)
_CANONICAL: Final = {column: name for name, column, _ in ATTRIBUTE_COLUMNS}
_KINDS: Final = {column: kind for _, column, kind in ATTRIBUTE_COLUMNS}
_RENAMED: Final = tuple((column, _CANONICAL[column], names) for column, names in _OTHER_NAMES.items())
