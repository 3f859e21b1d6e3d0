"""`dyno simulate`: simulated endpoints, each a real HTTP server on a port of its own."""

import argparse
import asyncio
import math
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dyno_driver.event_loop import run
from dyno_driver.options.command_line import ArgumentParser
from dyno_driver.simulation.profiles import PROFILES, Profile
from dyno_driver.simulation.script import Script, ScriptError, compile_script, read_script
from dyno_driver.simulation.wire import Envelope

if TYPE_CHECKING:
    from dyno_driver.simulation.server import SimulatedEndpoint

PROG: Final = "dyno simulate"

EPILOG: Final = """\
times: latency = fixed part + seconds per token × output tokens, drawn by --seed. The fixed part passes before the
first token; its spread is its standard deviation. The constants of each profile are assumptions for a simulator,
not measurements:

{table}

A value may be given for one profile (--fixed-s metis=2.5) or for all (--fixed-s 2.5). Every response says
`Server: dyno-simulate`. A script, from --script or in a request's header x-dyno-script, replaces the answers;
dyno_driver/simulation/script.py describes its language.

example:
  dyno simulate --profile metis --profile sophia --seed 7
  curl -N http://127.0.0.1:PORT/v1/chat/completions \\
    -d '{{"model": "any", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'
"""


# The fields of a profile that flags change.
_CHANGED: Final = ("fixed_s", "per_token_s", "spread_s", "output_tokens", "per_prompt_token_s", "batch", "slowing")


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT, then return 0. Returns 2 for wrong use."""
    arguments = _parser().parse_args(argv)
    try:
        host, port = _split_address(arguments.listen, len(arguments.profile))
        profiles = _chosen_profiles(arguments)
        script = None if arguments.script is None else _load_script(arguments.script, profiles[0])
    except _UsageError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 2

    # Imported here, since it imports aiohttp: that is slow, and --help doesn't need it.
    from dyno_driver.simulation.server import SimulatedEndpoint

    endpoints = [
        SimulatedEndpoint(profile, seed=arguments.seed, time_scale=arguments.time_scale, script=script)
        for profile in profiles
    ]
    return run(_serve(endpoints, profiles, host, port))


class _UsageError(ValueError):
    """Wrong use of the command; the message is the line to print."""


async def _serve(endpoints: "list[SimulatedEndpoint]", profiles: list[Profile], host: str, port: int) -> int:
    from dyno_driver.simulation.server import start_all

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        urls = await start_all(endpoints, host, port)
    except OSError as error:
        print(
            f"{PROG}: --listen {host}:{port}: {error.strerror or error}; choose another port, or 0 for a free one",
            file=sys.stderr,
        )
        return 2
    for profile, url in zip(profiles, urls, strict=True):
        print(f"{PROG}: {profile.name} on {url}/v1", flush=True)
    await stopped.wait()
    await asyncio.gather(*(endpoint.stop() for endpoint in endpoints))
    return 0


def _parser() -> ArgumentParser:
    rows = [
        f"  {one.name:<9} fixed {one.fixed_s:>5} s   per token {one.per_token_s} s   spread {one.spread_s} s"
        for one in PROFILES.values()
    ]
    parser = ArgumentParser(
        prog=PROG,
        description="Simulated endpoints: real HTTP servers with OpenAI-shaped answers and each vendor's own fields.",
        epilog=EPILOG.format(table="\n".join(rows)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--profile", action="append", required=True, choices=list(PROFILES), help="which endpoint; repeat for several"
    )
    parser.add_argument(
        "--listen",
        default="127.0.0.1:0",
        metavar="HOST:PORT",
        help="address (default 127.0.0.1:0, a free port); each further profile takes the next port",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn lengths and times (default 0)")
    for flag, what in (
        ("--fixed-s", "mean seconds before the first token"),
        ("--per-token-s", "seconds per output token"),
        ("--spread-s", "standard deviation of those seconds"),
        ("--output-tokens", "every answer's length (default: drawn for each prompt, 30 to 150, mean 80)"),
        ("--per-prompt-token-s", "seconds for each token of the prompt (default: 0)"),
        ("--batch", "answers written at once; further requests wait (default: any number)"),
        (
            "--slowing",
            "how much longer a token takes for each further answer being written: 0.01 is one per cent (default: 0)",
        ),
    ):
        parser.add_argument(flag, action="append", default=[], metavar="[PROFILE=]VALUE", help=what)
    parser.add_argument(
        "--time-scale",
        type=_factor,
        default=1.0,
        metavar="FACTOR",
        help="multiplies all waiting (0.01: 100 times as fast)",
    )
    parser.add_argument("--script", type=Path, metavar="FILE.json", help="answer every request by this script")
    return parser


def _chosen_profiles(arguments: argparse.Namespace) -> list[Profile]:
    changes: dict[str, dict[str, Any]] = {name: {} for name in arguments.profile}
    for field in _CHANGED:
        flag = "--" + field.replace("_", "-")
        for text in getattr(arguments, field):
            name, _, value = text.rpartition("=")
            if name and name not in changes:
                raise _UsageError(f"{flag} {text}: '{name}' isn't simulated; add --profile {name}")
            number = _count(flag, value) if field in ("output_tokens", "batch") else _non_negative(flag, value)
            for chosen in [name] if name else changes:
                changes[chosen][field] = number
    return [replace(PROFILES[name], **changes[name]) for name in arguments.profile]


def _load_script(path: Path, profile: Profile) -> Script:
    """Read and check the script once, so that a mistake shows at the start."""
    try:
        script = read_script(path.read_bytes())
        compile_script(script, profile.wire, Envelope("check", profile.model, 0.0, chat=True))
    except OSError as error:
        raise _UsageError(f"--script {path}: {error.strerror}") from None
    except ScriptError as error:
        raise _UsageError(f"--script {path}: {error}") from None
    return script


def _split_address(text: str, ports: int) -> tuple[str, int]:
    """Host and port from HOST:PORT. _UsageError if it isn't that, or if no `ports` consecutive ports begin there."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise _UsageError(f"--listen {text}: must be HOST:PORT, for example 127.0.0.1:8081")
    if int(port) + ports - 1 > 65535:
        raise _UsageError(
            f"--listen {text}: {ports} profiles need {ports} ports from {port} on, beyond 65535; choose a lower port"
        )
    return host.strip("[]"), int(port)


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number, 0 or more")
    return value


def _non_negative(flag: str, text: str) -> float:
    try:
        return _factor(text)
    except argparse.ArgumentTypeError as error:
        raise _UsageError(f"{flag}: {error}") from None


def _count(flag: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise _UsageError(f"{flag}: {text!r} must be a whole number, 1 to 1000000")
    return int(text)
