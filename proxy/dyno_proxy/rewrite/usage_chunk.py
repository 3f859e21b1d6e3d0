"""Takes the usage chunk, which the proxy and not the client asked for, out of a stream of SSE events. Pure.

    data: {…,"choices":[{…}],"usage":null}     passes, as soon as its `choices` is seen not to be empty
    data: {…,"choices":[],"usage":{…}}         is taken out, with the empty line that ends it
    data: [DONE]                               passes at once

Everything else passes byte for byte. An event waits only while it may still be the usage chunk: until its own end or
HELD_BYTES at the longest. Most events come whole in one read and don't wait. The client does see one trace of the
request for usage: OpenAI and vLLM then put `"usage": null` into every other chunk. Taking that out would mean
rewriting each of them.
"""

import re
from typing import Final

import msgspec

from dyno_proxy.http.sse import SseScanner

HELD_BYTES: Final = 16 * 1024  # a usage chunk has some 300; what is longer passes

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
# The beginning of an event that can't be the usage chunk. Either its data is no object, or the object's `choices` hold
# something and only members that are neither objects nor arrays come before them.
_ANOTHER: Final = re.compile(
    rb"""
    data: \x20? (?:
        [^\x20{\r\n]
      | \{ (?:
            [\x20\t]*+ "[^"\\\r\n]*+(?:\\.[^"\\\r\n]*+)*+" [\x20\t]*+ :
            [\x20\t]*+ (?: "[^"\\\r\n]*+(?:\\.[^"\\\r\n]*+)*+" | [^"\[{}\r\n,]++ ) [\x20\t]*+ ,
        )*?
        [\x20\t]*+ "choices" [\x20\t]*+ : [\x20\t]*+ \[ [\x20\t]*+ [^\x20\t\]\r\n]
    )
    """,
    re.VERBOSE,
)


class UsageChunkFilter:
    """Takes the usage chunk out of one stream. Any split of the same bytes gives the same bytes."""

    __slots__ = ("_before", "_cr_passed", "_held", "_passing")

    def __init__(self) -> None:
        self._held = b""  # an unfinished event that may be the one
        self._passing = False  # the event's beginning was let through, so its rest is
        self._before = b""  # while passing: stands for what went before, as far as the ends of lines depend on it
        self._cr_passed: bool | None = None  # whether the CR passed that ended an event and may be half a CRLF

    def feed(self, data: bytes) -> bytes:
        """Take the stream's next bytes; returns what may pass by now."""
        passed: list[bytes] = []
        if self._cr_passed is not None and data:
            if data.startswith(b"\n"):
                passed += [b"\n"] * self._cr_passed
                data = data[1:]
            self._cr_passed = None
        data = self._before + self._held + data
        begin = len(self._before)  # of what hasn't passed
        line = 0
        for line_end in _LINE_END.finditer(data):
            empty = line_end.start() == line
            line = line_end.end()
            if empty:
                event = data[begin:line]
                passes = self._passing or not _is_usage_chunk(event)
                if passes:
                    passed.append(event)
                self._passing = False
                begin = line
                self._cr_passed = passes if event.endswith(b"\r") and line == len(data) else None
        rest = data[begin:]
        self._held = self._before = b""
        if self._passing or len(rest) > HELD_BYTES or _ANOTHER.match(rest):
            self._passing = True
            passed.append(rest)
            last = data[-1:]
            self._before = b"x" + last if last in (b"\r", b"\n") else b"x"
        else:
            self._held = rest
        return b"".join(passed)

    def finish(self) -> bytes:
        """The body has ended; returns the event that was held, if any, unless it is the usage chunk."""
        held, self._held = self._held, b""
        return b"" if _is_usage_chunk(held) else held


def _is_usage_chunk(event: bytes) -> bool:
    """Whether it has a usage and no choice. _ANOTHER decides first, as for an event that is still incomplete."""
    if len(event) > HELD_BYTES or _ANOTHER.match(event):
        return False
    scanner = SseScanner()
    payloads = scanner.feed(event) + scanner.finish()
    if len(payloads) != 1:
        return False
    try:
        chunk = _CHUNK.decode(payloads[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return chunk.choices == [] and chunk.usage is not None


class _Chunk(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, msgspec.Raw] | None = None


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
