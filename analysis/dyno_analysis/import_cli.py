"""`dyno import`: results of other tools, and of Dyno itself, as spans."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from .arguments import ArgumentParser, spans_argument
from .errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from .ingest import Ingested

EPILOG = """\
examples:
  dyno import metis_vs_sophia_results_20251201_191558.json
  dyno report

Reads result files of the published benchmark's shape, {"timestamp", ENDPOINT: {"results": […], "statistics"}}, which is
also that of `dyno report --out`. Where a file doesn't say when its requests started, all bear the file's own
timestamp (without a zone it is read as UTC). Importing a file twice adds nothing.
"""


def main(argv: list[str]) -> int:
    """Import the files, all or none; returns 0, or 2 with one line on stderr."""
    parser = ArgumentParser(
        prog="dyno import",
        description="Spans from other tools' result files.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a results file (JSON)")
    spans_argument(parser)
    arguments = parser.parse_args(argv)
    try:
        return _import(arguments)
    except InputError as error:
        print(f"dyno import: {error}", file=sys.stderr)
        return 2


def _import(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from .import_files import store

    spans = Path(arguments.spans)
    read = [(file, _read(Path(file))) for file in arguments.files]
    for file, ingested in read:
        run_id = store(ingested, spans)
        if run_id is None:
            print(f"{file}: imported before, nothing added")
            continue
        endpoints = ", ".join(ingested.record["endpoints"])
        print(f"{file}: {len(ingested.spans)} requests to {endpoints}, as run {run_id}")
        if not ingested.started_known:
            print("  when each request started isn't in the file: all bear the file's timestamp")
        print(f"  next: dyno report {run_id} --spans {spans}")
    return 0


def _read(path: "Path") -> "Ingested":
    from .ingest import ingest

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' can't be read: {error.strerror}") from error
    try:
        document = json.loads(content)
        # JSON can spell half a surrogate pair, UTF-8 can't.
        document = json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is no results file: it isn't text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"'{path}' is no results file: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise InputError(f"'{path}' is no results file: its JSON is nested too deeply") from error
    return ingest(document, path, content)
