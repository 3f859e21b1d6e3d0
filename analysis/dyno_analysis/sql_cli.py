"""`dyno sql`: one SQL statement over the stored spans, read-only."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, BinaryIO

from .arguments import ArgumentParser, spans_argument
from .errors import InputError

if TYPE_CHECKING:
    from .statement import Statement

FORMATS = ("table", "csv", "json", "markdown", "parquet")
EPILOG = """\
examples:
  dyno sql "SELECT endpoint, count(*), median(ttft_s) FROM spans GROUP BY ALL"
  dyno sql "FROM spans LIMIT 10" --format csv > spans.csv
  dyno sql "FROM spans" --format parquet --output spans.parquet
  dyno sql < question.sql

The view `spans` has one row a request; DESCRIBE spans lists its columns. Only SELECT (and EXPLAIN, DESCRIBE,
SUMMARIZE, SHOW) runs, and it reads no file but the span files.
"""


def main(argv: list[str]) -> int:
    """Print a statement's rows; returns 0, or 2 with one line on stderr."""
    parser = ArgumentParser(
        prog="dyno sql",
        description="SQL over the stored spans.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("statement", nargs="?", help="one SQL statement (default: from standard input)")
    spans_argument(parser)
    parser.add_argument("--format", choices=FORMATS, default="table", help="of the rows (default: table)")
    parser.add_argument("--output", metavar="FILE", help="write there instead of to standard output")
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments)
    except InputError as error:
        print(f"dyno sql: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, say) had enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from .load import connect, span_files
    from .statement import Statement
    from .training_files import define_training, training_files
    from .whole_file import replacing

    text = arguments.statement
    if text is None:
        if sys.stdin.isatty():
            raise InputError('no statement; mend: dyno sql "SELECT …", or pipe one in')
        text = sys.stdin.read()
    if arguments.format == "parquet" and arguments.output is None and sys.stdout.isatty():
        raise InputError("Parquet isn't for a terminal; mend: --output FILE, or a pipe")
    spans = Path(arguments.spans)
    files = span_files(spans)
    training = training_files(spans)
    with connect(spans, files) as connection:
        define_training(connection, training)
        statement = Statement(connection, text, [*files, *training])
        if arguments.output is None:
            _write(statement, arguments.format, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return 0
        try:
            with replacing(Path(arguments.output)) as output:
                _write(statement, arguments.format, output)
        except OSError as error:
            raise InputError(f"can't write '{arguments.output}': {error.strerror}; choose another --output") from error
    return 0


def _write(statement: "Statement", form: str, output: BinaryIO) -> None:
    from . import sql_output

    if form == "parquet":
        sql_output.write_parquet(statement, output)
    elif form == "table" and output is sys.stdout.buffer and sys.stdout.isatty():
        sql_output.print_rich(statement)
    else:
        output.writelines(piece.encode("utf-8") for piece in sql_output.PIECES[form](statement))
