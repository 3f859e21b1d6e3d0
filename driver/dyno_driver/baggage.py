"""The W3C headers that tell the proxy which request of which run this is. Pure.

W3C Trace Context (level 1) and W3C Baggage. The keys are the names of the span's attributes, in one place of the
proxy's; `tests/contract/` holds the two together.
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

# W3C Baggage, `baggage-octet`: printable ASCII without space, quotes, comma, semicolon, backslash; and the percent
# sign, which opens an escape.
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
    """The value of a `baggage` header. Values may be any text; keys must be tokens already, as ours are."""
    return ",".join(f"{key}={quote(value, safe=_PLAIN)}" for key, value in members.items())
