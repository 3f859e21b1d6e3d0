"""The options of a trace that is replayed, and of answers' lengths."""

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPLAY: Final = "replay"  # the workload that needs a trace
_UNITS_S: Final = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Traced:
    """What of a trace is sent, and how fast. `trace` None: nothing is replayed.

    `window_s`: from when to when, in s after the trace's first request; None: to its end. `endpoint`: of span files,
    only this endpoint's requests. `timed`: requests are due at the trace's times; otherwise a load is told, and only
    lengths and order are the trace's. `exact_lengths`: no answer may end before its length.
    """

    trace: Path | None = None
    speed: float = 1.0
    window_s: tuple[float, float | None] | None = None
    endpoint: str | None = None
    timed: bool = True
    exact_lengths: bool = False


def add_traced(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Add them. Returns those that a workload's file may set."""
    what = parser.add_argument_group("replay of a trace")
    return [
        what.add_argument(
            "--trace",
            type=_path,
            metavar="FILE",
            help="times, lengths and order of these requests: the proxy's span files or their folder, Azure's LLM "
            "inference trace (CSV), Mooncake's (JSON lines), BurstGPT's (CSV)",
        ),
        what.add_argument(
            "--speed", type=_speed, default=1.0, metavar="X", help="2x: in half the trace's time (default: 1x)"
        ),
        what.add_argument(
            "--window",
            type=_window,
            metavar="A..B",
            help="only the requests from A to B after the trace's first one: 10m..20m, 1h.., ..90s",
        ),
        what.add_argument("--trace-endpoint", metavar="NAME", help="of span files, only the requests to this endpoint"),
        what.add_argument(
            "--exact-lengths",
            action=argparse.BooleanOptionalAction,
            default=False,
            help="send 'min_tokens' and 'ignore_eos' too, so that an answer is as long as it may be; vLLM and some "
            "others know these (default: no)",
        ),
    ]


def traced(parsed: argparse.Namespace, *, timed: bool) -> Traced:
    """The options that `add_traced` added, as typed values."""
    return Traced(
        trace=parsed.trace,
        speed=parsed.speed,
        window_s=parsed.window,
        endpoint=parsed.trace_endpoint,
        timed=timed,
        exact_lengths=parsed.exact_lengths,
    )


def why_not(workload: str, interleave: str | None, prompts: bool, told: Traced) -> str | None:
    """Why these options can't be used together; None if they can. `prompts`: whether --prompts was told."""
    if told.trace is None:
        if workload == REPLAY:
            return f"--workload {REPLAY} needs a trace; give one with --trace FILE"
        for flag, value in (("--window", told.window_s), ("--trace-endpoint", told.endpoint)):
            if value is not None:
                return f"{flag} is a part of a trace; give one with --trace FILE"
        return "--speed is a trace's; give one with --trace FILE" if told.speed != 1 else None
    if prompts:
        return "--trace and --prompts exclude each other: a trace says which prompts are sent; leave out one of the two"
    if told.timed and interleave in ("pair", "block"):
        return f"--interleave {interleave} would change the trace's times; use parallel or whole"
    if not told.timed and told.speed != 1:
        return "--speed is for the trace's own times; leave it out, or leave out --concurrency and --rate"
    return None


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; give a trace's file or folder")
    return Path(text).expanduser()


def _speed(text: str) -> float:
    try:
        speed = float(text.strip().removesuffix("x"))
    except ValueError:
        speed = math.nan
    if not 1e-6 <= speed <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' must be a factor above 0, such as 2x, and at most 1000000x")
    return speed


def _window(text: str) -> tuple[float, float | None]:
    begin, dots, end = text.partition("..")
    begin_s = _duration_s(begin) if begin.strip() else 0.0
    end_s = _duration_s(end) if end.strip() else None
    if not dots or not math.isfinite(begin_s) or (end_s is not None and not end_s > begin_s):
        raise argparse.ArgumentTypeError(f"'{text}' must be a time span such as 10m..20m, 1h.. or ..90s")
    return begin_s, end_s


def _duration_s(text: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", text, re.ASCII)
    return math.nan if found is None else float(found[1]) * _UNITS_S.get(found[2], math.nan)
