"""`dyno sql`: runs one SQL statement over the stored spans, read-only. Without one it opens a prompt."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, BinaryIO

from dyno_analysis.arguments import ArgumentParser, spans_argument
from dyno_analysis.controls import visible
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import private_from_now_on
from dyno_analysis.interrupts import ending
from dyno_analysis.limits import limit_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from dyno_analysis.query.statement import Statement
    from dyno_analysis.spans.selection import Selection
    from dyno_analysis.spans.views import Files

FORMATS = ("table", "record", "csv", "json", "markdown", "parquet", "arrow")
_BINARY = ("parquet", "arrow")
# So many a prompt shows of a table, all of which is in memory before it is printed.
_SHOWN_ROWS = 1_000
EPILOG = """\
examples:
  dyno sql "SELECT endpoint, count(*), median(ttft_s) FROM spans GROUP BY ALL"
  dyno sql "FROM spans LIMIT 10" --format csv > spans.csv
  dyno sql "FROM spans LIMIT 1" --format record     a line per column, for wide rows
  dyno sql "FROM spans" --format parquet --output spans.parquet
  dyno sql "SELECT endpoint, p(ttft_s, 0.95) FROM spans GROUP BY ALL" --since 2h
  dyno sql question.sql
  dyno sql                      a prompt, for one statement after another
  dyno sql --unsafe-shell       DuckDB's own shell, which may do anything (pip install 'inference-dyno[shell]')

The view `spans` has one row per request; DESCRIBE spans lists its columns. Other views: chunks, runs, pairs, minutes,
minutes_all, token_minutes, concurrency, spans_loaded, gaps, lost, prompts, answers, prices, training, training_steps,
and over collected spans collected_spans, server_spans, request_phases. docs/sql.md describes them, and answers forty
questions; --explain-views prints their SQL. Only SELECT, EXPLAIN, DESCRIBE, SUMMARIZE and SHOW run, and they can read
only the span files.

