"""How long an endpoint asks to wait: Retry-After, and the body of a refusal. Pure."""

import re
from typing import Any, Final

import msgspec

from .fitting import decoded
from .skim import Skim, wanted

_WAIT: Final = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(|ms|s|sec|seconds?|m|min|minutes?|h|hours?)\s*", re.ASCII)
_UNITS_S: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_said(value: object) -> float | None:
    """The wait in s that `2`, `"2"`, `"1 second"` or `"5 min"` means; None for anything else, even a date."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < 1e9 else None
    match = _WAIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    unit = match.group(2)
    return float(match.group(1)) * _UNITS_S[unit if unit in _UNITS_S else unit[0]]


def read_retry_after(body: bytes) -> float | None:
    """The wait in s by `retry_after` at the top level of a refusal's body. ALCF's nginx writes `"1 second"` there."""
    refusal = decoded(_REFUSAL, body)
    return None if refusal is None else seconds_said(refusal.retry_after)


def skim_refusal() -> Skim:
    """Skims a long refusal."""
    return Skim(_WANTED)


class _Refusal(msgspec.Struct, gc=False):
    retry_after: Any = None


_REFUSAL: Final = msgspec.json.Decoder(_Refusal)
_WANTED: Final = wanted(_Refusal)
