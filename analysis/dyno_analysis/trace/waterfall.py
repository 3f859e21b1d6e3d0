"""A trace as a waterfall: a tree of spans with their phases, and bars on one time axis. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dyno_analysis.controls import on_one_line

_FULL, _EMPTY = "█", "·"
_LEAST_BAR, _MOST_LABEL, _INDENT = 20, 60, 4
_MOST_NOTE = 0.4  # of the width; longer notes stand below their bars
_EARLY = "begins before its parent: another clock"

# A request's phases: the event that ends each, and its name. If an event isn't known, its phase is part of the next.
_PHASES = (
    ("body_received_us", "client's body"),
    ("connected_us", "connection"),
    ("sent_us", "proxy"),
    ("headers_us", "wait for the response"),
    ("first_token_us", "wait for the first token"),
    ("first_answer_us", "reasoning"),
    ("last_token_us", "tokens"),
)
_SERVER_PHASES = (("queue_s", "queue"), ("prefill_s", "prefill"), ("decode_s", "decode"))


@dataclass(frozen=True)
class Line:
    """A span, or a phase of one. `start_us` counts from the trace's beginning; `duration_us` None: not known."""

    depth: int
    label: str
    start_us: int
    duration_us: int | None
    is_phase: bool
    early: bool = False  # it begins before its parent, so their clocks differ
    note: str = ""


def lines(spans: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The rows of `trace_spans` as lines, from the top: a parent before its children, siblings in order of time."""
    origin_us = min(int(span["started_at_us"]) for span in spans)
    known = {span["span_id"] for span in spans}
    children: dict[str | None, list[Mapping[str, Any]]] = {}
    for span in sorted(spans, key=lambda span: int(span["started_at_us"])):
        parent = span["parent_span_id"]
        children.setdefault(parent if parent in known and parent != span["span_id"] else None, []).append(span)
    made: list[Line] = []
    seen: set[str] = set()
    # Spans that name each other as parents have no root, so all spans follow the roots; those seen are skipped.
    roots = [*children.get(None, []), *spans]
    # A stack, not recursion: a trace may be deeper than Python's recursion limit.
    waiting: list[tuple[Mapping[str, Any], int, Mapping[str, Any] | None]] = [(span, 0, None) for span in roots[::-1]]
    while waiting:
        span, depth, parent = waiting.pop()
        if span["span_id"] in seen:
            continue
        seen.add(span["span_id"])
        early = parent is not None and span["started_at_us"] < parent["started_at_us"]
        start_us = span["started_at_us"] - origin_us
        made.append(Line(depth, _label(span), start_us, span["duration_us"], False, early, _note(span)))
        made.extend(_phases(span, depth + 1, start_us))
        waiting += [(child, depth + 1, span) for child in children.get(span["span_id"], [])[::-1]]
    return made


def render(made: Sequence[Line], width: int, *, fits: bool = False) -> Iterator[str]:
    """The lines as text: label, bar and duration in `width` columns, then the note. Nothing is cut off.

    A long label begins on a line of its own above its bar. With `fits` notes lie within `width`, too: beside the bars
    or, if they have no room, below them.
    """
    labels = ["  " * line.depth + on_one_line(line.label) for line in made]
    times = [_duration(line.duration_us) for line in made]
    notes = [on_one_line("  ".join(filter(None, (line.note, _EARLY if line.early else "")))) for line in made]
    times_width = max(map(len, times))
    beside = max(map(len, notes))
    below = fits and beside > width * _MOST_NOTE
    notes_width = beside + 2 if fits and beside and not below else 0
    room = width - times_width - notes_width - 3
    label_width = min(max(map(len, labels)), _MOST_LABEL, max(_LEAST_BAR, room - _LEAST_BAR))
    bar_width = max(_LEAST_BAR, room - label_width)
    whole_us = max(max(line.start_us + (line.duration_us or 0) for line in made), 1)
    for line, label, time, note in zip(made, labels, times, notes, strict=True):
        *above, last = _pieces(label, label_width)
        yield from above
        text = f"{last:<{label_width}} {_bar(line, whole_us, bar_width)} {time:>{times_width}}"
        yield f"{text}  {note}" if note and not below else text.rstrip()
        if note and below:
            yield from (f"{' ' * _INDENT}{piece}" for piece in _pieces(note, max(width - _INDENT, _LEAST_BAR)))


def _pieces(text: str, width: int) -> list[str]:
    """The text in pieces of at most `width` columns; each but the first is indented as the first one is."""
    indent = " " * min(len(text) - len(text.lstrip()), width // 2)
    text = indent + text.lstrip()
    pieces = []
    while len(text) > width:
        cut = text.rfind(" ", len(indent) + 1, width + 1)
        cut = cut if cut > len(indent) else width
        pieces.append(text[:cut].rstrip())
        text = indent + text[cut:].lstrip()
    return [*pieces, text]


def _bar(line: Line, whole_us: int, width: int) -> str:
    """The bar, at least one column wide."""
    begin = min(line.start_us * width // whole_us, width - 1)
    end_us = line.start_us + (line.duration_us or 0)
    end = min(max(-(-end_us * width // whole_us), begin + 1), width)
    return " " * begin + (_EMPTY if line.is_phase else _FULL) * (end - begin) + " " * (width - end)


def _duration(duration_us: int | None) -> str:
    if duration_us is None:
        return "?"
    return f"{duration_us / 1e6:.3f} s" if duration_us >= 1_000_000 else f"{duration_us / 1e3:.1f} ms"


def _label(span: Mapping[str, Any]) -> str:
    place = f" @{span['service']}" if span["service"] else ""
    return f"{'dyno: ' if span['is_request'] else ''}{span['name'] or 'a span'}{place}"


def _note(span: Mapping[str, Any]) -> str:
    """The span's facts that aren't times: outcome, tokens, chunks."""
    failed = span["outcome"] if span["is_request"] else "error" if span["error"] else None
    parts = [
        "simulated" if span["simulated"] else "",
        failed or "",
        span["error"] or "",
        f"{span['output_tokens']} tokens" if span["output_tokens"] is not None else "",
        f"{len(span['chunk_offsets_us'])} chunks" if span["chunk_offsets_us"] else "",
    ]
    return ", ".join(filter(None, parts))


def _phases(span: Mapping[str, Any], depth: int, start_us: int) -> Iterator[Line]:
    if not span["is_request"]:
        yield from _server_phases(span, depth, start_us)
        return
    before_us = 0
    end_us = span["duration_us"] or 0
    for event, name in _PHASES:
        at_us = span[event]
        if at_us is None or at_us <= before_us:
            continue  # the event isn't known, or comes at the same moment as the one before
        yield Line(depth, name, start_us + before_us, at_us - before_us, True)
        before_us = at_us
    if 0 < before_us < end_us:
        answering = span["headers_us"] is not None
        yield Line(depth, "to its end" if answering else "no response", start_us + before_us, end_us - before_us, True)


def _server_phases(span: Mapping[str, Any], depth: int, start_us: int) -> Iterator[Line]:
    """The engine's phases, one after another from the span's start: it says how long each took, not when it began."""
    before_us = 0
    for figure, name in _SERVER_PHASES:
        if span[figure] is not None:
            took_us = round(span[figure] * 1e6)
            yield Line(depth, name, start_us + before_us, took_us, True)
            before_us += took_us
