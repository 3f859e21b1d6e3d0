"""The argument parser that this package's commands use, and the option --spans."""

import argparse
import os
import sys
import tomllib
from pathlib import Path
from typing import Final, NoReturn

DEFAULT_SPANS: Final = "spans"
CONFIGURATION: Final = "dyno.toml"  # what `dyno proxy` reads without --config


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, but an error is one line on stderr without the usage text; exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {' '.join(message.split())}; see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(2)


def spans_folder() -> str:
    """The spans folder where none is given: DYNO_PROXY_SPANS, ./dyno.toml's [proxy] spans, ./spans. The same rule holds
    for all commands. ArgumentTypeError if dyno.toml can't be read.
    """
    if told := os.environ.get("DYNO_PROXY_SPANS"):
        return told
    try:
        with Path(CONFIGURATION).open("rb") as file:
            section = tomllib.load(file).get("proxy", {})
    except FileNotFoundError:
        return DEFAULT_SPANS
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{CONFIGURATION}: {error}; mend it, or give --spans") from error
    spans = section.get("spans") if isinstance(section, dict) else None
    return spans if isinstance(spans, str) and spans else DEFAULT_SPANS


def spans_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option --spans DIR."""
    parser.add_argument(
        "--spans",
        metavar="DIR",
        default="",  # argparse gives it to `type` where the option isn't given
        type=lambda given: given or spans_folder(),
        help="folder of the span files (default: DYNO_PROXY_SPANS, ./dyno.toml's [proxy] spans, or spans)",
    )
