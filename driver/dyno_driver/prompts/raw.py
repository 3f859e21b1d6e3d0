"""Records that are requests by themselves: OpenAI's batch files, and any method, path and body. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from .cells import BrokenRecordError, clean_json, parsed
from .request import CHAT_PATH, COMPLETIONS_PATH, Poll, Request, with_body
from .turns import ROLES, last_question

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PATH: Final = re.compile(r"/[!-~]*")
_FIELD: Final = re.compile(r"\{[!-~]+?\}")
_DOTS: Final = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)
# A model's name belongs into the body of these; elsewhere only in the place of one.
_MODEL_PATHS: Final = frozenset(
    (
        *(CHAT_PATH, COMPLETIONS_PATH, "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/moderations"),
        *("/v1/images/generations", "/v1/audio/speech", "/v1/rerank", "/v1/score"),
    )
)
_READABLE_CHARACTERS: Final = 2_000
_DEFAULT_POLL_S: Final = 0.5


def is_batch(row: Mapping[str, Any]) -> bool:
    """Whether the record is a line of OpenAI's batch files."""
    return row.get("custom_id") is not None or (row.get("url") is not None and row.get("body") is not None)


def is_raw(row: Mapping[str, Any]) -> bool:
    """Whether the record is a request: a path, with a method or a body."""
    return row.get("path") is not None and (row.get("method") is not None or row.get("body") is not None)


def batch_request(row: Mapping[str, Any]) -> Request:
    """The request of a batch file's line. What its body doesn't say, the run's parameters do."""
    missing = next((name for name in ("custom_id", "url", "body") if row.get(name) is None), None)
    if missing is not None:
        raise BrokenRecordError(f"has no '{missing}'; a batch file's line has custom_id, method, url and body")
    body = parsed(row["body"])
    if not isinstance(body, Mapping):
        raise BrokenRecordError("has a 'body' that is no object")
    path = _path(row["url"], "url")
    takes = path in (CHAT_PATH, COMPLETIONS_PATH)
    _check_messages(path, body)
    named = {name: value for name, value in clean_json(body).items() if name != "model"}
    return with_body(named, path=path, method=_method(row), takes_parameters=takes)


def raw_request(row: Mapping[str, Any]) -> Request:
    """A request that is sent as it stands. Only a `model` below /v1/ becomes the endpoint's own."""
    method, path = _method(row), _path(row["path"], "path")
    body, poll = parsed(row.get("body")), _poll(row.get("poll"))
    how: dict[str, Any] = {"path": path, "method": method, "takes_parameters": False, "poll": poll}
    if isinstance(body, Mapping):
        cleaned = clean_json(body)
        route = path.partition("?")[0].rstrip("/")
        names_model = route in _MODEL_PATHS or ("model" in cleaned and route.startswith("/v1/"))
        if names_model:
            cleaned.pop("model", None)
        return with_body(cleaned, names_model=names_model, **how)
    text = b"" if body is None else json.dumps(clean_json(body), ensure_ascii=False).encode()
    return Request(text, None, names_model=False, **how)


def readable_body(request: Request, row: Mapping[str, Any]) -> str:
    """What a person reads of the request: the last user's turn, the text that goes in, or the beginning of its body."""
    own = request.own or {}
    messages = own.get("messages")
    if isinstance(messages, list) and all(isinstance(each, Mapping) and each.get("role") in ROLES for each in messages):
        question = last_question([dict(each) for each in messages])
        if question.strip():
            return question
    for name in ("prompt", "input", "text", "query"):
        value = own.get(name)
        if isinstance(value, str) and value.strip():
            return value
    body = request.content.decode()
    if request.own is not None:
        body = f"{{{body}}}"
    if len(body) > _READABLE_CHARACTERS:
        # The whole is told apart from others that begin alike.
        digest = hashlib.sha256(request.content).hexdigest()[:16]
        body = f"{body[:_READABLE_CHARACTERS]}… [sha256 {digest}]"
    return f"{request.method} {row.get('path') or row.get('url')} {body}".rstrip()


def _check_messages(path: str, body: Mapping[str, Any]) -> None:
    if path == CHAT_PATH and not (isinstance(body.get("messages"), list) and body["messages"]):
        raise BrokenRecordError("has no 'messages' in its body; a chat completion needs at least one")


def _method(row: Mapping[str, Any]) -> str:
    method = str(row.get("method") or ("POST" if row.get("body") is not None else "GET")).upper()
    if method not in METHODS:
        raise BrokenRecordError(f"has the method {method[:40]!r}; known are {', '.join(METHODS)}")
    return method


def _path(value: Any, name: str) -> str:
    path = str(value)
    if _PATH.fullmatch(path) is None or "#" in path or "\\" in path or path.startswith("//"):
        raise BrokenRecordError(
            f"has the {name} {path[:80]!r}; give a path such as {CHAT_PATH}, percent-encoded and without a host: it is "
            "asked of each endpoint"
        )
    if _DOTS.search(path.partition("?")[0]):
        raise BrokenRecordError(f"has the {name} {path[:80]!r}; leave '.' and '..' out of it")
    return path


def _poll(value: Any) -> Poll | None:
    """How the record says that its answer is waited for."""
    told = parsed(value)
    if told is None:
        return None
    if not isinstance(told, Mapping):
        raise BrokenRecordError("has a 'poll' that is no object; give it 'path' and 'until'")
    unknown = next((name for name in told if name not in ("path", "until", "failed", "every_s", "method")), None)
    if unknown is not None:
        raise BrokenRecordError(
            f"has the unknown key '{unknown}' in 'poll'; keys are path, until, failed, every_s, method"
        )
    path, every_s = told.get("path"), told.get("every_s", _DEFAULT_POLL_S)
    whole = isinstance(path, str) and _FIELD.fullmatch(path) is not None
    if not isinstance(path, str) or not (whole or _PATH.fullmatch(_FIELD.sub("x", path))):
        raise BrokenRecordError(
            "has no path in 'poll'; give one such as '/tasks/{id}', or '{url}' from the first answer"
        )
    if isinstance(every_s, bool) or not isinstance(every_s, int | float) or not 0.001 <= every_s <= 3600:
        raise BrokenRecordError("has an 'every_s' in 'poll' that is no number of seconds from 0.001 to 3600")
    until = _conditions(told.get("until"), "until")
    if not until:
        raise BrokenRecordError('has no \'until\' in \'poll\'; name a field: "until": {"status": "done"}')
    method = _method({"method": told.get("method") or "GET"})
    return Poll(path, until, _conditions(told.get("failed"), "failed"), float(every_s), method)


def _conditions(value: Any, name: str) -> dict[str, tuple[Any, ...]]:
    """Dotted field → the values that it is waited for; no values: any."""
    if value is None:
        return {}
    if isinstance(value, str) and value:
        return {value: ()}
    if not isinstance(value, Mapping) or not all(isinstance(field, str) and field for field in value):
        raise BrokenRecordError(f"has a '{name}' in 'poll' that is neither a field's name nor an object of fields")
    return {
        field: tuple(wanted) if isinstance(wanted, list) else () if wanted is None else (wanted,)
        for field, wanted in value.items()
    }