exit codes: 0 done, 2 wrong use, or the statement failed; 124 --timeout was over; 130 Ctrl-C, 143 SIGTERM
"""


def main(argv: list[str]) -> int:
    """Print a statement's rows; returns 0, or 2 with one line on stderr."""
    parser = ArgumentParser(
        prog="dyno sql",
        description="Runs SQL over the stored spans.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "statement", nargs="?", help="one SQL statement, or a file FILE.sql (default: standard input, or a prompt)"
    )
    spans_argument(parser)
    parser.add_argument("--run", metavar="RUN", action="append", help="only this run; may be given several times")
    parser.add_argument(
        "--endpoint", metavar="NAME", action="append", help="only this endpoint; may be given several times"
    )
    parser.add_argument(
        "--since", metavar="TIME", help="requests from then on: RFC 3339 (without a zone: UTC), or 15m, 2h, 3d ago"
    )
    parser.add_argument("--until", metavar="TIME", help="requests before then, in the same forms")
    parser.add_argument(
        "--allow-writes", action="store_true", help="allow any statement (COPY, ATTACH, INSTALL, SET, …) and any file"
    )
    parser.add_argument(
        "--explain-views", action="store_true", help="print the SQL of every view, to paste into another DuckDB"
    )
    parser.add_argument("--format", choices=FORMATS, default="table", help="format of the rows (default: table)")
    parser.add_argument("--output", metavar="FILE", help="write to FILE instead of to standard output")
    parser.add_argument(
        "--no-formulas",
        action="store_true",
        help="with --format csv: put an apostrophe before what a spreadsheet would run as a formula",
    )
    parser.add_argument(
        "--unsafe-shell", action="store_true", help="open DuckDB's own shell, which may read, write and run anything"
    )
    limit_arguments(parser)
    arguments = parser.parse_args(argv)
    private_from_now_on()
    try:
        # At the prompt, each statement has its own time.
        prompts = arguments.statement is None and sys.stdin.isatty()
        with ending("dyno sql", None if prompts else arguments.timeout):
            return _run(arguments)
    except InputError as error:
        print(f"dyno sql: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, say) has closed the pipe. Python flushes stdout at exit, and that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from dyno_analysis.query.output_file import check_output
    from dyno_analysis.query.shell import open_shell
    from dyno_analysis.spans.folder import without_broken
    from dyno_analysis.spans.pasteable import pasteable

    spans = Path(arguments.spans)
    _check_options(arguments)
    if arguments.explain_views:
        sys.stdout.writelines(pasteable(spans))
        return 0
    if arguments.output is not None:
        check_output(Path(arguments.output), spans)
    text = arguments.statement
    if arguments.unsafe_shell:
        return open_shell(spans)
    if text is None and sys.stdin.isatty():
        return _prompt(arguments, spans)
    if text is None:
        text = sys.stdin.read()
        if not text.strip():
            raise InputError('no statement is given: standard input is empty; write dyno sql "SELECT …"')
    elif text.endswith(".sql"):
        text = _read(Path(text))
    without_broken(spans, lambda: _answer(arguments, text, spans))
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    if arguments.format in _BINARY and arguments.output is None and sys.stdout.isatty():
        raise InputError(f"--format {arguments.format} can't be shown on a terminal; use --output FILE, or a pipe")
    if arguments.no_formulas and arguments.format != "csv":
        raise InputError("--no-formulas is for spreadsheets, which read CSV; add --format csv")
    if arguments.unsafe_shell and (arguments.statement is not None or arguments.output is not None):
        raise InputError("--unsafe-shell opens a shell; leave out the statement and --output")


def _answer(arguments: argparse.Namespace, text: str, spans: "Path") -> None:
    """Run one statement and write its rows."""
    from pathlib import Path

    from dyno_analysis.query.output_file import written
    from dyno_analysis.query.statement import Statement

    connection, files = _views(arguments, text, spans)
    form = "spreadsheet" if arguments.no_formulas else arguments.format
    with connection:
        statement = Statement(connection, text, None if arguments.allow_writes else files.all())
        if arguments.output is None:
            _write(statement, form, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        try:
            with written(Path(arguments.output)) as output:
                _write(statement, form, output)
        except OSError as error:
            raise InputError(f"can't write '{arguments.output}': {error.strerror}; choose another --output") from error


def _views(arguments: argparse.Namespace, text: str | None, spans: "Path") -> "tuple[DuckDBPyConnection, Files]":
    """A connection with the views, within the limits that were given, and the files that it reads."""
    from dyno_analysis.spans.views import connect_views, list_files

    chosen = _chosen(arguments)
    files = list_files(spans, chosen, text)
    connection = connect_views(spans, files, chosen)
    if arguments.memory is not None:
        connection.execute(f"SET memory_limit = '{arguments.memory}B'")
    if arguments.threads is not None:
        connection.execute(f"SET threads = {arguments.threads}")
    _check_chosen(connection, chosen, spans)
    return connection, files


def _prompt(arguments: argparse.Namespace, spans: "Path") -> int:
    from collections.abc import Sequence

    from dyno_analysis.query.output import print_some
    from dyno_analysis.query.prompt import Prompt

    if arguments.allow_writes or arguments.output is not None:
        raise InputError("--allow-writes and --output need a statement; for a shell that writes, see --unsafe-shell")

    def open_views() -> "tuple[DuckDBPyConnection, Sequence[Path]]":
        connection, files = _views(arguments, None, spans)
        return connection, files.all()

    def show(statement: "Statement") -> None:
        if arguments.format == "table":
            print_some(statement, _SHOWN_ROWS)
        else:
            _write(statement, "spreadsheet" if arguments.no_formulas else arguments.format, sys.stdout.buffer)

    return Prompt(open_views, show, spans, arguments.timeout).run()


def _chosen(arguments: argparse.Namespace) -> "Selection":
    from datetime import UTC, datetime

    from dyno_analysis import times
    from dyno_analysis.spans.selection import Selection

    since_us, until_us = times.span_us(arguments.since, arguments.until, datetime.now(UTC))
    return Selection(arguments.run or (), arguments.endpoint or (), since_us, until_us)


def _check_chosen(connection: "DuckDBPyConnection", chosen: "Selection", spans: "Path") -> None:
    """Raise InputError for a run or an endpoint that has no request, and name the nearest.

    All files are read only if one of them isn't among the chosen requests.
    """
    from dyno_analysis.runs.choice import check_endpoints
    from dyno_analysis.runs.folder import check_known, known_runs
    from dyno_analysis.spans.folder import connect, execute

    if not chosen.runs and not chosen.endpoints:
        return
    found = execute(connection, "FROM spans SELECT DISTINCT run_id, endpoint").fetchall()
    if {*chosen.runs} <= {run_id for run_id, _ in found} and {*chosen.endpoints} <= {name for _, name in found}:
        return
    with connect(spans) as everything:
        if chosen.runs:
            check_known(list(chosen.runs), known_runs(everything, spans), spans)
        counts = "FROM spans SELECT endpoint, count(*) WHERE endpoint IS NOT NULL GROUP BY ALL"
        if chosen.endpoints:
            check_endpoints(chosen.endpoints, dict(sorted(execute(everything, counts).fetchall())), f"'{spans}'")


def _read(path: "Path") -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"'{path}' can't be read: {error.strerror}; name a file with a statement") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' isn't text in UTF-8; save it as UTF-8") from error


def _write(statement: "Statement", form: str, output: BinaryIO) -> None:
    from dyno_analysis.query import output as sql_output

    if form == "parquet":
        sql_output.write_parquet(statement, output)
    elif form == "arrow":
        sql_output.write_arrow(statement, output)
    elif form == "table" and output is sys.stdout.buffer and sys.stdout.isatty():
        sql_output.print_rich(statement)
    else:
        to_terminal = output is sys.stdout.buffer and sys.stdout.isatty()
        pieces = sql_output.PIECES[form](statement)
        output.writelines((visible(piece) if to_terminal else piece).encode("utf-8") for piece in pieces)
