"""The options that say what is asked."""

import argparse
from typing import Final

from .prompting import add_prompting
from .values import max_tokens, positive_int, temperature, unique_names

DEFAULT_SET: Final = "science"
DEFAULT_COUNT: Final = 10  # prompts of a set; of a file all are asked


def add_asked(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Add them. Returns those that a workload's file may set."""
    what = parser.add_argument_group("what is asked")
    return [
        what.add_argument(
            "--prompts",
            default=DEFAULT_SET,
            metavar="SET",
            help="science (ships with Dyno), squad, a JSON, JSONL, CSV or Parquet file, OWNER/NAME[:SPLIT] on the "
            "Hugging Face hub, or synthetic:in=1024,out=256 for texts of these lengths in tokens (default: science). A "
            "record's 'prompt' is sent as it is; a 'question', with its 'context', is sent as 'Context: … Question: … "
            "Answer:'; conversations, lines of a batch file and raw requests are sent as such",
        ),
        what.add_argument(
            "-n",
            dest="count",
            type=positive_int,
            metavar="N",
            help=f"the first N prompts (default: all of a file, {DEFAULT_COUNT} of a set). Under several loads "
            "each has N of its own, if there are enough",
        ),
        what.add_argument("--column", metavar="NAME", help="this column's text is sent as it is"),
        what.add_argument(
            "--template",
            metavar="TEXT",
            help="what is sent, with columns in braces: 'Summarize: {text}'; \\n is a line end",
        ),
        *add_prompting(what),
        what.add_argument(
            "--endpoints", type=unique_names, metavar="A,B", help="names in the proxy's configuration (default: all)"
        ),
        what.add_argument(
            "--temperature", type=temperature, default=0.0, metavar="T", help="(default: 0; 'none': it isn't sent)"
        ),
        what.add_argument(
            "--max-tokens", type=max_tokens, default=512, metavar="N", help="(default: 512; 'none': it isn't sent)"
        ),
        what.add_argument(
            "--sampling-seed", type=int, metavar="N", help="sent as the request's 'seed' (default: not sent)"
        ),
        what.add_argument(
            "--stream", action=argparse.BooleanOptionalAction, default=True, help="streamed answers (default: yes)"
        ),
    ]
