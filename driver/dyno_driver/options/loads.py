"""The options that say how much load is offered, and in which order and pace."""

import argparse

from dyno_driver.load.arrivals import POISSON
from dyno_driver.load.schedule import INTERLEAVES, ORDERS

from .values import arrivals, concurrencies, natural_int, pause_s, positive_int, rates, seconds


def add_loads(how: "argparse._ArgumentGroup") -> list[argparse.Action]:
    """Add those of the load. Returns those that a workload's file may set."""
    return [
        how.add_argument(
            "--concurrency",
            type=concurrencies,
            metavar="N,…",
            help="requests open at once at each endpoint, or 'all'; several are held in turn (default: 1)",
        ),
        how.add_argument(
            "--rate",
            type=rates,
            metavar="R,…",
            help="new requests a second to each endpoint, whether or not others have ended; several in turn; "
            "1..10 rises (or falls) evenly over the load's requests",
        ),
        how.add_argument(
            "--arrivals",
            type=arrivals,
            default=POISSON,
            metavar="KIND",
            help="times between requests under --rate: poisson, constant, or gamma:CV with their coefficient of "
            "variation, above 1 for bursts; file:PATH has a time in s on each line, or 'time_s,rate_per_s' (default: "
            "poisson)",
        ),
        how.add_argument(
            "--interleave",
            choices=INTERLEAVES,
            help="pair: each prompt to every endpoint in turn; block: part of the prompts to one, then to the next; "
            "parallel: all endpoints at once; whole: all to one, then all to the next (default: pair for one at a "
            "time, parallel under --rate, else block)",
        ),
        how.add_argument("--pause", type=pause_s, default=0.0, metavar="S", help="seconds between blocks (default: 0)"),
    ]


def add_pace(how: "argparse._ArgumentGroup") -> list[argparse.Action]:
    """Add those of order, warm-up and patience. Returns those that a workload's file may set."""
    return [
        how.add_argument(
            "--repeat", type=positive_int, default=1, metavar="N", help="ask the whole set N times (default: 1)"
        ),
        how.add_argument(
            "--warmup",
            type=natural_int,
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
            type=seconds,
            default=600.0,
            metavar="S",
            help="seconds until a request is given up (default: 600)",
        ),
        how.add_argument(
            "--preflight",
            type=seconds,
            default=60.0,
            metavar="S",
            help="the first request to each endpoint must end within S seconds, or the run stops (default: 60); a "
            "model that has to be loaded first may need longer",
        ),
    ]
