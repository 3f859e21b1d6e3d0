"""The client: it asks the proxy which endpoints it has, sends one request at a time and reads the answer."""

import asyncio
import difflib
import functools
import json
import os
import secrets
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlsplit

from . import baggage
from .connections import CONNECT_TIMEOUT_S, BrokeOffError, Connections, NotConnectedError
from .errors import ProxyGoneError, WrongUseError, one_line
from .http_answer import Head, NotHttpError
from .load.schedule import Turn
from .other_answers import OtherReading
from .prompts.request import Request, text_request
from .response import EventSplitter, Reading, error_text, is_stream
from .waits import asked_wait_s

# An answer is a few kilobytes; an endpoint that never stops must not fill the memory.
LARGEST_BODY_BYTES: Final = 64 * 1024 * 1024
SIMULATOR: Final = "dyno-simulate"


class RateLimit(NamedTuple):
    """What an endpoint takes, by its configuration."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the proxy's endpoints, as `GET /endpoints` describes it."""

    name: str
    url: str
    model: str | None
    provider: str | None
    hardware: str | None
    price: Mapping[str, float] | None
    power_w: float | None
    rate_limit: RateLimit | None = None
    session_header: str | None = None  # the header by which it knows a session


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters that every endpoint is asked with. None: not sent, so the endpoint's own default holds."""

    temperature: float | None
    max_tokens: int | None
    seed: int | None
    stream: bool
    timeout_s: float
    exact_lengths: bool = False  # an answer may not end before `max_tokens`
    session: str | None = None  # the session's id; None: the request is a session of its own


@dataclass(slots=True)
class Answer:
    """What the client saw of one request. Durations are seconds of its monotonic clock; `sent_at_us` is in Unix µs."""

    trace_id: str
    turn: Turn
    sent_at_us: int
    text: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    status: int | None = None
    ttft_s: float | None = None  # None: not streamed, or no output came
    latency_s: float | None = None
    output_tokens: int | None = None  # as the endpoint counts them; None if it doesn't say
    output_events: int = 0  # that had output
    timed_out: bool = False
    proxys_code: str | None = None  # the error type, if the error is the proxy's own
    wait_s: float | None = None  # how long a refusal asks to wait
    tokens: tuple[int, int] | None = None  # of the prompt and of the answer, by the server's count
    due: baggage.Due | None = None  # None: a closed loop has no due times
    simulated: bool | None = None  # None: unknown, since no answer came that shows it


class About(NamedTuple):
    """What the proxy says of itself. `max_requests`: how many it takes at once; None if an older one doesn't say."""

    endpoints: list[Endpoint]
    version: str
    max_requests: int | None


