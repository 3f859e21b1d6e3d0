"""Reads from stored runs what the claims are decided by. Of several runs of a workload the newest one counts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np

from dyno_analysis.query.fetch import fetch, fetch_columns
from dyno_analysis.query.row_types import AnswerRow, LoadRow, RunWorkloadRow, ServerTimesRow
from dyno_analysis.report.comparison import PairedFigure
from dyno_analysis.report.costs import estimates
from dyno_analysis.report.load_curves import load_of, token_ratio
from dyno_analysis.report.pairing import paired_figures
from dyno_analysis.runs.folder import define_answers, read_run
from dyno_analysis.spans.counted import Source
from dyno_analysis.spans.folder import connect, execute
from dyno_analysis.spans.selection import Selection, select
from dyno_analysis.spans.sql_text import quoted, sql_text
from dyno_analysis.stats import squad
from dyno_analysis.stats.interval import Array, simultaneous
from dyno_analysis.stats.load_crossings import RatioAt
from dyno_analysis.stats.makespan import makespans
from dyno_analysis.stats.mean_difference import mean_difference, prompts_needed
from dyno_analysis.stats.paired import Prompts, paired_ratio
from dyno_analysis.stats.spread import Repeats, SpreadRatio, spread_ratio

from .evidence import (
    CONFIDENCE,
    SHORT,
    VERY_LONG,
    Answered,
    Batch,
    Evidence,
    LongContext,
    Price,
    Scores,
    SweepPoint,
    Variants,
)

WORKLOADS: Final = ("single", "sweep", "offline", "long-context", "steady", "raw")


@dataclass(frozen=True)
class Stored:
    """Where the runs are: the spans folder, its files, and the workloads of runs that may count, the newest first."""

    spans: Path
    files: Sequence[Source]
    runs: Sequence[RunWorkloadRow]

    def newest(self, workload: str, endpoints: Sequence[str]) -> RunWorkloadRow | None:
        """The newest run of the workload that asked all these endpoints; a run of several loads is a sweep."""
        for row in self.runs:
            of_it = row.workload == workload or (workload == "sweep" and row.concurrencies > 1)
            if of_it and set(endpoints) <= set(row.endpoints) and not self._shares_prefixes(row):
                return row
        return None

    @contextmanager
    def part(self, row: RunWorkloadRow, endpoints: Sequence[str]) -> Iterator[duckdb.DuckDBPyConnection]:
        """One workload's requests to these endpoints as the views `part` and `spans`, with answers and prompts."""
        with connect(self.spans, self.files) as connection:
            select(connection, Selection([row.run_id], endpoints), self.files)
            of_it = "workload IS NULL" if row.workload is None else f"workload = {quoted(row.workload)}"
            execute(connection, f"CREATE VIEW part AS FROM traffic WHERE {of_it}")
            _narrow(connection, "true")
            record = read_run(self.spans, row.run_id)
            define_answers(connection, [record] if record else [])
            yield connection

    def _shares_prefixes(self, row: RunWorkloadRow) -> bool:
        """Whether a long-context run's prompts share their beginning on purpose, so that caches answer."""
        if row.workload != "long-context":
            return False
        with self.part(row, row.endpoints) as connection:
            (shared,) = execute(connection, "FROM prompts SELECT bool_and(title = 'shared prefix')").fetchall()[0]
        return bool(shared)


def gather(
    stored: Stored, first: str, second: str, variants: tuple[str, str] | None, margin: float, points: float
) -> Evidence:
    """The evidence on two endpoints; `variants`: those with the long and the short context, if they are known."""
    both = (first, second)
    parts = {name: row for name in WORKLOADS if (row := stored.newest(name, both))}
    runs = {name: row.run_id for name, row in parts.items()}
    simulated = sorted({name for row in stored.runs for name in row.simulated if name in both})
    found = Evidence(first, second, margin, points, runs, simulated)
    for workload, read in _READERS.items():
        if workload in parts:
            with stored.part(parts[workload], both) as connection:
                found = read(connection, found)
    if parts:
        found = _with_costs(stored, found, parts.get("single") or next(iter(parts.values())))
    found = _with_scores(stored, found)
    named = variants or _offered_variants(stored)
    return replace(found, variants=named and _variants(stored, *named, margin))


def _single(connection: duckdb.DuckDBPyConnection, found: Evidence) -> Evidence:
    _narrow(connection, "load_rate_per_s IS NULL AND coalesce(load_concurrency, 1) = 1")
    paired = _paired(connection, found)
    times = fetch(connection, "server_times", ServerTimesRow)
    return replace(found, single=paired.get("latency_s"), single_ttft=paired.get("ttft_s"), server_times=times)


