"""`dyno report`: prints the tables of stored runs, or of any stored traffic, and writes the report as files."""

import argparse
import sys
from typing import TYPE_CHECKING

from dyno_analysis.arguments import ArgumentParser, spans_argument, spans_folder
from dyno_analysis.errors import InputError
from dyno_analysis.file_modes import private_from_now_on
from dyno_analysis.interrupts import ending

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from dyno_analysis.report.comparison import Comparison
    from dyno_analysis.report.slo import Objective
    from dyno_analysis.runs.record import RunRecord
    from dyno_analysis.spans.offered_load import OfferedLoad

_MARGIN = 0.05

EPILOG = """\
examples:
  dyno report                                   the newest run in ./spans, on one screen
  dyno report --all                             the same with all tables
  dyno report 20261123_215900_ab12 --out out    one run, with report.md and the raw results in out/
  dyno report --list                            the stored runs
  dyno report --load 8                          of a run under several loads, what was sent with 8 requests at once
  dyno report --slo ttft_p95=2s,tpot_p95=50ms   of a run under several loads, the highest that keeps these limits
  dyno report --claims                          a verdict on each claim of the published benchmark, from all runs
  dyno report 20261123 latest                   two runs, each with columns of its own; --pool makes one set of them
  dyno report --since 2h --endpoints a,b        all traffic of the last two hours, in a run or not
  dyno report --since 1d --paired-by mirror     mirrored requests against their copies: the users' own traffic, paired
  dyno report --store clickhouse://ch:8123/otel the newest run in a Collector's ClickHouse

exit codes: 0 all requests were ok, 1 some failed or an endpoint gave no answer (warm-ups and requests that the client
cancelled or the proxy rejected don't count as failed), 2 wrong use
"""


def main(argv: list[str]) -> int:
    """Print the report; returns 0, 1 if a request failed, 2 for wrong use."""
    arguments = _parser().parse_args(argv)
    private_from_now_on()
    try:
        with ending("dyno report"):
            return _report_of_store(arguments) if arguments.store is not None else _report_of_files(arguments)
    except InputError as error:
        print(f"dyno report: {error}", file=sys.stderr)
        return 2


def _parser() -> ArgumentParser:
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
        help="run ids, beginnings of ids, or 'latest' (default: the newest run with results; all traffic if there is "
        "no run, or with --paired-by mirror)",
    )
    parser.add_argument("--list", action="store_true", help="list the stored runs")
    parser.add_argument(
        "--all",
        action="store_true",
        help="print all tables and notes, as into a pipe (default on a terminal: the answer, in at most 20 lines)",
    )
    parser.add_argument(
        "--pool", action="store_true", help="make one set of several runs' requests (default: each run has its columns)"
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
    parser.add_argument(
        "--load",
        metavar="LOAD",
        help="only what was sent under this load: 8 (requests at once), 2.5/s (default: each load by itself)",
    )
    _add_claims(parser)
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
        default=_MARGIN,
        help="'no difference' means within this (default: 5)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of samples of very many points (default: 0)")
    return parser


def _add_claims(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--slo",
        metavar="LIMITS",
        help="also the highest load that keeps these limits, and the goodput: ttft_p95=2s,tpot_p95=50ms",
    )
    parser.add_argument(
        "--claims",
        action="store_true",
        help="a verdict on each claim of the published benchmark, from all runs given (default: all stored ones)",
    )
    parser.add_argument(
        "--as",
        dest="roles",
        metavar="ROLES",
        help="which endpoints the claims are about: metis=NAME,sophia=NAME (default: by their names)",
    )
    parser.add_argument(
        "--quality-margin",
        metavar="POINTS",
        type=_percent,
        default=_MARGIN,
        help="answers are of similar quality within so many points (default: 5)",
    )


