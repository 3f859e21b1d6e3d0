"""Asks one request after it has passed the door: it is recorded before and after, and the door hears its answer."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import aiohttp

from .baggage import Due
from .client import Answer, Endpoint, Parameters, ProxyClient
from .conversing import Conversations
from .course_choice import result_of
from .errors import ProxyGoneError, WrongUseError
from .load.course import Result
from .load.schedule import WARMUP_PROMPT_ID, Turn
from .options.run_options import RunOptions
from .polite.door import Door
from .polite.ledger import Ledger
from .preflight import why_not
from .progress import Progress
from .prompts.prompt_set import PromptSet
from .prompts.tokens import count_tokens
from .recording import NotKeptError, Recording
from .submitting import ask_until_done

Costs = Mapping[tuple[str, str], float]  # by endpoint and prompt id


class CannotGoOnError(Exception):
    """An endpoint's first answer says that no further one would come."""


class Asking:
    """Asks the requests of one run. `running`: how many are open. `given_up`: how many were cancelled."""

    def __init__(
        self,
        client: ProxyClient,
        endpoints: Sequence[Endpoint],
        prompt_set: PromptSet,
        options: RunOptions,
        recording: Recording,
        begun_s: float,
        costs: Costs,
        seed: int,
        heard: Callable[[Result], None],
    ) -> None:
        """`heard` is told each answer's figures."""
        self.running = self.given_up = 0
        self._heard = heard
        self._client, self._options, self._recording = client, options, recording
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._prompts = {prompt.prompt_id: prompt for prompt in (prompt_set.warmup, *prompt_set.prompts)}
        self._requests = prompt_set.ready()
        self.conversations = Conversations(self._prompts, options.chatting, seed)
        self.conversations.heard_before(recording.earlier)
        self._parameters = Parameters(
            options.temperature,
            options.max_tokens,
            options.sampling_seed,
            options.stream,
            options.timeout_s,
            options.traced.exact_lengths,
        )
        self._preflight = replace(self._parameters, timeout_s=min(options.preflight_s, options.timeout_s))
        self._asked: set[str] = set()
        ledger = Ledger(options.limits, lambda turn: costs[turn.endpoint, turn.prompt_id] if costs else 0.0, begun_s)
        self.door = Door(endpoints, options.limits, options.preflight_s, ledger, self._probe, self._proxy_answers)

    async def ask(self, turn: Turn, due: Due | None, progress: Progress) -> None:
        """Send a request and keep its answer. If the proxy is gone, it waits, and is sent again.

        A conversation's turn waits as long as its user thinks. It isn't sent if an earlier turn failed.
        """
        if not self.conversations.goes_on(turn) or not await self._thought(turn):
            return
        if not turn.filler:
            progress.sending(turn)
        first = turn.endpoint not in self._asked
        self._asked.add(turn.endpoint)
        while True:
            try:
                answer = await self._once(turn, due, self._preflight if first else self._parameters)
                break
            except NotKeptError as error:
                self.door.close(f"{error}: make room, then go on with --resume {self._recording.folder.name}")
                return
            except ProxyGoneError as error:
                self.door.proxy_gone(error)
                if due is not None:
                    self.door.was_due(turn)
                    return
                if not await self.door.lets(turn):
                    return
        self._keep(answer)
        self._heard(result_of(answer, time.monotonic()))
        self.conversations.heard(turn, answer.text, ok=answer.error is None)
        if not turn.filler:
            progress.answered(answer)
        if first and (why := why_not(self._endpoints[turn.endpoint], answer)) is not None:
            raise CannotGoOnError(why)
        self.door.answered(answer)

    async def _thought(self, turn: Turn) -> bool:
        """Wait as long as the conversation's user thinks. False if nothing may leave any more."""
        wait_s = self.conversations.wait_s(turn)
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.door.closed.wait(), wait_s)
        return wait_s == 0 or not self.door.closed.is_set()

    async def _once(self, turn: Turn, due: Due | None, how: Parameters) -> Answer:
        trace_id = secrets.token_hex(16)
        if (session := self.conversations.session(turn, self._recording.folder.name)) is not None:
            how = replace(how, session=session)
        self._recording.sent(turn, trace_id)
        self.running += 1
        try:
            return await ask_until_done(
                self._client,
                turn,
                self._endpoints[turn.endpoint],
                self.conversations.request(turn) or self._requests[turn.prompt_id],
                how,
                self._recording.folder.name,
                self._options.workload,
                due,
                trace_id,
            )
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        finally:
            self.running -= 1

    def _keep(self, answer: Answer) -> None:
        price = self._endpoints[answer.turn.endpoint].price
        cost = None if price is None or answer.tokens is None else _cost(price, *answer.tokens)
        self.door.ledger.ended(answer.turn, cost)
        try:
            self._recording.answered(answer)
        except NotKeptError as error:
            self.door.close(f"{error}: make room, then go on with --resume {self._recording.folder.name}")

    async def _probe(self, endpoint: str) -> Answer | None:
        turn = Turn(endpoint, WARMUP_PROMPT_ID, 1, warmup=True)
        try:
            answer = await self._once(turn, None, self._preflight)
        except ProxyGoneError as error:
            self.door.proxy_gone(error)
            return None
        self._keep(answer)
        return answer

    async def _proxy_answers(self) -> bool:
        try:
            await self._client.about()
        except (WrongUseError, aiohttp.ClientError):
            return False
        return True


def highest_costs(endpoints: Sequence[Endpoint], prompt_set: PromptSet, options: RunOptions) -> Costs:
    """The most that each prompt can cost at each endpoint, by estimate. Nothing without --max-cost.

    Raises WrongUseError where there is nothing to estimate it by.
    """
    if options.limits.max_cost is None:
        return {}
    if options.max_tokens is None and any(prompt.longest_answer is None for prompt in prompt_set.prompts):
        raise WrongUseError("--max-cost needs --max-tokens: without it nobody knows how long answers may be")
    costs = {}
    for endpoint in endpoints:
        if endpoint.price is None:
            raise WrongUseError(
                f"--max-cost: endpoint '{endpoint.name}' has no price; set 'price' in [endpoints.{endpoint.name}] of "
                "dyno.toml"
            )
        for prompt in (prompt_set.warmup, *prompt_set.prompts):
            tokens, longest = count_tokens(prompt.whole_text(), prompt_set.tokenizer), prompt.longest_answer
            costs[endpoint.name, prompt.prompt_id] = _cost(endpoint.price, tokens, longest or options.max_tokens or 0)
    return costs


def _cost(price: Mapping[str, float], prompt_tokens: float, answer_tokens: float) -> float:
    return (prompt_tokens * price["input_per_million"] + answer_tokens * price["output_per_million"]) / 1e6
