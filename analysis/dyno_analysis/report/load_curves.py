"""What several loads say together: the knee of throughput, where two endpoints' order changes, highest loads. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dyno_analysis.query.row_types import LoadRow
from dyno_analysis.spans.offered_load import OfferedLoad
from dyno_analysis.stats.highest_load import HighestLoad, Limit, highest_load
from dyno_analysis.stats.interval import Array, simultaneous
from dyno_analysis.stats.knee import Knee, knee
from dyno_analysis.stats.load_crossings import LoadCrossing, RatioAt, load_crossings
from dyno_analysis.stats.throughput import log_error, ratio_interval

from .by_load import UnderLoad
from .slo import Objective

TOKENS: Final = "output_tokens_per_s"


@dataclass(frozen=True)
class Reach:
    """The loads of one kind that an endpoint, or two, were measured under."""

    loads: Sequence[OfferedLoad]

    @property
    def ends(self) -> tuple[str, str]:
        return self.loads[0].in_words(), self.loads[-1].in_words()

    @property
    def open_loop(self) -> bool:
        return self.loads[0].rate_per_s is not None


@dataclass(frozen=True)
class Saturation:
    """An endpoint's knee of throughput over a closed loop's loads; None: none is told."""

    endpoint: str
    reach: Reach
    knee: Knee | None


@dataclass(frozen=True)
class Crossings:
    """Every load at which the order of two endpoints changes, by one figure. Empty: none is told."""

    figure: str  # TOKENS, latency_s or ttft_s
    first: str
    second: str
    reach: Reach
    found: Sequence[LoadCrossing]


@dataclass(frozen=True)
class Capacity:
    """The highest load of one kind under which an endpoint keeps all objectives."""

    endpoint: str
    reach: Reach
    highest: HighestLoad


@dataclass(frozen=True)
class Goodput:
    """How many of an endpoint's requests under one load kept every limit, also a second. A failed one kept none."""

    endpoint: str
    load: OfferedLoad
    kept: int
    requests: int
    per_s: float


@dataclass(frozen=True)
class FromDue:
    """An endpoint's ok requests under an open loop, timed from when each was due; percentiles in seconds."""

    endpoint: str
    load: OfferedLoad
    figure: str  # latency_s or ttft_s
    n: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class LoadCurves:
    """What all loads together say. The last two are empty without objectives."""

    rows: Sequence[LoadRow]
    objectives: Sequence[Objective]
    saturations: Sequence[Saturation]
    crossings: Sequence[Crossings]
    capacities: Sequence[Capacity]
    goodputs: Sequence[Goodput]
    from_due: Sequence[FromDue]  # empty where no client said when its requests were due


def load_curves(
    rows: Sequence[LoadRow],
    requests: Mapping[str, Any],
    found: Sequence[UnderLoad],
    objectives: Sequence[Objective],
    seed: int,
) -> LoadCurves:
    """Everything of the rows of loads.sql, of those of load_requests.sql, and of each load's comparison."""
    reaches = [
        Reach(loads)
        for kind in (False, True)
        if (loads := sorted({load_of(row) for row in rows if (row.load_rate_per_s is not None) == kind}, key=_size))
    ]
    points = {(row.endpoint, load_of(row)): row for row in rows}
    asked = {key: _mask(requests, *key) for key in points}
    stored = sorted({row.endpoint for row in rows})
    # Of several runs each comparison's columns have names of their own, and the rows are of all runs together.
    names = [name for each in found[:1] for name in each.comparison.endpoints if name in stored] or stored
    closed = [reach for reach in reaches if not reach.open_loop]
    return LoadCurves(
        rows=rows,
        objectives=objectives,
        saturations=[
            Saturation(name, own, _knee(own, name, points, requests, asked, seed))
            for reach in closed
            for name in names
            if len((own := _own(reach, name, points)).loads) > 1
        ],
        crossings=[
            *_token_crossings(closed, names, points, requests, asked),
            *_time_crossings(reaches, found),
        ],
        capacities=[
            Capacity(name, own, _highest(own, name, requests, asked, objectives))
            for reach in reaches
            for name in names
            if objectives and (own := _own(reach, name, points)).loads
        ],
        goodputs=[
            _goodput(name, load, points[name, load], requests, asked[name, load], objectives)
            for reach in reaches
            for load in reach.loads
            for name in names
            if objectives and (name, load) in points
        ],
        from_due=[row for (name, load), mask in asked.items() for row in _from_due(name, load, requests, mask)],
    )


def load_of(row: LoadRow) -> OfferedLoad:
    """The load of a row."""
    return OfferedLoad(row.load_concurrency, row.load_rate_per_s)


def token_ratio(
    pair: tuple[LoadRow, LoadRow], requests: Mapping[str, Any], masks: tuple[Array, Array], confidence: float
) -> RatioAt | None:
    """The ratio of two endpoints' throughputs in output tokens under one load; None if one of them made none."""
    first, second = (row.output_tokens_per_s for row in pair)
    if not first or not second:
        return None
    load = float(load_of(pair[0]).concurrency or 0)
    prompts = np.unique(np.concatenate([requests["prompt"][mask] for mask in masks]))
    sides = [_sums(requests, mask, prompts) for mask in masks]
    ratio = first / second
    return RatioAt(load, ratio, ratio_interval(ratio, sides[0], sides[1], confidence))


def _size(load: OfferedLoad) -> float:
    return float(load.rate_per_s or load.concurrency or 0)


