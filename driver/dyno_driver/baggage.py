"""The W3C headers that tell the proxy which request of which run this is. Pure.

They follow W3C Trace Context (level 1) and W3C Baggage. The baggage keys equal the proxy's attribute names;
`tests/contract/` checks that they do.
"""

import functools
import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

from .load.schedule import Turn

RUN_ID: Final = "dyno.run.id"
WORKLOAD: Final = "dyno.workload"
PROMPT_ID: Final = "dyno.prompt.id"
REPEAT: Final = "dyno.repeat"
WARMUP: Final = "dyno.warmup"
CONCURRENCY: Final = "dyno.load.concurrency"
RATE: Final = "dyno.load.rate_per_s"
DUE_AT: Final = "dyno.due_at_unix_us"
SEND_LAG: Final = "dyno.send_lag_s"

# The punctuation that needs no escape: W3C Baggage's `baggage-octet` (printable ASCII without space, double quote,
# comma, semicolon and backslash), less the percent sign, which opens an escape.
_PLAIN: Final = "!#$&'()*+-./:<=>?@[]^_`{|}~"
_UNESCAPED: Final = re.compile(r"[\w.:-]*", re.ASCII)  # most values; looking is quicker than escaping


class Due(NamedTuple):
    """When an open loop's request was due, and how late it left, by one monotonic clock."""

    at_unix_us: int
    lag_s: float


def headers(
    run_id: str, workload: str, turn: Turn, trace_id: str, span_id: str, due: Due | None = None
) -> dict[str, str]:
    """`traceparent` (sampled) and `baggage` of one request. `trace_id` has 32, `span_id` 16 lower-case hex digits."""
    members = {
        RUN_ID: run_id,
        WORKLOAD: workload,
        PROMPT_ID: turn.prompt_id,
        REPEAT: str(turn.repeat),
        WARMUP: "true" if turn.warmup else "false",
    }
    if turn.load.concurrency is not None:
        members[CONCURRENCY] = str(turn.load.concurrency)
    if turn.load.rate_per_s is not None:
        members[RATE] = f"{turn.load.rate_per_s:.12g}"
    if due is not None:
        members[DUE_AT] = str(due.at_unix_us)
        members[SEND_LAG] = f"{due.lag_s:.6f}"
    return {"traceparent": f"00-{trace_id}-{span_id}-01", "baggage": encode(members)}


def encode(members: Mapping[str, str]) -> str:
    """The value of a `baggage` header. A value may be any text. A key isn't escaped, so it must be an HTTP token."""
    return ",".join([f"{key}={_escaped(value)}" for key, value in members.items()])


@functools.lru_cache(maxsize=512)
def _escaped(value: str) -> str:
    return value if _UNESCAPED.fullmatch(value) else quote(value, safe=_PLAIN)
