"""`dyno compare`: the whole job. It starts the proxy (and simulated endpoints), sends the prompts through it,
stops what it started, and calls `dyno report`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dyno_driver.errors import WrongUseError
from dyno_driver.options.command_line import CONFIGURATION, ArgumentParser, spans_folder
from dyno_driver.options.run_options import RunOptions, check_run, parse_run, run_options

if TYPE_CHECKING:
    from dyno_driver.prompts.prompt_set import PromptSet
    from dyno_driver.resume import Earlier
    from dyno_driver.said import RunResult
    from dyno_driver.stopping import Stop

PROG: Final = "dyno compare"

EPILOG: Final = """\
Without --config it reads ./dyno.toml, as `dyno proxy` does. Without that file, or with --simulate, two endpoints are
simulated, all output says so, and their spans go to a folder of their own. The answer goes to stdout, into a pipe with
all tables, and progress to stderr. The first request to each endpoint is its preflight: a refused connection, 401, 403,
404 or a token that can't be had stops the run at once.
Ctrl-C stops sending and waits for what runs; a second one ends now. `--resume RUN` sends what is missing.
Exit code: 0; 1 if a request failed, spans were lost or the run was stopped (what was measured is kept);
2 for wrong use.

examples:
  dyno compare --simulate
  dyno compare --config dyno.toml --prompts squad -n 10
