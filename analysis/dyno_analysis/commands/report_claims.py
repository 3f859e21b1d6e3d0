"""`dyno report --claims`: a verdict on each claim of the published benchmark, from stored runs."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dyno_analysis.errors import InputError
from dyno_analysis.query.fetch import fetch
from dyno_analysis.query.row_types import RunWorkloadRow
from dyno_analysis.render.terminal import print_table
from dyno_analysis.report.claims.claims import decided
from dyno_analysis.report.claims.gather import Stored, gather
from dyno_analysis.report.claims.roles import roles
from dyno_analysis.report.claims.tables import claims_json, claims_markdown, claims_table
from dyno_analysis.report.files import json_text, write_files
from dyno_analysis.runs.choice import chosen_runs, stored_runs
from dyno_analysis.runs.folder import read_run
from dyno_analysis.spans.folder import connect, sources


def report_claims(arguments: argparse.Namespace, endpoints: Sequence[str]) -> int:
    """Print the table over the runs asked for, or over all; `endpoints`: those of --endpoints. Returns 0."""
    spans = Path(arguments.spans)
    files = sources(spans, lambda _: True)
    with connect(spans, files) as connection:
        rows = fetch(connection, "run_workloads", RunWorkloadRow)
        if arguments.runs:
            now_s = datetime.now(UTC).timestamp()
            asked = chosen_runs(arguments.runs, stored_runs(connection, spans), spans, now_s)
            rows = [row for row in rows if row.run_id in asked]
    if not rows:
        raise InputError(f"no run with requests in '{spans}' to decide a claim by; 'dyno drive' makes one")
    found = roles(arguments.roles, _in_order(spans, rows), endpoints)
    evidence = gather(
        Stored(spans, files, rows),
        found.first,
        found.second,
        found.variants,
        arguments.margin,
        arguments.quality_margin,
    )
    verdicts = decided(evidence)
    table = claims_table(verdicts, evidence)
    print_table(table)
    if arguments.out is not None:
        contents = {
            "claims.md": claims_markdown(table),
            "claims.json": json_text(claims_json(verdicts, evidence)) + "\n",
        }
        for path in write_files(Path(arguments.out), contents):
            print(path)
    return 0


def _in_order(spans: Path, rows: Sequence[RunWorkloadRow]) -> list[str]:
    """The runs' endpoints, each once, in the order in which the newest run's record names them."""
    named = [name for row in rows if (record := read_run(spans, row.run_id)) for name in record.endpoints]
    asked = [name for row in rows for name in row.endpoints]
    return [name for name in dict.fromkeys([*named, *asked]) if name in asked]
