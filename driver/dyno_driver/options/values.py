"""The values of options, each read from its text. ArgumentTypeError for a text that isn't one."""

import argparse
import math
from pathlib import Path
from typing import Final

from dyno_driver.load.arrivals import LARGEST_VARIATION, POISSON, Arrivals, read_arrivals
from dyno_driver.load.schedule import INTERLEAVES, Interleave, Load
from dyno_driver.load.series import read_series

_LARGEST_SERIES_BYTES: Final = 256 * 2**20

_RATE: Final = "a number of requests a second above 0"


def unique_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"'{text}' has an empty name; write NAME,NAME")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise argparse.ArgumentTypeError(f"'{twice[0]}' is given twice; name each endpoint once")
    return names


def integer(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number, {least} or more")
    return number


def positive_int(text: str) -> int:
    return integer(text, 1)


def natural_int(text: str) -> int:
    return integer(text, 0)


class LoadRange(tuple[Load, ...]):
    """The lowest and the highest load of a search: `1..256`."""


def concurrencies(text: str) -> tuple[Load, ...]:
    low, dots, high = text.partition("..")
    if dots:
        ends = Load(positive_int(low)), Load(positive_int(high))
        if positive_int(low) >= positive_int(high):
            raise argparse.ArgumentTypeError(f"'{text}' must be LOW..HIGH, the lower load first")
        return LoadRange(ends)
    return tuple(
        Load(None, all_at_once=True) if part.strip() == "all" else Load(positive_int(part)) for part in text.split(",")
    )


def rates(text: str) -> tuple[Load, ...]:
    return tuple(_rate(part) for part in text.split(","))


def _rate(text: str) -> Load:
    begin, dots, end = text.partition("..")
    what = "a number of requests a second above 0"
    if not dots:
        return Load(None, number(text, 1e-6, what))
    ramp = number(begin, 1e-6, f"{what}, as in 1..10"), number(end, 1e-6, f"{what}, as in 1..10")
    return Load(None, sum(ramp) / 2, ramp=ramp)


def arrivals(text: str) -> Arrivals:
    kind, _, path = text.partition(":")
    if kind == "file":
        return _arrivals_of_file(text, Path(path).expanduser())
    arrivals = read_arrivals(text)
    if arrivals is None:
        raise argparse.ArgumentTypeError(
            f"'{text}' must be poisson, constant, or gamma:CV with a number above 0 and at most {LARGEST_VARIATION:g}, "
            "or file:PATH"
        )
    return arrivals


def _arrivals_of_file(text: str, path: Path) -> Arrivals:
    try:
        if path.stat().st_size > _LARGEST_SERIES_BYTES:
            raise argparse.ArgumentTypeError(f"'{path}' is over {_LARGEST_SERIES_BYTES // 2**20} MiB; cut it")
        return Arrivals(text, POISSON.variation, read_series(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"'{path}' can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{path}' {error}") from error


def interleave(told: str | None) -> Interleave | None:
    return next((known for known in INTERLEAVES if known == told), None)


def pause_s(text: str) -> float:
    return number(text, 0.0, "a number of seconds, 0 or more")


def max_tokens(text: str) -> int | None:
    return None if text == "none" else integer(text, 1)


def temperature(text: str) -> float | None:
    return None if text == "none" else number(text, 0.0, "a number, 0 or more, or 'none'")


def seconds(text: str) -> float:
    return number(text, math.ulp(0.0), "a number of seconds above 0")


def number(text: str, least: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < least:
        raise argparse.ArgumentTypeError(f"'{text}' must be {what}")
    return number
