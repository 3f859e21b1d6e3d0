"""How long an endpoint asks to wait, by the head and the body of a refusal. Pure.

Retry-After is RFC 9110's (seconds, or a date). `retry-after-ms` is Azure's and OpenAI's. `x-ratelimit-reset-…` has a
duration (`1m30s`, `250ms`), seconds, or a Unix time, as vendors differ.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST_S: Final = 366 * 86_400.0

_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s*(ms|seconds?|sec|s|minutes?|min|m|hours?|h|days?|d)?", re.ASCII)
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RESET: Final = re.compile(r"(?:x-)?ratelimit-reset(?P<of>-[a-z0-9-]+)?", re.IGNORECASE)
# A number of seconds beyond this is a moment, not a wait.
_UNIX_TIMES_FROM_S: Final = 1e9


def asked_wait_s(headers: Mapping[str, str], body: bytes, now_s: float) -> float | None:
    """The wait in s, 0 or more, that a refusal asks for; None if it says nothing of it. `now_s`: Unix time."""
    low = {name.lower(): value.strip() for name, value in headers.items()}
    for found in (_ms(low.get("retry-after-ms")), _after(low.get("retry-after"), now_s), _in_body(body)):
        if found is not None:
            return found
    return _reset(low, now_s)


def duration_s(text: str) -> float | None:
    """`90`, `1.5s`, `250ms`, `1m30s`, `1 second`, as s; None for anything else."""
    text, total_s, at = text.strip().lower(), 0.0, 0
    while match := _PART.match(text, at):
        unit = match.group(2) or "s"
        total_s += float(match.group(1)) * _UNITS_S["ms" if unit == "ms" else unit[0]]
        at = match.end()
        while at < len(text) and text[at] == " ":
            at += 1
        if at == len(text):
            return _bounded(total_s)
        if match.group(2) is None:
            return None
    return None


def _bounded(wait_s: float) -> float | None:
    return min(max(wait_s, 0.0), LONGEST_S) if math.isfinite(wait_s) else None


def _ms(text: str | None) -> float | None:
    try:
        return None if text is None else _bounded(float(text) / 1e3)
    except ValueError:
        return None


def _after(text: str | None, now_s: float) -> float | None:
    if text is None:
        return None
    if (found := duration_s(text)) is not None:
        return found
    return _until(text, now_s)


def _until(text: str, now_s: float) -> float | None:
    """The time until a date: HTTP's three forms, or RFC 3339."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return _bounded(moment.timestamp() - now_s)
    except (OverflowError, ValueError):
        return None


def _in_body(body: bytes) -> float | None:
    """`retry_after` at the top of the body, as nginx before ALCF's gateway writes it: `"1 second"`."""
    if b"retry_after" not in body:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    value = document.get("retry_after") if isinstance(document, dict) else None
    if isinstance(value, str):
        return duration_s(value)
    return _bounded(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _reset(headers: Mapping[str, str], now_s: float) -> float | None:
    """The time until the limit that is used up starts anew. Where none is said to be used up, the shortest counts."""
    used_up: list[float] = []
    others: list[float] = []
    for name, value in headers.items():
        match = _RESET.fullmatch(name)
        if match is None:
            continue
        wait_s = duration_s(value)
        if wait_s is None:
            wait_s = _until(value, now_s)
        elif value.replace(".", "", 1).isdigit() and float(value) >= _UNIX_TIMES_FROM_S:
            wait_s = _bounded(float(value) - now_s)
        if wait_s is not None:
            left = headers.get(name.replace("reset", "remaining"), "")
            (used_up if left == "0" else others).append(wait_s)
    return max(used_up) if used_up else min(others, default=None)
