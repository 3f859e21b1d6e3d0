"""Limits that an endpoint has to keep, as `--slo ttft_p95=2s,tpot_p95=50ms` has them. Pure."""

import math
import re
from dataclasses import dataclass
from typing import Final

FIGURES: Final = {"latency": "latency_s", "ttfb": "ttfb_s", "ttft": "ttft_s", "ttfa": "ttfa_s", "tpot": "tpot_s"}
_SHARES: Final = ("success", "error_rate")
_UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_NAME: Final = re.compile(r"([a-z]+)_p(\d{1,2}(?:\.\d+)?)")
_LIMIT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(\D*)")


@dataclass(frozen=True)
class Objective:
    """At least `share` of all requests must have a `figure` of `at_most_s` seconds or less."""

    text: str  # as it was asked for
    figure: str | None  # a column of load_requests.sql; None: that a request is ok is enough
    share: float
    at_most_s: float


def read_slo(text: str) -> list[Objective]:
    """The objectives of a list, parted by commas.

    Raises ValueError, whose text says which part is wrong and what to write.
    """
    parts = [part.strip() for part in text.split(",")]
    found = [_objective(part) for part in parts]
    names = [part.partition("=")[0].strip() for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"'{name}' stands there twice; leave one out")
    return found


def _objective(text: str) -> Objective:
    name, equals, limit = (piece.strip() for piece in text.partition("="))
    if name in _SHARES:
        return _of_share(text, name, limit)
    known = _NAME.fullmatch(name)
    if known is None or known[1] not in FIGURES or not 0 < float(known[2]) < 100:
        what = f"no figure '{name}'" if name else "a figure is missing"
        raise ValueError(
            f"{what}; write one of {', '.join(FIGURES)} with a percentile and a limit, such as ttft_p95=2s, "
            "or success=99%"
        )
    number = _LIMIT.fullmatch(limit)
    if not equals or number is None or not float(number[1]) > 0 or not math.isfinite(float(number[1])):
        raise ValueError(f"'{text}' needs a limit above 0, such as {name}=2s or {name}=50ms")
    if number[2].strip() not in _UNITS:
        raise ValueError(f"'{text}' needs a unit, s, ms or us, such as {name}={number[1]}s")
    return Objective(
        f"{name}={number[1]}{number[2].strip()}",
        FIGURES[known[1]],
        float(known[2]) / 100,
        float(number[1]) * _UNITS[number[2].strip()],
    )


def _of_share(text: str, name: str, limit: str) -> Objective:
    number = _LIMIT.fullmatch(limit)
    if number is None or number[2].strip() != "%" or not 0 < float(number[1]) < 100:
        example = "99%" if name == "success" else "1%"
        raise ValueError(f"'{text}' needs a share above 0 and below 100 %, such as {name}={example}")
    share = float(number[1]) / 100
    return Objective(f"{name}={number[1]}%", None, share if name == "success" else 1 - share, math.inf)
