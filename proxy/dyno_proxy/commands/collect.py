"""`dyno collect`: its arguments, and its run until a signal."""

import argparse
import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dyno_proxy.arguments import ArgumentParser

if TYPE_CHECKING:
    from dyno_proxy.config.schema import Config

_DESCRIPTION = """\
Takes spans by OTLP/HTTP from instrumented clients, gateways and engines, and writes them beside the proxy's span
files. `dyno sql` has them as `server_spans`; `dyno trace` shows a request with all of its spans."""

_EXAMPLE = """\
example:
  dyno collect --spans spans
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf python client.py

With `[collector] listen` in dyno.toml, `dyno proxy` runs the collector, in a process of its own.

exit codes: 0 ended in order; 1 spans couldn't be written; 2 wrong use"""

_LISTEN = "127.0.0.1:4318"


def main(argv: list[str]) -> int:
    """Run `dyno collect` with these arguments. Returns the exit code that `--help` explains."""
    parser = ArgumentParser(
        prog="dyno collect",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (dyno.toml, if it exists)")
    parser.add_argument("--listen", metavar="HOST:PORT", help=f"where to listen ({_LISTEN}); port 0 means a free one")
    parser.add_argument("--spans", metavar="DIR", help="folder of the span files (spans)")
    parser.add_argument(
        "--keys-file", metavar="FILE", help="client keys, one a line; needed where others can reach the address"
    )
    # Only `dyno proxy` gives this: descriptors of sockets that it has bound. Then stdin's end means that it is gone.
    parser.add_argument("--sockets", type=_numbers, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="dyno collect: %(message)s")

    # These imports take long. They come late, so that --help answers at once.
    from dyno_proxy.config.load import load_config
    from dyno_proxy.config.schema import ConfigError
    from dyno_proxy.telemetry.journal import SetupError

    default = Path("dyno.toml")
    path = arguments.config or (default if default.exists() else None)
    given = {"spans": arguments.spans, "keys_file": arguments.keys_file, "collector.listen": arguments.listen}
    flags = {key: value for key, value in given.items() if value is not None}
    try:
        config = load_config(path, os.environ, {"collector.listen": _LISTEN} | flags, need_endpoints=False)
        return asyncio.run(_serve(config, arguments.sockets))
    except (ConfigError, SetupError) as error:
        print(f"dyno collect: {error}", file=sys.stderr)
        return 2


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


async def _serve(config: "Config", inherited: list[int] | None) -> int:
    from dyno_proxy.collect.server import Collector
    from dyno_proxy.process.signals import Signals
    from dyno_proxy.process.sockets import bind, url_of
    from dyno_proxy.server.keys import client_keys

    signals = Signals()
    signals.listen()
    if inherited is None:
        (sockets,) = bind(config.collector.listen or _LISTEN, "collector.listen")
    else:
        sockets = [socket.socket(fileno=number) for number in inherited]
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), signals.stop.set)  # only its end is ever read
    collector = Collector(Path(config.proxy.spans), client_keys(config.proxy.keys_file), config.spans)
    await collector.listen(sockets)
    if inherited is None:
        print(f"dyno collect: listening on {url_of(sockets[0])}, spans in {config.proxy.spans}", flush=True)
    await signals.stop.wait()
    lost = await collector.stop()
    if lost:
        print(
            f"dyno collect: spans that couldn't be written since the start: {lost}; dyno_spans_dropped_total says why",
            file=sys.stderr,
        )
    return 1 if lost else 0
