"""The script language: a test or `dyno simulate --script` says what a simulated endpoint answers. Pure.

A script is a list of steps, each an object with one action. Times are seconds on one absolute schedule, so that steps
never drift. It starts when the whole request has been received.

    {"status": 429, "headers": {"Retry-After": "2"}}   the head; without this step it is 200, at once. The headers may
                                                       be a list of [name, value]. Options: reason, framing (chunked,
                                                       length, close, raw), compress (gzip, deflate)
    {"wait_s": 0.2}                                    the following steps are so much later
    {"token": "text"}, {"reasoning": "text"}           one chunk in the profile's own shape
    {"tokens": 30, "every_s": 0.02}                    this many chunks, the first at once; option reasoning: true
    {"tool_call": {"id", "name", "arguments"}}         a chunk with a tool call; option index
    {"finish": "stop"}                                 a chunk with a finish_reason
    {"usage": true}                                    a usage chunk that counts the tokens so far; an object instead
                                                       of true is sent as it is
    {"done": true}                                     data: [DONE]
    {"event": {…}}, {"event": "text"}                  one SSE event with this data
    {"json": {…}}, {"error": "message"}                JSON as the body; an error in the profile's shape
    {"bytes": "text"}, {"base64": "…"}                 bytes of the body, one write; option times: how often they are
                                                       repeated in it
    {"together": [step, …]}                            all that these steps send is one write (and one HTTP chunk)
    {"wire": "text"}                                   bytes on the connection, without an HTTP head; beside such steps
                                                       only wait_s, together, cut and stall are allowed
    {"cut": "reset"}, {"cut": "close"}                 the connection ends here, by RST or by FIN
    {"stall": true}                                    nothing more is sent until the client leaves

By default, framing is `length` if the body is only bytes and JSON without a wait, otherwise `chunked`. `raw` means that
the script's own headers and bytes frame the body. Writes without a wait between them may reach the reader in one
network read.
"""

import base64
import binascii
import zlib
from collections.abc import Callable
from typing import Any, Final, Literal, cast

import orjson

from .plan import End, Framing, Plan, Send
from .reply import DONE, EVENT_STREAM, JSON_BODY, sse_event
from .wire import Envelope, Usage, Wire

Script = list[Any]

_OPTIONS: Final[dict[str, frozenset[str]]] = {
    "status": frozenset(("headers", "reason", "framing", "compress")),
    "wait_s": frozenset(),
    "token": frozenset(),
    "reasoning": frozenset(),
    "tokens": frozenset(("every_s", "reasoning")),
    "tool_call": frozenset(("index",)),
    "finish": frozenset(),
    "usage": frozenset(),
    "done": frozenset(),
    "event": frozenset(),
    "json": frozenset(),
    "error": frozenset(),
    "bytes": frozenset(("times",)),
    "base64": frozenset(("times",)),
    "together": frozenset(),
    "wire": frozenset(),
    "cut": frozenset(),
    "stall": frozenset(),
}
_STREAM_ACTIONS: Final = frozenset(("token", "reasoning", "tokens", "tool_call", "finish", "usage", "done", "event"))
_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class ScriptError(ValueError):
    """The script can't be played; the message names the step."""


def read_script(text: bytes | str) -> Script:
    """A script from its JSON. Raises ScriptError if it isn't a JSON list; `compile_script` checks the steps."""
    try:
        script = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ScriptError(f"the script is not JSON: {error}") from None
    if not isinstance(script, list):
        raise ScriptError("a script must be a list of steps")
    return script


def compile_script(script: Script, wire: Wire, envelope: Envelope, prompt_tokens: int = 10) -> Plan:
    """The script as a plan, with JSON in the shapes of `wire`. Raises ScriptError."""
    compiler = _Compiler(wire, envelope, prompt_tokens)
    for number, step in enumerate(script, 1):
        try:
            compiler.take(step)
        except ScriptError as error:
            raise ScriptError(f"step {number}: {error}") from None
    return compiler.plan()


