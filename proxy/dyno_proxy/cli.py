"""`dyno proxy`."""

import argparse
import logging
import os
import sys
from pathlib import Path

from .arguments import ArgumentParser

_DESCRIPTION = """\
A reverse proxy in front of OpenAI-compatible endpoints. A client's base URL becomes
http://127.0.0.1:8080/{endpoint}/v1; bytes pass unchanged, and every request leaves one span and metrics."""

_EXAMPLE = """\
example:
  dyno proxy --config dyno.toml
  curl http://127.0.0.1:8080/metis/v1/chat/completions -H 'Content-Type: application/json' \\
       -d '{"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Hello"}]}'

Every key of dyno.toml is also a variable: DYNO_PROXY_LISTEN, DYNO_ENDPOINTS_METIS_URL and so on."""


def main(argv: list[str]) -> int:
    """Returns 0 after an ordered end, 2 for wrong use."""
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
    parser.add_argument("--keys-file", metavar="FILE", help="client keys, one a line; needed off loopback")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="dyno proxy: %(message)s")

    # Late, so that --help answers at once.
    import asyncio

    import uvloop

    from .app import serve
    from .config import ConfigError, load_config
    from .journal import SetupError

    default = Path("dyno.toml")
    path = arguments.config or (default if default.exists() else None)
    flags = {
        key: value
        for key in ("listen", "spans", "metrics_listen", "keys_file")
        if (value := getattr(arguments, key)) is not None
    }
    try:
        config = load_config(path, os.environ, flags)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config))
    except (ConfigError, SetupError) as error:
        print(f"dyno proxy: {error}", file=sys.stderr)
        return 2
    return 0