def _sweep(connection: duckdb.DuckDBPyConnection, found: Evidence) -> Evidence:
    rows = {(row.endpoint, row.load_concurrency): row for row in fetch(connection, "loads", LoadRow)}
    requests = fetch_columns(connection, sql_text("load_requests"))
    loads = sorted({n for _, n in rows if n is not None})
    confidence = simultaneous(len(loads), CONFIDENCE)
    points = []
    for n in loads:
        a, b = rows.get((found.first, n)), rows.get((found.second, n))
        ratio = None if a is None or b is None else _token_ratio(a, b, requests, confidence)
        points.append(
            SweepPoint(
                n,
                _answered(a),
                _answered(b),
                a.output_tokens_per_s if a else None,
                b.output_tokens_per_s if b else None,
                ratio,
            )
        )
    return replace(found, sweep=points)


def _token_ratio(a: LoadRow, b: LoadRow, requests: Mapping[str, Any], confidence: float) -> RatioAt | None:
    own = requests["load_concurrency"] == load_of(a).concurrency
    masks = (own & (requests["endpoint"] == a.endpoint), own & (requests["endpoint"] == b.endpoint))
    return token_ratio((a, b), requests, masks, confidence)


def _answered(row: LoadRow | None) -> Answered:
    return Answered(0, 0) if row is None else Answered(row.ok, row.requests)


def _offline(connection: duckdb.DuckDBPyConnection, found: Evidence) -> Evidence:
    columns = fetch_columns(connection, sql_text("batch_ends"))
    ok = columns["is_ok"].astype(bool)
    sides: list[list[Array]] = []
    answered, largest = [], []
    for name in (found.first, found.second):
        own = columns["endpoint"] == name
        batches = [own & (columns["batch"] == batch) for batch in np.unique(columns["batch"][own])]
        sides.append([columns["ends_s"][each & ok].astype(np.float64) for each in batches if (each & ok).any()])
        answered.append(Answered(int((own & ok).sum()), int(own.sum())))
        largest.append(max((int(each.sum()) for each in batches), default=0))
    held = makespans(sides[0], sides[1], CONFIDENCE) if sides[0] and sides[1] else None
    return replace(found, batch=Batch(answered[0], answered[1], min(largest), held))


def _long_context(connection: duckdb.DuckDBPyConnection, found: Evidence) -> Evidence:
    (longest,) = execute(
        connection, "FROM spans SELECT max(input_tokens) WHERE NOT warmup AND outcome = 'ok'"
    ).fetchall()[0]
    asked = _asked(connection)
    _of_lengths(connection, f">= {VERY_LONG}")
    paired = _paired(connection, found).get("latency_s")
    sides = (asked.get(name, Answered(0, 0)) for name in (found.first, found.second))
    return replace(found, long=LongContext(longest, paired, *sides))


def _steady(connection: duckdb.DuckDBPyConnection, found: Evidence) -> Evidence:
    columns = fetch_columns(connection, sql_text("repeats"))
    latency_s = columns["latency_s"].astype(np.float64)

    def compared(values: Array) -> SpreadRatio | None:
        sides = []
        for name in (found.first, found.second):
            own = columns["endpoint"] == name
            places = [columns[each][own].astype(np.intp) for each in ("prompt", "block")]
            sides.append(Repeats(values[own], *places))
        return spread_ratio(sides[0], sides[1], CONFIDENCE)

    return replace(found, steady=compared(latency_s), relative_steady=compared(np.log(np.maximum(latency_s, 1e-6))))


def _raw(connection: duckdb.DuckDBPyConnection, found: Evidence) -> Evidence:
    return replace(found, other=_paired(connection, found).get("latency_s"))


_READERS: Final = {
    "single": _single,
    "sweep": _sweep,
    "offline": _offline,
    "long-context": _long_context,
    "steady": _steady,
    "raw": _raw,
}


def _with_costs(stored: Stored, found: Evidence, part: RunWorkloadRow) -> Evidence:
    """By the tokens of this run; prices are those that it was told."""
    told = [_told(stored, part.run_id, name) for name in (found.first, found.second)]
    with stored.part(part, (found.first, found.second)) as connection:
        columns = fetch_columns(connection, sql_text("prompt_tokens"))
    return replace(found, money=_price(columns, found, told, 0), energy=_price(columns, found, told, 2))


def _price(columns: Mapping[str, Any], found: Evidence, told: Sequence[Mapping[str, Any]], place: int) -> Price | None:
    """Of money (`place` 0 in costs.estimates, the next one a token) or energy (2), over prompts that both answered."""
    sides: list[dict[str, tuple[float, float]]] = []
    for name, endpoint in zip((found.first, found.second), told, strict=True):
        own = columns["endpoint"] == name
        rows = zip(
            *(columns[each][own] for each in ("prompt", "input_tokens", "output_tokens", "latency_s")), strict=True
        )
        price = endpoint.get("price")
        side: dict[str, tuple[float, float]] = {}
        for prompt, into, out, latency_s in rows:
            power = endpoint.get("power_w")
            made = estimates(price if isinstance(price, dict) else {}, power, float(into), float(out), float(latency_s))
            an_answer, a_token = made[place], made[place + 1]
            if an_answer is not None and a_token is not None and a_token > 0:
                side[str(prompt)] = (an_answer, a_token)
        sides.append(side)
    common = sorted(set(sides[0]) & set(sides[1]))
    if not common:
        return None
    values = [np.asarray([side[prompt] for prompt in common]) for side in sides]
    tokens = [each[:, 1] for each in values]
    one, unknown = np.ones(len(common)), np.full(len(common), np.nan)
    prompts = Prompts(one, one, tokens[0], tokens[1], np.log(tokens[0]), np.log(tokens[1]), unknown)
    return Price(paired_ratio(prompts, CONFIDENCE), *(float(each[:, 0].mean()) for each in values))