class ProxyClient:
    """A session with one proxy. `api_key` is the proxy's own key; None if it asks for none."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        """Raises WrongUseError for a key that no header can hold."""
        self.url, self.api_key = url, api_key
        parts = urlsplit(url)
        self._path = quote(parts.path, safe="/%:@!$&'()*+,;=~")
        if api_key is not None and not api_key.isprintable():
            raise WrongUseError("DYNO_API_KEY has a line end or another character that no header can hold; correct it")
        # Some servers hold chunks back to compress them, and the arrival of chunks is what is measured.
        headers = {"Host": parts.netloc, "Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "dyno"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    async def __aenter__(self) -> Self:
        # A proxy named in the environment (HTTP_PROXY) isn't used: its time would be measured too.
        self._connections = Connections(self.url)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.close()

    async def about(self) -> "About":
        """The proxy's endpoints in its order, and itself. Raises WrongUseError if no Dyno proxy answers."""
        try:
            document = await self._get("/endpoints")
            listed = [_endpoint(entry) for entry in document["endpoints"]]
            return About(listed, str(document.get("version")), document.get("max_requests"))
        except _UNREACHED as error:
            raise WrongUseError(
                f"no proxy at {self.url}: {_why(error)}; start one with 'dyno proxy --config dyno.toml'"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WrongUseError(
                f"{self.url} answers, but isn't a Dyno proxy that lets us in: /endpoints: {_why(error)}; "
                "correct --proxy, or set DYNO_API_KEY if it asks for a key"
            ) from error

    async def with_model(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with its model set: the configured one, otherwise the only one that its /v1/models lists.

        Raises WrongUseError where no model is configured and /v1/models doesn't list exactly one.
        """
        if endpoint.model is not None:
            return endpoint
        mend = f"set 'model' in [endpoints.{endpoint.name}] of dyno.toml"
        try:
            document = await self._get(f"/{quote(endpoint.name, safe='')}/v1/models")
            models = [str(entry["id"]) for entry in document["data"]]
        except (*_UNREACHED, ValueError, KeyError, TypeError) as error:
            raise WrongUseError(
                f"endpoint '{endpoint.name}' has no model configured, and its /v1/models names none "
                f"({_why(error)}); {mend}"
            ) from error
        if len(models) != 1:
            offered = ", ".join(models[:5]) or "none"
            raise WrongUseError(
                f"endpoint '{endpoint.name}' has no model configured, and its /v1/models lists {offered}; {mend}"
            )
        return replace(endpoint, model=models[0])

    async def ask(
        self,
        turn: Turn,
        endpoint: Endpoint,
        prompt: str | Request,
        parameters: Parameters,
        run_id: str,
        workload: str,
        due: baggage.Due | None = None,
        trace_id: str | None = None,
    ) -> Answer:
        """Send one request and read its answer. A failure of the request is in the answer's `error`.

        A text is sent as a chat completion's only turn. Of an API that isn't the chat's, the answer's text is what the
        body says, as far as that is known, or the body itself.
        Raises ProxyGoneError if the proxy itself can't be reached.
        """
        trace_id, span_id = trace_id or secrets.token_hex(16), secrets.token_hex(8)
        headers = baggage.headers(run_id, workload, turn, trace_id, span_id, due)
        if endpoint.session_header is not None:
            headers[endpoint.session_header] = parameters.session or trace_id
        request = text_request(prompt) if isinstance(prompt, str) else prompt
        body = request.body(endpoint.model, parameter_fields(parameters))
        if body:
            headers["Content-Type"] = "application/json"
        answer = Answer(trace_id, turn, sent_at_us=time.time_ns() // 1000, due=due)
        reading = Reading() if request.is_chat else OtherReading(request.path)
        start_ns = time.monotonic_ns()
        receiver = _Received(answer, reading, start_ns)
        try:
            async with asyncio.timeout(parameters.timeout_s):
                path = f"/{_quoted(endpoint.name)}{request.path}"
                await self._connections.ask(self._request(request.method, path, headers, body), receiver)
            receiver.ended()
        except NotConnectedError as error:
            raise ProxyGoneError(f"the proxy at {self.url} is gone: {_why(error)}") from error
        except TimeoutError:
            answer.error = f"no complete answer within {parameters.timeout_s:g} s"
            answer.timed_out = True
        except (BrokeOffError, NotHttpError, OSError) as error:
            answer.error = reading.error or f"broke off: {_why(error)}"
        answer.latency_s = (time.monotonic_ns() - start_ns) / 1e9
        answer.text = reading.text if answer.status is not None and reading.succeeds(answer.status) else None
        answer.reasoning = reading.reasoning
        answer.finish_reason = reading.finish_reason
        answer.tokens = reading.tokens
        answer.output_tokens, answer.output_events = reading.output_tokens, reading.outputs
        return answer

    async def _get(self, path: str) -> Any:
        received = _Document()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._connections.ask(self._request("GET", path, {}, b""), received)
        if received.status != 200:
            raise ValueError(f"HTTP {received.status}: {one_line(_error_in(bytes(received.whole)))}")
        return json.loads(received.whole)

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        lines = [f"{method} {self._path}{path} HTTP/1.1\r\n{self._headers}"]
        lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
        if method != "GET" or body:
            lines.append(f"Content-Length: {len(body)}\r\n")
        lines.append("\r\n")
        return "".join(lines).encode() + body


def parameter_fields(parameters: Parameters) -> dict[str, Any]:
    """The run's parameters as members of a chat completion's body."""
    body: dict[str, Any] = {}
    if parameters.temperature is not None:
        body["temperature"] = parameters.temperature
    if parameters.max_tokens is not None:
        body["max_tokens"] = parameters.max_tokens
    if parameters.exact_lengths:
        body |= {"min_tokens": parameters.max_tokens, "ignore_eos": True}
    if parameters.seed is not None:
        body["seed"] = parameters.seed
    body["stream"] = parameters.stream
    if parameters.stream:
        # Without this option most servers don't count a stream's tokens, and we would have to count chunks instead.
        body["stream_options"] = {"include_usage": True}
    return body


def select(endpoints: Sequence[Endpoint], names: Sequence[str] | None) -> list[Endpoint]:
    """The named endpoints in the order of `names`; all of them if that is None. WrongUseError for an unknown name."""
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    if not by_name:
        raise WrongUseError("the proxy has no endpoints; configure one as [endpoints.NAME] in dyno.toml")
    for name in names or ():
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise WrongUseError(f"--endpoints: no endpoint '{name}'; {hint}configured endpoints: {', '.join(by_name)}")
    return [by_name[name] for name in names or by_name]


def _endpoint(entry: Mapping[str, Any]) -> Endpoint:
    limit = entry.get("rate_limit")
    return Endpoint(
        name=str(entry["name"]),
        url=str(entry["url"]),
        model=entry.get("model"),
        provider=entry.get("provider"),
        hardware=entry.get("hardware"),
        price=entry.get("price"),
        power_w=entry.get("power_w"),
        session_header=entry.get("session_header"),
        rate_limit=None if limit is None else RateLimit(float(limit["per_s"]), int(limit["burst"])),
    )


def _error_in(body: bytes) -> str:
    try:
        return error_text(json.loads(body))
    except ValueError:
        return body[:1000].decode("utf-8", "replace")


def _proxys_code(body: bytes) -> str | None:
    try:
        error = json.loads(body)["error"]
        return str(error["code"]) if error["type"] == "dyno_proxy_error" else None
    except (ValueError, KeyError, TypeError):
        return None


_UNREACHED: Final = (NotConnectedError, BrokeOffError, NotHttpError, TimeoutError, OSError)


@functools.lru_cache
def _quoted(name: str) -> str:
    return quote(name, safe="")


def _why(error: BaseException) -> str:
    """The exception's message as one line, or its type's name if it has none (a TimeoutError, say)."""
    why = error.__cause__ if isinstance(error, NotConnectedError) and error.__cause__ is not None else error
    if isinstance(why, OSError) and not isinstance(why, ssl.SSLError) and why.errno is not None and why.errno > 0:
        return os.strerror(why.errno)
    return one_line(str(why)) or type(why).__name__


class _Document:
    """Keeps a body as it is. More than LARGEST_BODY_BYTES aren't read."""

    def __init__(self) -> None:
        self.status, self.whole = 0, bytearray()

    def head(self, head: Head) -> None:
        self.status = head.status

    def body(self, data: bytes, _now_ns: int) -> bool:
        self.whole += data
        return len(self.whole) <= LARGEST_BODY_BYTES


class _Received:
    """Puts what comes of one answer into `answer` and `reading`, as it comes."""

    def __init__(self, answer: Answer, reading: Reading | OtherReading, start_ns: int) -> None:
        self._answer, self._reading, self._start_ns = answer, reading, start_ns
        self._splitter, self._whole = EventSplitter(), bytearray()
        self._read_bytes = 0
        self._last_ns = start_ns
        self._reason = ""
        self._headers: Mapping[str, str] = {}
        self._streamed = self._recognised = self._too_long = False

    def head(self, head: Head) -> None:
        self._answer.status, self._reason = head.status, head.reason
        self._headers = head.headers
        server = head.headers.get("server", "")
        succeeds = self._reading.succeeds(head.status)
        if succeeds or server.startswith(SIMULATOR):
            self._answer.simulated = server.startswith(SIMULATOR)
        self._streamed = succeeds and head.media_type == "text/event-stream"
        # Else the body's beginning decides whether it is a stream.
        self._recognised = self._streamed or not succeeds

    def body(self, data: bytes, now_ns: int) -> bool:
        self._read_bytes += len(data)
        if self._read_bytes > LARGEST_BODY_BYTES:
            self._answer.error = f"the answer is over {LARGEST_BODY_BYTES // 2**20} MiB; the rest was not read"
            self._too_long = True
            return False
        if not self._recognised:
            data, self._whole = bytes(self._whole + data), bytearray()
            self._streamed = is_stream(data)
            self._recognised = self._streamed or len(data) > 16
        if self._streamed:
            self._events(self._splitter.feed(data), now_ns)
        else:
            self._whole += data
        self._last_ns = now_ns
        return True

    def _events(self, events: list[bytes], now_ns: int) -> None:
        for event in events:
            if self._reading.event(event) and self._answer.ttft_s is None:
                self._answer.ttft_s = (now_ns - self._start_ns) / 1e9

    def ended(self) -> None:
        """Call this once after the last byte of a complete answer."""
        answer, whole = self._answer, bytes(self._whole)
        if self._too_long:
            return
        if answer.status is None or not self._reading.succeeds(answer.status):
            answer.error = f"HTTP {answer.status}: {one_line(_error_in(whole) or self._reason)}"
            answer.proxys_code = _proxys_code(whole)
            answer.wait_s = asked_wait_s(self._headers, whole, time.time())
            return
        if self._streamed:
            self._events(self._splitter.finish(), self._last_ns)
        else:
            self._reading.document(whole)
        self._reading.ended()
        answer.error = self._reading.error
