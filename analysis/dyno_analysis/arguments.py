"""The argument parser that this package's commands use, and the option --spans."""

import argparse
import sys
from typing import Final, NoReturn

DEFAULT_SPANS: Final = "spans"


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, but an error is one line on stderr without the usage text; exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {' '.join(message.split())}; see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(2)


def spans_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option --spans DIR."""
    parser.add_argument(
        "--spans", metavar="DIR", default=DEFAULT_SPANS, help="folder of the span files (default: spans)"
    )
