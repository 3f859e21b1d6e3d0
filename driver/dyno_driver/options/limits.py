"""The options that limit a run, and the one that goes on with it."""

import argparse
from dataclasses import dataclass
from typing import Final

from dyno_driver.waits import duration_s

from .values import number, positive_int

DEFAULT_PATIENCE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no limit. `max_cost` is in the price's currency. `patience_s`: how long a pause may last."""

    max_requests: int | None = None
    max_cost: float | None = None
    budget_s: float | None = None
    patience_s: float = DEFAULT_PATIENCE_S


NO_LIMITS: Final = Limits()


def add_limits(how: "argparse._ArgumentGroup") -> list[argparse.Action]:
    """Add them. Returns those that a workload's file may set."""
    how.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a run that was stopped or killed, by its id, the beginning of its id, or 'latest': what has "
        "no answer yet is sent, as its own options say",
    )
    return [
        how.add_argument(
            "--max-requests", type=positive_int, metavar="N", help="send at most N requests, warm-ups included"
        ),
        how.add_argument(
            "--max-cost",
            type=cost,
            metavar="X",
            help="spend at most X, by the endpoints' price in dyno.toml: by estimate before a request, as it was after",
        ),
        how.add_argument(
            "--budget", type=duration, metavar="TIME", help="begin no pair of requests after TIME, such as 90s, 30m, 2h"
        ),
        how.add_argument(
            "--patience",
            type=duration,
            default=DEFAULT_PATIENCE_S,
            metavar="TIME",
            help="how long the run pauses where the proxy or an endpoint is down, or asks to wait (default: 5m)",
        ),
    ]


def limits(parsed: argparse.Namespace) -> Limits:
    """The options that `add_limits` added, as typed values."""
    return Limits(parsed.max_requests, parsed.max_cost, parsed.budget, parsed.patience)


def cost(text: str) -> float:
    return number(text, 1e-12, "an amount above 0")


def duration(text: str) -> float:
    found = duration_s(text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' must be a time above 0, such as 90s, 30m or 1h30m")
    return found
