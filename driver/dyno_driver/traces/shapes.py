"""The shapes of traces, and how a row of each becomes a request. Pure.

a row's columns ─▶ its shape ─▶ requests with a time, the tokens of prompt and answer, and ids of shared blocks
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, NamedTuple

Row = Mapping[str, Any]


class Request(NamedTuple):
    """A request of a trace. `at_ns` counts from any moment, the same for the whole trace. `number`: its place in the
    file, from 1. `prompt`: its text, where the trace has it.
    """

    at_ns: int
    number: int
    input_tokens: int
    output_tokens: int
    hash_ids: tuple[int | str, ...] = ()
    prompt: str | None = None


class Shape(NamedTuple):
    """A known shape: its columns, by names of letters and digits alone, and what a time in it is."""

    name: str
    time: str
    input_tokens: str
    output_tokens: str
    written: str  # the columns, as a person reads them
    read_time: Callable[[Any], int]
    hash_ids: str | None = None


class BadValueError(ValueError):
    """A cell that isn't what its column holds. The message names both."""


LARGEST_TOKENS: Final = 10_000_000
_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?)?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?", re.IGNORECASE
)
_PLAIN_NUMBER: Final = re.compile(r"([+-]?)(\d+)(?:\.(\d*))?")


def moment_ns(value: Any) -> int:
    """A date with its time, in Unix ns; without a zone it is UTC. A number is of seconds. ValueError otherwise."""
    if isinstance(value, datetime):
        since = (value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH
        return (since.days * 86_400 + since.seconds) * _NS + since.microseconds * 1000
    found = _MOMENT.fullmatch(str(value).strip())
    if found is None:
        return seconds_ns(value)
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    whole = datetime(year, month, day, hour, minute, second, tzinfo=_zone(found[8])) - _EPOCH
    return (whole.days * 86_400 + whole.seconds) * _NS + int((found[7] or "0")[:9].ljust(9, "0"))


def _zone(text: str | None) -> timezone:
    if text is None or text.upper() in ("Z", "UTC"):
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def seconds_ns(value: Any) -> int:
    """Seconds as ns. ValueError for what isn't a number."""
    return _scaled(value, 9)


def milliseconds_ns(value: Any) -> int:
    """Milliseconds as ns. ValueError for what isn't a number."""
    return _scaled(value, 6)


def microseconds_ns(value: Any) -> int:
    """Microseconds as ns; a timestamp as it is. ValueError for what isn't a number."""
    return moment_ns(value) if isinstance(value, datetime) else _scaled(value, 3)


def _scaled(value: Any, digits: int) -> int:
    """value · 10^digits, exactly where it is written as a decimal number."""
    if isinstance(value, bool) or value is None:
        raise ValueError(value)
    plain = _PLAIN_NUMBER.fullmatch(str(value).strip())
    if plain is None:
        number = float(str(value))
        if not math.isfinite(number) or abs(number) > 1e15:
            raise ValueError(value)
        return round(number * float(10**digits))
    sign, whole, fraction = plain.groups()
    if len(whole) > 18:
        raise ValueError(value)
    scaled = int(whole + (fraction or "")[:digits].ljust(digits, "0"))
    return -scaled if sign == "-" else scaled


AZURE: Final = Shape(
    "Azure's LLM inference trace",
    "timestamp",
    "contexttokens",
    "generatedtokens",
    "TIMESTAMP,ContextTokens,GeneratedTokens",
    moment_ns,
)
BURST_GPT: Final = Shape(
    "BurstGPT", "timestamp", "requesttokens", "responsetokens", "Timestamp,Request tokens,Response tokens", moment_ns
)
MOONCAKE: Final = Shape(
    "Mooncake's trace",
    "timestamp",
    "inputlength",
    "outputlength",
    "timestamp,input_length,output_length,hash_ids",
    milliseconds_ns,
    "hashids",
)
SPANS: Final = Shape(
    "Dyno's span files",
    "startedatus",
    "inputtokens",
    "outputtokens",
    "started_at_us,input_tokens,output_tokens",
    microseconds_ns,
)
# A Parquet span file has its times as timestamps, under another name.
SPANS_IN_PARQUET: Final = SPANS._replace(time="startedat", written="started_at,input_tokens,output_tokens")
SHAPES: Final = (AZURE, BURST_GPT, MOONCAKE, SPANS, SPANS_IN_PARQUET)


def known_shapes() -> str:
    """The shapes, as a line lists them."""
    return "; ".join(f"{shape.name} ({shape.written})" for shape in SHAPES if shape is not SPANS_IN_PARQUET)


def plain(column: str) -> str:
    """A column's name without case, spaces and punctuation: `Request tokens` → `requesttokens`."""
    return "".join(letter for letter in column.casefold() if letter.isalnum())


def shape_of(columns: Iterable[str]) -> Shape | None:
    """The shape that has these columns; None for an unknown one."""
    there = {plain(column) for column in columns}
    if {"traceid", "spanid"} <= there:  # a span has no column for what isn't known
        return SPANS if SPANS.time in there else SPANS_IN_PARQUET if SPANS_IN_PARQUET.time in there else None
    return next((each for each in SHAPES if {each.time, each.input_tokens, each.output_tokens} <= there), None)


def request_of(row: Row, shape: Shape, number: int) -> Request:
    """The request of a row. Raises BadValueError for a cell that can't be read."""
    cells = {plain(str(column)): (column, value) for column, value in row.items()}
    name, value = cells.get(shape.time, (shape.time, None))
    try:
        at_ns = shape.read_time(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadValueError(f"'{name}' is {_shown(value)}; it must be a time") from error
    return Request(
        at_ns,
        number,
        _tokens(*cells.get(shape.input_tokens, (shape.input_tokens, None))),
        _tokens(*cells.get(shape.output_tokens, (shape.output_tokens, None))),
        _hash_ids(*cells.get(shape.hash_ids, (shape.hash_ids, None))) if shape.hash_ids else (),
    )


def _tokens(name: str, value: Any) -> int:
    number = math.nan
    if not isinstance(value, bool) and value is not None:
        try:
            number = float(value)
        except (ValueError, TypeError, OverflowError):
            number = math.nan
    if not (0 <= number <= LARGEST_TOKENS and number.is_integer()):
        raise BadValueError(f"'{name}' is {_shown(value)}; it must be a whole number of tokens, 0 or more")
    return int(number)


def _hash_ids(name: str, value: Any) -> tuple[int | str, ...]:
    if value is None or value == "":
        return ()
    ids = value
    if isinstance(value, str):  # in a CSV file's cell
        try:
            ids = json.loads(value)
        except ValueError:
            ids = value
    if isinstance(ids, Sequence) and not isinstance(ids, str) and all(type(each) in (int, str) for each in ids):
        return tuple(ids)
    raise BadValueError(f"'{name}' is {_shown(value)}; it must be a list of ids")


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    text = " ".join(str(value).split())
    return f"'{text if len(text) <= 40 else text[:39] + '…'}'"
