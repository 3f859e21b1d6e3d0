"""Skims a long JSON text as it comes: what a reader looks at is kept, and the rest is passed over. Pure.

    {"data": [[0.1, …], …], "model": "m", "usage": {…}}   becomes   {"data":{"\\u0000":7340032},"model":"m","usage":{…}}

msgspec decodes a text in one go: sixteen megabytes stop the event loop for as long as that takes, and `[[],[],…]` takes
thirty times its size as objects. So only short texts are decoded as they are. A long one is skimmed, piece by piece,
and what remains of it is decoded. It is short, or the skimming is given up.

A value stays as it is written where it is short and somebody looks at it. In place of a longer text, or of an object or
array that is looked at as if it were a text, stands its length. Members that nobody looks at are left out. Whether they
are valid JSON isn't checked. A text that ends too soon gives a result that does, too.
"""

import re
from types import NoneType
from typing import Any, Final, NamedTuple, get_args, get_origin

import msgspec

KEPT_TEXT_BYTES: Final = 1024  # of a text or a number as it is written; a longer one isn't kept
MAX_RESULT_BYTES: Final = 32 * 1024
MAX_DEPTH: Final = 20_000  # of what is passed over: it is only counted, so nothing recurs
MAX_STEPS: Final = 100_000  # brackets and values that take a step each, 0.5 µs: a sound text has a few thousand
LENGTH_KEY: Final = "\0"


class Wanted(NamedTuple):
    """What a reader looks at, in a value."""

    members: "dict[bytes, Wanted] | None" = None  # of an object, by key
    each: "Wanted | None" = None  # of an array's elements
    text: bool = False  # it may be a text of any length, whose length matters


def wanted(*structs: type[msgspec.Struct]) -> Wanted:
    """What the types that a text is decoded as have fields for."""
    found = Wanted({})
    for struct in structs:
        found = _both(found, Wanted({f.encode_name.encode(): _of_type(f.type) for f in msgspec.structs.fields(struct)}))
    return found


def _of_type(kind: Any) -> Wanted:
    if kind is Any:
        return Wanted(text=True)
    for part in get_args(kind) or (kind,):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return Wanted(each=wanted(part)) if get_origin(kind) is list else wanted(part)
        if part is not NoneType and get_origin(part) is list:
            return _of_type(part)
    return Wanted()


def _both(one: Wanted, other: Wanted) -> Wanted:
    members: dict[bytes, Wanted] | None = None
    if one.members is not None or other.members is not None:
        members = dict(one.members or {})
        for key, value in (other.members or {}).items():
            members[key] = _both(members[key], value) if key in members else value
    each = other.each if one.each is None else one.each if other.each is None else _both(one.each, other.each)
    return Wanted(members, each, one.text and other.text)


def length_told(value: object) -> int | None:
    """The length in bytes that stands in the place of a value, or None for a value of another kind."""
    if isinstance(value, dict) and len(value) == 1:
        length = value.get(LENGTH_KEY)
        return length if isinstance(length, int) else None
    return None


# What may come next
_VALUE, _FIRST_VALUE, _KEY, _FIRST_KEY, _COLON, _AFTER, _END, _NOTHING = range(8)

_QUOTE, _COMMA, _COLON_SIGN, _ARRAY, _ARRAY_END, _OBJECT, _OBJECT_END = b'",:[]{}'
_OPENING: Final = b"[{"

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_SCALAR: Final = re.compile(rb"[-+.0-9A-Za-z]*+")
_IN_STRING: Final = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_STRING_REST: Final = re.compile(_IN_STRING, re.DOTALL)
_STRING: Final = re.compile(b'"' + _IN_STRING + b'"', re.DOTALL)


def _balanced(levels: int) -> bytes:
    """A pattern for anything but a bracket, and for whole arrays and objects that are nested so deep at most."""
    flat = rb'[^"\[\]{}]*+(?:"' + _IN_STRING + rb'"[^"\[\]{}]*+)*+'
    pattern = flat
    for _ in range(levels):
        pattern = flat + rb"(?:[\[{]" + pattern + rb"[\]}]" + flat + rb")*+"
    return pattern


_BALANCED: Final = re.compile(_balanced(3), re.DOTALL)


class _Open(NamedTuple):
    """An array or object that is kept."""

    wanted: Wanted
    closing: int