def _told(stored: Stored, run_id: str, name: str) -> Mapping[str, Any]:
    record = read_run(stored.spans, run_id)
    told = record.endpoints.get(name) if record else None
    return told if isinstance(told, dict) else {}


def _with_scores(stored: Stored, found: Evidence) -> Evidence:
    """Of the run with the most prompts that have references and answers of both."""
    best: Scores | None = None
    runs = dict(found.runs)
    for row in stored.runs:
        if not {found.first, found.second} <= set(row.endpoints) or not _has_answers(stored, row.run_id):
            continue
        with stored.part(row, (found.first, found.second)) as connection:
            scores = _scores(fetch(connection, "answers", AnswerRow), found)
        if scores is not None and (best is None or scores.prompts > best.prompts):
            best, runs["quality"] = scores, row.run_id
    return replace(found, scores=best, runs=runs)


def _has_answers(stored: Stored, run_id: str) -> bool:
    return (stored.spans / "runs" / run_id / "answers.parquet").is_file()


def _scores(answers: Sequence[AnswerRow], found: Evidence) -> Scores | None:
    sides: list[dict[str, list[tuple[float, float]]]] = [{}, {}]
    for answer in answers:
        if answer.reference_answers and answer.endpoint in (found.first, found.second):
            side = sides[0 if answer.endpoint == found.first else 1]
            scored = (
                squad.exact_match(answer.answer, answer.reference_answers),
                squad.f1(answer.answer, answer.reference_answers),
            )
            side.setdefault(answer.prompt or answer.prompt_id, []).append(scored)
    common = sorted(set(sides[0]) & set(sides[1]))
    if not common:
        return None
    first, second = (np.asarray([np.mean(side[prompt], axis=0) for prompt in common]) for side in sides)
    off = first - second
    needed = [prompts_needed(off[:, place], found.points, CONFIDENCE) for place in (0, 1)]
    known = [n for n in needed if n is not None]
    (em_first, f1_first), (em_second, f1_second) = first.mean(axis=0), second.mean(axis=0)
    return Scores(
        len(common),
        (float(em_first), float(em_second)),
        (float(f1_first), float(f1_second)),
        mean_difference(off[:, 0], simultaneous(2, CONFIDENCE)),
        mean_difference(off[:, 1], simultaneous(2, CONFIDENCE)),
        max(known) if len(known) == len(needed) else None,
    )


def _offered_variants(stored: Stored) -> tuple[str, str] | None:
    """Two endpoints of one run whose models differ by the length of the context in their names alone."""
    for row in stored.runs:
        models = {name: str(_told(stored, row.run_id, name).get("model") or "") for name in row.endpoints}
        for long, model in models.items():
            for suffix in ("-131072", "-131k", "-128k"):
                short = [name for name, own in models.items() if own and own + suffix == model]
                if short:
                    return long, short[0]
    return None


def _variants(stored: Stored, long: str, short: str, margin: float) -> Variants:
    part = next((row for row in stored.runs if {long, short} <= set(row.endpoints)), None)
    if part is None:
        return Variants(long, short, None)
    with stored.part(part, (long, short)) as connection:
        _of_lengths(connection, f"<= {SHORT}")
        figures, _ = paired_figures(connection, (long, short), margin, "prompt", confidence=CONFIDENCE)
    return Variants(long, short, next((each for each in figures if each.figure == "latency_s"), None))


def _paired(connection: duckdb.DuckDBPyConnection, found: Evidence) -> dict[str, PairedFigure]:
    both = (found.first, found.second)
    figures, _ = paired_figures(connection, both, found.margin, "prompt", confidence=CONFIDENCE)
    return {each.figure: each for each in figures}


def _asked(connection: duckdb.DuckDBPyConnection) -> dict[str, Answered]:
    rows = execute(
        connection,
        "FROM spans SELECT endpoint, count(*) FILTER (WHERE outcome = 'ok'), count(*) "
        "WHERE NOT warmup AND outcome NOT IN ('client_cancelled', 'rejected') GROUP BY endpoint",
    ).fetchall()
    return {str(name): Answered(int(ok), int(n)) for name, ok, n in rows}


def _of_lengths(connection: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Keep the prompts whose input tokens, the mean over all answers to them, fulfil the condition."""
    _narrow(
        connection,
        "prompt_id IN (FROM part SELECT prompt_id WHERE outcome = 'ok' "
        f"GROUP BY prompt_id HAVING avg(input_tokens) {condition})",
    )


def _narrow(connection: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Redefine `spans` as the requests of `part` that fulfil the condition."""
    execute(connection, f"CREATE OR REPLACE VIEW spans AS FROM part WHERE {condition}")
