"""`dyno trace`: shows one request's spans (the proxy's, the client's, the engine's) as a waterfall in the terminal."""

import argparse
import json
import os
import re
import sys
from typing import Any

from dyno_analysis.arguments import ArgumentParser, spans_argument
from dyno_analysis.controls import visible
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import private_from_now_on
from dyno_analysis.interrupts import ending

EPILOG = """\
examples:
  dyno sql "SELECT trace_id, latency_s FROM spans ORDER BY latency_s DESC LIMIT 3"
  dyno trace 0af7651916cd43dd8448eb211c80319c
  dyno trace 0af7 --format json

Spans of clients, gateways and engines are shown if `dyno collect` received them. Each is placed by its own machine's
clock. An engine's queue, prefill and decode are drawn one after another from its span's start.
"""

_CANDIDATES = 8
_PIPE_WIDTH = 120
_SPANS = "FROM trace_spans($1)"


def main(argv: list[str]) -> int:
    """Print one trace; returns 0, or 2 with one line on stderr."""
    parser = ArgumentParser(
        prog="dyno trace",
        description="Shows one request and where its time went.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("id", help="a trace id, a span id, the beginning of either, or the id of a response")
    spans_argument(parser)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="(default: table)")
    arguments = parser.parse_args(argv)
    private_from_now_on()
    try:
        with ending("dyno trace"):
            return _run(arguments)
    except InputError as error:
        print(f"dyno trace: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, say) has closed the pipe. Python flushes stdout at exit, and that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from dyno_analysis.query.output import strict_json
    from dyno_analysis.render.terminal import columns, is_terminal, print_line
    from dyno_analysis.spans.folder import without_broken
    from dyno_analysis.spans.views import connect_views, list_files
    from dyno_analysis.trace.waterfall import lines, render

    spans = Path(arguments.spans)

    def look() -> tuple[str, list[dict[str, Any]]]:
        with connect_views(spans, list_files(spans, statement=_SPANS)) as connection:
            trace_id = _meant(_dicts(connection, "FROM traces_named($1)", arguments.id), arguments.id, spans)
            return trace_id, _dicts(connection, _SPANS, trace_id)

    trace_id, found = without_broken(spans, look)
    if arguments.format == "json":
        # A control character that JSON lets pass is escaped as JSON has it.
        shown = ",\n".join(strict_json(json.dumps(span, ensure_ascii=False)) for span in found)
        print(visible(f"[\n{shown}\n]"))
        return 0
    width = columns() if is_terminal() else _PIPE_WIDTH
    print(f"trace {trace_id}")
    for line in render(lines(found), width, fits=is_terminal()):
        print_line(line)
    return 0


def _meant(traces: list[dict[str, Any]], name: str, spans: object) -> str:
    """The id of the one trace that the name stands for; InputError if it stands for none or for several."""
    if len(traces) == 1:
        return str(traces[0]["trace_id"])
    if not traces:
        kind = "" if re.fullmatch(r"[0-9a-fA-F]+", name) else " (it isn't hexadecimal)"
        raise InputError(
            f"no span of '{spans}' has the id '{name}'{kind}; find one, as with dyno sql 'FROM spans LIMIT 10'"
        )
    some = ", ".join(f"{trace['trace_id']} ({trace['name']})" for trace in traces[:_CANDIDATES])
    more = f" and {len(traces) - _CANDIDATES} more" if len(traces) > _CANDIDATES else ""
    raise InputError(f"'{name}' fits {len(traces)} traces; write more of the id of one of them: {some}{more}")


def _dicts(connection: Any, query: str, parameter: str) -> list[dict[str, Any]]:
    from dyno_analysis.spans.folder import execute

    cursor = execute(connection, query, [parameter])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
