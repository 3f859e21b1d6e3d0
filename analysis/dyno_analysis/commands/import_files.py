"""`dyno import`: stores spans, results and logs of other tools, and of Dyno itself, as spans and runs."""

import argparse
import sys
from typing import TYPE_CHECKING

from dyno_analysis.arguments import ArgumentParser, spans_argument
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import private_from_now_on
from dyno_analysis.interrupts import ending

if TYPE_CHECKING:
    from pathlib import Path

    from dyno_analysis.ingest.detect import Recognised
    from dyno_analysis.ingest.formats.cerebras_training import TrainingLog
    from dyno_analysis.ingest.run import Ingested

EPILOG = """\
examples:
  dyno import metis_vs_sophia_results_20251201_191558.json
  dyno import collector/traces.json.zst vllm-10qps-gpt-oss-120b.json --endpoint sophia
  dyno report

These files are recognised by their content, not by their names; they may be compressed with gzip or zstd:
  OTLP spans, as JSON lines or length-prefixed messages of the OpenTelemetry Collector's file exporter: Dyno's own,
    and those of clients, gateways and engines that follow the GenAI conventions
  result files of the published benchmark's shape, which `dyno report --out` writes too
  result files of vllm bench serve --save-detailed (without it there is no single request); reports of GuideLLM
  training logs of Cerebras' model zoo, which go into the table `training`

What a file doesn't say stays unknown. Where its definitions differ from Dyno's, the command says how
(docs/import.md). A time without a zone is read as UTC. Importing again adds nothing. A broken line is reported and
skipped, and the exit code is 1.
"""


def main(argv: list[str]) -> int:
    """Import the files; returns 0, 1 if something in them was broken, or 2 with one line on stderr."""
    parser = ArgumentParser(
        prog="dyno import",
        description="Imports spans, results and training logs of other tools.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file to import")
    spans_argument(parser)
    parser.add_argument(
        "--endpoint", metavar="NAME", help="the endpoint's name, for files (spans, results) that don't name it"
    )
    arguments = parser.parse_args(argv)
    private_from_now_on()
    try:
        with ending("dyno import"):
            return _import(arguments)
    except InputError as error:
        print(f"dyno import: {error}", file=sys.stderr)
        return 2


def _import(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from dyno_analysis.ingest.detect import recognise

    spans = Path(arguments.spans)
    # All files are recognised before the first one is stored, so a file of an unknown kind stops the whole import.
    recognised = [recognise(Path(file), arguments.endpoint) for file in arguments.files]
    explained: set[str] = set()
    broken = [_store(found, spans, explained) for found in recognised]
    return 1 if any(broken) else 0


def _store(found: "Recognised", spans: "Path", explained: set[str]) -> int:
    """Store one file and print what became of it; returns how many broken places it has."""
    if found.otlp:
        return _store_spans(found, spans)
    if found.training is not None:
        return _store_training(found.path, found.training, spans)
    for ingested in found.runs:
        _store_run(found.path, ingested, spans, explained)
    return 0


def _store_run(path: "Path", ingested: "Ingested", spans: "Path", explained: set[str]) -> None:
    from dyno_analysis.ingest.store import store
    from dyno_analysis.render.terminal import print_text

    if not ingested.spans:
        print_text(f"{path}: {ingested.run_id} has no single requests, only a summary; left out", "  ")
        return
    run_id = store(ingested, spans)
    if run_id is None:
        print_text(f"{path}: was imported before; nothing added", "  ")
        return
    endpoints = ", ".join(ingested.record["endpoints"])
    print_text(f"{path}: {_count(len(ingested.spans), 'request')} to {endpoints}, as run {run_id}", "  ")
    if not ingested.started_known:
        print_text("  the file doesn't say when each request started: all have the file's timestamp", "  ")
    said = f"{ingested.kind}{ingested.differences}"
    if ingested.differences and said not in explained:
        explained.add(said)
        print_text(f"  how the definitions of {ingested.kind} differ from Dyno's:", "  ")
        for difference in ingested.differences:
            print_text(f"    {difference}", "      ")
    print_text(f"  next: dyno report {run_id} --spans {spans}", "  ", whole=True)


def _store_spans(found: "Recognised", spans: "Path") -> int:
    from dyno_analysis.ingest.store import store_rows
    from dyno_analysis.render.terminal import print_text

    with found.rows() as rows:
        staged = store_rows(rows, spans)
    others = rows.other_spans + staged.none
    left_out = f"; {_count(others, 'other span')} left out (not requests to a model)" if others else ""
    if staged.nested:
        left_out += (
            f"; {_count(staged.nested, 'nested span')} left out (of calls that have a row: the innermost caller's span "
            "with tokens)"
        )
    left_out += f"; {_count(rows.other_signals, 'message')} of metrics or logs left out" if rows.other_signals else ""
    print_text(f"{found.path}: {_count(staged.new, 'request')} added{_known(staged.known)}{left_out}", "  ")
    unnamed = min(rows.without_endpoint, staged.new + staged.known)
    if unnamed:
        mend = "name it with --endpoint NAME to compare them"
        print_text(f"  {_count(unnamed, 'request')} without an endpoint's name: {mend}", "  ")
    _complain(found.path, rows.broken, rows.broken_count)
    return rows.broken_count


def _store_training(path: "Path", log: "TrainingLog", spans: "Path") -> int:
    from dyno_analysis.ingest.training import store_training
    from dyno_analysis.render.terminal import print_text

    stored = store_training(log.runs(), spans)
    print_text(f"{path}: {_count(stored, 'training run')} added{_known(len(log.runs()) - stored)}", "  ")
    if stored:
        print_text(f'  next: dyno sql "FROM training" --spans {spans}', "  ", whole=True)
    for note in log.notes:
        print_text(f"  {note}", "  ")
    _complain(path, log.broken, len(log.broken))
    return len(log.broken)


def _complain(path: "Path", broken: list[str], count: int) -> None:
    for what in broken:
        print(f"dyno import: '{path}', {what}; skipped", file=sys.stderr)
    if count > len(broken):
        print(f"dyno import: '{path}': {count - len(broken)} more broken places; skipped", file=sys.stderr)


def _known(count: int) -> str:
    return f"; {count:,} already stored" if count else ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
