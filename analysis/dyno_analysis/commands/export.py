"""`dyno export`: stored requests as lines of a span file, to pass on, or by OTLP to a collector."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dyno_analysis.arguments import ArgumentParser, spans_argument
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import private_from_now_on
from dyno_analysis.interrupts import ending

EPILOG = """\
examples:
  dyno export --run latest > my_run-000000000001.jsonl
  dyno export --since 2h --endpoint metis | head -1
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 dyno export --otlp --since 3d

The lines are those of a journal (docs/spans.md). Who gets them puts the file into a spans folder, under a name such as
NAME-000000000001.jsonl (letters, digits and _ in NAME): then every command reads it.

--otlp sends what no export has sent yet: what a proxy sends by itself, and what was stored before, isn't sent twice.
OpenTelemetry's variables say where and how (docs/proxy.md). --again sends all of the chosen requests once more.

exit codes: 0 done; 1 something could not be sent; 2 wrong use"""


def main(argv: list[str]) -> int:
    """Print or send the chosen requests; returns the exit code that `--help` explains."""
    parser = ArgumentParser(
        prog="dyno export",
        description="Prints stored requests as lines of a span file, or sends them by OTLP.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    spans_argument(parser)
    parser.add_argument(
        "--run", metavar="RUN", action="append", help="only this run: its id, the beginning of it, or `latest`"
    )
    parser.add_argument(
        "--endpoint", metavar="NAME", action="append", help="only this endpoint; may be given several times"
    )
    parser.add_argument(
        "--since", metavar="TIME", help="requests from then on: RFC 3339 (without a zone: UTC), or 15m, 2h, 3d ago"
    )
    parser.add_argument("--until", metavar="TIME", help="requests before then, in the same forms")
    parser.add_argument("--otlp", action="store_true", help="send them by OTLP instead of printing them")
    parser.add_argument("--again", action="store_true", help="with --otlp: also those that were sent before")
    # Only the proxy's exporter gives this: a file that says how far it has read the folder.
    parser.add_argument("--after", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.again and not arguments.otlp:
        parser.error("--again needs --otlp")
    private_from_now_on()
    try:
        with ending("dyno export"):
            return _export(arguments)
    except InputError as error:
        print(f"dyno export: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, say) has closed the pipe. Python flushes stdout at exit, and that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _export(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from dyno_analysis import times
    from dyno_analysis.export import lines
    from dyno_analysis.spans.selection import Selection

    spans = Path(arguments.spans)
    if arguments.after is not None:
        sys.stdout.buffer.writelines(lines.with_writer(lines.rows_after(spans, lines.read_after(arguments.after))))
        return 0
    since_us, until_us = times.span_us(arguments.since, arguments.until, datetime.now(UTC))
    runs = _checked(spans, arguments.run or (), arguments.endpoint or ())
    chosen = Selection(runs, arguments.endpoint or (), since_us, until_us)
    if arguments.otlp:
        return _send(spans, lines.with_writer(lines.chosen_rows(spans, chosen)), again=arguments.again)
    sys.stdout.buffer.writelines(lines.to_pass_on(spans, chosen))
    sys.stdout.buffer.flush()
    return 0


def _checked(spans: Path, runs: Sequence[str], endpoints: Sequence[str]) -> Sequence[str]:
    """The ids of the named runs. InputError for a run or an endpoint that has no request, which names the nearest."""
    import time

    from dyno_analysis.runs.choice import check_endpoints, chosen_runs, stored_runs
    from dyno_analysis.spans.folder import connect, execute

    if not runs and not endpoints:
        return ()
    with connect(spans) as connection:
        if endpoints:
            counts = "FROM spans SELECT endpoint, count(*) WHERE endpoint IS NOT NULL GROUP BY ALL"
            check_endpoints(endpoints, dict(sorted(execute(connection, counts).fetchall())), f"'{spans}'")
        return chosen_runs(runs, stored_runs(connection, spans), spans, time.time()) if runs else ()


def _send(spans: Path, lines: Iterable[bytes], *, again: bool) -> int:
    """Pass the lines to the proxy's program that sends them. It says what became of them; returns its exit code."""
    import subprocess

    if not spans.is_dir():
        raise InputError(f"the spans folder '{spans}' doesn't exist; name one with --spans DIR")
    command = [sys.executable, "-P", "-m", "dyno", "send-otlp", "--lines", "--spans", str(spans)]
    sender = subprocess.Popen([*command, *(["--again"] if again else [])], stdin=subprocess.PIPE)  # noqa: S603
    assert sender.stdin is not None  # noqa: S101
    try:
        with sender.stdin:
            sender.stdin.writelines(lines)
    except BrokenPipeError:
        pass  # it has ended, and has said why
    except BaseException:
        sender.kill()
        raise
    return sender.wait()
