"""Balances the figures of a worker that was killed: requests started = the sum of outcomes, also after that.

A worker publishes its figures ten times a second. What it counted after that, and what it had open, is added to its
slot's files once it is dead, before another worker goes on with them.
"""

from collections import Counter as Counts
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from .families import Families
from .multiprocess import Shared

_LOST = "lost"


class Totals(NamedTuple):
    """What a slot's processes have counted."""

    started: Counts[str]  # endpoint → requests
    ended: Counts[tuple[str, str]]  # (endpoint, outcome) → requests


def published(shared: Shared) -> Totals:
    """What the slot's processes have published so far."""
    totals = Totals(Counts(), Counts())
    files = [str(path) for path in shared.folder.glob(f"counter_{shared.slot}.db")]
    for family in MultiProcessCollector.merge(files, accumulate=True):  # type: ignore[no-untyped-call]
        for sample in family.samples:
            if sample.name == "dyno_requests_started_total":
                totals.started[sample.labels["endpoint"]] += int(sample.value)
            elif sample.name == "dyno_requests_total":
                totals.ended[sample.labels["endpoint"], sample.labels["outcome"]] += int(sample.value)
    return totals


class Settled(NamedTuple):
    """What a dead process did, by its own notes."""

    started: Mapping[str, int]
    ended: Mapping[tuple[str, str], int]
    lost: Iterable[tuple[str, str]]  # (endpoint, operation) of each request that it had open
    rows: int  # so many of them have a row now
    unwritten: int  # ended requests that have none


def settle(shared: Shared, before: Totals, did: Settled | None) -> int:
    """Add what the slot's dead process hasn't published. `before`: the slot's figures when that process began.

    `did`: None if it left no notes. Then what it had published as running is lost. Returns how many were lost. The
    slot must have no living process.
    """
    now = published(shared)
    families = Families(CollectorRegistry(), shared)
    lost = Counts(did.lost) if did is not None else Counts[tuple[str, str]]()
    if did is None:
        for endpoint, started in now.started.items():
            running = started - sum(count for (name, _), count in now.ended.items() if name == endpoint)
            lost[endpoint, ""] += max(0, running)
            families.started.labels(endpoint).inc(max(0, -running))
    else:
        for endpoint, started in did.started.items():
            families.started.labels(endpoint).inc(max(0, before.started[endpoint] + started - now.started[endpoint]))
        for key, ended in did.ended.items():
            endpoint, outcome = key
            unpublished = max(0, before.ended[key] + ended - now.ended[key])
            if unpublished:
                families.requests.labels(endpoint, "", "", outcome).inc(unpublished)
        families.spans_written.inc(did.rows)
        if did.unwritten:
            families.spans_dropped.labels("killed").inc(did.unwritten)
    for (endpoint, operation), count in lost.items():
        if count:
            families.requests.labels(endpoint, "", operation, _LOST).inc(count)
    shared.forget_live()
    return lost.total()
