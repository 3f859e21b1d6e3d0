"""Keeps apart what one endpoint's name may mean: several runs, and simulated beside real requests.

Each is a column of its own in the tables, and bears a name that says what it is.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import duckdb

from dyno_analysis.spans.folder import execute

from .comparison import Origin

# The endpoint itself has answered. Other requests don't say whether their endpoint was simulated.
_ANSWERED: Final = "(outcome = 'ok' OR ttfb_s IS NOT NULL)"


def one_column_each(connection: duckdb.DuckDBPyConnection, by_run: bool) -> Mapping[str, Origin]:
    """Redefine `spans` so that `endpoint` is a column's name; returns the names that aren't an endpoint's own.

    With `by_run` an endpoint that was asked in several runs has a column for each of them. An endpoint with simulated
    and other requests has two columns in any case. `chosen_spans` has the rows as they were.
    """
    rows = execute(
        connection,
        "FROM spans SELECT endpoint, run_id, bool_or(coalesce(simulated, false)), "
        f"bool_or(simulated IS NOT TRUE AND {_ANSWERED}) WHERE endpoint IS NOT NULL GROUP BY ALL ORDER BY ALL",
    ).fetchall()
    runs: dict[str, set[str | None]] = {}
    kinds: dict[str, set[str]] = {}
    for endpoint, run_id, simulated, real in rows:
        runs.setdefault(endpoint, set()).add(run_id)
        found = kinds.setdefault(endpoint, set())
        found |= {"simulated"} if simulated else set()
        found |= {"real"} if real else set()
    mixed = sorted(name for name, found in kinds.items() if len(found) > 1)
    several = sorted(name for name, found in runs.items() if by_run and len(found) > 1)
    if not mixed and not several:
        return {}
    _rename(connection, mixed, several, short_names(sorted({run for found in runs.values() for run in found if run})))
    named = execute(
        connection,
        "FROM spans SELECT DISTINCT endpoint, own_endpoint, run_id WHERE endpoint <> own_endpoint ORDER BY ALL",
    ).fetchall()
    return {name: Origin(own, run_id if own in several else None) for name, own, run_id in named}


def rename_answers(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the view `answers` the names of `one_column_each`, for the requests that `spans` has."""
    connection.execute("ALTER VIEW answers RENAME TO named_answers")
    connection.execute(
        "CREATE VIEW answers AS FROM named_answers AS a "
        "INNER JOIN spans AS s ON a.run_id = s.run_id AND a.trace_id = s.trace_id AND a.endpoint = s.own_endpoint "
        "SELECT a.* REPLACE (s.endpoint AS endpoint)"
    )


def short_names(runs: Sequence[str]) -> Mapping[str, str]:
    """What each run is called in a column's name: the last part of its id, if that tells the runs apart."""
    parts = [run_id.rpartition("_")[2] for run_id in runs]
    return dict(zip(runs, parts if all(parts) and len(set(parts)) == len(runs) else runs, strict=True))


def _rename(
    connection: duckdb.DuckDBPyConnection, mixed: list[str], several: list[str], names: Mapping[str, str]
) -> None:
    # Where a request itself doesn't say whether its endpoint was simulated, its run's other requests do.
    connection.execute("CREATE TEMP TABLE mixed AS SELECT unnest(?::VARCHAR[]) AS endpoint", [mixed])
    connection.execute("CREATE TEMP TABLE several AS SELECT unnest(?::VARCHAR[]) AS endpoint", [several])
    connection.execute(
        "CREATE TEMP TABLE run_names AS SELECT unnest(?::VARCHAR[]) AS run_id, unnest(?::VARCHAR[]) AS short",
        [list(names), list(names.values())],
    )
    connection.execute("ALTER VIEW spans RENAME TO chosen_spans")
    execute(
        connection,
        f"""
        CREATE VIEW spans AS
        WITH simulators AS (
            FROM chosen_spans SELECT DISTINCT run_id, endpoint WHERE simulated AND run_id IS NOT NULL
        )
        FROM chosen_spans AS c
        LEFT JOIN simulators ON c.run_id = simulators.run_id AND c.endpoint = simulators.endpoint
        LEFT JOIN run_names ON c.run_id = run_names.run_id
        SELECT
            c.* REPLACE (
                c.endpoint
                || CASE
                    WHEN c.endpoint IN (FROM several) THEN ' (' || coalesce(run_names.short, 'no run') || ')'
                    ELSE '' END
                || CASE
                    WHEN c.endpoint IN (FROM mixed)
                        AND (coalesce(c.simulated, false) OR (NOT {_ANSWERED} AND simulators.endpoint IS NOT NULL))
                    THEN ' (simulated)' ELSE '' END
                AS endpoint
            ),
            c.endpoint AS own_endpoint
        """,  # noqa: S608 - our own condition
    )
