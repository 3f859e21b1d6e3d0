"""What a run may still send: its budget of time, requests and money. Pure.

A pair is one prompt, in one repeat, to every endpoint. With its first request, its others are reserved, so a run that
ends by a limit leaves no pair half.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from dyno_driver.load.schedule import Turn
from dyno_driver.options.limits import Limits

Pair = tuple[str, int]
# The sum of many prices has a rounding error, and a limit of 0.3 must allow three times 0.1.
_ROUNDING: Final = 1 + 1e-9


def pair_of(turn: Turn) -> Pair:
    """The prompt (or the conversation) and the repeat, which an endpoint's request shares with those to the others."""
    return turn.chain or turn.prompt_id, turn.repeat


class _Begun(NamedTuple):
    at_s: float
    left: set[Turn]  # what of the pair hasn't begun


class Ledger:
    """`cost` is a request's highest cost, by estimate; 0 if there is no limit. `begun_s`: when the budget begins."""

    def __init__(self, limits: Limits, cost: Callable[[Turn], float], begun_s: float) -> None:
        self._limits = limits
        self._cost = cost
        self._deadline_s = None if limits.budget_s is None else begun_s + limits.budget_s
        self._expected: dict[Pair, set[Turn]] = {}
        self._open: dict[Pair, _Begun] = {}
        self._lead_s = 0.0  # between the first and the last request of the latest pair
        self._requests = 0  # begun or reserved
        self._spent = 0.0  # actual costs, and the estimates of what is begun or reserved
        self.reached: str | None = None  # the limit that was reached, in words

    def expect(self, turns: Iterable[Turn]) -> None:
        """Say which requests there will be: those of one pair belong together."""
        for turn in turns:
            if not turn.warmup:
                self._expected.setdefault(pair_of(turn), set()).add(turn)

    def may(self, turn: Turn) -> bool:
        """Whether it may begin still, if no limit is reached until then."""
        return self.reached is None or (not turn.warmup and pair_of(turn) in self._open)

    def begin(self, turn: Turn, now_s: float, at_once: int = 1) -> bool:
        """Whether a request that counts may begin. `at_once`: how many of its pair follow one right after the other."""
        pair = pair_of(turn)
        begun = self._open.get(pair)
        if begun is None:
            whole = self._expected.get(pair) or {turn}
            if self.reached is None:
                self.reached = self._limit(whole, now_s, at_once)
            if self.reached is not None:
                return False
            self._requests += len(whole)
            self._spent += sum(map(self._cost, whole))
            begun = self._open[pair] = _Begun(now_s, set(whole))
        self.goes_on(turn, now_s)
        return True

    def goes_on(self, turn: Turn, now_s: float) -> None:
        """A request begins whose pair has begun before."""
        pair = pair_of(turn)
        begun = self._open.get(pair)
        if begun is None:
            return
        begun.left.discard(turn)
        if not begun.left:
            del self._open[pair]
            self._expected.pop(pair, None)
            self._lead_s = now_s - begun.at_s

    def fill(self, turn: Turn, now_s: float) -> bool:
        """Whether a warm-up may begin, which belongs to no pair."""
        if self.reached is None:
            self.reached = self._limit({turn}, now_s, 1)
        if self.reached is not None and not self._open:
            return False
        if not self._fits(1, self._cost(turn)):
            return False
        self._requests += 1
        self._spent += self._cost(turn)
        return True

    def ended(self, turn: Turn, cost: float | None) -> None:
        """A request ended, and cost so much. None: unknown, so its estimate stays."""
        if cost is not None:
            self._spent += cost - self._cost(turn)

    def _fits(self, requests: int, cost: float) -> bool:
        most, highest = self._limits.max_requests, self._limits.max_cost
        return (most is None or self._requests + requests <= most) and (
            highest is None or self._spent + cost <= highest * _ROUNDING
        )

    def _limit(self, whole: set[Turn], now_s: float, at_once: int) -> str | None:
        """The limit that the pair would break; None if it fits."""
        if not self._fits(len(whole), 0.0):
            return f"--max-requests {self._limits.max_requests}"
        if not self._fits(0, sum(map(self._cost, whole))):
            return f"--max-cost {self._limits.max_cost:g}"
        if self._deadline_s is not None and now_s + self._rest_s(whole, now_s, at_once) >= self._deadline_s:
            return f"--budget {self._limits.budget_s:g} s"
        return None

    def _rest_s(self, whole: set[Turn], now_s: float, at_once: int) -> float:
        """How long the pair's other requests will take to begin, by what earlier ones took, in s."""
        if at_once > 1 or len(whole) == 1:
            return self._lead_s if at_once > 1 else 0.0
        # The others come in a later block. It begins as many requests as this one, so it will take as long.
        since_s = min((begun.at_s for begun in self._open.values()), default=now_s)
        return (now_s - since_s) * (len(whole) - 1)