class Skim:
    """Skims one text. Any split of the same bytes gives the same result.

    A piece takes up to 0.5 µs a byte, if somebody wrote it for that. So long ones should be fed in parts.
    """

    __slots__ = (
        *(
            "_depth",
            "_empty",
            "_escaped",
            "_fresh",
            "_in_scalar",
            "_in_string",
            "_kept_bytes",
            "_kind",
            "_mode",
            "_open",
        ),
        *("_out", "_rest", "_separate", "_steps", "_value_bytes", "_wanted", "given_up", "members"),
        *("_fed_bytes", "_key_now", "_value_at"),
    )

    def __init__(self, looked_at: Wanted) -> None:
        self.given_up = False  # what remains would be too long, or it takes too many steps
        # Of the outermost object: the keys that somebody looks at, and where their values begin and end in the text
        self.members: list[tuple[str, int, int]] = []
        self._key_now = ""
        self._value_at = -1
        self._fed_bytes = 0
        self._out: list[bytes] = []
        self._kept_bytes = 0
        self._steps = 0
        self._rest = b""  # the beginning of a token whose end hasn't come
        self._mode = _VALUE
        self._open: list[_Open] = []
        self._wanted: Wanted | None = looked_at  # of the value that comes next; None: nobody looks at it
        self._separate = False  # what is kept next needs a comma before it
        # While a value, or a key, is passed over:
        self._kind = 0  # its first byte
        self._value_bytes = 0  # of it so far
        self._depth = 0  # of the arrays and objects that are open in it
        self._fresh = False  # the outermost one has just opened
        self._empty = False  # there is nothing in it
        self._in_string = self._in_scalar = self._escaped = False

    def feed(self, piece: bytes) -> None:
        """Take the text's next bytes."""
        data = self._rest + piece if self._rest else piece
        self._rest = b""
        at, end = 0, len(data)
        self._fed_bytes += len(piece)
        before_bytes = self._fed_bytes - end
        while at < end and self._mode != _NOTHING:
            if self._depth or self._in_string or self._in_scalar:
                begun = at
                at = self._pass_over(data, at)
                self._value_bytes += at - begun
                if not (self._depth or self._in_string or self._in_scalar):
                    self._passed_over()
            else:
                at = _end(_SPACE, data, at)
                if at < end:
                    self._step()
                    if self._mode == _VALUE and self._wanted is not None and len(self._open) == 1:
                        self._value_at = before_bytes + at
                    at = self._go_on(data, at, data[at])
            if self._mode == _AFTER and self._value_at >= 0 and len(self._open) == 1:
                self.members.append((self._key_now, self._value_at, before_bytes + at))
                self._value_at = -1

    @property
    def whole(self) -> bool:
        """Whether the text's end has come."""
        return self._mode == _END

    def finish(self) -> bytes | None:
        """What remains of the text, which has ended; None where it was given up."""
        if self.given_up:
            return None
        if self._in_scalar and not self._open:
            self._passed_over()
        return b"".join((*self._out, self._rest))

    def _go_on(self, data: bytes, at: int, sign: int) -> int:
        """Take what begins at `at`, which is no space. Returns where it ends."""
        mode = self._mode
        if mode in (_VALUE, _FIRST_VALUE) and (mode == _VALUE or sign != _ARRAY_END):
            return self._value(data, at, sign)
        if mode in (_KEY, _FIRST_KEY) and sign == _QUOTE:
            return self._key(data, at)
        if mode == _COLON and sign == _COLON_SIGN:
            self._mode = _VALUE
        elif mode in (_AFTER, _FIRST_VALUE, _FIRST_KEY) and sign == self._open[-1].closing:
            self._open.pop()
            self._separate = False
            self._keep(b"%c" % sign)
            self._value_over()
        elif mode == _AFTER and sign == _COMMA:
            inside = self._open[-1]
            self._mode = _VALUE if inside.closing == _ARRAY_END else _KEY
            self._wanted = inside.wanted.each
        else:
            return self._malformed(data)
        return at + 1

    def _key(self, data: bytes, at: int) -> int:
        end = _end(_STRING, data, at)
        if end < 0 and len(data) - at <= KEPT_TEXT_BYTES:
            self._rest = data[at:]
            return len(data)
        self._mode = _COLON
        self._wanted = None
        if end < 0:  # such a long key is none of ours
            self._in_string = True
            return at + 1
        key = data[at + 1 : end - 1] if end - at <= KEPT_TEXT_BYTES else b""
        if b"\\" in key:
            key = _unescaped(key)
        self._wanted = (self._open[-1].wanted.members or {}).get(key)
        if self._wanted is not None:
            if len(self._open) == 1:
                self._key_now = key.decode()
            self._keep(b'"' + key + b'":')
            self._separate = False
        return end

    def _value(self, data: bytes, at: int, sign: int) -> int:
        looked_at = self._wanted
        if sign in _OPENING:
            if looked_at is None or (looked_at.each if sign == _ARRAY else looked_at.members) is None:
                self._kind, self._value_bytes = sign, 1
                self._depth, self._fresh, self._empty = 1, True, False
                return at + 1
            self._keep(b"%c" % sign)
            self._separate = False
            self._open.append(_Open(looked_at, sign + 2))  # so far from each other are the two brackets in ASCII
            self._wanted = looked_at.each
            self._mode = _FIRST_VALUE if sign == _ARRAY else _FIRST_KEY
            return at + 1
        end = _end(_STRING if sign == _QUOTE else _SCALAR, data, at)
        if end == at:
            return self._malformed(data)
        if end < 0 or (sign != _QUOTE and end == len(data)):  # its end hasn't come
            if looked_at is not None and len(data) - at <= KEPT_TEXT_BYTES:
                self._rest = data[at:]
                return len(data)
            self._kind, self._value_bytes = sign, 1
            self._in_string, self._in_scalar = sign == _QUOTE, sign != _QUOTE
            return at + 1
        if looked_at is not None:
            if end - at <= KEPT_TEXT_BYTES:
                self._keep(data[at:end])
            else:
                self._kind, self._value_bytes = sign, end - at
                self._keep_length(looked_at)
        self._value_over()
        return end

    def _pass_over(self, data: bytes, at: int) -> int:
        """Go on in a value, or in a key, that isn't kept. Returns where it goes on from, its end at the most."""
        if self._in_scalar:
            at = _end(_SCALAR, data, at)
            self._in_scalar = at == len(data)
            return at
        if self._in_string:
            at = _end(_STRING_REST, data, at + self._escaped)
            self._escaped = data.startswith(b"\\", at)  # the last byte: what it escapes comes next
            self._in_string = not data.startswith(b'"', at)
            return min(at + 1, len(data))
        if self._fresh:
            at = _end(_SPACE, data, at)
            if at == len(data):
                return at
            self._fresh = False
            if data[at] in b"]}":
                self._depth, self._empty = 0, True
                return at + 1
        at = _end(_BALANCED, data, at)
        if at == len(data):
            return at
        self._step()
        sign = data[at]
        if sign == _QUOTE:
            self._in_string = True
        else:
            self._depth += 1 if sign in _OPENING else -1
            if self._depth > MAX_DEPTH:
                return self._malformed(data)
        return at + 1

    def _passed_over(self) -> None:
        """The end of what was passed over has come."""
        if self._mode == _COLON or self._mode == _NOTHING:
            return  # it was a key, or it is malformed
        if self._wanted is not None:
            self._keep_length(self._wanted)
        self._value_over()

    def _keep_length(self, looked_at: Wanted) -> None:
        """Keep the length of a value, or at least its kind."""
        if self._kind == _OBJECT or self._kind == _ARRAY:
            if self._empty:
                self._keep(b"{}" if self._kind == _OBJECT else b"[]")
            elif not looked_at.text:
                self._keep(b'{"":0}' if self._kind == _OBJECT else b"[0]")
            else:
                self._keep(b'{"\\u0000":%d}' % self._value_bytes)
        elif self._kind == _QUOTE and looked_at.text:
            self._keep(b'{"\\u0000":%d}' % self._value_bytes)
        else:
            self._keep(b"null")

    def _value_over(self) -> None:
        self._mode = _NOTHING if self._mode == _NOTHING else _AFTER if self._open else _END

    def _keep(self, token: bytes) -> None:
        if self._separate:
            token = b"," + token
        self._separate = True
        self._out.append(token)
        self._kept_bytes += len(token)
        if self._kept_bytes > MAX_RESULT_BYTES:
            self._give_up()

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            self._give_up()

    def _malformed(self, data: bytes) -> int:
        """It isn't JSON. Whoever decodes the result sees that, too."""
        if not self.given_up:
            self._out.append(b"!")
        self._mode = _NOTHING
        self._depth = 0
        return len(data)

    def _give_up(self) -> None:
        self.given_up = True
        self._mode = _NOTHING
        self._out.clear()


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where the match at `at` ends; -1 where there is none."""
    match = pattern.match(data, at)
    return -1 if match is None else match.end()


def _unescaped(key: bytes) -> bytes:
    """A key without escapes; an empty one, which nobody looks at, where they are wrong."""
    try:
        return _KEY_TEXT.decode(b'"' + key + b'"').encode()
    except (msgspec.DecodeError, UnicodeError):
        return b""


_KEY_TEXT: Final = msgspec.json.Decoder(str)
