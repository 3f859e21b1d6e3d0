import asyncio
import time
from collections import Counter

import pytest

from dyno_driver.baggage import Due
from dyno_driver.load.arrivals import CONSTANT
from dyno_driver.load.schedule import Asked, Interleave, Load, Phase, Shape, Turn, plan
from dyno_driver.sending import send


class Upstream:
    """What answers: it sees how many requests are open at each endpoint, and when each came."""

    def __init__(self, answer_s: float = 0.01) -> None:
        self.answer_s = answer_s
        self.open: Counter[str] = Counter()
        self.seen: list[tuple[Turn, int, float, Due | None]] = []
        self.ended: list[Turn] = []

    async def ask(self, turn: Turn, due: Due | None) -> None:
        self.open[turn.endpoint] += 1
        self.seen.append((turn, self.open[turn.endpoint], time.monotonic(), due))
        try:
            await asyncio.sleep(self.answer_s)
            self.ended.append(turn)
        finally:
            self.open[turn.endpoint] -= 1


def phases(load: Load, interleave: Interleave | None, prompts: int) -> list[Phase]:
    ids = [str(number) for number in range(prompts)]
    return plan(Shape((load,), interleave, CONSTANT), Asked(["a", "b"], [ids], 1, 0, "alternate", 1))


@pytest.mark.parametrize("interleave", ["block", "parallel", "whole"])
async def test_a_closed_loop_holds_its_concurrency(interleave: Interleave) -> None:
    """Each request that counts begins with all others of the load open, and the peak is the load itself."""
    upstream = Upstream()
    for phase in phases(Load(6), interleave, 50):
        await send(phase, upstream.ask)
    counted = [(turn, at_once) for turn, at_once, _, _ in upstream.seen if not turn.warmup]
    assert len(counted) == 100
    assert max(at_once for _, at_once, _, _ in upstream.seen) == 6
    assert min(at_once for _, at_once in counted) == 6
    assert Counter((turn.endpoint, turn.prompt_id) for turn, _ in counted).most_common(1)[0][1] == 1


async def test_the_load_stays_until_the_last_answer_that_counts() -> None:
    """While a request that counts is open, others fill the load: the last one meets what the first one met."""
    upstream = Upstream()
    ends: list[int] = []

    async def ask(turn: Turn, due: Due | None) -> None:
        await upstream.ask(turn, due)
        if not turn.warmup:
            ends.append(upstream.open[turn.endpoint])

    await send(phases(Load(5), "whole", 20)[0], ask)
    assert len(ends) == 20
    assert min(ends) >= 3  # the one that ends isn't counted; another may be between two requests


async def test_all_at_once() -> None:
    """The workload `offline` opens all requests together."""
    upstream = Upstream(0.05)
    await send(phases(Load(None, all_at_once=True), None, 30)[0], upstream.ask)
    assert max(at_once for _, at_once, _, _ in upstream.seen) == 30


async def test_an_open_loop_waits_for_nobody() -> None:
    """However slow answers are, no due time shifts: each request leaves when it is due."""
    upstream = Upstream(0.6)
    [phase] = phases(Load(None, 40.0), None, 20)
    await send(phase, upstream.ask)
    counted = [(turn, at_s, due) for turn, _, at_s, due in upstream.seen if not turn.warmup and turn.endpoint == "a"]
    assert len(counted) == 20
    assert max(at_once for _, at_once, _, _ in upstream.seen) > 10
    begun_us = {due.at_unix_us - round((turn.due_s or 0) * 1e6) for turn, _, due in counted if due is not None}
    assert len(begun_us) == 1
    assert all(due is not None and due.lag_s >= 0 for _, _, due in counted)
    assert counted[-1][1] - counted[0][1] == pytest.approx(19 / 40, abs=0.25)


async def test_an_open_loop_fills_its_end() -> None:
    """Requests keep coming until the last one that counts has ended, and no longer."""
    upstream = Upstream(0.2)
    [phase] = phases(Load(None, 50.0), None, 10)
    begun_s = time.monotonic()
    await send(phase, upstream.ask)
    fillers = [turn for turn, _, _, _ in upstream.seen if turn.warmup and turn.endpoint == "a"]
    assert 1 < len(fillers) <= 11
    assert time.monotonic() - begun_s < 10


@pytest.mark.parametrize("load", [Load(1), Load(5), Load(None, 100.0), Load(None, all_at_once=True)])
async def test_an_exception_ends_the_phase(load: Load) -> None:
    """What `ask` raises comes out as it is, and nothing stays open."""
    upstream = Upstream(0.05)

    async def ask(turn: Turn, due: Due | None) -> None:
        if len(upstream.seen) == 7:
            raise RuntimeError("gone")
        await upstream.ask(turn, due)

    async def all_of_it() -> None:
        for phase in phases(load, None, 40):
            await send(phase, ask)

    with pytest.raises(RuntimeError, match="gone"):
        await all_of_it()
    assert upstream.open.total() == 0


async def test_a_slow_answer_in_a_closed_loop_delays_only_its_client() -> None:
    """The other clients of the load go on."""
    upstream = Upstream()
    slow = asyncio.Event()

    async def ask(turn: Turn, due: Due | None) -> None:
        if turn.prompt_id == "3" and not turn.warmup:
            await slow.wait()
        await upstream.ask(turn, due)
        if len(upstream.ended) > 30:
            slow.set()

    async with asyncio.timeout(20):
        await send(phases(Load(4), "whole", 40)[0], ask)
    assert sum(not turn.warmup for turn in upstream.ended) == 40