class _Compiler:
    """Takes the steps in turn, and keeps the schedule's time and what they say so far."""

    def __init__(self, wire: Wire, envelope: Envelope, prompt_tokens: int) -> None:
        self._wire = wire
        self._envelope = envelope
        self._prompt_tokens = prompt_tokens
        self._now_s = 0.0
        self._sends: list[Send] = []
        self._seen: set[str] = set()
        self._output_tokens = 0
        self._reasoning_tokens = 0
        self._status = 200
        self._reason: str | None = None
        self._headers: list[tuple[str, str]] = []
        self._framing: Framing | None = None
        self._compress: str | None = None
        self._head_at_s = 0.0
        self._end: End = "complete"
        self._actions: dict[str, Callable[[Any, dict[str, Any]], None]] = {
            "status": self._take_status,
            "wait_s": self._take_wait,
            "token": lambda text, _: self._take_text(text, reasoning=False),
            "reasoning": lambda text, _: self._take_text(text, reasoning=True),
            "tokens": self._take_tokens,
            "tool_call": self._take_tool_call,
            "finish": lambda why, _: self._send(
                sse_event(wire.chunk(envelope, finish_reason=_text("finish", why))),
            ),
            "usage": self._take_usage,
            "done": lambda _value, _: self._send(DONE),
            "event": self._take_event,
            "json": lambda value, _: self._send(orjson.dumps(value)),
            "error": lambda message, _: self._send(
                orjson.dumps(wire.error(self._status, _text("error", message), envelope.reply_id))
            ),
            "bytes": lambda text, options: self._send(_text("bytes", text).encode() * _times(options)),
            "base64": lambda text, options: self._send(_from_base64(text) * _times(options)),
            "together": self._take_together,
            "wire": lambda text, _: self._send(_text("wire", text).encode("utf-8")),
            "cut": self._take_cut,
            "stall": self._take_stall,
        }

    def take(self, step: Any) -> None:
        name, options = _split(step)
        if self._end != "complete":
            raise ScriptError(f"'{name}' comes after the end of the connection; remove it, or move it before that")
        if name == "status" and self._seen - {"wait_s"}:
            raise ScriptError("'status' must come before anything that is sent")
        self._seen.add(name)
        self._actions[name](step[name], options)

    def plan(self) -> Plan:
        """The plan of the steps taken. Raises ScriptError if they can't be used together."""
        if "wire" in self._seen:
            if self._seen - {"wire", "wait_s", "together", "cut", "stall"}:
                raise ScriptError(
                    "'wire' sends no head, so a script with it may otherwise have only wait_s, together, cut and stall"
                )
            return Plan(0, (), "bare", tuple(self._sends), 0.0, self._now_s, self._end)
        headers = self._headers
        given = {name.lower() for name, _ in headers}
        if "content-type" not in given and self._seen & _STREAM_ACTIONS:
            headers.append(EVENT_STREAM)
        elif "content-type" not in given and self._seen & {"json", "error"}:
            headers.append(JSON_BODY)
        if self._compress is not None:
            headers.append(("Content-Encoding", self._compress))
            self._sends = _compressed(self._sends, self._compress)
        paced = any(send.at_s != self._head_at_s for send in self._sends) or self._now_s != self._head_at_s
        streams = paced or self._seen & _STREAM_ACTIONS or self._end != "complete"
        framing = self._framing or ("chunked" if streams else "length")
        return Plan(
            self._status,
            tuple(headers),
            framing,
            tuple(self._sends),
            self._head_at_s,
            self._now_s,
            self._end,
            self._reason,
        )

    def _send(self, data: bytes) -> None:
        self._sends.append(Send(self._now_s, data))

    def _take_status(self, status: Any, options: dict[str, Any]) -> None:
        if type(status) is not int or not 100 <= status <= 999:
            raise ScriptError("'status' must be a number from 100 to 999")
        self._status = status
        self._head_at_s = self._now_s
        self._headers = _headers(options.get("headers", {}))
        if "reason" in options:
            self._reason = _text("reason", options["reason"])
        self._framing = _one_of("framing", options.get("framing"), ("chunked", "length", "close", "raw"))
        self._compress = _one_of("compress", options.get("compress"), tuple(_WINDOW_BITS))

    def _take_wait(self, seconds: Any, _options: dict[str, Any]) -> None:
        self._now_s += _seconds("wait_s", seconds)

    def _take_text(self, text: Any, *, reasoning: bool) -> None:
        self._output_tokens += 1
        self._reasoning_tokens += reasoning
        what = "reasoning" if reasoning else "token"
        self._send(sse_event(self._wire.chunk(self._envelope, _text(what, text), reasoning=reasoning)))

    def _take_tokens(self, count: Any, options: dict[str, Any]) -> None:
        if type(count) is not int or count < 1:
            raise ScriptError("'tokens' must be a whole number, 1 or more")
        every_s = _seconds("every_s", options.get("every_s", 0.0))
        reasoning = options.get("reasoning", False) is True
        first_s = self._now_s
        for index in range(count):
            self._now_s = first_s + index * every_s
            self._take_text(f" {index}", reasoning=reasoning)

    def _take_tool_call(self, call: Any, options: dict[str, Any]) -> None:
        if not isinstance(call, dict) or not call.keys() <= {"id", "name", "arguments"}:
            raise ScriptError("'tool_call' must be an object; its keys may be id, name and arguments")
        self._output_tokens += 1
        delta: dict[str, Any] = {"index": options.get("index", 0)}
        if "id" in call:
            delta |= {"id": call["id"], "type": "function"}
        delta["function"] = {key: call[key] for key in ("name", "arguments") if key in call}
        self._send(sse_event(self._wire.tool_call(self._envelope, delta)))

    def _take_usage(self, usage: Any, _options: dict[str, Any]) -> None:
        if usage is True:
            counted = Usage(self._prompt_tokens, self._output_tokens, self._reasoning_tokens, 0.0, self._now_s)
            self._send(sse_event(self._wire.usage_chunk(self._envelope, counted)))
        elif isinstance(usage, dict):
            self._send(sse_event({**self._wire.wrap_chunk(self._envelope, []), "usage": usage}))
        else:
            raise ScriptError("'usage' must be true or an object")

    def _take_event(self, data: Any, _options: dict[str, Any]) -> None:
        if isinstance(data, str):
            self._send("".join(f"data: {line}\n" for line in data.split("\n")).encode() + b"\n")
        elif isinstance(data, dict):
            self._send(sse_event(data))
        else:
            raise ScriptError("'event' must be an object or a string")

    def _take_together(self, steps: Any, _options: dict[str, Any]) -> None:
        if not isinstance(steps, list) or not steps:
            raise ScriptError("'together' must be a list of steps")
        start_s, before = self._now_s, len(self._sends)
        for step in steps:
            if _split(step)[0] in ("status", "cut", "stall", "wait_s"):
                raise ScriptError("'together' may contain only steps that send something")
            self.take(step)
        self._now_s = start_s
        self._sends[before:] = [Send(start_s, b"".join(send.data for send in self._sends[before:]))]

    def _take_cut(self, how: Any, _options: dict[str, Any]) -> None:
        end = _one_of("cut", how, ("reset", "close"))
        self._end = cast(Literal["reset", "close"], end)

    def _take_stall(self, stall: Any, _options: dict[str, Any]) -> None:
        if stall is not True:
            raise ScriptError("'stall' must be true")
        self._end = "stall"


