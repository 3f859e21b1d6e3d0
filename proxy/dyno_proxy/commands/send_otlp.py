"""The program that sends stored spans by OTLP. `dyno proxy` and `dyno export --otlp` start it, and no user does.

python -m dyno send-otlp --spans DIR --from-us N     follows the folder until standard input ends
… | python -m dyno send-otlp --spans DIR --lines     sends the rows that come there, once
"""

import argparse
import logging
import os
import signal
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dyno_proxy.arguments import ArgumentParser

if TYPE_CHECKING:
    from dyno_proxy.export.delivery import Delivery
    from dyno_proxy.export.exporter import Exporter
    from dyno_proxy.export.spans import Spans
    from dyno_proxy.file_modes import Access
    from dyno_proxy.telemetry.otlp_settings import OtlpSettings

END_S: Final = 10.0  # for the rest, when the proxy has ended
_LOOK_S: Final = 0.25
_NICENESS: Final = 19


def main(argv: list[str]) -> int:
    """Returns 0; 1 if something couldn't be sent (with --lines), 2 with one line for wrong settings."""
    parser = ArgumentParser(prog="dyno send-otlp", description="Sends stored spans by OTLP.")
    parser.add_argument("--spans", metavar="DIR", type=Path, required=True)
    parser.add_argument("--from-us", type=int, default=0, help="the folder's first export begins here; Unix µs")
    parser.add_argument("--keep-s", type=float, help="older rows aren't sent")
    parser.add_argument("--lines", action="store_true", help="send the rows of standard input")
    parser.add_argument("--again", action="store_true", help="with --lines: also those that were sent before")
    arguments = parser.parse_args(argv)
    called = "dyno export" if arguments.lines else "dyno proxy"
    logging.basicConfig(level=logging.WARNING, format=f"{called}: %(message)s")
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what fails is said here, once

    from dyno_proxy.file_modes import access_of
    from dyno_proxy.telemetry.journal import SetupError
    from dyno_proxy.telemetry.otlp_settings import otlp_settings, otlp_wanted

    try:
        if arguments.lines and not otlp_wanted(os.environ):
            raise SetupError("no OTLP endpoint is set; set OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318")
        settings = otlp_settings(os.environ)
        access = access_of(os.environ.get("DYNO_SPANS_GROUP"))
    except (SetupError, ValueError) as error:
        print(f"{called}: {error}", file=sys.stderr)
        return 2
    delivery, spans = _made(settings)
    if arguments.lines:
        from dyno_proxy.export.by_hand import send_lines
        from dyno_proxy.export.state import Broken

        try:
            return send_lines(arguments.spans, spans, delivery.deliver, settings, access, again=arguments.again)
        except Broken as error:
            print(f"{called}: {error}", file=sys.stderr)
            return 2
    return _follow(arguments, settings, delivery, spans, access)


def _made(settings: "OtlpSettings") -> "tuple[Delivery, Spans]":
    """The SDK's parts, which read its variables: from here on these are the checked ones."""
    from dyno_proxy.export.answers import without
    from dyno_proxy.export.delivery import Delivery
    from dyno_proxy.export.spans import Spans
    from dyno_proxy.telemetry.otlp_settings import GRPC, header_values

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    os.environ.update(settings.environ)
    if settings.protocol == GRPC:
        from dyno_proxy.export.grpc_endpoint import GrpcEndpoint

        send = GrpcEndpoint(settings.certificates).send
    else:
        from dyno_proxy.export.http_endpoint import HttpEndpoint

        send = HttpEndpoint().send
    secrets = header_values(settings.environ)
    return Delivery(lambda spans: without(secrets, send(spans))), Spans(
        metadata.version("inference-dyno"), settings.environ
    )


def _follow(
    arguments: argparse.Namespace, settings: "OtlpSettings", delivery: "Delivery", spans: "Spans", access: "Access"
) -> int:
    from dyno_proxy.export.exporter import Exporter, Limits

    _give_way()
    exporter = Exporter(
        arguments.spans,
        spans,
        delivery.deliver,
        Limits(settings.batch, settings.waiting, settings.delay_s, arguments.keep_s),
        from_us=arguments.from_us,
        access=access,
        where=settings.url,
    )
    stop, ended = threading.Event(), threading.Event()
    # It ends after the proxy, whose last spans it sends; whoever ends a service signals all of its processes at once.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(stop, ended), name="dyno-otlp-end", daemon=True).start()
    run(exporter, stop)
    ended.set()
    return 0


def run(exporter: "Exporter", stop: threading.Event, look_s: float = _LOOK_S) -> None:
    """Send until `stop` is set, then what is left, as long as that works."""
    from dyno_proxy.export.state import Broken

    log = logging.getLogger(__name__)
    said = ""
    while not stop.is_set():
        try:
            more = exporter.round()
            said = ""
        except (OSError, Broken) as error:
            more = False
            if str(error) != said:
                said = str(error)
                log.warning("OTLP: spans can't be read: %s; it is tried again", error)
        if not more:
            stop.wait(look_s)
    try:
        while exporter.round(final=True) and not exporter.failing:
            pass
        exporter.close()
        left = exporter.left()
    except (OSError, Broken) as error:
        log.warning("OTLP: spans can't be read: %s", error)
        return
    if left:
        log.warning("OTLP: %d spans aren't sent yet; that goes on at the next start", left)


def _watch(stop: threading.Event, ended: threading.Event) -> None:
    """Standard input's end means that the proxy has ended. Then there is a limit, also for a call that hangs."""
    while not stop.is_set() and os.read(sys.stdin.fileno(), 1):
        pass
    stop.set()
    if not ended.wait(END_S):
        logging.getLogger(__name__).warning(
            "OTLP: not all spans are sent yet, as the endpoint doesn't answer; that goes on at the next start"
        )
        os._exit(0)


def _give_way() -> None:
    """Run with the lowest priority from now on: whenever the proxy has something to do, it has the core at once."""
    os.nice(_NICENESS)  # where there is nothing better
    if hasattr(os, "sched_setscheduler"):
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        except OSError as error:  # a container may forbid it
            logging.getLogger(__name__).debug("no SCHED_IDLE: %s", error)
