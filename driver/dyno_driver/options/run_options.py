"""The options that `dyno drive` and `dyno compare` share: they are added here, and become typed values."""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dyno_driver.errors import WrongUseError
from dyno_driver.load.schedule import ONE_AT_A_TIME, Load, Order, Shape
from dyno_driver.workloads.workload import DEFAULT_WORKLOAD, defaults, names, workload_name

from .asked import DEFAULT_SET, add_asked
from .chatting import NO_CHAT, Chatting, add_chatting, chatting, why_no_chat
from .course_options import CourseOptions, add_course, course_options, why_not_course
from .limits import NO_LIMITS, Limits, add_limits, limits
from .loads import add_loads, add_pace
from .prompting import Prompting, prompting
from .traced import REPLAY, Traced, add_traced, traced, why_not
from .values import interleave

if TYPE_CHECKING:
    from .command_line import ArgumentParser


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The values of the options that `dyno drive` and `dyno compare` share.

    `seed` draws the order of the requests; `sampling_seed` is sent to the endpoints. `endpoints` None: all of the
    proxy's. `seed` None: one is drawn. None for `temperature`, `max_tokens` or `sampling_seed`: it isn't sent.
    `count` None: all prompts of a file, DEFAULT_COUNT of a set; under each load so many. `preflight_s`: how long the
    first request to an endpoint may take. `dry_run`: only the plan is printed.
    """

    prompts: str
    count: int | None
    column: str | None
    template: str | None
    endpoints: tuple[str, ...] | None
    workload: str
    shape: Shape
    order: Order
    seed: int | None
    repeat: int
    warmup: int
    temperature: float | None
    max_tokens: int | None
    sampling_seed: int | None
    stream: bool
    timeout_s: float
    preflight_s: float
    limits: Limits = NO_LIMITS
    dry_run: bool = False
    course: CourseOptions = field(default_factory=CourseOptions)
    chatting: Chatting = NO_CHAT
    prompting: Prompting = field(default_factory=Prompting)
    traced: Traced = field(default_factory=Traced)
    course_refused: str | None = None  # why these options don't go together

    @property
    def prompts_wanted(self) -> int | None:
        """How many prompts are loaded: under each load others, if there are enough. None: as `count` says."""
        return None if self.count is None else self.count * len(self.shape.loads)


def parse_run(
    parser: "ArgumentParser", argv: list[str], began_with: Callable[[argparse.Namespace], list[str]] | None = None
) -> argparse.Namespace:
    """Add the options that `dyno drive` and `dyno compare` share, and parse. The workload gives the defaults.

    `began_with`: the options with which the run began that --resume names. Wrong use ends the program, as argparse
    does.
    """
    settings = _named([*add_asked(parser), *_add_how(parser), *add_traced(parser), *add_chatting(parser)])
    given = parser.parse_args(argv)
    try:
        if given.resume is not None and began_with is not None:
            argv = [*began_with(given), *argv]
            given = parser.parse_args(argv)
        if given.trace is not None and given.workload == DEFAULT_WORKLOAD:
            given.workload = REPLAY
            parser.set_defaults(workload=REPLAY)
        parser.set_defaults(**defaults(given.workload, given, settings))
    except WrongUseError as error:
        parser.error(str(error))
    return parser.parse_args(argv)


def _named(options: Iterable[argparse.Action]) -> dict[str, argparse.Action]:
    """Options by the names that a workload's file has for them."""
    return {option.option_strings[0].lstrip("-"): option for option in options}


def _add_how(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--workload",
        default=DEFAULT_WORKLOAD,
        metavar="NAME",
        help=f"a set of options: {', '.join(names())}, or a FILE.toml; options given beside it override it (default: "
        f"{DEFAULT_WORKLOAD})",
    )
    how.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    return [*add_loads(how), *add_course(how), *add_pace(how), *add_limits(parser.add_argument_group("limits"))]


def run_options(parsed: argparse.Namespace) -> RunOptions:
    """The options that `parse_run` added, as typed values."""
    loads = (parsed.concurrency or ()) + (parsed.rate or ())
    if not loads and parsed.arrivals.series is not None:
        loads = (Load(None, parsed.arrivals.series.rate_per_s),)  # as the file has them
    course = course_options(parsed)
    return RunOptions(
        prompts=parsed.prompts,
        count=parsed.count,
        column=parsed.column,
        template=parsed.template,
        endpoints=parsed.endpoints,
        workload=workload_name(parsed.workload),
        shape=Shape(loads or (ONE_AT_A_TIME,), interleave(parsed.interleave), parsed.arrivals, parsed.pause),
        order=parsed.order,
        seed=parsed.seed,
        repeat=parsed.repeat,
        warmup=parsed.warmup,
        temperature=parsed.temperature,
        max_tokens=parsed.max_tokens,
        sampling_seed=parsed.sampling_seed,
        stream=parsed.stream,
        timeout_s=parsed.timeout,
        preflight_s=parsed.preflight,
        limits=limits(parsed),
        dry_run=parsed.dry_run,
        course=course,
        course_refused=why_not_course(parsed, course, loads),
        chatting=chatting(parsed),
        prompting=prompting(parsed),
        traced=traced(parsed, timed=not loads),
    )


def check_run(parser: "ArgumentParser", options: RunOptions) -> None:
    """Refuse options that exclude each other."""
    if options.shape.interleave == "pair" and options.shape.loads != (ONE_AT_A_TIME,):
        parser.error("--interleave pair sends one request at a time; use parallel or block under other loads")
    if options.course_refused is not None:
        parser.error(options.course_refused)
    if options.shape.arrivals.series is not None and any(load.rate_per_s is None for load in options.shape.loads):
        parser.error(f"--arrivals {options.shape.arrivals.name} says when requests are due; leave out --concurrency")
    told = options.prompts != DEFAULT_SET
    if (why := why_not(options.workload, options.shape.interleave, told, options.traced)) is not None:
        parser.error(why)
    closed = all(load.rate_per_s is None for load in options.shape.loads)
    if (why := why_no_chat(options.chatting, closed=closed, traced=options.traced.trace is not None)) is not None:
        parser.error(why)
