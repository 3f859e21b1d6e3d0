"""`dyno report`: prints the tables of stored runs, or of any stored traffic, and writes the report as files."""

import argparse
import sys
from typing import TYPE_CHECKING

from dyno_analysis.arguments import DEFAULT_SPANS, ArgumentParser, spans_argument
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import private_from_now_on
from dyno_analysis.interrupts import ending

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from dyno_analysis.report.comparison import Comparison
    from dyno_analysis.runs.folder import Known

EPILOG = """\
examples:
  dyno report                                   the newest run in ./spans
  dyno report 20261123_215900_ab12 --out out    one run, with report.md and the raw results in out/
  dyno report --since 2h --endpoints a,b        all traffic of the last two hours, in a run or not
  dyno report --since 1d --paired-by mirror     mirrored requests against their copies: the users' own traffic, paired
  dyno report --store clickhouse://ch:8123/otel the newest run in a Collector's ClickHouse

exit codes: 0 all requests were ok, 1 some failed (warm-ups and cancelled requests don't count), 2 wrong use
"""


def main(argv: list[str]) -> int:
    """Print the report; returns 0, 1 if a request failed, 2 for wrong use."""
    parser = ArgumentParser(
        prog="dyno report",
        description="Tables and the report of stored runs; also of any traffic in a time range.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="run ids (default: the newest that has requests here; all traffic if there is no run, "
        "or with --paired-by mirror)",
    )
    spans_argument(parser)
    parser.add_argument(
        "--store",
        metavar="URL",
        help="read a Collector's ClickHouse instead of span files, and print the headline tables: "
        "clickhouse://user@host:port/database; the password is read from CLICKHOUSE_PASSWORD",
    )
    parser.add_argument("--out", metavar="DIR", help="also write report.md and the raw results (JSON) there")
    parser.add_argument(
        "--since", metavar="TIME", help="traffic from then on: RFC 3339 (without a zone: UTC), or 15m, 2h, 3d ago"
    )
    parser.add_argument("--until", metavar="TIME", help="traffic before then, in the same forms")
    parser.add_argument("--endpoints", metavar="A,B", help="only these; the others are compared with the first one")
    parser.add_argument(
        "--paired-by",
        choices=["prompt", "mirror"],
        default="prompt",
        help="what a pair is: two requests with the same prompt (default), or a request and its copy by the mirror",
    )
    parser.add_argument(
        "--margin",
        metavar="PERCENT",
        type=_percent,
        default=0.05,
        help="'no difference' means within this (default: 5)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    arguments = parser.parse_args(argv)
    private_from_now_on()
    try:
        with ending("dyno report"):
            return _report(arguments) if arguments.store is None else _report_of_store(arguments)
    except InputError as error:
        print(f"dyno report: {error}", file=sys.stderr)
        return 2


def _report(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime
    from pathlib import Path

    from dyno_analysis.report.compare import compare
    from dyno_analysis.report.files import write_report
    from dyno_analysis.runs.folder import check_known, known_runs, read_run
    from dyno_analysis.spans.folder import connect, sources
    from dyno_analysis.spans.selection import Selection, select

    spans = Path(arguments.spans)
    now = datetime.now(UTC)
    endpoints, since_us, until_us = _chosen(arguments, now)
    runs = list(dict.fromkeys(arguments.runs))
    by_mirror = arguments.paired_by == "mirror"
    in_range = Selection((), endpoints, since_us, until_us)
    files = sources(spans, in_range.may_be_in)
    with connect(spans, files) as connection:
        if runs or (since_us is None and until_us is None and not by_mirror):
            known = known_runs(connection, spans)
            check_known(runs, known, spans)
            if not runs:
                runs = _newest(known, now)
        records = [record for run_id in runs if (record := read_run(spans, run_id))]
        select(connection, Selection(runs, endpoints, since_us, until_us, by_mirror), files)
        order = endpoints or [name for record in records for name in record.endpoints]
        comparison = compare(connection, runs, records, order, arguments.margin, arguments.seed, arguments.paired_by)
        _check_found(comparison, endpoints, runs, spans)
        _print(comparison)
        if arguments.out is not None:
            for path in write_report(connection, comparison, Path(arguments.out), now):
                print(path)
    return 1 if comparison.failed else 0


def _newest(known: "Mapping[str, Known]", now: "datetime") -> list[str]:
    """The newest run, if there is one. Standard error names newer ones that are passed over."""
    from dyno_analysis.runs.folder import newest

    found = newest(known, now.timestamp())
    for line in found.passed_over:
        print(f"dyno report: {line}", file=sys.stderr)
    return [] if found.run_id is None else [found.run_id]


def _report_of_store(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from dyno_analysis.clickhouse.report import report
    from dyno_analysis.spans.selection import Selection

    for flag, given in (
        ("--out", arguments.out is not None),
        ("--paired-by mirror", arguments.paired_by == "mirror"),
        ("--spans", arguments.spans != DEFAULT_SPANS),
    ):
        if given:
            raise InputError(f"{flag} needs span files, and --store reads none; leave out one of the two")
    endpoints, since_us, until_us = _chosen(arguments, datetime.now(UTC))
    chosen = Selection(list(dict.fromkeys(arguments.runs)), endpoints, since_us, until_us)
    return report(arguments.store, chosen, arguments.margin, arguments.seed)


def _chosen(arguments: argparse.Namespace, now: "datetime") -> tuple[list[str], int | None, int | None]:
    """The endpoints in the order asked for, and the time range in Unix microseconds."""
    from dyno_analysis import times

    endpoints = [name.strip() for name in (arguments.endpoints or "").split(",") if name.strip()]
    if arguments.endpoints is not None and not endpoints:
        raise InputError(f"--endpoints '{arguments.endpoints}' names none; leave it out for all")
    return (endpoints, *times.span_us(arguments.since, arguments.until, now))


def _check_found(comparison: "Comparison", endpoints: list[str], runs: list[str], spans: "Path") -> None:
    where = f"run {', '.join(runs)} of '{spans}'" if runs else f"the chosen traffic of '{spans}'"
    missing = [name for name in endpoints if name not in comparison.figures]
    if missing and comparison.endpoints:
        there = ", ".join(comparison.endpoints)
        raise InputError(f"no request of endpoint '{missing[0]}' in {where}; its endpoints: {there}")
    if not comparison.endpoints and comparison.by_mirror:
        configured = '[endpoints.NAME] mirror = { to = "OTHER", share = 0.1 }'
        raise InputError(f"no mirrored request in {where}; the proxy mirrors requests if dyno.toml has {configured}")
    if not comparison.endpoints:
        of = f" of endpoint '{', '.join(endpoints)}'" if endpoints else ""
        raise InputError(f"no request{of} in {where}; 'dyno sql' shows what is stored")


def _print(comparison: "Comparison") -> None:
    from dyno_analysis.render.terminal import print_line, print_table
    from dyno_analysis.report import detail_tables, findings, tables
    from dyno_analysis.report.markdown import caveats

    print_line(findings.heading(comparison))
    setup = findings.setup(comparison)
    width = max((len(label) for label, _ in setup), default=0)
    for label, value in setup:
        print_line(f"  {label:<{width}}  {value}")
    for table in (
        tables.comparison_table(comparison),
        tables.percentile_table(comparison),
        tables.paired_table(comparison),
        detail_tables.mirror_table(comparison),
        tables.fixed_per_token_table(comparison),
        detail_tables.failure_table(comparison),
        detail_tables.quality_table(comparison),
        detail_tables.instrument_table(comparison),
    ):
        if table is not None:
            print(flush=True)
            print_table(table)
    for title, lines in (
        (tables.titled("Findings", comparison), findings.summary(comparison)),
        ("What to know before quoting this", caveats(comparison)),
    ):
        print_line(f"\n{title}")
        for line in lines:
            print_line(f"- {line}")


def _percent(text: str) -> float:
    value = float(text)
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text} % must be above 0 and below 100")
    return value / 100
