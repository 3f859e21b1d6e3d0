"""`dyno drive`: replays a prompt set through a running proxy."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dyno_driver.errors import WrongUseError
from dyno_driver.options.command_line import DEFAULT_PROXY, ArgumentParser, proxy_url, spans_folder
from dyno_driver.options.run_options import RunOptions, check_run, parse_run, run_options

if TYPE_CHECKING:
    from dyno_driver.prompts.prompt_set import PromptSet
    from dyno_driver.resume import Earlier
    from dyno_driver.said import RunResult

PROG: Final = "dyno drive"

# The proxy writes its spans at most every 250 ms. The command ends so much later, so that whoever reads the folder
# next finds all spans.
SPANS_SETTLE_S: Final = 0.5

EPILOG: Final = """\
The endpoints and their models come from the proxy's configuration. If the proxy asks for a key, set DYNO_API_KEY.
Ctrl-C stops sending and waits for what runs; a second one ends now. `--resume RUN` sends what is missing.
Exit code: 0; 1 if a request failed or the run was stopped; 2 for wrong use.

example:
  dyno drive --proxy http://127.0.0.1:8080 --prompts science -n 10 --endpoints metis,sophia
  dyno drive --prompts squad -n 200 --concurrency 1,8,32      three loads in turn, each with 200 prompts of its own
  dyno drive --prompts squad -n 300 --rate 5 --dry-run        five new requests a second: what it would send
"""


def main(argv: list[str]) -> int:
    parser = ArgumentParser(
        prog=PROG,
        description="Replays a prompt set to a running proxy's endpoints, in interleaved pairs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--proxy", type=proxy_url, default=DEFAULT_PROXY, metavar="URL", help=f"the proxy (default: {DEFAULT_PROXY})"
    )
    where.add_argument(
        "--spans",
        type=Path,
        metavar="DIR",
        help="the proxy's spans folder; the run's own files go to DIR/runs (default: DYNO_PROXY_SPANS, ./dyno.toml's "
        "[proxy] spans, or spans)",
    )
    earlier: Earlier | None = None

    def began_with(given: argparse.Namespace) -> list[str]:
        nonlocal earlier
        from dyno_driver.resume import find_earlier

        earlier = find_earlier(given.resume, [given.spans or _spans(parser)], ["dyno", "drive"])
        return earlier.arguments

    parsed = parse_run(parser, argv, began_with)
    options = run_options(parsed)
    check_run(parser, options)
    parsed.spans = parsed.spans or _spans(parser)
    try:
        return _replay(parsed, options, ["dyno", "drive", *argv], earlier)
    except KeyboardInterrupt:
        # This is a Ctrl-C before or after the run; the run handles its signals itself.
        print(f"{PROG}: stopped", file=sys.stderr)
        return 1


def _spans(parser: ArgumentParser) -> Path:
    try:
        return spans_folder()
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))


def _replay(parsed: argparse.Namespace, options: RunOptions, command: list[str], earlier: "Earlier | None") -> int:
    # Imported here, so that --help answers at once.
    from dyno_driver.chosen import chosen
    from dyno_driver.event_loop import run as run_on_loop
    from dyno_driver.file_modes import access_in
    from dyno_driver.progress import fitted
    from dyno_driver.said import summary
    from dyno_driver.stopping import StoppedError

    try:
        access_in(parsed.spans)  # a wrong group is said before the first request
        options, prompt_set = chosen(options, None if earlier is None else earlier.record["seed"])
        result = run_on_loop(_drive(parsed.proxy, options, prompt_set, parsed.spans, command, earlier))
    except WrongUseError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 2
    except StoppedError:
        print(f"{PROG}: stopped before the first request", file=sys.stderr)
        return 1
    if result is None:
        return 0
    for line in summary(result):
        print(fitted(line, sys.stdout))
    if result.measured or result.earlier:
        print(fitted(f"Tables: dyno report {result.run_id} --spans {parsed.spans}", sys.stdout))
    return result.exit_code


async def _drive(
    url: str,
    options: RunOptions,
    prompt_set: "PromptSet",
    spans: Path,
    command: list[str],
    earlier: "Earlier | None",
) -> "RunResult | None":
    from dyno_driver.run import run
    from dyno_driver.stopping import stop_signals

    with stop_signals() as stop:
        key = os.environ.get("DYNO_API_KEY") or None
        result = await run(url, key, options, prompt_set, spans, command, stop, earlier)
        await asyncio.sleep(SPANS_SETTLE_S)
    return result
