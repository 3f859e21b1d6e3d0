"""Which course a run takes, as its options say; and what that course is told of an answer."""

from collections.abc import Mapping, Sequence
from typing import Any

from .client import Answer
from .errors import WrongUseError
from .load.chains import chained
from .load.course import Course, Result, StaticCourse
from .load.holding import HeldCourse
from .load.paired_ratio import FEWEST_PROMPTS
from .load.schedule import Asked, Turn, plan
from .load.search import SearchCourse
from .load.until import StagedCourse
from .options.run_options import RunOptions
from .prompts.prompt_set import PromptSet
from .run_json import counted


def chosen_course(options: RunOptions, prompt_set: PromptSet, endpoints: Sequence[str], seed: int) -> Course:
    """The course of these options over these prompts.

    Each load has prompts (or conversations) of its own where there are enough, so that no load finds a warm cache.
    """
    chains: dict[str, list[str]] = {}
    for prompt in prompt_set.prompts:
        if prompt.conversation_id is not None:
            chains.setdefault(prompt.conversation_id, []).append(prompt.prompt_id)
    prompt_ids = list(chains) or [prompt.prompt_id for prompt in prompt_set.prompts]
    loads, count = len(options.shape.loads), options.count or len(prompt_ids)
    own = len(prompt_ids) >= count * loads
    shares = [prompt_ids[number * count :][:count] if own else prompt_ids[:count] for number in range(loads)]
    asked = Asked(endpoints, shares, options.repeat, options.warmup, options.order, seed)
    search, until, hold_s = options.course.search, options.course.until, options.course.hold_s
    if search is not None:
        # Every load may ask every prompt: none is kept back for a load that is never tried.
        return SearchCourse(options.shape, asked._replace(prompt_ids=[prompt_ids]), search)
    if hold_s is not None:
        return HeldCourse(options.shape, asked, hold_s)
    if until is None:
        return StaticCourse(chained(plan(options.shape, asked), chains))
    if chains:
        raise WrongUseError("--until and --blocks take single prompts; leave out --conversations")
    if until.rule is not None:
        _check_comparable(len(shares[0]), endpoints)
    return StagedCourse(options.shape, asked, until)


def _check_comparable(prompts: int, endpoints: Sequence[str]) -> None:
    if len(endpoints) < 2:
        raise WrongUseError("--until compares endpoints, and there is one; name at least two with --endpoints")
    if prompts < FEWEST_PROMPTS:
        raise WrongUseError(
            f"--until needs an interval, which {counted(prompts, 'prompt')} don't give; ask -n {FEWEST_PROMPTS} or more"
        )


def result_of(answer: Answer, at_s: float) -> Result:
    """The figures of an answer that has ended. TPOT is over the tokens after the first, as the client can know it."""
    turn, ok = answer.turn, answer.error is None
    latency_s, ttft_s = answer.latency_s, answer.ttft_s
    streaming_s = latency_s - ttft_s if latency_s is not None and ttft_s is not None else None
    tokens = answer.output_tokens or answer.output_events
    return Result(
        turn.endpoint,
        turn.prompt_id,
        turn.repeat,
        turn.warmup,
        turn.load,
        at_s,
        ok,
        latency_s,
        ttft_s,
        streaming_s / (tokens - 1) if streaming_s is not None and tokens > 1 else None,
        streaming_s / (answer.output_events - 1) if streaming_s is not None and answer.output_events > 1 else None,
    )


def result_of_row(turn: Turn, row: Mapping[str, Any]) -> Result:
    """The same of an answer that a resumed run had before, by its row in the run's folder, which counts no tokens."""
    latency_s, ttft_s = row["client_latency_s"], row["client_ttft_s"]
    ended_s = row["sent_at_us"] / 1e6 + (latency_s or 0.0)
    ok = row["error"] is None
    return Result(
        turn.endpoint, turn.prompt_id, turn.repeat, turn.warmup, turn.load, ended_s, ok, latency_s, ttft_s, None, None
    )
