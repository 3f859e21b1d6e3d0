"""A trace as lines: which span is below which, which phases a span has, where the bars are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_analysis.trace.waterfall import Line, lines, render

EVENTS = (
    *("body_received_us", "connected_us", "sent_us", "headers_us"),
    *("first_token_us", "first_answer_us", "last_token_us"),
)


def row(
    span_id: str, parent: str | None = None, start_us: int = 0, took_us: int | None = 1000, **known: Any
) -> dict[str, Any]:
    """A row of `trace_spans`; columns that aren't given are unknown."""
    unknown = dict.fromkeys(
        (*EVENTS, "error", "outcome", "simulated", "service", "output_tokens", "chunk_offsets_us", "queue_s"),
    )
    columns = {
        "span_id": span_id,
        "parent_span_id": parent,
        "started_at_us": 1_795_557_540_000_000 + start_us,
        "duration_us": took_us,
        "name": span_id,
        "is_request": False,
        "prefill_s": None,
        "decode_s": None,
    }
    return unknown | columns | known


def tree(made: list[Line]) -> list[tuple[int, str, bool]]:
    return [(line.depth, line.label, line.early) for line in made if not line.is_phase]


def phases(span: dict[str, Any]) -> list[tuple[str, int, int | None]]:
    return [(line.label, line.start_us, line.duration_us) for line in lines([span]) if line.is_phase]


def test_children_stand_under_their_parents() -> None:
    """Children are in order of time; a span whose parent is missing is a root; an early child is flagged."""
    spans = [
        row("b", "a", 300),
        row("a", None, 100),
        row("c", "b", 400),
        row("early", "a", 50),
        row("stranger", "elsewhere", 500),
    ]
    assert tree(lines(spans)) == [
        (0, "a", False),
        (1, "early", True),
        (1, "b", False),
        (2, "c", False),
        (0, "stranger", False),
    ]


def test_spans_in_a_circle_are_all_there() -> None:
    """A broken sender's parents may name each other, or themselves."""
    assert len(lines([row("a", "b"), row("b", "a"), row("c", "c")])) == 3


def test_a_trace_may_be_deep() -> None:
    deep = lines([row(str(depth), str(depth - 1), depth) for depth in range(5000)])
    assert [line.depth for line in deep] == list(range(5000))
    assert len(list(render(deep, 80))) == 5000


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            dict(zip(EVENTS, (100, 200, 210, 400, 500, 600, 900), strict=True)),
            [
                ("client's body", 0, 100),
                ("connection", 100, 100),
                ("proxy", 200, 10),
                ("wait for the response", 210, 190),
                ("wait for the first token", 400, 100),
                ("reasoning", 500, 100),
                ("tokens", 600, 300),
                ("to its end", 900, 100),
            ],
        ),
        ({"sent_us": 10, "headers_us": 1000}, [("proxy", 0, 10), ("wait for the response", 10, 990)]),
        ({"body_received_us": 0, "sent_us": 10}, [("proxy", 0, 10), ("no response", 10, 990)]),
        ({}, []),
    ],
    ids=["streamed, with reasoning", "whole", "no answer", "refused"],
)
def test_a_requests_phases(events: dict[str, Any], expected: list[tuple[str, int, int]]) -> None:
    """A request's phases follow one another without a gap, from its start to its end."""
    assert phases(row("a", is_request=True, **events)) == expected


def test_an_engines_phases() -> None:
    """A phase that the engine doesn't report is left out."""
    span = row("s", queue_s=0.0001, prefill_s=None, decode_s=0.0005)
    assert phases(span) == [("queue", 0, 100), ("decode", 100, 500)]


def test_notes_and_labels() -> None:
    """A note stands at its bar's end if there is room, else below it; a long label begins above its bar."""
    span = row(
        *("x", None, 0, 2_500_000),
        is_request=True,
        name="chat m",
        service="metis",
        outcome="stream_error",
        error="error_event",
        simulated=True,
        output_tokens=3,
        chunk_offsets_us=[1, 2],
    )
    note = "simulated, stream_error, error_event, 3 tokens, 2 chunks"
    (text,) = render(lines([span]), 100)
    assert text.startswith("dyno: chat m @metis ███")
    assert text.endswith(f" 2.500 s  {note}")
    assert len(text) > 100
    (text,) = render(lines([span]), 200, fits=True)
    assert text.endswith(f" 2.500 s  {note}")
    assert len(text) == 199
    text, below = render(lines([span]), 80, fits=True)
    assert (len(text), below) == (79, f"    {note}")
    above, *more, below = render(lines([span | {"name": "m" * 70 + "\n\x1b"}]), 80, fits=True)
    assert above.startswith("dyno:")
    assert "".join([above, *(line.split(" ")[0] for line in more)]).count("m") == 70
    assert all(len(line) <= 80 for line in (above, *more, below))


def test_a_span_without_an_end() -> None:
    (text,) = render(lines([row("x", took_us=None)]), 60)
    assert text.split() == ["x", "█", "?"]


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=8), st.integers(10, 300))
def test_bars_stay_within_their_columns(times: list[tuple[int, int]], width: int) -> None:
    """Whatever the times and the width: each line has a bar, and they all end before the durations begin."""
    spans = [row(f"{number:016x}", None, start, took) for number, (start, took) in enumerate(times)]
    texts = list(render(lines(spans), width))
    assert len(texts) == len(spans)
    ends = {len(text) for text in texts}
    assert len(ends) == 1  # durations are set right, and nothing follows them
    assert all("█" in text for text in texts)
    assert max(ends) <= max(width, 70)
