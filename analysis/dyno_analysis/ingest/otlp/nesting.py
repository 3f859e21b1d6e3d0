"""Several spans of one call to a model become one row. Pure.

    framework's 'chat' (tokens) ── HTTP ── SDK's 'chat' (tokens) ── the engine's 'llm_request'
            left out                              kept                      left out

A figure is of the endpoint, seen by who calls it, so the innermost caller's span is kept: nothing of a framework's own
time is in it. An outer span is kept instead where it alone has the tokens. An engine's span of itself (SERVER) is kept
only where no caller's is there. Dyno's own spans are always kept. Where one span holds several calls (retries, the
rounds of an agent), each of these is a request, and the span around them is none.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """A span of a trace, as far as nesting needs it. `seq` is its row's number; None if it isn't a new row."""

    span_id: str
    parent: str | None
    seq: int | None = None
    request: bool = False  # to a model
    settled: bool = False  # kept whatever is around it: Dyno's own, or stored already
    usage: bool = False
    server: bool = False  # an engine's, or a gateway's, of what it received
    weak: bool = False  # the model's name is all that speaks for a request
    response: str | None = None  # the answer's id, which spans of one call share even where none is in the other


def left_out(trace: Sequence[Said]) -> tuple[set[int], set[int]]:
    """The numbers of a trace's rows that aren't requests of their own: those nested, and those that are none."""
    requests = [span for span in trace if span.request]
    strong = any(not span.weak for span in requests)
    none = {span.seq for span in requests if strong and span.weak and span.seq is not None}
    requests = [span for span in requests if not (strong and span.weak)]
    if len(requests) < 2:
        return set(), none
    inner = _inner(requests, {span.span_id: span.parent for span in trace})
    kept: dict[str, list[Said]] = {}
    dropped: set[int] = set()
    for span in _innermost_first(requests, inner):
        below = [each for child in inner[span.span_id] for each in kept[child.span_id]]
        kept[span.span_id], out = _of_one_call(span, below)
        dropped |= {each.seq for each in out if each.seq is not None}
    return dropped | _told_again([span for span in requests if span.seq not in dropped]), none


def _told_again(requests: Sequence[Said]) -> set[int]:
    """The numbers of rows whose answer another row has: callbacks of a framework make a span beside the SDK's."""
    by_answer: dict[str, list[Said]] = defaultdict(list)
    for span in requests:
        if span.response:
            by_answer[span.response].append(span)
    dropped: set[int] = set()
    for same in by_answer.values():
        best = max(same, key=lambda span: (span.settled, span.usage, not span.server, span.seq or 0))
        dropped |= {span.seq for span in same if span is not best and not span.settled and span.seq is not None}
    return dropped


def _of_one_call(span: Said, below: list[Said]) -> tuple[list[Said], list[Said]]:
    """Which spans are kept of `span` and those kept below it, and which of them are left out."""
    callers = [each for each in below if each.settled or not each.server]
    if not callers and not span.server:
        # Below it is nothing, or an engine that speaks of itself.
        return [span], [each for each in below if not each.settled]
    if not callers:
        callers = below
    if not callers:
        return [span], []
    if span.settled:
        return [span, *(each for each in below if each.settled)], [each for each in below if not each.settled]
    alone = callers[0] if len(callers) == 1 else None
    if span.usage and alone is not None and not alone.usage and not alone.settled:
        return [span], below
    return callers, [span, *(each for each in below if each not in callers)]


def _inner(requests: Iterable[Said], parents: Mapping[str, str | None]) -> Mapping[str, list[Said]]:
    """For each request the requests whose nearest request above it is."""
    known = {span.span_id for span in requests}
    inner: dict[str, list[Said]] = defaultdict(list)
    for span in requests:
        above, passed = span.parent, {span.span_id}
        while above and above not in known and above not in passed:
            passed.add(above)
            above = parents.get(above)
        if above in known and above not in passed:
            inner[str(above)].append(span)
    return inner


def _innermost_first(requests: Sequence[Said], inner: Mapping[str, list[Said]]) -> list[Said]:
    """The requests, each after those inside it. Spans that are each other's parents aren't nested: they are skipped."""
    below = {child.span_id for children in inner.values() for child in children}
    order, waiting = [], [span for span in requests if span.span_id not in below]
    while waiting:
        span = waiting.pop()
        order.append(span)
        waiting += inner.get(span.span_id, ())
    return order[::-1]
