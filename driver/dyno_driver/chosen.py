"""The prompts that a run's options ask for: of a set, synthetic, or those of a trace with its times."""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from .errors import WrongUseError
from .load.arrivals import Arrivals
from .load.schedule import Load
from .load.series import Times
from .options.asked import DEFAULT_COUNT
from .options.run_options import RunOptions
from .prompts import synthetic
from .prompts.conversations import conversations
from .prompts.prompt_set import Prompt, PromptSet, load_prompts, with_tokens
from .prompts.tokens import Tokenizer, load_tokenizer
from .traces.selection import Window, due_s, selected
from .traces.shapes import Request
from .traces.trace import Trace

# Every text of a run is held in memory.
_LARGEST_TOKENS = 300_000_000


def chosen(options: RunOptions, drawn: int | None = None) -> tuple[RunOptions, PromptSet]:
    """The run's prompts, and its options with what these set: the times of a trace, and a seed where one was drawn.

    `drawn`: the seed of the run that is resumed. Raises WrongUseError if there are none, or if they can't be read.
    """
    if options.seed is None and drawn is not None:
        options = replace(options, seed=drawn)
    if options.traced.trace is not None:
        return _of_trace(options)
    if synthetic.is_synthetic(options.prompts):
        return _synthetic(options)
    if options.prompting.context_tokens:
        options, _ = _seeded(options, None)
    found = load_prompts(
        options.prompts,
        options.prompts_wanted,
        column=options.column,
        template=options.template,
        how=options.prompting,
        seed=options.seed,
    )
    return options, _in_turns(options, found)


def _in_turns(options: RunOptions, found: PromptSet) -> PromptSet:
    if not options.chatting.on:
        return found
    turns = conversations(found.prompts, options.prompts)
    number = len({turn.conversation_id for turn in turns})
    what = "1 conversation" if number == 1 else f"{number} conversations"
    earlier = "recorded ones" if options.chatting.recorded else "the endpoint's own"
    said = f"Prompts: {what} of {options.prompts} with {len(turns)} turns in all; earlier answers are {earlier}."
    return with_tokens(replace(found, prompts=turns, said=said), found.tokenizer)


def _synthetic(options: RunOptions) -> tuple[RunOptions, PromptSet]:
    _refuse_columns(options, "synthetic prompts have")
    asked = synthetic.read_synthetic(options.prompts)
    options, seed = _seeded(options, asked.seed)
    count = DEFAULT_COUNT * len(options.shape.loads) if options.prompts_wanted is None else options.prompts_wanted
    _check_size(round(asked.inputs.first) * count, "fewer with -n")
    tokenizer = _tokenizer(options)
    made = synthetic.prompts(asked, count, seed, None if tokenizer is None else tokenizer.count)
    prompts = tuple(
        Prompt(str(number), each.text, max_tokens=each.max_tokens) for number, each in enumerate(made, start=1)
    )
    source = options.prompts if asked.seed is not None else f"{options.prompts.rstrip(',')},seed={seed}"
    found = PromptSet(
        name=synthetic.NAME,
        source=source,
        license="Apache-2.0",
        description="English words of three letters in random order; a word counts as a token",
        prompts=prompts,
        said=f"Prompts: {len(prompts)} of {source}; {_counted(tokenizer)}.",
    )
    return options, with_tokens(found, tokenizer)


def _of_trace(options: RunOptions) -> tuple[RunOptions, PromptSet]:
    _refuse_columns(options, "a trace has")
    told = options.traced
    assert told.trace is not None  # noqa: S101 - chosen() looked
    trace = Trace(told.trace, told.endpoint)
    window = None if told.window_s is None else Window(*told.window_s)
    first_ns = trace.first_ns() if window is not None else None
    requests = selected(trace.requests(), first_ns or 0, window, options.prompts_wanted)
    if not requests:
        raise WrongUseError(_nothing(trace, options))
    options, seed = _seeded(options, None)
    tokenizer = _tokenizer(options)
    found = PromptSet(
        name=told.trace.stem or told.trace.name,
        source=str(told.trace.resolve()),
        license=None,
        description=f"the times and lengths of {trace.shape.name if trace.shape else 'a trace'}",
        prompts=_prompts(requests, seed, f"{options.traced.trace}", tokenizer),
        said=_said(trace, requests, options),
    )
    found = with_tokens(found, tokenizer)
    if not told.timed:
        return options, found
    times = Times(due_s(requests, told.speed))
    speed = "" if told.speed == 1 else f" at {told.speed:g}x"
    arrivals = Arrivals(f"as in {told.trace.name}{speed}", 0.0, times)
    return replace(
        options, shape=options.shape._replace(loads=(Load(None, times.rate_per_s),), arrivals=arrivals)
    ), found


