"""A JSON request with one thing changed, and every other byte as the client wrote it. Pure.

msgspec reads the body first, in C. It finds whether the body is JSON, and how long each value of the top level is. So
the walk over the top level need not check the grammar, jumps over the values, and mistakes nothing nested for a key.

For a long body that takes too long at one go. Its members that matter are known to the caller, who has skimmed it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

MAX_MEMBERS: Final = 1_000  # of an object that is walked over: 3 ms
MAX_OPTIONS_BYTES: Final = 32 * 1024  # of `stream_options`; sound ones have a hundred
MAX_BRACKETS: Final = 10_000  # in a value that must be walked through because its key stands twice: a few ms

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR: Final = re.compile(rb"[^ \t\n\r,}]++")  # a number, true, false, null
_TO_BRACKET: Final = re.compile(rb'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+', re.DOTALL)


Known = Iterable[tuple[str, int, int]]  # members: the key, and where the value begins and ends in the body


def with_model(body: bytes, model: str, known: Known | None = None) -> bytes | None:
    """The body asking for `model`; None where it isn't a JSON object with a text as its `model`.

    Where the key stands twice, both get the new value: which one counts differs between parsers.
    """
    try:
        found = [member for member in _members(body, known) if member.key == "model"]
    except _UnreadableError:
        return None
    if not found or not all(body.startswith(b'"', member.start) for member in found):
        return None
    value = msgspec.json.encode(model)
    parts: list[bytes] = []
    at = 0
    for member in found:
        parts += (body[at : member.start], value)
        at = member.end
    return b"".join((*parts, body[at:]))


def asking_usage(body: bytes, known: Known | None = None) -> bytes | None:
    """The body of a stream with `stream_options.include_usage`; None where there is nothing to change.

    That is: it isn't a JSON object, doesn't ask for a stream, asks for usage already, or has `stream_options` that we
    don't understand. Where a key stands twice, the last counts, as with nearly every parser.
    """
    try:
        members = {member.key: member for member in _members(body, known)}
        stream, options = members.get("stream"), members.get("stream_options")
        if stream is None or stream.of(body) != b"true":
            return None
        if options is None:
            last = max(member.end for member in members.values())
            return body[:last] + b',"stream_options":{"include_usage":true}' + body[last:]
        asking = _asking(options.of(body))
    except _UnreadableError:
        return None
    return None if asking is None else body[: options.start] + asking + body[options.end :]


def _asking(options: bytes) -> bytes | None:
    """The value of `stream_options` that asks; None where it asks already or is of a kind that nobody documents."""
    if options == b"null":
        return b'{"include_usage":true}'
    if not options.startswith(b"{") or len(options) > MAX_OPTIONS_BYTES:
        return None
    members = {member.key: member for member in _members(options)}
    asked = members.get("include_usage")
    if asked is None:
        return b'{"include_usage":true' + (b"," if members else b"") + options[1:]
    if asked.of(options) in (b"false", b"null"):
        return options[: asked.start] + b"true" + options[asked.end :]
    return None


class _UnreadableError(ValueError):
    """No JSON object, or one that would take too long to walk over."""


class _Member(NamedTuple):
    """A key of an object, unescaped, and where its value begins and ends."""

    key: str
    start: int
    end: int

    def of(self, body: bytes) -> bytes:
        """The value's bytes in the body."""
        return body[self.start : self.end]


def _members(body: bytes, known: Known | None = None) -> Iterator[_Member]:
    """The members of the JSON object that `body` is, in their order. Raises _UnreadableError."""
    if known is not None:
        yield from (_Member(*each) for each in known)
        return
    try:
        values = _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _UnreadableError from error
    at = _space(body, _space(body, 0) + 1)  # past the brace
    for _ in range(MAX_MEMBERS):
        if body.startswith(b"}", at):
            return
        key_end = _end(_STRING, body, at)
        key = _KEY.decode(body[at:key_end])
        value_start = _space(body, _space(body, key_end) + 1)  # past the colon
        value_end = _value_end(body, value_start, bytes(values[key]))
        yield _Member(key, value_start, value_end)
        at = _space(body, value_end)
        if body.startswith(b",", at):
            at = _space(body, at + 1)
    raise _UnreadableError


def _value_end(body: bytes, start: int, last: bytes) -> int:
    """Where the value at `start` ends; `last` is the value of its key's last occurrence, which is mostly this one."""
    end = start + len(last)
    if body.startswith(last, start) and body[_space(body, end)] in b",}":  # else it is 12, say, and the last one 1
        return end
    if body.startswith(b'"', start):
        return _end(_STRING, body, start)
    if not body.startswith((b"{", b"["), start):
        return _end(_SCALAR, body, start)
    depth, at = 1, start + 1
    for _ in range(MAX_BRACKETS):
        at = _end(_TO_BRACKET, body, at)
        depth += 1 if body[at] in b"{[" else -1
        at += 1
        if not depth:
            return at
    raise _UnreadableError


def _space(body: bytes, at: int) -> int:
    return _end(_SPACE, body, at)


def _end(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    match = pattern.match(body, at)
    if match is None:
        raise _UnreadableError
    return match.end()


_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY: Final = msgspec.json.Decoder(str)
