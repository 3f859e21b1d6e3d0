"""An argument parser whose errors are one line, and a type for its options."""

import argparse
import re
import sys
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """Writes an error as one line, and ends with exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see '{self.prog} --help'", file=sys.stderr)
        sys.exit(2)


def duration_s(text: str) -> float:
    """The seconds that `30`, `30s`, `1.5m` or `1h` stand for. Raises ArgumentTypeError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h|)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' must be a time, such as 30s, 2m or 1h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
