"""What holds requests back: token buckets, what a refusal asks for, and limits that leave no pair half. All pure."""

from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno_driver.load.arrivals import CONSTANT
from dyno_driver.load.remaining import remaining, request_of
from dyno_driver.load.schedule import Asked, Interleave, Load, Phase, Shape, Turn, plan
from dyno_driver.options.limits import Limits
from dyno_driver.polite.bucket import Bucket
from dyno_driver.polite.lane import backoff_s
from dyno_driver.polite.ledger import Ledger, pair_of
from dyno_driver.waits import asked_wait_s, duration_s

NOW_S = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC).timestamp()


@given(
    st.floats(0.1, 1000),
    st.integers(1, 20),
    st.lists(st.floats(0, 5), min_size=1, max_size=60),
)
def test_a_bucket_never_lets_too_many_pass(per_s: float, burst: int, gaps_s: list[float]) -> None:
    """In any time t at most burst + t × rate leave, in the order in which they came, and the first burst at once."""
    bucket, now_s, left_s = Bucket(per_s, burst), 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        left_s.append(now_s + bucket.take(now_s))
    assert left_s == sorted(left_s)
    for first in range(len(left_s)):
        for last in range(first, len(left_s)):
            assert last - first + 1 <= burst + (left_s[last] - left_s[first]) * per_s + 1e-6
    at_once = Bucket(per_s, burst)
    assert [at_once.take(7.0) for _ in range(burst)] == pytest.approx([0.0] * burst, abs=1e-9)
    assert at_once.take(7.0) == pytest.approx(1 / per_s)