def _mask(requests: Mapping[str, Any], endpoint: str, load: OfferedLoad) -> Array:
    column = "load_concurrency" if load.rate_per_s is None else "load_rate_per_s"
    found: Array = (requests["endpoint"] == endpoint) & (requests[column] == _size(load))
    return found


def _own(reach: Reach, name: str, points: Mapping[tuple[str, OfferedLoad], LoadRow]) -> Reach:
    return Reach([load for load in reach.loads if (name, load) in points])


def _sums(requests: Mapping[str, Any], mask: Array, prompts: Array) -> tuple[Array, Array]:
    """Each prompt's output tokens and seconds. A failed request took its time and made nothing."""
    places = np.searchsorted(prompts, requests["prompt"][mask])
    tokens = np.nan_to_num(requests["output_tokens"][mask].astype(np.float64))
    busy_s = requests["latency_s"][mask].astype(np.float64)
    n = len(prompts)
    sums = (np.bincount(places, weights, n).astype(np.float64) for weights in (tokens, busy_s))
    return next(sums), next(sums)


def _knee(
    reach: Reach,
    name: str,
    points: Mapping[tuple[str, OfferedLoad], LoadRow],
    requests: Mapping[str, Any],
    asked: Mapping[tuple[str, OfferedLoad], Array],
    seed: int,
) -> Knee | None:
    loads, throughputs, errors = [], [], []
    for load in reach.loads:
        made = points[name, load].output_tokens_per_s
        if not made:
            continue
        mask = asked[name, load]
        error = log_error(*_sums(requests, mask, np.unique(requests["prompt"][mask])))
        if np.isfinite(error):
            loads.append(_size(load))
            throughputs.append(made)
            errors.append(error)
    return knee(np.asarray(loads), np.asarray(throughputs), np.asarray(errors), seed)


def _token_crossings(
    closed: Sequence[Reach],
    names: Sequence[str],
    points: Mapping[tuple[str, OfferedLoad], LoadRow],
    requests: Mapping[str, Any],
    asked: Mapping[tuple[str, OfferedLoad], Array],
) -> list[Crossings]:
    found = []
    for reach in closed:
        for second in names[1:]:
            both = [load for load in reach.loads if (names[0], load) in points and (second, load) in points]
            confidence = simultaneous(len(both) * (len(names) - 1))
            ratios = [
                token_ratio(
                    (points[names[0], load], points[second, load]),
                    requests,
                    (asked[names[0], load], asked[second, load]),
                    confidence,
                )
                for load in both
            ]
            if len(both) > 1:
                told = load_crossings([each for each in ratios if each is not None])
                found.append(Crossings(TOKENS, names[0], second, Reach(both), told))
    return found


def _time_crossings(reaches: Sequence[Reach], found: Sequence[UnderLoad]) -> list[Crossings]:
    """By the ratios of the typical request, whose intervals hold together over all loads."""
    made = []
    for reach in reaches:
        own = sorted((each for each in found if each.load in reach.loads), key=lambda each: _size(each.load))
        for second in own[0].comparison.endpoints[1:] if own else ():
            for figure in ("latency_s", "ttft_s"):
                paired = [(each.load, pair) for each in own if (pair := each.comparison.verdict_of(second, figure))]
                if len(paired) > 1:
                    ratios = [
                        RatioAt(_size(load), pair.ratio.typical_ratio, pair.ratio.typical_interval)
                        for load, pair in paired
                    ]
                    over = Reach([load for load, _ in paired])
                    first = own[0].comparison.endpoints[0]
                    made.append(Crossings(figure, first, second, over, load_crossings(ratios)))
    return made


def _highest(
    reach: Reach,
    name: str,
    requests: Mapping[str, Any],
    asked: Mapping[tuple[str, OfferedLoad], Array],
    objectives: Sequence[Objective],
) -> HighestLoad:
    limits = [
        Limit(
            each.share,
            [int(_kept(requests, asked[name, load], [each]).sum()) for load in reach.loads],
            [int(asked[name, load].sum()) for load in reach.loads],
        )
        for each in objectives
    ]
    return highest_load([_size(load) for load in reach.loads], limits)


def _goodput(
    name: str,
    load: OfferedLoad,
    row: LoadRow,
    requests: Mapping[str, Any],
    mask: Array,
    objectives: Sequence[Objective],
) -> Goodput:
    kept = int(_kept(requests, mask, objectives).sum())
    return Goodput(name, load, kept, int(mask.sum()), kept / row.window_s)


def _from_due(name: str, load: OfferedLoad, requests: Mapping[str, Any], mask: Array) -> list[FromDue]:
    own = mask & requests["is_ok"].astype(bool) & requests["from_due"].astype(bool)
    found = []
    for figure in ("latency_s", "ttft_s"):
        values = requests[figure][own].astype(np.float64)
        values = values[~np.isnan(values)]
        if len(values):
            p50, p95, p99 = (float(each) for each in np.quantile(values, [0.5, 0.95, 0.99]))
            found.append(FromDue(name, load, figure, len(values), p50, p95, p99))
    return found


def _kept(requests: Mapping[str, Any], mask: Array, objectives: Sequence[Objective]) -> Array:
    """Which of the requests kept all limits. One that failed, or of which a figure isn't known, did not."""
    kept: Array = requests["is_ok"][mask].astype(bool)
    for each in objectives:
        if each.figure is None:
            continue
        with np.errstate(invalid="ignore"):
            kept = kept & (requests[each.figure][mask].astype(np.float64) <= each.at_most_s)
    return kept
