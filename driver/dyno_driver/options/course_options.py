"""The options that let a run go on, or end, by what has come: blocks, stopping rules, holds, searches."""

import argparse
from dataclasses import dataclass

from dyno_driver.load.looks import Rule, read_rule
from dyno_driver.load.until import FIGURES, Figure, Until

from .values import positive_int


@dataclass(frozen=True, slots=True)
class CourseOptions:
    """Typed values of these options. `until` None: a static plan."""

    until: Until | None = None


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
    ]


def rule(text: str) -> Rule:
    found = read_rule(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"'{text}' must be verdict, or ci=P% with a percentage above 0, such as ci=5%")
    return found


def course_options(parsed: argparse.Namespace) -> CourseOptions:
    """The options that `add_course` added, as typed values."""
    figure: Figure = next(known for known in FIGURES if known == parsed.until_figure)
    staged = parsed.until is not None or parsed.blocks > 1
    return CourseOptions(Until(parsed.until, figure, parsed.blocks) if staged else None)
