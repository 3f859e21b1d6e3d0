"""An argument parser whose complaints are one line."""

import argparse
import sys
from typing import Final, NoReturn

DEFAULT_SPANS: Final = "spans"


class ArgumentParser(argparse.ArgumentParser):
    """argparse's own, with errors as every command of Dyno prints them: one line on stderr, exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {' '.join(message.split())}; see '{self.prog} --help'", file=sys.stderr)
        raise SystemExit(2)


def spans_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spans", metavar="DIR", default=DEFAULT_SPANS, help="folder of the span files (default: spans)"
    )
