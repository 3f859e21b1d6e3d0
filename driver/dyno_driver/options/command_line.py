"""What every command of the driver takes: its parser, the proxy's URL, the spans folder."""

import argparse
import os
import sys
import tomllib
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

DEFAULT_SPANS: Final = "spans"
DEFAULT_PROXY: Final = "http://127.0.0.1:8080"
CONFIGURATION: Final = Path("dyno.toml")  # what `dyno proxy` reads without --config


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, but an error is one line on stderr without the usage text; exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see '{self.prog} --help'", file=sys.stderr)
        sys.exit(2)


def spans_folder() -> Path:
    """The spans folder where none is given: DYNO_PROXY_SPANS, ./dyno.toml's [proxy] spans, ./spans. The same rule holds
    for all commands. ArgumentTypeError if dyno.toml can't be read.
    """
    if told := os.environ.get("DYNO_PROXY_SPANS"):
        return Path(told)
    try:
        with CONFIGURATION.open("rb") as file:
            section = tomllib.load(file).get("proxy", {})
    except FileNotFoundError:
        return Path(DEFAULT_SPANS)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{CONFIGURATION}: {error}; mend it, or give --spans") from error
    told = section.get("spans") if isinstance(section, dict) else None
    return Path(told if isinstance(told, str) and told else DEFAULT_SPANS)


def proxy_url(text: str) -> str:
    """An http(s) URL, returned without a trailing slash.

    ArgumentTypeError for anything else, and for a URL with credentials: they would end up in run.json.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"'{text}' must be the proxy's http or https URL, such as {DEFAULT_PROXY}")
    if parts.username is not None or parts.password is not None:
        raise argparse.ArgumentTypeError(
            "the URL must not contain a user or password; put the proxy's key into DYNO_API_KEY"
        )
    return text.rstrip("/")
