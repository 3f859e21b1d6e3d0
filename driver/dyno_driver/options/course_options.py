"""The options that let a run go on, or end, by what has come: blocks, stopping rules, holds, searches."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dyno_driver.load.boundary import Bounds
from dyno_driver.load.looks import Rule, read_rule
from dyno_driver.load.schedule import ONE_AT_A_TIME, Load
from dyno_driver.load.search import Search
from dyno_driver.load.slo import Slo, needs_streams, read_slos
from dyno_driver.load.until import FIGURES, Figure, Until

from .values import LoadRange, positive_int, seconds

DEFAULT_HOLD_S: Final = 10.0  # of a search
_WIDEST: Final = LoadRange((Load(1), Load(256)))  # at once, where a search is told no bounds


@dataclass(frozen=True, slots=True)
class CourseOptions:
    """Typed values of these options. At most one of them is set; all None: a static plan."""

    until: Until | None = None
    hold_s: float | None = None  # of each load, without a search
    search: Search | None = None


def add_course(how: "argparse._ArgumentGroup") -> list[argparse.Action]:
    """Add them. Returns those that a workload's file may set."""
    return [
        how.add_argument(
            "--blocks",
            type=positive_int,
            default=1,
            metavar="N",
            help="ask everything N times, with --pause between: from six blocks on, the interval holds how the "
            "endpoints vary over time (default: 1)",
        ),
        how.add_argument(
            "--until",
            type=rule,
            metavar="RULE",
            help="end early. ci=5%%: when the paired ratio's 95 %% interval reaches no further than 5 %% from it. "
            "verdict: when one endpoint is faster; its looks share the 5 %% that may be false. Looks begin at 20 pairs",
        ),
        how.add_argument(
            "--until-figure",
            choices=FIGURES,
            default="latency",
            help="the figure that --until looks at (default: latency)",
        ),
        how.add_argument(
            "--hold",
            type=seconds,
            metavar="S",
            help="hold each load for at least S seconds, and until its figures have settled: at most five times as "
            f"long (default: until -n prompts were asked; {DEFAULT_HOLD_S:g} in a search)",
        ),
        how.add_argument(
            "--slo",
            type=slos,
            metavar="F=T,…",
            help="find the highest load that meets these, such as ttft_p95=2s,tpot_p95=50ms, between the lowest and "
            "the highest of --concurrency or --rate (1..256)",
        ),
        how.add_argument(
            "--search",
            choices=("concurrency", "rate"),
            help="what --slo searches for (default: the one whose loads are given, else concurrency)",
        ),
    ]


def slos(text: str) -> tuple[Slo, ...]:
    try:
        return read_slos(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def rule(text: str) -> Rule:
    found = read_rule(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' must be verdict, or ci=P% with a percentage above 0, such as ci=5%")
    return found


def course_options(parsed: argparse.Namespace) -> CourseOptions:
    """The options that `add_course` added, as typed values."""
    if parsed.slo is not None:
        hold_s = DEFAULT_HOLD_S if parsed.hold is None else parsed.hold
        return CourseOptions(search=Search(parsed.slo, _bounds(parsed), hold_s))
    figure: Figure = next(known for known in FIGURES if known == parsed.until_figure)
    if parsed.until is not None or parsed.blocks > 1:
        return CourseOptions(until=Until(parsed.until, figure, parsed.blocks))
    return CourseOptions(hold_s=parsed.hold)


def why_not_course(parsed: argparse.Namespace, options: CourseOptions, loads: Sequence[Load]) -> str | None:
    """What is wrong with these options together; None if nothing is."""
    other = next((flag for flag, given in _others(parsed) if given), None)
    if parsed.slo is None:
        if parsed.search is not None:
            return "--search needs what the load must meet; give --slo, such as --slo ttft_p95=2s"
        if isinstance(parsed.concurrency, LoadRange):
            return "--concurrency LOW..HIGH is a search's; give --slo, or loads as --concurrency 1,8,32"
    elif other is not None:
        return f"--slo searches, and {other} doesn't go with it; give one of the two"
    elif _given(parsed, "concurrency") and _given(parsed, "rate"):
        return "--slo searches for one of --concurrency and --rate; give one of the two"
    elif parsed.search is not None and _given(parsed, _OTHER[parsed.search]):
        return f"--search {parsed.search} takes its bounds from --{parsed.search}, not --{_OTHER[parsed.search]}"
    elif parsed.search == "rate" and parsed.rate is None:
        return "--search rate needs its bounds; give them as --rate LOW..HIGH"
    elif any(load.all_at_once for load in loads):
        return "--slo can't search up to 'all'; give --concurrency LOW..HIGH"
    elif not parsed.stream and needs_streams(parsed.slo):
        return "--slo on ttft, tpot or itl needs streamed answers; leave out --no-stream, or give latency"
    if options.until is not None and len(loads) > 1:
        return "--until and --blocks take one load; give one --concurrency or --rate"
    if options.until is not None and parsed.hold is not None:
        return "--hold doesn't go with --until or --blocks; give one of the two"
    if options.hold_s is not None and any(load.all_at_once for load in loads):
        return "--hold can't hold 'all' at once; give a number to --concurrency"
    return None


_OTHER: Final = {"concurrency": "rate", "rate": "concurrency"}
_NAME: Final = {True: "concurrency", False: "rate"}


def _others(parsed: argparse.Namespace) -> list[tuple[str, bool]]:
    return [("--until", parsed.until is not None), ("--blocks", parsed.blocks > 1)]


def _bounds(parsed: argparse.Namespace) -> Bounds:
    """The lowest and the highest of the loads that are given."""
    whole = not _given(parsed, "rate")
    loads: Sequence[Load] = (parsed.concurrency if whole else parsed.rate) if _given(parsed, _NAME[whole]) else _WIDEST
    values = [end for load in loads for end in load.ramp or (float(load.concurrency or load.rate_per_s or 1),)]
    return Bounds(min(values) if len(values) > 1 else min(1.0, values[0]), max(values), whole)


def _given(parsed: argparse.Namespace, name: str) -> bool:
    """Whether loads are given from which to which a search may go; one at a time, the default workload's, is none."""
    return getattr(parsed, name) not in (None, (ONE_AT_A_TIME,))