"""

# The names are those of the published benchmark's two systems; every figure comes from `dyno simulate`.
SIMULATED: Final = {
    "metis": {"model": "gpt-oss-120b", "provider": "sambanova", "hardware": "simulated"},
    "sophia": {"model": "openai/gpt-oss-120b", "provider": "vllm", "hardware": "simulated"},
}

SIMULATED_SPANS: Final = "spans-simulated"  # apart from what is real

_PROXY_READY: Final = re.compile(r"dyno proxy: listening on (?P<url>http\S+), spans in (?P<spans>.+)")
_SIMULATE_READY: Final = re.compile(r"dyno simulate: (?P<profile>\S+) on (?P<url>http\S+)")


def main(argv: list[str]) -> int:
    parser = ArgumentParser(
        prog=PROG,
        description="Replays prompts to two or more endpoints in interleaved pairs, measures them, prints the "
        "comparison and writes the report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the proxy's configuration with its endpoints (default: dyno.toml, if it exists)",
    )
    where.add_argument("--simulate", action="store_true", help="compare simulated endpoints, whatever dyno.toml says")
    where.add_argument(
        "--spans",
        metavar="DIR",
        help="folder of the spans and runs (default: the configuration's, or spans; of a simulation "
        f"{SIMULATED_SPANS})",
    )
    where.add_argument(
        "--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="where the proxy listens (default: a free port)"
    )
    where.add_argument(
        "--simulate-seed", type=int, default=0, metavar="N", help="seed of the simulated times (default: 0)"
    )
    where.add_argument(
        "--simulate-speed",
        type=_speed,
        default=1.0,
        metavar="X",
        help="the simulated endpoints answer X times as fast as their profiles say (default: 1); figures are as "
        "measured",
    )
    earlier: Earlier | None = None

    def began_with(given: argparse.Namespace) -> list[str]:
        nonlocal earlier
        from dyno_driver.resume import find_earlier

        folders = [Path(given.spans)] if given.spans else [_spans(parser), Path(SIMULATED_SPANS)]
        earlier = find_earlier(given.resume, folders, ["dyno", "compare"])
        return earlier.arguments

    parsed = parse_run(parser, argv, began_with)
    options = run_options(parsed)
    check_run(parser, options)
    if parsed.simulate and parsed.config is not None:
        parser.error("--simulate and --config exclude each other; leave out one of the two")
    if not parsed.simulate and parsed.config is None and CONFIGURATION.exists():
        parsed.config = CONFIGURATION
    try:
        return _compare(parsed, options, ["dyno", "compare", *argv], earlier)
    except KeyboardInterrupt:
        # This is a Ctrl-C before or after the run; the run handles its signals itself.
        print(f"{PROG}: stopped", file=sys.stderr)
        return 1


def _spans(parser: ArgumentParser) -> Path:
    try:
        return spans_folder()
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))


def _compare(parsed: argparse.Namespace, options: RunOptions, command: list[str], earlier: "Earlier | None") -> int:
    # Imported here, so that --help answers at once.
    from dyno_driver.child_process import ChildError
    from dyno_driver.chosen import chosen
    from dyno_driver.event_loop import run as run_on_loop
    from dyno_driver.progress import fitted
    from dyno_driver.stopping import StoppedError

    if parsed.config is None:
        why = "--simulate" if parsed.simulate else "No --config and no dyno.toml"
        speed = "" if parsed.simulate_speed == 1 else f" at {parsed.simulate_speed:g} times their profiles' speed"
        said = f"{why}: {' and '.join(SIMULATED)} are simulated{speed}; nothing real is measured."
        print(fitted(said, sys.stdout), flush=True)
        parsed.spans = parsed.spans or SIMULATED_SPANS
    if earlier is not None:
        parsed.spans = str(earlier.folder.parent.parent)
    try:
        options, prompt_set = chosen(options, None if earlier is None else earlier.record["seed"])
        result, spans, journals, lost = run_on_loop(_measure(parsed, options, prompt_set, command, earlier))
    except WrongUseError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 2
    except ChildError as error:
        if error.spoke:
            return 2
        print(f"{PROG}: {error}", file=sys.stderr)
        return 1
    except StoppedError:
        print(f"{PROG}: stopped before the first request", file=sys.stderr)
        return 1
    if result is None:
        return 0
    _say(result)
    if lost:
        print(f"{PROG}: spans were lost, as the proxy says above; tables and report lack them", file=sys.stderr)
    if not result.measured and not result.earlier:
        return result.exit_code or int(lost)
    return _report(result, spans, journals) or result.exit_code or int(lost)


def _say(result: "RunResult") -> None:
    """Say how the run went. On a terminal the answer follows on one screen, and says the rest."""
    from dyno_driver.progress import fitted
    from dyno_driver.said import summary, troubles

    short = sys.stdout.isatty() and result.measured
    for line in troubles(result) if short else summary(result):
        print(fitted(line, sys.stdout), flush=True)


def _report(result: "RunResult", spans: Path, journals: str) -> int:
    """Call `dyno report`, and print the paths of the span files; returns the report's exit code.

    On a terminal the paths come first, so that the answer stands last, on one screen.
    """
    from dyno_driver.child_process import DYNO

    report = [*DYNO, "report", result.run_id, "--spans", str(spans), "--out", str(result.folder)]
    paths = [str(path) for path in sorted(spans.glob(journals))]
    if sys.stdout.isatty():
        print("\n".join([*(f"spans    {path}" for path in paths), ""]), flush=True)
        return subprocess.run(report, check=False).returncode  # noqa: S603 - our own program
    code = subprocess.run(report, check=False).returncode  # noqa: S603 - our own program
    print("\n".join(paths))
    return code


async def _measure(
    parsed: argparse.Namespace,
    options: RunOptions,
    prompt_set: "PromptSet",
    command: list[str],
    earlier: "Earlier | None",
) -> "tuple[RunResult | None, Path, str, bool]":
    """Do the run. Returns it with its spans folder, a glob pattern of the files there that its proxy wrote, and whether
    the proxy has lost spans.

    When this returns, the proxy has ended and its spans are on disk.
    """
    from dyno_driver.child_process import Child
    from dyno_driver.run import run
    from dyno_driver.stopping import stop_signals, unless

    async with contextlib.AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        config, environment = parsed.config, dict(os.environ)
        if config is None:
            config = await _simulate(stack, stop, parsed.simulate_seed, parsed.simulate_speed)
            # A DYNO_ENDPOINTS_… variable could put a real endpoint behind a name that we call simulated.
            environment = {name: value for name, value in environment.items() if not name.startswith("DYNO_ENDPOINTS_")}
        environment["DYNO_SIGNED_AS"] = PROG
        spans = [] if parsed.spans is None else ["--spans", parsed.spans]
        proxy = await Child.start("proxy", ["--config", str(config), "--listen", parsed.listen, *spans], environment)
        # The stack stops what was registered last first, so the endpoints still answer while the proxy drains.
        stack.push_async_callback(proxy.stop)
        [ready] = await unless(stop.asked, proxy.ready(_PROXY_READY))
        key = os.environ.get("DYNO_API_KEY") or None
        result = await run(ready["url"], key, options, prompt_set, Path(ready["spans"]), command, stop, earlier)
    # A span file's name is WRITER-FIRST…, and WRITER is made of host, process id and start time.
    return result, Path(ready["spans"]), f"*_{proxy.pid}_*-*", proxy.exit_code != 0


async def _simulate(stack: contextlib.AsyncExitStack, stop: "Stop", seed: int, speed: float) -> Path:
    """Start the simulated endpoints and write a configuration that names them; returns its path.

    When `stack` closes, it stops the endpoints and removes the file.
    """
    from dyno_driver.child_process import Child
    from dyno_driver.stopping import unless

    profiles = [argument for name in SIMULATED for argument in ("--profile", name)]
    flags = ["--listen", "127.0.0.1:0", "--seed", str(seed), "--time-scale", repr(1 / speed)]
    simulators = await Child.start("simulate", [*profiles, *flags])
    stack.push_async_callback(simulators.stop)
    lines = await unless(stop.asked, simulators.ready(_SIMULATE_READY, len(SIMULATED)))
    config = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dyno-")), "dyno.toml")
    text = simulated_config({line["profile"]: line["url"] for line in lines}, speed)
    await asyncio.to_thread(config.write_text, text, encoding="utf-8")
    return config


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.01 <= speed <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' must be a number between 0.01 and 1000")
    return speed


def simulated_config(urls: dict[str, str], speed: float = 1.0) -> str:
    """The text of a dyno.toml with the simulated endpoints at `urls` (profile's name -> URL).

    The strings are written by `json.dumps`, since JSON's strings are valid TOML.
    """
    sections = []
    for name, settings in SIMULATED.items():
        at_speed = {} if speed == 1 else {"hardware": f"simulated at {speed:g} times its profile's speed"}
        keys = {"url": urls[name], **settings, **at_speed}
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        sections.append("\n".join([f"[endpoints.{name}]", *lines]))
    return "\n\n".join(sections) + "\n"
