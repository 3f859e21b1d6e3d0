"""The door through which each request leaves: it holds back what an endpoint, the user or a limit doesn't want now.

turn ─▶ begins: a limit? down? paused? ─▶ lets: the endpoint's token bucket ─▶ ask ─▶ answered: what follows from it
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from dyno_driver.client import Answer, Endpoint
from dyno_driver.errors import ProxyGoneError
from dyno_driver.load.schedule import Group, Turn
from dyno_driver.options.limits import Limits
from dyno_driver.run_json import counted

from .bucket import Bucket
from .lane import DEAD_AFTER, Lane, asks_to_wait, backoff_s, is_cold, is_down, is_too_many
from .ledger import Ledger

_SAID_FROM_S = 1.0  # shorter pauses are only counted


class Door:
    """`probe` sends a request that doesn't count, and returns its answer; None if the proxy is gone. `proxy_answers`
    says whether the proxy does. `preflight_s`: how long a model may load before the first answer.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        limits: Limits,
        preflight_s: float,
        ledger: Ledger,
        probe: Callable[[str], Awaitable[Answer | None]],
        proxy_answers: Callable[[], Awaitable[bool]],
    ) -> None:
        self.closed = asyncio.Event()
        self.why: str | None = None  # what closed it
        self.lanes: Mapping[str, Lane] = {each.name: _lane(each) for each in endpoints}
        self.ledger = ledger
        self._patience_s = limits.patience_s
        self._preflight_s = preflight_s
        self._probe = probe
        self._proxy_answers = proxy_answers
        self._proxy_gone: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self, why: str) -> None:
        """Let nothing leave any more. The first reason counts."""
        if self.why is None:
            self.why = why
        self.closed.set()
        for over in (self._proxy_gone, *(lane.down for lane in self.lanes.values())):
            if over is not None:
                over.set()

    async def end(self) -> None:
        """Stop what looks after endpoints that are down."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def may(self, turn: Turn) -> bool:
        """Whether it may leave still, now or later."""
        return not self.closed.is_set() and self.ledger.may(turn)

    async def begins(self, group: Group) -> bool:
        """Wait until every endpoint of the group answers and wants requests, so that no pair is torn apart."""
        lanes = {turn.endpoint: self.lanes[turn.endpoint] for turn in group}.values()
        while not self.closed.is_set():
            down = self._proxy_gone or next((lane.down for lane in lanes if lane.down is not None), None)
            if down is not None:
                if group[0].due_s is not None:
                    self.was_due(group[0])
                    return False
                await down.wait()
                continue
            if not self.ledger.may(group[0]):
                return False
            left_s = max(lane.paused_until_s for lane in lanes) - time.monotonic()
            if left_s <= 0:
                return group[0].warmup or self.ledger.begin(group[0], time.monotonic(), len(group))
            await self._sleep(left_s)
        return False

    async def lets(self, turn: Turn) -> bool:
        """Wait for the endpoint's token bucket, and for a pause that has begun meanwhile."""
        lane, bucket = self.lanes[turn.endpoint], self.lanes[turn.endpoint].bucket
        if not turn.warmup:
            self.ledger.goes_on(turn, time.monotonic())
        elif not self.ledger.fill(turn, time.monotonic()):
            return False
        if bucket is not None and (wait_s := bucket.take(time.monotonic())) > 0:
            lane.waits_s.append(wait_s)
            await self._sleep(wait_s)
        while not self.closed.is_set():
            down = self._proxy_gone or lane.down
            if down is not None:
                if turn.due_s is not None:
                    self.was_due(turn)
                    return False
                await down.wait()
            elif (left_s := lane.paused_until_s - time.monotonic()) > 0:
                await self._sleep(left_s)
            else:
                return True
        return False

    def was_due(self, turn: Turn) -> None:
        """Count a request that was due while it couldn't be sent."""
        self.lanes[turn.endpoint].not_sent += not turn.warmup

    def answered(self, answer: Answer) -> None:
        """Take what an answer says of its endpoint."""
        lane = self.lanes[answer.turn.endpoint]
        lane.answers += 1
        lane.too_many += is_too_many(answer)
        lane.failures = lane.failures + 1 if is_down(answer) else 0
        if asks_to_wait(answer):
            self._pause(lane, answer)
        elif answer.error is None:
            lane.refusals, lane.refused_since_s = 0, None
        cold = is_cold(answer) and lane.answers == 1
        if (cold or lane.failures >= DEAD_AFTER) and lane.down is None and not self.closed.is_set():
            lane.down = asyncio.Event()
            self._start(self._until_back(lane, lane.down, answer, cold=cold))

    def proxy_gone(self, error: ProxyGoneError) -> None:
        """The proxy doesn't answer: everything waits for it."""
        if self._proxy_gone is None and not self.closed.is_set():
            self._proxy_gone = asyncio.Event()
            self._start(self._until_proxy_is_back(self._proxy_gone, str(error)))

    def _pause(self, lane: Lane, answer: Answer) -> None:
        now_s = time.monotonic()
        if answer.wait_s is None and now_s < lane.paused_until_s:
            return  # of several that ran at once, the first has made the pause
        wait_s = backoff_s(lane.refusals) if answer.wait_s is None else answer.wait_s
        lane.refusals += 1
        if lane.refused_since_s is None:
            lane.refused_since_s = now_s
        until_s = max(lane.paused_until_s, now_s + wait_s)
        if until_s - lane.refused_since_s > self._patience_s:
            self.close(
                f"endpoint '{lane.name}', which asks to wait {until_s - now_s:.0f} s (HTTP {answer.status}): that is "
                f"beyond --patience {self._patience_s:g} s"
            )
            return
        lane.paused_s += until_s - max(now_s, lane.paused_until_s)
        lane.paused_until_s = until_s
        if wait_s >= _SAID_FROM_S and lane.refusals == 1:
            _say(f"{lane.name} asks to wait {wait_s:.0f} s (HTTP {answer.status}): nothing is sent there meanwhile")

    async def _until_back(self, lane: Lane, over: asyncio.Event, answer: Answer, *, cold: bool) -> None:
        """Probe an endpoint until it answers; close the door if it doesn't for too long."""
        flag, limit_s = ("--preflight", self._preflight_s) if cold else ("--patience", self._patience_s)
        begun_s, wait_s, attempt = time.monotonic(), answer.wait_s, 0
        what = "may be loading its model" if cold else f"failed {DEAD_AFTER} times in a row"
        _say(f"{lane.name} {what} ({answer.error}): the run waits for it, at most {limit_s:g} s ({flag})")
        while True:
            left_s = begun_s + limit_s - time.monotonic()
            if left_s <= 0 or (wait_s is not None and wait_s > left_s):
                asks = "" if wait_s is None else f"asks to wait {wait_s:.0f} s, and "
                self.close(
                    f"endpoint '{lane.name}', which {asks}isn't back within {flag} {limit_s:g} s: {answer.error}"
                )
                return
            await self._sleep(min(backoff_s(attempt) if wait_s is None else wait_s, left_s))
            if self.closed.is_set():
                return
            probe, attempt = await self._probe(lane.name), attempt + 1
            if probe is not None and not is_down(probe):
                break
            answer, wait_s = (probe, probe.wait_s) if probe is not None else (answer, None)
            if cold:
                _say(f"{lane.name} isn't ready after {time.monotonic() - begun_s:.0f} s: {answer.error}")
        lane.down, lane.failures = None, 0
        over.set()
        _say(f"{lane.name} answers after {time.monotonic() - begun_s:.1f} s: the run goes on")

    async def _until_proxy_is_back(self, over: asyncio.Event, why: str) -> None:
        begun_s, attempt = time.monotonic(), 0
        _say(f"{why}: the run waits for it, at most {self._patience_s:g} s (--patience)")
        while True:
            left_s = begun_s + self._patience_s - time.monotonic()
            if left_s <= 0:
                self.close(f"{why}, and isn't back within --patience {self._patience_s:g} s")
                return
            await self._sleep(min(backoff_s(attempt), left_s))
            attempt += 1
            if self.closed.is_set():
                return
            if await self._proxy_answers():
                break
        self._proxy_gone = None
        over.set()
        _say(f"the proxy answers after {time.monotonic() - begun_s:.1f} s: the run goes on")

    async def _sleep(self, wait_s: float) -> None:
        """Sleep, but not beyond the door's closing."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.closed.wait(), wait_s)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._has_ended)

    def _has_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.close(f"an error of the driver's own: {error!r}")  # else all would wait for ever

    def said(self) -> list[str]:
        """What held requests back, with numbers, as lines for the summary."""
        lines = []
        for name, lane in self.lanes.items():
            if lane.too_many:
                lines.append(
                    f"{name}: {counted(lane.too_many, 'answer')} said too many requests (429), and count as failed; "
                    f"nothing was sent there for {lane.paused_s:.1f} s in all."
                )
            if lane.waits_s:
                lines.append(
                    f"{name}: its rate_limit of {lane.per_s:g} a second held {counted(len(lane.waits_s), 'request')} "
                    f"back, at most {max(lane.waits_s):.1f} s."
                )
            if lane.not_sent:
                lines.append(
                    f"{name}: {counted(lane.not_sent, 'request')} not sent, since they were due during a pause; "
                    "--resume sends them."
                )
        return lines


def _lane(endpoint: Endpoint) -> Lane:
    limit = endpoint.rate_limit
    return Lane(endpoint.name, None if limit is None else Bucket(*limit), None if limit is None else limit.per_s)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
