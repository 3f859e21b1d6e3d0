"""The options of conversations."""

import argparse
from typing import Final, NamedTuple

from .values import number


class Chatting(NamedTuple):
    """`on`: prompts are conversations. `recorded`: earlier answers are the set's, not the endpoint's. `think_s`: bounds
    of the time between an answer and the next turn.
    """

    on: bool = False
    recorded: bool = False
    think_s: tuple[float, float] = (0.0, 0.0)


NO_CHAT: Final = Chatting()


def add_chatting(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Add them. Returns those that a workload's file may set."""
    what = parser.add_argument_group("conversations")
    return [
        what.add_argument(
            "--conversations",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="send all turns of a conversation, each after the answer to the one before (default: no)",
        ),
        what.add_argument(
            "--recorded-turns",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="earlier answers are the recorded ones, not the endpoint's own (default: no)",
        ),
        what.add_argument(
            "--think",
            type=_think_s,
            default=(0.0, 0.0),
            metavar="S",
            help="seconds between an answer and the conversation's next turn; 2..10 is drawn (default: 0)",
        ),
    ]


def chatting(parsed: argparse.Namespace) -> Chatting:
    """The options that `add_chatting` added, as typed values."""
    return Chatting(parsed.conversations, parsed.recorded_turns, parsed.think)


def why_no_chat(told: Chatting, *, closed: bool, traced: bool) -> str | None:
    """Why these options can't be used together; None if they can."""
    if not told.on:
        if told.recorded:
            return "--recorded-turns is for conversations; add --conversations"
        return "--think is for conversations; add --conversations" if told.think_s != (0.0, 0.0) else None
    if traced:
        return "--conversations and --trace exclude each other; leave out one of the two"
    return None if closed else "--conversations needs --concurrency: a turn waits for an answer; leave out --rate"


def _think_s(text: str) -> tuple[float, float]:
    begin, dots, end = text.partition("..")
    what = "a number of seconds, 0 or more, or two such as 2..10"
    bounds = number(begin, 0.0, what), number(end if dots else begin, 0.0, what)
    if bounds[0] > bounds[1]:
        raise argparse.ArgumentTypeError(f"'{text}' must be {what}")
    return bounds
