"""The command-line options that this package's commands share. An error in them is printed as one line."""

import argparse
import math
import os
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from .errors import WrongUseError
from .load.arrivals import LARGEST_VARIATION, POISSON, Arrivals, read_arrivals
from .load.schedule import INTERLEAVES, ONE_AT_A_TIME, ORDERS, Interleave, Load, Order, Shape
from .workloads.workload import DEFAULT_WORKLOAD, defaults, names, workload_name

DEFAULT_SPANS: Final = "spans"
DEFAULT_PROXY: Final = "http://127.0.0.1:8080"
CONFIGURATION: Final = Path("dyno.toml")  # what `dyno proxy` reads without --config
DEFAULT_COUNT: Final = 10  # prompts of a set; of a file all are asked


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, but an error is one line on stderr without the usage text; exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see '{self.prog} --help'", file=sys.stderr)
        sys.exit(2)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The values of the options that `dyno drive` and `dyno compare` share.

    `seed` draws the order of the requests; `sampling_seed` is sent to the endpoints. `endpoints` None: all of the
    proxy's. `seed` None: one is drawn. None for `temperature`, `max_tokens` or `sampling_seed`: it isn't sent.
    `count` None: all prompts of a file, DEFAULT_COUNT of a set; under each load so many. `preflight_s`: how long the
    first request to an endpoint may take. `dry_run`: only the plan is printed.
    """

    prompts: str
    count: int | None
    column: str | None
    template: str | None
    endpoints: tuple[str, ...] | None
    workload: str
    shape: Shape
    order: Order
    seed: int | None
    repeat: int
    warmup: int
    temperature: float | None
    max_tokens: int | None
    sampling_seed: int | None
    stream: bool
    timeout_s: float
    preflight_s: float
    dry_run: bool = False

    @property
    def prompts_wanted(self) -> int | None:
        """How many prompts are loaded: under each load others, if there are enough. None: as `count` says."""
        return None if self.count is None else self.count * len(self.shape.loads)


def parse_run(parser: "ArgumentParser", argv: list[str]) -> argparse.Namespace:
    """Add the options that `dyno drive` and `dyno compare` share, and parse. The workload gives the defaults.

    Wrong use ends the program, as argparse does.
    """
    settings = {**_add_what(parser), **_add_how(parser)}
    given = parser.parse_args(argv)
    try:
        parser.set_defaults(**defaults(given.workload, given, settings))
    except WrongUseError as error:
        parser.error(str(error))
    return parser.parse_args(argv)


def _named(options: Iterable[argparse.Action]) -> dict[str, argparse.Action]:
    """Options by the names that a workload's file has for them."""
    return {option.option_strings[0].lstrip("-"): option for option in options}


