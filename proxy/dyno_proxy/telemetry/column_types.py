"""The values that a column of a row can hold, by its type. Pure."""

import math
from array import array
from collections.abc import Callable
from typing import Final


def is_int64(value: int) -> bool:
    """Whether a column of integers can hold it."""
    return -(2**63) <= value < 2**63


def _fitted_string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _fitted_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _fitted_int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and is_int64(value) else None


def _fitted_float(value: object) -> float | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _fitted_int(value)


def _fitted_strings(value: object) -> list[str] | None:
    return list(value) if isinstance(value, tuple | list) and all(isinstance(item, str) for item in value) else None


def _fitted_ints(value: object) -> list[int] | None:
    if not isinstance(value, tuple | list):
        return None
    try:
        return array("q", value).tolist()  # a million offsets are checked in C
    except (TypeError, OverflowError):
        return None


# By a column's type: the value as the column holds it, None where it doesn't fit.
FITTED: Final[dict[str, Callable[[object], object | None]]] = {
    "string": _fitted_string,
    "bool": _fitted_bool,
    "int": _fitted_int,
    "float": _fitted_float,
    "string[]": _fitted_strings,
    "int[]": _fitted_ints,
}
