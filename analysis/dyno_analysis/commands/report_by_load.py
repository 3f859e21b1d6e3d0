"""`dyno report` of requests under several loads: the tables of all loads, and a report of each."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection

from dyno_analysis.query.fetch import fetch, fetch_columns
from dyno_analysis.query.row_types import LoadRow
from dyno_analysis.render.terminal import is_terminal, print_table, print_text
from dyno_analysis.report.answer import banner
from dyno_analysis.report.by_load import UnderLoad, load_answer_table, load_folder, load_table, load_verdict_table
from dyno_analysis.report.comparison import Comparison
from dyno_analysis.report.files import write_load_report, write_report
from dyno_analysis.report.load_curve_tables import crossing_sentences, curve_tables, curves_json, slo_tables
from dyno_analysis.report.load_curves import load_curves
from dyno_analysis.report.slo import Objective
from dyno_analysis.runs.folder import define_answers
from dyno_analysis.runs.record import RunRecord
from dyno_analysis.spans.counted import Source
from dyno_analysis.spans.folder import connect
from dyno_analysis.spans.offered_load import OfferedLoad
from dyno_analysis.spans.selection import Selection, select
from dyno_analysis.spans.sql_text import sql_text


@dataclass(frozen=True)
class Measured:
    """What was measured under all loads together: the rows of loads.sql and load_requests.sql."""

    loads: Sequence[OfferedLoad]
    rows: Sequence[LoadRow]
    requests: Mapping[str, Any]
    objectives: Sequence[Objective]


def measured(
    connection: DuckDBPyConnection,
    records: Sequence[RunRecord],
    loads: Sequence[OfferedLoad],
    objectives: Sequence[Objective],
) -> Measured:
    """Read them from the selected `spans`; `records` have the prompts' texts."""
    define_answers(connection, records)
    requests = fetch_columns(connection, sql_text("load_requests"))
    return Measured(loads, fetch(connection, "loads", LoadRow), requests, objectives)


def report_by_load(
    arguments: argparse.Namespace,
    chosen: Selection,
    under: Measured,
    files: Sequence[Source],
    make: Callable[..., Comparison],
    now: datetime,
) -> int:
    """A table of all loads, and a report of each in a folder of its own; returns 1 if a request failed, else 0."""
    found, written = [], []
    for load in under.loads:
        with connect(Path(arguments.spans), files) as connection:
            select(connection, replace(chosen, load=load), files)
            comparison = make(connection, len(under.loads))
            found.append(UnderLoad(load, comparison))
            if arguments.out is not None:
                written += write_report(connection, comparison, Path(arguments.out) / load_folder(load), now)
    curves = load_curves(under.rows, under.requests, found, under.objectives, arguments.seed)
    first = [table for table in (load_verdict_table(found), load_table(found, under.rows)) if table is not None]
    tables = [*first, *curve_tables(found, curves)]
    shown = (
        tables
        if arguments.all or not is_terminal()
        else [load_answer_table(found, under.rows), *slo_tables(found, curves)]
    )
    for line in banner(found[0].comparison):
        print_text(line)
    for table in shown:
        print(flush=True)
        print_table(table)
    if shown is not tables:
        for sentence in crossing_sentences(curves):
            print_text(sentence)
    print()
    which = " ".join(chosen.runs)
    print_text(
        f"All tables of one load: dyno report {which} --load {under.loads[0].in_words()} --all".replace("  ", " ")
    )
    if arguments.out is not None:
        written += write_load_report(found, tables, curves_json(curves), Path(arguments.out))
    for path in written:
        print(path)
    return int(any(each.comparison.failed or each.comparison.without_answer for each in found))