def _add_what(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    what = parser.add_argument_group("what is asked")
    return _named(
        [
            what.add_argument(
                "--prompts",
                default="science",
                metavar="SET",
                help="science (ships with Dyno), squad, a JSON, JSONL, CSV or Parquet file, or OWNER/NAME[:SPLIT] on "
                "the Hugging Face hub (default: science). A record's 'prompt' is sent as it is; a 'question', with its "
                "'context', is sent as 'Context: … Question: … Answer:'",
            ),
            what.add_argument(
                "-n",
                dest="count",
                type=_positive_int,
                metavar="N",
                help=f"the first N prompts (default: all of a file, {DEFAULT_COUNT} of a set). Under several loads "
                "each has N of its own, if there are enough",
            ),
            what.add_argument("--column", metavar="NAME", help="this column's text is sent as it is"),
            what.add_argument(
                "--template",
                metavar="TEXT",
                help="what is sent, with columns in braces: 'Summarize: {text}'; \\n is a line end",
            ),
            what.add_argument(
                "--endpoints", type=_names, metavar="A,B", help="names in the proxy's configuration (default: all)"
            ),
            what.add_argument(
                "--temperature", type=_temperature, default=0.0, metavar="T", help="(default: 0; 'none': it isn't sent)"
            ),
            what.add_argument(
                "--max-tokens", type=_max_tokens, default=512, metavar="N", help="(default: 512; 'none': it isn't sent)"
            ),
            what.add_argument(
                "--sampling-seed", type=int, metavar="N", help="sent as the request's 'seed' (default: not sent)"
            ),
            what.add_argument(
                "--stream", action=argparse.BooleanOptionalAction, default=True, help="streamed answers (default: yes)"
            ),
        ]
    )


def _add_how(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    how = parser.add_argument_group("how")
    how.add_argument(
        "--workload",
        default=DEFAULT_WORKLOAD,
        metavar="NAME",
        help=f"a set of options: {', '.join(names())}, or a FILE.toml; options given beside it override it (default: "
        f"{DEFAULT_WORKLOAD})",
    )
    how.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    return _named(_load_options(how) + _pace_options(how))


def _load_options(how: "argparse._ArgumentGroup") -> list[argparse.Action]:
    return [
        how.add_argument(
            "--concurrency",
            type=_concurrencies,
            metavar="N,…",
            help="requests open at once at each endpoint, or 'all'; several are held in turn (default: 1)",
        ),
        how.add_argument(
            "--rate",
            type=_rates,
            metavar="R,…",
            help="new requests a second to each endpoint, whether or not others have ended; several in turn",
        ),
        how.add_argument(
            "--arrivals",
            type=_arrivals,
            default=POISSON,
            metavar="KIND",
            help="times between requests under --rate: poisson, constant, or gamma:CV with their coefficient of "
            "variation, above 1 for bursts (default: poisson)",
        ),
        how.add_argument(
            "--interleave",
            choices=INTERLEAVES,
            help="pair: each prompt to every endpoint in turn; block: part of the prompts to one, then to the next; "
            "parallel: all endpoints at once; whole: all to one, then all to the next (default: pair for one at a "
            "time, parallel under --rate, else block)",
        ),
        how.add_argument("--pause", type=_pause, default=0.0, metavar="S", help="seconds between blocks (default: 0)"),
    ]


def _pace_options(how: "argparse._ArgumentGroup") -> list[argparse.Action]:
    return [
        how.add_argument(
            "--repeat", type=_positive_int, default=1, metavar="N", help="ask the whole set N times (default: 1)"
        ),
        how.add_argument(
            "--warmup",
            type=_natural_int,
            default=1,
            metavar="N",
            help="requests to each endpoint before the measured ones, flagged as warm-up (default: 1)",
        ),
        how.add_argument(
            "--order",
            choices=ORDERS,
            default="alternate",
            help="how the endpoint is chosen that goes first within a pair (default: alternate)",
        ),
        how.add_argument(
            "--seed",
            type=int,
            metavar="N",
            help="seed of --order random and --arrivals (default: drawn, and recorded)",
        ),
        how.add_argument(
            "--timeout",
            type=_seconds,
            default=600.0,
            metavar="S",
            help="seconds until a request is given up (default: 600)",
        ),
        how.add_argument(
            "--preflight",
            type=_seconds,
            default=60.0,
            metavar="S",
            help="the first request to each endpoint must end within S seconds, or the run stops (default: 60); a "
            "model that has to be loaded first may need longer",
        ),
    ]


def run_options(parsed: argparse.Namespace) -> RunOptions:
    """The options that `parse_run` added, as typed values."""
    loads = (parsed.concurrency or ()) + (parsed.rate or ())
    return RunOptions(
        prompts=parsed.prompts,
        count=parsed.count,
        column=parsed.column,
        template=parsed.template,
        endpoints=parsed.endpoints,
        workload=workload_name(parsed.workload),
        shape=Shape(loads or (ONE_AT_A_TIME,), _interleave(parsed.interleave), parsed.arrivals, parsed.pause),
        order=parsed.order,
        seed=parsed.seed,
        repeat=parsed.repeat,
        warmup=parsed.warmup,
        temperature=parsed.temperature,
        max_tokens=parsed.max_tokens,
        sampling_seed=parsed.sampling_seed,
        stream=parsed.stream,
        timeout_s=parsed.timeout,
        preflight_s=parsed.preflight,
        dry_run=parsed.dry_run,
    )


def check_run(parser: "ArgumentParser", options: RunOptions) -> None:
    """Refuse options that exclude each other."""
    if options.shape.interleave == "pair" and options.shape.loads != (ONE_AT_A_TIME,):
        parser.error("--interleave pair sends one request at a time; use parallel or block under other loads")


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


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"'{text}' has an empty name; write NAME,NAME")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise argparse.ArgumentTypeError(f"'{twice[0]}' is given twice; name each endpoint once")
    return names


def _integer(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number, {least} or more")
    return number


def _positive_int(text: str) -> int:
    return _integer(text, 1)


def _natural_int(text: str) -> int:
    return _integer(text, 0)


def _concurrencies(text: str) -> tuple[Load, ...]:
    return tuple(
        Load(None, all_at_once=True) if part.strip() == "all" else Load(_positive_int(part)) for part in text.split(",")
    )


def _rates(text: str) -> tuple[Load, ...]:
    return tuple(Load(None, _number(part, 1e-6, "a number of requests a second above 0")) for part in text.split(","))


def _arrivals(text: str) -> Arrivals:
    arrivals = read_arrivals(text)
    if arrivals is None:
        raise argparse.ArgumentTypeError(
            f"'{text}' must be poisson, constant, or gamma:CV with a number above 0 and at most {LARGEST_VARIATION:g}"
        )
    return arrivals


def _interleave(told: str | None) -> Interleave | None:
    return next((known for known in INTERLEAVES if known == told), None)


def _pause(text: str) -> float:
    return _number(text, 0.0, "a number of seconds, 0 or more")


def _max_tokens(text: str) -> int | None:
    return None if text == "none" else _integer(text, 1)


def _temperature(text: str) -> float | None:
    return None if text == "none" else _number(text, 0.0, "a number, 0 or more, or 'none'")


def _seconds(text: str) -> float:
    return _number(text, math.ulp(0.0), "a number of seconds above 0")


def _number(text: str, least: float, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < least:
        raise argparse.ArgumentTypeError(f"'{text}' must be {what}")
    return number
