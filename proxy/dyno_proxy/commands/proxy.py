"""`dyno proxy`."""

import argparse
import logging
import os
import sys
from pathlib import Path

from dyno_proxy.arguments import ArgumentParser, duration_s

_DESCRIPTION = """\
A reverse proxy in front of OpenAI-compatible endpoints. A client's base URL becomes
http://127.0.0.1:8080/{endpoint}/v1; bytes pass unchanged, and every request leaves one span and metrics."""

_EXAMPLE = """\
example:
  dyno proxy --config dyno.toml
  curl http://127.0.0.1:8080/metis/v1/chat/completions -H 'Content-Type: application/json' \\
       -d '{"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Hello"}]}'

Every key of dyno.toml is also a variable: DYNO_PROXY_LISTEN, DYNO_ENDPOINTS_METIS_URL and so on.

signals:
  SIGTERM, SIGINT  no new requests; running ones have --drain to finish; a second signal cuts them off
  SIGHUP           reads the configuration again: endpoints, keys, limits; a broken one is refused, the old one stays

With --workers above 1 any of them answers /metrics with the sum of all, up to 0.1 s old, and without exemplars.

exit codes: 0 ended in order; 1 ended, and requests were cut off or spans lost; 2 wrong use"""


def main(argv: list[str]) -> int:
    """Returns the exit code that `--help` explains."""
    parser = ArgumentParser(
        prog="dyno proxy",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (dyno.toml, if it is there)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to listen (127.0.0.1:8080); port 0: a free one")
    parser.add_argument("--spans", metavar="DIR", help="folder of the span files (spans)")
    parser.add_argument("--metrics-listen", metavar="HOST:PORT", help="a listener of its own for /metrics")
    parser.add_argument("--collector-listen", metavar="HOST:PORT", help="a collector beside it, which takes OTLP there")
    parser.add_argument("--keys-file", metavar="FILE", help="client keys, one a line; needed off loopback")
    parser.add_argument("--workers", metavar="N", help="processes that share the port (1)")
    parser.add_argument(
        "--drain", dest="drain_s", type=duration_s, metavar="TIME", help="for running requests at the end (30s; 2m)"
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="dyno proxy: %(message)s")

    # Late, so that --help answers at once.
    from dyno_proxy.config.load import load_config
    from dyno_proxy.config.schema import Config, ConfigError
    from dyno_proxy.process.run import run
    from dyno_proxy.telemetry.journal import SetupError

    default = Path("dyno.toml")
    path = arguments.config or (default if default.exists() else None)
    flags = {
        key: str(value)
        for key in ("listen", "spans", "metrics_listen", "keys_file", "workers", "drain_s")
        if (value := getattr(arguments, key)) is not None
    }
    if arguments.collector_listen is not None:
        flags["collector.listen"] = arguments.collector_listen

    def load() -> Config:
        return load_config(path, os.environ, flags)

    try:
        return run(load(), load)
    except (ConfigError, SetupError) as error:
        print(f"dyno proxy: {error}", file=sys.stderr)
        return 2
