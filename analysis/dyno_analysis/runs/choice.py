"""Which stored runs a command is about: by their ids, by the beginning of an id, or the latest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from dyno_analysis.errors import InputError
from dyno_analysis.render.table import UNKNOWN, Table
from dyno_analysis.spans.folder import execute

from .folder import Known, Newest, check_known, known_runs, newest

LATEST: Final = "latest"
_MOST_NAMED: Final = 5


@dataclass(frozen=True)
class StoredRun:
    """A run as its spans tell it. `requests` are those that count: without warm-ups."""

    run_id: str
    started_at_s: float  # Unix time
    endpoints: Sequence[str]
    requests: int
    ok: int
    failed: int
    warmups: int
    simulated: bool
    imported: bool


def stored_runs(connection: duckdb.DuckDBPyConnection, spans: Path) -> list[StoredRun]:
    """Every run, the newest last; also those of which there is only a record. It reads the view `spans`."""
    found = execute(
        connection,
        "FROM spans SELECT run_id, epoch(min(started_at)), list_sort(list(DISTINCT endpoint)), "
        "count(*) FILTER (WHERE NOT warmup), count(*) FILTER (WHERE NOT warmup AND outcome = 'ok'), "
        "count(*) FILTER (WHERE NOT warmup AND outcome NOT IN ('ok', 'client_cancelled', 'rejected')), "
        "count(*) FILTER (WHERE warmup), coalesce(bool_or(simulated), false), count(imported_from) > 0 "
        "WHERE run_id IS NOT NULL GROUP BY run_id",
    ).fetchall()
    runs = {str(row[0]): StoredRun(str(row[0]), float(row[1]), row[2] or [], *row[3:]) for row in found}
    for run_id, known in known_runs(connection, spans).items():
        runs.setdefault(run_id, StoredRun(run_id, known.started_s, [], 0, 0, 0, 0, simulated=False, imported=False))
    return sorted(runs.values(), key=lambda run: (run.started_at_s, run.run_id))


def chosen_runs(asked: Sequence[str], runs: Sequence[StoredRun], spans: object, now_s: float) -> list[str]:
    """The ids that `asked` names, each once: an id, the beginning of just one id, or `latest`. `spans`: their folder.

    `now_s`: Unix time.

    Raises InputError for a name that no run has, or more than one.
    """
    found = []
    known = {run.run_id: Known(run.started_at_s, has_spans=bool(run.requests)) for run in runs}
    for name in asked:
        begun = [run_id for run_id in known if run_id.startswith(name)]
        if name in known:
            found.append(name)
        elif name == LATEST and (last := latest(runs, now_s).run_id) is not None:
            found.append(last)
        elif len(begun) == 1:
            found.append(begun[0])
        elif begun:
            some = ", ".join(begun[:_MOST_NAMED]) + (", …" if len(begun) > _MOST_NAMED else "")
            raise InputError(f"{len(begun)} runs in '{spans}' begin with '{name}' ({some}); write more of the id")
        else:
            check_known([name], known, spans)
    return list(dict.fromkeys(found))


def latest(runs: Sequence[StoredRun], now_s: float) -> Newest:
    """The newest run with a request that counts, which has begun by now (`now_s`: Unix time); else the newest run."""
    return newest({run.run_id: Known(run.started_at_s, has_spans=bool(run.requests)) for run in runs}, now_s)


def check_endpoints(asked: Sequence[str], known: Mapping[str, int], where: str) -> None:
    """Raise InputError for an endpoint that isn't known, and name those that are. `known`: name -> requests."""
    for name in asked:
        if name not in known:
            there = f"; its endpoints: {', '.join(known)}" if known else ""
            raise InputError(f"no request of endpoint '{name}' in {where}{there}")


def run_table(runs: Sequence[StoredRun]) -> Table:
    """All runs, the newest first."""
    rows = []
    for run in reversed(runs):
        kinds = [(run.simulated, "simulated"), (run.imported, "imported"), (not run.requests, "no results")]
        rows.append(
            [
                run.run_id,
                f"{datetime.fromtimestamp(run.started_at_s, UTC):%Y-%m-%d %H:%M}",
                ", ".join(run.endpoints) or UNKNOWN,
                str(run.requests),
                str(run.ok),
                str(run.failed),
                ", ".join(word for said, word in kinds if said),
            ]
        )
    columns = ["run", "started, UTC", "endpoints", "requests", "ok", "failed", ""]
    return Table("Runs", columns, "lllrrrl", rows)
