"""Delivers a batch of spans, and finds those that the endpoint refuses. Pure: how a part is sent is an argument.

accepted ─▶ done      again, forbidden ─▶ stop here: it is tried later
bad ──────▶ the batch's halves, down to single spans: these are dropped, if the endpoint takes others
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

_REFUSALS: Final = 20  # by an endpoint that has taken nothing yet: then the fault isn't a span's


class Kind(Enum):
    """What an answer means for what was sent."""

    ACCEPTED = "accepted"
    AGAIN = "again"  # the endpoint is away, or busy
    FORBIDDEN = "forbidden"  # it will refuse everything until somebody mends it
    BAD = "bad"  # it refuses this batch


class Answer(NamedTuple):
    """How an endpoint answered. `rejected`: so many of the spans weren't taken. `text` is for the log."""

    kind: Kind
    text: str = ""
    retry_after_s: float = 0.0
    rejected: int = 0


class Delivered(NamedTuple):
    """`taken`: for each span from the first on, whether it was taken; further ones have to be sent again.

    `rejected`: of those that were taken, so many weren't, by the endpoint's own count. `stopped`: why it stopped.
    """

    taken: list[bool]
    rejected: int
    stopped: Answer | None


class Delivery:
    """Sends batches, one after the other."""

    def __init__(self, send: Callable[[Sequence[ReadableSpan]], Answer]) -> None:
        self._send = send
        self._accepted = False  # whether the endpoint has taken anything from this process

    def deliver(self, spans: Sequence[ReadableSpan]) -> Delivered:
        """Send the spans, in their order."""
        taken: list[bool] = []
        rejected = refusals = 0
        stopped = refusal = None
        parts = [spans]
        while parts and stopped is None:
            part = parts.pop()
            answer = self._send(part)
            if answer.kind is Kind.ACCEPTED:
                self._accepted = True
                rejected += min(answer.rejected, len(part))
                taken += [True] * len(part)
            elif answer.kind is not Kind.BAD:
                stopped = answer
            else:
                refusal, refusals = answer, refusals + 1
                if len(part) == 1:
                    taken.append(False)
                else:
                    half = (len(part) + 1) // 2
                    parts += [part[half:], part[:half]]
                if not self._accepted and refusals >= _REFUSALS:
                    stopped = answer
        if not self._accepted:
            return Delivered([], 0, stopped or refusal)
        return Delivered(taken, rejected, stopped)