def _prompts(requests: Sequence[Request], seed: int, where: str, tokenizer: Tokenizer | None) -> tuple[Prompt, ...]:
    """Texts of the trace's lengths. What has the same ids of blocks has the same text."""
    made_tokens = sum(each.input_tokens for each in requests if each.prompt is None)
    _check_size(made_tokens, f"a part of {where} by -n or --window")
    blocks: dict[int | str, str] = {}

    def text(request: Request) -> str:
        tokens, own = max(1, request.input_tokens), f"{seed} request {request.number}"
        made = synthetic.text_of_blocks(request.hash_ids, tokens, str(seed), own, blocks)
        return synthetic.fitted(made, tokens, f"{own} fill", None if tokenizer is None else tokenizer.count)

    return tuple(
        Prompt(
            str(each.number),
            each.prompt if each.prompt is not None else text(each),
            max_tokens=each.output_tokens,
        )
        for each in requests
    )


def _tokenizer(options: RunOptions) -> Tokenizer | None:
    return None if options.prompting.tokenizer is None else load_tokenizer(options.prompting.tokenizer)


def _counted(tokenizer: Tokenizer | None) -> str:
    return "a word counts as a token" if tokenizer is None else f"their tokens are counted by {tokenizer.name}"


def _said(trace: Trace, requests: Sequence[Request], options: RunOptions) -> str:
    """What of the trace is sent, as a line to print."""
    name = trace.shape.name if trace.shape else "a trace"
    what = f"{len(requests)} requests" if len(requests) != 1 else "1 request"
    lasts_s = (requests[-1].at_ns - requests[0].at_ns) / 1e9
    line = f"Trace: {what} of {trace.path} ({name}), {lasts_s:.1f} s long"
    if options.traced.timed:
        line += f", in {lasts_s / options.traced.speed:.1f} s"
    else:
        line += "; its lengths and order are sent, and not its times"
    texts = sum(each.prompt is not None for each in requests)
    line += "; texts are " + ("synthetic" if not texts else f"{texts} captured ones, the others synthetic")
    if len(trace.endpoints) > 1 and options.traced.endpoint is None:
        line += f"; they went to {', '.join(sorted(trace.endpoints))}"
    for why, number in sorted(trace.left_out.items()):
        line += f"; {number} {why} left out"
    return line + "."


def _nothing(trace: Trace, options: RunOptions) -> str:
    told = options.traced
    left_out = ", ".join(f"{number} {why}" for why, number in sorted(trace.left_out.items()))
    if told.endpoint is not None and told.endpoint not in trace.endpoints:
        there = ", ".join(sorted(trace.endpoints)) or "none"
        return f"--trace-endpoint: {trace.path} has no requests to '{told.endpoint}'; its endpoints: {there}"
    if told.window_s is not None:
        return f"--window: {trace.path} has no requests in it; give another one"
    return f"--trace {trace.path}: has no requests to send" + (f" (left out: {left_out})" if left_out else "")


def _seeded(options: RunOptions, told: int | None) -> tuple[RunOptions, int]:
    """The texts' seed. A drawn one also is the run's: no run finds the texts of an earlier one in a cache."""
    if told is not None:
        return options, told
    seed = secrets.randbits(32) if options.seed is None else options.seed
    return replace(options, seed=seed), seed


def _check_size(tokens: int, fewer: str) -> None:
    if tokens > _LARGEST_TOKENS:
        raise WrongUseError(
            f"the prompts would have {tokens:,} tokens, and a run holds at most {_LARGEST_TOKENS:,}; ask for {fewer}"
        )


def _refuse_columns(options: RunOptions, what: str) -> None:
    if options.column is not None or options.template is not None:
        flag = "--column" if options.column is not None else "--template"
        raise WrongUseError(f"{flag}: {what} no columns; leave it out")
    if options.prompting.context_tokens:
        raise WrongUseError(f"--context-tokens: {what} lengths of their own; leave it out")
