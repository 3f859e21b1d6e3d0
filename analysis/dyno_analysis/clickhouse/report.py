"""`dyno report --store`: the headline tables over spans in a ClickHouse server."""

import sys
import time
from dataclasses import replace

from dyno_analysis.errors import InputError
from dyno_analysis.query import row_types
from dyno_analysis.render.table import Table, count
from dyno_analysis.render.terminal import print_table, print_text
from dyno_analysis.report import detail_tables, findings, tables
from dyno_analysis.report.comparison import Comparison
from dyno_analysis.runs.folder import Known, check_known, newest
from dyno_analysis.spans.selection import Selection

from . import store as clickhouse_store
from .store import Store, fetch

_LEFT_OUT = "Verdicts and inter-chunk latency need the span files: dyno report --spans DIR."


def report(address: str, chosen: Selection, margin: float, seed: int, pool: bool) -> int:
    """Print the headline tables of the chosen requests; returns 0, or 1 if some of them failed.

    `pool` allows several runs, whose requests are one set.

    Raises InputError if the store can't be read or has no chosen request.
    """
    store = clickhouse_store.connect(clickhouse_store.parse_address(address))
    if chosen.runs or (chosen.since_us is None and chosen.until_us is None):
        known = {run_id: Known(start, has_spans=True) for run_id, start in clickhouse_store.runs(store).items()}
        check_known(list(chosen.runs), known, store.address)
        if not chosen.runs:
            last = newest(known, time.time())
            for line in last.passed_over:
                print(f"dyno report: {line}", file=sys.stderr)
            if last.run_id is not None:
                chosen = replace(chosen, runs=[last.run_id])
    if len(chosen.runs) > 1 and not pool:
        raise InputError("--store makes one set of several runs; add --pool if that is meant, or name one run")
    comparison = headline(store, chosen, margin, seed)
    _check_found(comparison, chosen, store)
    print_text(findings.heading(comparison))
    print_text(f"  store  {store.address}", "  ")
    for table in (
        tables.comparison_table(comparison),
        _without(tables.percentile_table(comparison), "inter-chunk"),
        detail_tables.failure_table(comparison),
        detail_tables.instrument_table(comparison),
    ):
        if table is not None:
            print(flush=True)
            print_table(table)
    print()
    if twice := clickhouse_store.stored_twice(store, chosen):
        sent = (
            f"- {count(twice, 'span is', 'spans are')} stored twice, so counted twice: the Collector sent them again."
        )
        print_text(sent, "  ")
    for name, made, requests in clickhouse_store.simulated_in_part(store, chosen):
        mixed = f"- {made:,} of {requests:,} requests of {name} are simulated, and in one column with the others."
        print_text(mixed, "  ")
    print_text(f"- {_LEFT_OUT}", "  ")
    return 1 if comparison.failed or comparison.without_answer else 0


def headline(store: Store, chosen: Selection, margin: float, seed: int) -> Comparison:
    """A comparison with figures, percentiles, outcomes and the instrument's figures; its other fields are empty."""
    figures = {row.endpoint: row for row in fetch(store, "comparison", row_types.EndpointRow, chosen)}
    order = chosen.endpoints
    endpoints = [name for name in order if name in figures] + [name for name in figures if name not in order]
    percentiles = fetch(store, "percentiles", row_types.PercentileRow, chosen)
    return Comparison(
        endpoints=tuple(endpoints),
        runs=tuple(chosen.runs),
        paired_by="prompt",
        records=(),
        margin=margin,
        seed=seed,
        figures=figures,
        percentiles={(row.endpoint, row.figure): row for row in percentiles},
        gaps={},
        failures=fetch(store, "failures", row_types.FailureRow, chosen),
        distributions={},
        instrument={row.endpoint: row for row in fetch(store, "instrument", row_types.InstrumentRow, chosen)},
        lengths={},
        paired=(),
        balances=(),
        interleaving=(),
        mirrors=(),
        fixed_per_token=(),
        crossings={},
        correlations={},
        answers=(),
        quality=(),
        prompt_texts=(),
        prompt_lengths=None,
        batches=(),
        origins={},
        verdicts=0,
    )


def _check_found(comparison: Comparison, chosen: Selection, store: Store) -> None:
    where = f"run {', '.join(chosen.runs)} of '{store.address}'" if chosen.runs else f"'{store.address}'"
    missing = [name for name in chosen.endpoints if name not in comparison.figures]
    if missing:
        there = f"; its endpoints: {', '.join(comparison.endpoints)}" if comparison.endpoints else ""
        raise InputError(f"no request of endpoint '{missing[0]}' in {where}{there}")
    if not comparison.endpoints:
        raise InputError(f"no chosen request in {where}; correct --since and --until, or look into its table")


def _without(table: Table, label: str) -> Table:
    """The table without the row of this label: an empty row would say that its figures aren't known."""
    return replace(table, rows=[row for row in table.rows if not row[0].startswith(label)])
