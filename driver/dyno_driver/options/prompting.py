"""The options that say more of the prompts: which part of a hub's set, by which tokenizer, how long."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .values import number

_LENGTH: Final = re.compile(r"(\d+(?:\.\d+)?)([km]?)", re.IGNORECASE)
_TIMES: Final = {"": 1, "k": 1000, "m": 1_000_000}
SHORTEST_TOKENS: Final = 100
LONGEST_TOKENS: Final = 10_000_000
_DEFAULT_DEPTHS: Final = (0.5,)


@dataclass(frozen=True, slots=True)
class Prompting:
    """Values of these options. None for `split`, `revision`, `subset`: as the set has them.

    `context_tokens`: lengths of long prompts, in tokens; none: prompts are as their set has them. `depths`: where the
    answer stands in them, from 0.0 (the beginning) to 1.0. `shared_prefix`: prompts of one length begin alike.
    """

    split: str | None = None
    revision: str | None = None
    subset: str | None = None
    tokenizer: Path | None = None
    context_tokens: tuple[int, ...] = ()
    depths: tuple[float, ...] = _DEFAULT_DEPTHS
    shared_prefix: bool = False


def add_prompting(what: "argparse._ArgumentGroup") -> list[argparse.Action]:
    """Add them. Returns those that a workload's file may set."""
    return [
        what.add_argument("--split", metavar="NAME", help="the split of a hub's set (default: validation)"),
        what.add_argument(
            "--revision",
            metavar="REV",
            help="the commit, tag or branch of a hub's set (default: the newest); it is recorded",
        ),
        what.add_argument("--subset", metavar="NAME", help="the subset of a hub's set"),
        what.add_argument(
            "--tokenizer",
            type=Path,
            metavar="FILE",
            help="a tokenizer.json, or a tiktoken file: counts tokens of prompts (default: four characters are one)",
        ),
        what.add_argument(
            "--context-tokens",
            type=token_lengths,
            default=(),
            metavar="N,…",
            help="long prompts of so many tokens, in turn, such as 1k,4k,128k (k: 1,000): passages of the set with one "
            "sentence among them that answers the question. Each begins anew, so that no cache answers",
        ),
        what.add_argument(
            "--depth",
            type=depths,
            default=_DEFAULT_DEPTHS,
            metavar="P,…",
            help="where the answer stands in long prompts, in percent of their length, in turn (default: 50)",
        ),
        what.add_argument(
            "--shared-prefix",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="long prompts of one length differ only in their last question, so that a cache may answer",
        ),
    ]


def prompting(parsed: argparse.Namespace) -> Prompting:
    """These options as typed values."""
    return Prompting(
        split=parsed.split,
        revision=parsed.revision,
        subset=parsed.subset,
        tokenizer=parsed.tokenizer,
        context_tokens=parsed.context_tokens,
        depths=parsed.depth,
        shared_prefix=parsed.shared_prefix,
    )


def token_lengths(text: str) -> tuple[int, ...]:
    """`1k,4k` → (1000, 4000). A k is 1,000: a model whose context is 128 Ki then has room for the answer."""
    return tuple(_tokens(part.strip()) for part in text.split(","))


def _tokens(text: str) -> int:
    found = _LENGTH.fullmatch(text)
    tokens = round(float(found[1]) * _TIMES[found[2].lower()]) if found is not None else 0
    if not SHORTEST_TOKENS <= tokens <= LONGEST_TOKENS:
        raise argparse.ArgumentTypeError(
            f"'{text}' must be a number of tokens from {SHORTEST_TOKENS} to {LONGEST_TOKENS:,}, such as 4000 or 4k"
        )
    return tokens


def depths(text: str) -> tuple[float, ...]:
    """`0,50,100` → (0.0, 0.5, 1.0)."""
    found = tuple(number(part.strip().removesuffix("%"), 0.0, "a percentage from 0 to 100") for part in text.split(","))
    if any(depth > 100 for depth in found):
        raise argparse.ArgumentTypeError(f"'{text}' must be percentages from 0 to 100")
    return tuple(depth / 100 for depth in found)
