"""What each endpoint made of requests that were all submitted at once: makespan, throughput, stragglers. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from dyno_analysis.render.table import Table, percent, rate, seconds

from .comparison import BatchFigures, Comparison
from .titles import titled

_LATE: Final = 0.95


def batch_figures(columns: Mapping[str, Any], endpoints: Sequence[str]) -> list[BatchFigures]:
    """Of the rows of batch_ends.sql: batch by batch, in the order of the endpoints."""
    found = []
    for name in endpoints:
        own = columns["endpoint"] == name
        for batch in np.unique(columns["batch"][own]):
            inside = own & (columns["batch"] == batch)
            ok = inside & columns["is_ok"].astype(bool)
            if not ok.any():
                continue
            ends_s = np.sort(columns["ends_s"][ok].astype(np.float64))
            tokens = float(columns["output_tokens"][ok].astype(np.float64).sum())
            half_s, late_s = (float(each) for each in np.quantile(ends_s, [0.5, _LATE], method="inverted_cdf"))
            found.append(
                BatchFigures(
                    name,
                    int(inside.sum()),
                    int(ok.sum()),
                    float(columns["ends_s"][inside].max()),
                    half_s,
                    late_s,
                    float(ends_s[-1]),
                    None if np.isnan(tokens) else tokens,
                )
            )
    return found


def batch_table(comparison: Comparison) -> Table | None:
    """A row a batch; None if no requests of the workload `offline` are among the selected ones."""
    rows = [
        [
            each.endpoint,
            f"{each.ok:,} of {each.requests:,}",
            seconds(each.makespan_s),
            rate(None if each.output_tokens is None else each.output_tokens / each.makespan_s),
            rate(each.ok / each.makespan_s),
            seconds(each.half_s),
            seconds(each.late_s),
            percent((each.last_s - each.late_s) / each.makespan_s),
        ]
        for each in comparison.batches
    ]
    if not rows:
        return None
    notes = [
        "All requests at once. Makespan: until the last request had ended.",
        "Stragglers: the share of the makespan in which the last 5 % of the ok answers ended.",
    ]
    columns = ["", "ok", "makespan, s", "tok/s", "req/s", "half done, s", "95 % done, s", "stragglers"]
    return Table(titled("All at once", comparison), columns, "lrrrrrrr", rows, notes, "all-at-once")