def _report_of_files(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from dyno_analysis.spans.folder import without_broken

    if arguments.roles is not None and not arguments.claims:
        raise InputError(f"--as {arguments.roles}: roles are for claims; add --claims")
    return without_broken(Path(arguments.spans), lambda: _claims(arguments) if arguments.claims else _report(arguments))


def _claims(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from dyno_analysis.commands.report_claims import report_claims

    for flag, given in (
        ("--load", arguments.load),
        ("--slo", arguments.slo),
        ("--since", arguments.since),
        ("--until", arguments.until),
        ("--paired-by mirror", arguments.paired_by == "mirror" or None),
        ("--pool", arguments.pool or None),
        ("--list", arguments.list or None),
    ):
        if given is not None:
            raise InputError(f"--claims looks at whole runs, so {flag} doesn't go with it; leave out one of the two")
    endpoints, _, _ = _chosen(arguments, datetime.now(UTC))
    return report_claims(arguments, endpoints)


def _report(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime
    from functools import partial
    from pathlib import Path

    from dyno_analysis.commands.report_by_load import measured, report_by_load
    from dyno_analysis.report.compare import loads
    from dyno_analysis.report.files import write_report
    from dyno_analysis.runs.choice import run_table, stored_runs
    from dyno_analysis.runs.folder import read_run
    from dyno_analysis.spans.folder import connect, sources
    from dyno_analysis.spans.selection import Selection, select

    spans = Path(arguments.spans)
    now = datetime.now(UTC)
    objectives = _objectives(arguments.slo)
    endpoints, since_us, until_us = _chosen(arguments, now)
    any_traffic = since_us is not None or until_us is not None or arguments.paired_by == "mirror"
    in_range = Selection() if arguments.runs or arguments.list else Selection((), (), since_us, until_us)
    files = sources(spans, in_range.may_be_in)
    with connect(spans, files) as connection:
        if arguments.list:
            from dyno_analysis.render.terminal import print_table

            print_table(run_table(stored_runs(connection, spans)))
            return 0
        by_mirror = arguments.paired_by == "mirror"
        runs = _runs(arguments, connection, spans, now, any_traffic=any_traffic)
        records = [record for run_id in runs if (record := read_run(spans, run_id))]
        superseded = [trace_id for record in records for trace_id in record.superseded]
        chosen = Selection(runs, endpoints, since_us, until_us, by_mirror, _load(arguments.load), superseded)
        select(connection, chosen, files)
        texts = [] if runs else _records_of_traffic(connection, spans)
        order = endpoints or [name for record in records for name in record.endpoints]
        several = [] if by_mirror or (chosen.load is not None and not objectives) else loads(connection)
        make = partial(_compared, arguments, runs, records, order, texts)
        if objectives and not several:
            raise InputError(
                f"--slo needs requests sent under a load, and {_where(runs, spans)} has none; see docs/drive.md"
            )
        if len(several) > 1 or objectives:
            under = measured(connection, [*records, *texts], several, objectives)
            asked = list(dict.fromkeys(row.endpoint for row in under.rows))
            recorded = {name for record in records for name in record.endpoints}
            _check_names(endpoints, recorded.union(asked), asked, _where(runs, spans))
            return report_by_load(arguments, chosen, under, files, make, now)
        comparison = make(connection)
        _check_found(comparison, endpoints, runs, spans)
        written = [] if arguments.out is None else write_report(connection, comparison, Path(arguments.out), now)
        _print(comparison, written, arguments)
    return 1 if comparison.failed or comparison.without_answer else 0


def _compared(
    arguments: argparse.Namespace,
    runs: "Sequence[str]",
    records: "Sequence[RunRecord]",
    order: "Sequence[str]",
    texts: "Sequence[RunRecord]",
    connection: "DuckDBPyConnection",
    tables: int = 1,
) -> "Comparison":
    from dyno_analysis.report.compare import compare

    return compare(
        connection,
        runs,
        records,
        order,
        arguments.margin,
        arguments.seed,
        arguments.paired_by,
        by_run=not arguments.pool and len(runs) > 1,
        texts=texts,
        tables=tables,
    )


def _load(text: str | None) -> "OfferedLoad | None":
    from dyno_analysis.spans.offered_load import read_load

    load = None if text is None else read_load(text)
    if text is not None and load is None:
        raise InputError(f"--load {text}: must be a number of requests at once, such as 8, or a rate, such as 2.5/s")
    return load


def _objectives(text: str | None) -> "list[Objective]":
    from dyno_analysis.report.slo import read_slo

    try:
        return [] if text is None else read_slo(text)
    except ValueError as error:
        raise InputError(f"--slo {text}: {error}") from error


def _runs(
    arguments: argparse.Namespace,
    connection: "DuckDBPyConnection",
    spans: "Path",
    now: "datetime",
    *,
    any_traffic: bool,
) -> list[str]:
    """The runs to report: those asked for, or the latest unless `any_traffic` is meant. Empty: all traffic."""
    from dyno_analysis.runs.choice import chosen_runs, latest, stored_runs

    if not arguments.runs and any_traffic:
        return []
    known = stored_runs(connection, spans)
    if arguments.runs:
        return chosen_runs(arguments.runs, known, spans, now.timestamp())
    last = latest(known, now.timestamp())
    for line in last.passed_over:
        print(f"dyno report: {line}", file=sys.stderr)
    return [] if last.run_id is None else [last.run_id]


def _records_of_traffic(connection: "DuckDBPyConnection", spans: "Path") -> "list[RunRecord]":
    """The records of the runs in the chosen traffic, which have the texts of its prompts; without unreadable ones."""
    from dyno_analysis.runs.folder import read_run
    from dyno_analysis.spans.folder import execute

    found = execute(connection, "FROM spans SELECT DISTINCT run_id WHERE run_id IS NOT NULL ORDER BY 1").fetchall()
    records = []
    for (run_id,) in found:
        try:
            record = read_run(spans, run_id)
        except InputError as error:
            print(f"dyno report: {error}", file=sys.stderr)
        else:
            records += [] if record is None else [record]
    return records


def _report_of_store(arguments: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from dyno_analysis.clickhouse.report import report
    from dyno_analysis.spans.selection import Selection

    for flag, given in (
        ("--out", arguments.out is not None),
        ("--paired-by mirror", arguments.paired_by == "mirror"),
        ("--list", arguments.list),
        ("--load", arguments.load is not None),
        ("--slo", arguments.slo is not None),
        ("--claims", arguments.claims),
        ("--spans", arguments.spans != spans_folder()),
    ):
        if given:
            raise InputError(f"{flag} needs span files, and --store reads none; leave out one of the two")
    endpoints, since_us, until_us = _chosen(arguments, datetime.now(UTC))
    chosen = Selection(list(dict.fromkeys(arguments.runs)), endpoints, since_us, until_us)
    return report(arguments.store, chosen, arguments.margin, arguments.seed, arguments.pool)


def _chosen(arguments: argparse.Namespace, now: "datetime") -> tuple[list[str], int | None, int | None]:
    """The endpoints in the order asked for, and the time range in Unix microseconds."""
    from dyno_analysis import times

    names = [name.strip() for name in (arguments.endpoints or "").split(",") if name.strip()]
    if arguments.endpoints is not None and not names:
        raise InputError(f"--endpoints '{arguments.endpoints}' names none; leave it out for all")
    return (list(dict.fromkeys(names)), *times.span_us(arguments.since, arguments.until, now))


def _check_found(comparison: "Comparison", endpoints: list[str], runs: list[str], spans: "Path") -> None:
    where = _where(runs, spans)
    stored = [
        name for name in comparison.endpoints if comparison.figures[name].requests + comparison.figures[name].warmups
    ]
    recorded = {name for record in comparison.records for name in record.endpoints}
    asked = {comparison.origin(column).endpoint for column in stored}
    if stored or recorded:
        _check_names(endpoints, asked | recorded, stored or sorted(recorded), where)
    if not stored and comparison.by_mirror:
        configured = '[endpoints.NAME] mirror = { to = "OTHER", share = 0.1 }'
        raise InputError(f"no mirrored request in {where}; the proxy mirrors requests if dyno.toml has {configured}")
    if not stored:
        of = f" of endpoint '{', '.join(endpoints)}'" if endpoints else ""
        raise InputError(f"no request{of} in {where}; 'dyno sql' shows what is stored")


def _where(runs: list[str], spans: "Path") -> str:
    """What was looked through, for messages."""
    return f"run {', '.join(runs)} of '{spans}'" if runs else f"the chosen traffic of '{spans}'"


def _check_names(endpoints: "Sequence[str]", known: set[str], shown: "Sequence[str]", where: str) -> None:
    """Refuse an endpoint that isn't among the known ones."""
    unknown = [name for name in endpoints if name not in known]
    if unknown:
        raise InputError(f"no request of endpoint '{unknown[0]}' in {where}; its endpoints: {', '.join(shown)}")


def _print(comparison: "Comparison", written: "list[Path]", arguments: argparse.Namespace) -> None:
    """The answer on one screen; with --all, or into a pipe, everything. `written`: the files of this report."""
    from pathlib import Path

    from dyno_analysis.render.terminal import columns, is_terminal, print_styled
    from dyno_analysis.report.answer import answer
    from dyno_analysis.report.screen import End, screen
    from dyno_analysis.report.whole import print_all

    if arguments.all or not is_terminal():
        print_all(comparison)
        for path in written:
            print(path)
        return
    reports = written or _written_before(Path(arguments.spans), comparison.runs)
    ends = [End("report", str(path)) for path in reports if path.suffix == ".md"]  # the raw results lie beside it
    ends.append(End("all", _again(arguments, comparison.runs), is_command=True))
    print_styled(screen(answer(comparison), ends, columns()))


def _again(arguments: argparse.Namespace, runs: "Sequence[str]") -> str:
    """The command that prints all of the same requests."""
    import shlex

    words = ["dyno", "report", *runs]
    for flag, given, usual in (
        ("--spans", arguments.spans, spans_folder()),
        ("--since", arguments.since, None),
        ("--until", arguments.until, None),
        ("--endpoints", arguments.endpoints, None),
        ("--load", arguments.load, None),
        ("--paired-by", arguments.paired_by, "prompt"),
        ("--seed", arguments.seed, 0),
    ):
        words += [flag, str(given)] if given != usual else []
    words += ["--margin", f"{arguments.margin * 100:g}"] if arguments.margin != _MARGIN else []
    return shlex.join([*words, *(["--pool"] if arguments.pool else []), "--all"])


def _written_before(spans: "Path", runs: "Sequence[str]") -> "list[Path]":
    """The report.md that `dyno compare` has left in the run's folder, if there is one."""
    if len(runs) != 1:
        return []
    path = spans / "runs" / runs[0] / "report.md"
    return [path] if path.is_file() else []


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"'{text}' must be a percentage above 0 and below 100, such as 5")
    return value / 100
