"""Counts what a worker had open when it was killed: in the figures that workers share, and in the span files."""

import logging
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from dyno_proxy.file_modes import Access
from dyno_proxy.metrics.multiprocess import Shared
from dyno_proxy.metrics.settle import Settled, Totals, settle

_LOG: Final = logging.getLogger("dyno.proxy")


class Dead(NamedTuple):
    """A worker that has ended."""

    name: str  # for the log
    pid: int
    code: int  # how it ended
    spans: Path
    access: Access  # who may read new files there
    shared: Shared  # its slot, in which no process lives
    before: Totals  # the slot's figures when it began


def count_killed(dead: Dead) -> bool:
    """Each request that the dead process had open gets the outcome `lost` and a row. Returns whether anything was lost.

    What a worker that ended in order has open is nothing.
    """
    # Imported here, since the parent of workers that live needs none of it: 20 MB.
    from dyno_proxy.telemetry.journal import JournalExporter
    from dyno_proxy.telemetry.left_behind import take_of

    left = take_of(dead.spans, dead.pid)
    if left is None:
        lost = settle(dead.shared, dead.before, None) if dead.code < 0 else 0
        if lost:
            _LOG.error(
                "%s: requests that it had open, which are counted as 'lost' and have no row: %d", dead.name, lost
            )
        return bool(lost)
    counts: Counter[str] = Counter()
    if left.lost:
        journal = JournalExporter(
            dead.spans,
            access=dead.access,
            written=lambda count: counts.update(written=count),
            dropped=lambda _reason, count: counts.update(dropped=count),
        )
        lines = [journal.line(record, journal.next_seq()) for record in left.lost]
        journal.write(b"".join(stored := [line for line in lines if line is not None]), 1, len(stored))
        journal.shutdown()
    open_ones = [(record.endpoint or "", record.operation or "") for record in left.lost]
    without_row = left.unwritten + counts["dropped"]
    settle(dead.shared, dead.before, Settled(left.started, left.ended, open_ones, counts["written"], without_row))
    if left.lost or left.unwritten:
        _LOG.error("%s", left.in_words(dead.name))
    return bool(left.lost or left.unwritten)
