"""Requests whose answer comes later: one submits, then others ask until it is done.

    POST /…/process ─▶ {"task_id": "7"} ─▶ GET /…/tasks/7 ─▶ {"status": "running"} ─▶ … ─▶ {"status": "done", …}
    └──────────────────────────── the answer's latency, within --timeout ─────────────────────────────┘

Each of them is a request through the proxy with a row of its own. Those that poll are flagged as warm-ups, so that no
table counts them as the work itself.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote, urlsplit

from .baggage import Due
from .client import Answer, Endpoint, Parameters, ProxyClient
from .errors import one_line
from .load.schedule import Turn
from .other_answers import body_of, value_at
from .prompts.request import Poll, Request

# An answer that is no text (an image in base64, a tensor) is stored up to here.
LONGEST_KEPT_CHARACTERS: Final = 100_000
_FIELD: Final = re.compile(r"\{([^{}]+)\}")
_IN_PATH: Final = "/%:@!$&'()*+,;=~"
_IN_QUERY: Final = _IN_PATH + "?"
_LEAST_S: Final = 0.001


async def ask_until_done(
    client: ProxyClient,
    turn: Turn,
    endpoint: Endpoint,
    request: Request,
    parameters: Parameters,
    run_id: str,
    workload: str,
    due: Due | None,
    trace_id: str | None = None,
) -> Answer:
    """Send the request and, where it says how, ask until its answer is there. Its latency is that of the whole.

    Raises ProxyGoneError if the proxy itself can't be reached.
    """
    begun_s = time.monotonic()
    answer = await client.ask(turn, endpoint, request, parameters, run_id, workload, due, trace_id)
    if request.poll is None or answer.error is not None:
        return answer if request.is_chat else _shortened(answer)
    poll, deadline_s = request.poll, begun_s + parameters.timeout_s
    document = body_of(answer.text)
    state = _state(document, poll)
    asking = None if state is not None else _poll_request(poll, document, endpoint)
    if isinstance(asking, str):
        state = asking
    while state is None and isinstance(asking, Request):
        left_s = deadline_s - time.monotonic() - poll.every_s
        if left_s < _LEAST_S:
            answer.timed_out, state = True, f"not done within {parameters.timeout_s:g} s"
            break
        await asyncio.sleep(poll.every_s)
        how = replace(parameters, timeout_s=max(_LEAST_S, left_s))
        told = await client.ask(turn._replace(warmup=True), endpoint, asking, how, run_id, workload)
        if told.error is not None:
            answer.timed_out = told.timed_out
            state = f"not done within {parameters.timeout_s:g} s" if told.timed_out else f"while polling: {told.error}"
            answer.status, answer.proxys_code = told.status, told.proxys_code
            break
        answer.text = told.text
        state = _state(body_of(told.text), poll)
    answer.error = state or None
    answer.latency_s = time.monotonic() - begun_s
    return _shortened(answer)


def _state(document: Any, poll: Poll) -> str | None:
    """None: not done yet. Empty: done. Otherwise why it failed."""
    for field, wanted in poll.failed.items():
        if _met(value_at(document, field), wanted):
            return one_line(f"the job failed: {field} is {value_at(document, field)}")
    return "" if all(_met(value_at(document, field), wanted) for field, wanted in poll.until.items()) else None


def _met(value: Any, wanted: tuple[Any, ...]) -> bool:
    """Whether a field has one of the values; without any, whether it has one at all. Texts match in any case."""
    if not wanted:
        return value is not None and value is not False and value not in ("", [], {})
    return any(value == each or (isinstance(each, str) and str(value).lower() == each.lower()) for each in wanted)


def _poll_request(poll: Poll, document: Any, endpoint: Endpoint) -> Request | str:
    """The request that asks whether it is done; a text says why there is none."""
    missing = next((name for name in _FIELD.findall(poll.path) if value_at(document, name) is None), None)
    if missing is not None:
        return f"the answer has no '{missing}', which poll.path needs"
    whole = _FIELD.fullmatch(poll.path)
    path = _path_of(str(value_at(document, whole[1])), endpoint) if whole is not None else _filled(poll.path, document)
    if path is None:
        return f"'{poll.path}' is an address of another server, or no path"
    return Request(b"", None, path=path, method=poll.method, names_model=False, takes_parameters=False)


def _filled(path: str, document: Mapping[str, Any]) -> str:
    return _FIELD.sub(lambda field: quote(str(value_at(document, field[1])), safe=""), path)


def _path_of(address: str, endpoint: Endpoint) -> str | None:
    """The path that the proxy knows for an address which the endpoint gave; None if it leads to another server."""
    told, own = urlsplit(address), urlsplit(endpoint.url)
    if told.netloc and told.netloc != own.netloc:
        return None
    # The proxy puts what stands before /v1 in the endpoint's URL in front of every path.
    prefix = own.path.rstrip("/").removesuffix("/v1")
    path = told.path.removeprefix(prefix) if prefix and told.path.startswith(prefix + "/") else told.path
    if not path.startswith("/") or ".." in path.split("/"):
        return None
    return quote(path, safe=_IN_PATH) + (f"?{quote(told.query, safe=_IN_QUERY)}" if told.query else "")


def _shortened(answer: Answer) -> Answer:
    if answer.text is not None and len(answer.text) > LONGEST_KEPT_CHARACTERS:
        answer.text = answer.text[:LONGEST_KEPT_CHARACTERS] + "…"
    return answer
