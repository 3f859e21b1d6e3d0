"""W3C trace context and baggage, as a request carries them. Pure.

https://www.w3.org/TR/trace-context/ and https://www.w3.org/TR/baggage/: both ask to ignore what isn't well formed.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from dyno_proxy.attributes import ATTRIBUTES, BAGGAGE

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TYPES: Final = {attribute.name: attribute.type for attribute in ATTRIBUTES if attribute.name in BAGGAGE}
_MAX_BAGGAGE_BYTES: Final = 8192
_MAX_VALUE_CHARACTERS: Final = 256
_BOOLEANS: Final = {"true": True, "false": False}


def read_traceparent(header: str | None) -> tuple[int, int, bool] | None:
    """(trace id, the client's span id, its sampled flag); None without a valid traceparent."""
    match = None if header is None else _TRACEPARENT.fullmatch(header.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1)


def read_baggage(headers: Iterable[str]) -> dict[str, str | int | float | bool]:
    """Dyno's own tags in the baggage: attribute name -> value of the attribute's type. Others are left out."""
    tags: dict[str, str | int | float | bool] = {}
    for member in ",".join(headers)[:_MAX_BAGGAGE_BYTES].split(","):
        name, _, value = member.partition(";")[0].partition("=")
        kind = _TYPES.get(name.strip())
        if kind is None:
            continue
        typed = _typed(unquote(value.strip())[:_MAX_VALUE_CHARACTERS], kind)
        if typed is not None:
            tags[name.strip()] = typed
    return tags


def _typed(text: str, kind: str) -> str | int | float | bool | None:
    if kind == "string":
        return text
    if kind == "bool":
        return _BOOLEANS.get(text.lower())
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError:
        return None
