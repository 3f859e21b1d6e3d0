"""The W3C headers that tell the proxy which request of which run this is. Pure.

They follow W3C Trace Context (level 1) and W3C Baggage. The baggage keys equal the proxy's attribute names;
`tests/contract/` checks that they do.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from .schedule import Turn

RUN_ID: Final = "dyno.run.id"
WORKLOAD: Final = "dyno.workload"
PROMPT_ID: Final = "dyno.prompt.id"
REPEAT: Final = "dyno.repeat"
WARMUP: Final = "dyno.warmup"

# The punctuation that needs no escape: W3C Baggage's `baggage-octet` (printable ASCII without space, double quote,
# comma, semicolon and backslash), less the percent sign, which opens an escape.
_PLAIN: Final = "!#$&'()*+-./:<=>?@[]^_`{|}~"


def headers(run_id: str, workload: str, turn: Turn, trace_id: str, span_id: str) -> dict[str, str]:
    """`traceparent` (sampled) and `baggage` of one request. `trace_id` has 32, `span_id` 16 lower-case hex digits."""
    members = {
        RUN_ID: run_id,
        WORKLOAD: workload,
        PROMPT_ID: turn.prompt_id,
        REPEAT: str(turn.repeat),
        WARMUP: "true" if turn.warmup else "false",
    }
    return {"traceparent": f"00-{trace_id}-{span_id}-01", "baggage": encode(members)}


def encode(members: Mapping[str, str]) -> str:
    """The value of a `baggage` header. A value may be any text. A key isn't escaped, so it must be an HTTP token."""
    return ",".join(f"{key}={quote(value, safe=_PLAIN)}" for key, value in members.items())
