"""What a run would send, in words, with estimates."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from .client import Endpoint
from .load.schedule import Phase
from .options.run_options import RunOptions
from .prompts.prompt_set import PromptSet
from .prompts.tokens import count_tokens
from .run_json import counted


def plan_lines(
    phases: Sequence[Phase], endpoints: Sequence[Endpoint], prompt_set: PromptSet, options: RunOptions
) -> Iterator[str]:
    """A line for each load and for each endpoint. Tokens are estimates, and costs are at most so much."""
    counting = "four characters are a token" if prompt_set.tokenizer is None else f"by {prompt_set.tokenizer.name}"
    yield f"A dry run: nothing is sent. Estimates: {counting}; answers may be shorter than they may be."
    for load, parts in groupby(phases, key=lambda phase: (phase.load, bool(phase.turns()[0].warmup))):
        under = list(parts)
        turns = [turn for phase in under for turn in phase.turns()]
        what = "warm-up request" if load[1] else "request"
        line = f"{load[0].in_words()}: {counted(len(turns), what)}"
        if len(under) > 1:
            line += f" in {len(under)} blocks"
        due_s = [turn.due_s for turn in turns if turn.due_s is not None]
        yield line + (f", over {max(due_s):.0f} s" if due_s else "")
    prompts = {prompt.prompt_id: prompt for prompt in (prompt_set.warmup, *prompt_set.prompts)}
    tokens = {name: count_tokens(prompt.whole_text(), prompt_set.tokenizer) for name, prompt in prompts.items()}
    for endpoint in endpoints:
        sent = [
            turn
            for phase in phases
            for lane in phase.lanes
            for turn in (*lane.ramp, *(each for group in lane.groups for each in group))
            if turn.endpoint == endpoint.name
        ]
        prompt_tokens = sum(tokens[turn.prompt_id] for turn in sent)
        line = f"{endpoint.name}: {counted(len(sent), 'request')}, some {prompt_tokens:,.0f} tokens of prompts"
        limits = [prompts[turn.prompt_id].longest_answer or options.max_tokens for turn in sent]
        most = sum(limit for limit in limits if limit is not None)
        if None in limits:
            yield line + "; answers as long as the endpoint lets them be"
            continue
        line += f", at most {most:,} of answers"
        price = endpoint.price
        if price is not None:
            cost = (prompt_tokens * price["input_per_million"] + most * price["output_per_million"]) / 1e6
            line += f", at most {cost:,.2f} in the price's currency"
        yield line