def _split(step: Any) -> tuple[str, dict[str, Any]]:
    """A step's action and its options."""
    if not isinstance(step, dict):
        raise ScriptError("a step must be an object")
    # `reasoning` is an option of `tokens` too.
    actions = [key for key in step if key in _OPTIONS and not (key == "reasoning" and "tokens" in step)]
    if len(actions) != 1:
        known = ", ".join(_OPTIONS)
        raise ScriptError(f"needs exactly one action, but has {actions or list(step)}; known actions: {known}")
    unknown = step.keys() - _OPTIONS[actions[0]] - {actions[0]}
    if unknown:
        raise ScriptError(f"'{actions[0]}' has no option {min(unknown)!r}")
    return actions[0], {key: value for key, value in step.items() if key != actions[0]}


def _headers(value: Any) -> list[tuple[str, str]]:
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        for pair in pairs
    ):
        raise ScriptError("'headers' must be an object, or a list of [name, value], all strings")
    for name, text in pairs:
        if any(ord(character) > 255 for character in name + text):
            raise ScriptError(f"header {name!r} must consist of Latin-1 characters")
    return [(name, text) for name, text in pairs]


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ScriptError(f"'{what}' must be a string")
    return value


def _seconds(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ScriptError(f"'{what}' must be a number of seconds, 0 or more")
    return float(value)


def _times(options: dict[str, Any]) -> int:
    times = options.get("times", 1)
    if type(times) is not int or times < 1:
        raise ScriptError("'times' must be a whole number, 1 or more")
    return times


def _one_of(what: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise ScriptError(f"'{what}' must be one of {', '.join(allowed)}")
    return value


def _from_base64(value: Any) -> bytes:
    try:
        return base64.b64decode(_text("base64", value), validate=True)
    except binascii.Error as error:
        raise ScriptError(f"'base64': {error}") from None


def _compressed(sends: list[Send], encoding: str) -> list[Send]:
    """The writes compressed. A reader can decode each one whole when it comes; the last also ends the stream."""
    compressor = zlib.compressobj(wbits=_WINDOW_BITS[encoding])
    packed = [Send(at_s, compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)) for at_s, data in sends]
    if packed:
        packed[-1] = Send(packed[-1].at_s, packed[-1].data + compressor.flush())
    return packed