def at(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW_S + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "body", "wait_s"),
    [
        ({"Retry-After": "7"}, b"", 7.0),
        ({"retry-after": " 0 "}, b"", 0.0),
        ({"Retry-After": at(30)}, b"", 30.0),
        ({"Retry-After": at(-30)}, b"", 0.0),
        ({"Retry-After": "Saturday, 28-Nov-26 12:00:09 GMT"}, b"", 9.0),
        ({"Retry-After": "2", "retry-after-ms": "1500"}, b"", 1.5),
        ({"Retry-After": "soon"}, b"", None),
        ({"Retry-After": "-3"}, b"", None),
        ({"Retry-After": "1e400"}, b"", None),
        ({"Retry-After": "999999999999"}, b"", 366 * 86_400.0),
        ({}, b'{"error": "Rate limit exceeded", "retry_after": "1 second"}', 1.0),
        ({}, b'{"retry_after": 2.5}', 2.5),
        ({}, b'{"retry_after": true}', None),
        ({}, b"retry_after: 3", None),
        ({"x-ratelimit-reset-requests": "1m30s"}, b"", 90.0),
        ({"x-ratelimit-reset-tokens": "250ms", "x-ratelimit-reset-requests": "8s"}, b"", 0.25),
        (
            {
                "x-ratelimit-reset-requests-day": "33011.4",
                "x-ratelimit-remaining-requests-day": "12",
                "x-ratelimit-reset-tokens-minute": "11.4",
                "x-ratelimit-remaining-tokens-minute": "0",
            },
            b"",
            11.4,
        ),
        ({"X-RateLimit-Reset": str(int(NOW_S) + 12)}, b"", 12.0),
        ({"ratelimit-reset": "5"}, b"", 5.0),
        ({"x-ratelimit-limit": "5"}, b"", None),
    ],
)
def test_how_long_a_refusal_asks_to_wait(headers: dict[str, str], body: bytes, wait_s: float | None) -> None:
    """Every vendor's way of saying it is read; what says nothing is None, and no date can ask for a negative wait."""
    found = asked_wait_s(headers, body, NOW_S)
    assert found == (None if wait_s is None else pytest.approx(wait_s, abs=1e-6))


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset"]), st.text()), st.binary())
def test_no_refusal_is_too_odd(headers: dict[str, str], body: bytes) -> None:
    """Whatever an endpoint sends, the wait is None or a number from 0 to a year."""
    found = asked_wait_s(headers, body, NOW_S)
    assert found is None or 0 <= found <= 366 * 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800.0), ("90", 90.0), ("1h30m", 5400.0), ("2 hours", 7200.0), ("1d", 86_400.0), ("x", None), ("", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    """A time is a number with its unit, several of them, or seconds."""
    assert duration_s(text) == seconds


def test_back_off_is_bounded_and_jittered() -> None:
    """It doubles, differs from one to the next, and never exceeds 30 s."""
    waits_s = [[backoff_s(attempt) for _ in range(50)] for attempt in range(40)]
    assert all(0.25 <= wait_s <= 30 for each in waits_s for wait_s in each)
    assert all(len(set(each)) > 10 for each in waits_s)
    assert max(waits_s[0]) <= 0.5
    assert min(waits_s[-1]) >= 15


def phases(load: Load, interleave: Interleave | None, prompts: int = 12) -> list[Phase]:
    ids = [str(number) for number in range(prompts)]
    return plan(Shape((load,), interleave, CONSTANT), Asked(["a", "b"], [ids], 1, 0, "alternate", 1))


def sent(ledger: Ledger, parts: list[Phase], second_s: float = 1.0) -> list[tuple[Turn, float]]:
    """What a run would send, one request each second; lanes take turns."""
    ledger.expect(turn for phase in parts for turn in phase.turns())
    now_s, begun = 0.0, []
    for phase in parts:
        width = max(len(lane.groups) for lane in phase.lanes)
        groups = [lane.groups[at] for at in range(width) for lane in phase.lanes if at < len(lane.groups)]
        for group in groups:
            if not ledger.begin(group[0], now_s, len(group)):
                continue
            for turn in group:
                ledger.goes_on(turn, now_s)
                begun.append((turn, now_s))
                now_s += second_s
    return begun


SHAPES = [
    (Load(1), "pair"),
    (Load(3), "block"),
    (Load(3), "parallel"),
    (Load(2), "whole"),
    (Load(None, 5.0), "parallel"),
]


@pytest.mark.parametrize(("load", "interleave"), SHAPES)
@pytest.mark.parametrize(
    "limits", [Limits(max_requests=9), Limits(max_cost=0.9), Limits(budget_s=9.0), Limits(max_requests=1)], ids=str
)
def test_a_limit_leaves_no_pair_half(load: Load, interleave: Interleave, limits: Limits) -> None:
    """However endpoints take turns, a limit is kept, and every prompt went to both endpoints or to none."""
    ledger = Ledger(limits, lambda _turn: 0.1, 0.0)
    begun = sent(ledger, phases(load, interleave))
    pairs = {pair_of(turn) for turn, _ in begun}
    assert len(begun) == 2 * len(pairs)
    assert ledger.reached is not None
    if limits.budget_s is None:
        assert len(begun) == (0 if limits.max_requests == 1 else 8)
    else:
        assert max(at_s for _, at_s in begun) <= limits.budget_s
        assert len(begun) >= 4


def test_actual_costs_replace_estimates() -> None:
    """What a request really cost makes room for more; a cost that nobody knows stays at its estimate."""
    turns = [Turn("a", str(number), 1, warmup=False) for number in range(30)]
    for cost, count in ((None, 10), (0.05, 19)):
        ledger, begun = Ledger(Limits(max_cost=1.0), lambda _turn: 0.1, 0.0), 0
        ledger.expect(turns)
        for turn in turns:
            if ledger.begin(turn, 0.0):
                begun += 1
                ledger.ended(turn, cost)
        assert begun == count


@given(st.sampled_from(SHAPES), st.sets(st.integers(0, 23), max_size=23))
def test_what_remains(shape: tuple[Load, Interleave], done: set[int]) -> None:
    """All that isn't done is left, once; nothing that is done counts again; the load's ramp and times stay."""
    load, interleave = shape
    parts = phases(load, interleave)
    turns = [turn for phase in parts for turn in phase.turns()]
    gone = {request_of(turns[number]) for number in done}
    left = [remaining(phase, lambda turn: request_of(turn) not in gone) for phase in parts]
    counted = [turn for phase in left if phase is not None for turn in phase.turns() if not turn.warmup]
    assert sorted(map(request_of, counted)) == sorted(
        request_of(turn) for turn in turns if request_of(turn) not in gone
    )
    for phase in left:
        for lane in () if phase is None else phase.lanes:
            assert len(lane.ramp) == len(parts[0].lanes[0].ramp)
            due_s = [turn.due_s for group in lane.groups for turn in group if turn.due_s is not None]
            assert due_s == sorted(due_s)
            if due_s:
                gaps = {round(second - first, 6) for first, second in pairwise(due_s)}
                assert gaps <= {0.2}
                assert due_s[0] == pytest.approx(parts[0].lanes[0].groups[0][0].due_s)
