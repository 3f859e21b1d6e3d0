"""`dyno proxy`: its arguments, and what `--help` says."""

import argparse
import logging
import os
import sys
from pathlib import Path

from dyno_proxy.arguments import ArgumentParser, duration_s

_DESCRIPTION = """\
A reverse proxy in front of OpenAI-compatible endpoints. A client's base URL becomes
http://127.0.0.1:8080/{endpoint}/v1; bytes pass unchanged, and every request leaves one span and metrics."""

# The command whose user reads what is wrong: `dyno compare` starts a proxy of its own.
_SIGNED_AS = "DYNO_SIGNED_AS"

_EXAMPLE = """\
example:
  dyno proxy --config dyno.toml
  curl http://127.0.0.1:8080/metis/v1/chat/completions -H 'Content-Type: application/json' \\
       -d '{"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Hello"}]}'

Every key of dyno.toml is also a variable: DYNO_PROXY_LISTEN, DYNO_ENDPOINTS_METIS_URL and so on.

signals:
  SIGTERM, SIGINT  no new requests; running ones have --drain to finish; a second signal cuts them off
  SIGHUP           reads the configuration again: endpoints, keys, limits; if it is broken, the old one stays

With --workers above 1, each worker's /metrics shows the sum of all workers, up to 0.1 s old and without exemplars.

exit codes: 0 ended in order; 1 requests were cut off, or spans were lost since the start; 2 wrong use"""


def main(argv: list[str]) -> int:
    """Run `dyno proxy` with these arguments. Returns the exit code that `--help` explains."""
    parser = ArgumentParser(
        prog="dyno proxy",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (dyno.toml, if it exists)")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where to listen (127.0.0.1:8080); port 0 means a free one"
    )
    parser.add_argument("--spans", metavar="DIR", help="folder of the span files (spans)")
    parser.add_argument(
        "--metrics-listen", metavar="HOST:PORT", help="a second address, for /metrics and health checks"
    )
    parser.add_argument("--collector-listen", metavar="HOST:PORT", help="also run a collector, which takes OTLP there")
    parser.add_argument(
        "--keys-file",
        metavar="FILE",
        help="client keys, `KEY` or `NAME KEY` a line; needed where others can reach the address",
    )
    parser.add_argument(
        "--log-requests", action="store_const", const="true", help="print a line for each request that has ended"
    )
    parser.add_argument("--workers", metavar="N", help="processes that share the port (1)")
    parser.add_argument(
        "--drain",
        dest="drain_s",
        type=duration_s,
        metavar="TIME",
        help="how long running requests may take at the end (30s), as in 2m",
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format=f"{_signature().replace('%', '%%')}: %(message)s")

    # These imports take long. They come late, so that --help answers at once.
    from dyno_proxy.config.load import load_config
    from dyno_proxy.config.schema import Config, ConfigError
    from dyno_proxy.process.run import run
    from dyno_proxy.telemetry.journal import SetupError

    default = Path("dyno.toml")
    path = arguments.config or (default if default.exists() else None)
    flags = {
        key: str(value)
        for key in ("listen", "spans", "metrics_listen", "keys_file", "workers", "drain_s", "log_requests")
        if (value := getattr(arguments, key)) is not None
    }
    if arguments.collector_listen is not None:
        flags["collector.listen"] = arguments.collector_listen

    def load() -> Config:
        return load_config(path, os.environ, flags)

    try:
        return run(load(), load)
    except (ConfigError, SetupError) as error:
        print(f"{_signature()}: {error}", file=sys.stderr)
        return 2


def _signature() -> str:
    """The command that the user has called, for messages."""
    return os.environ.get(_SIGNED_AS, "dyno proxy")
