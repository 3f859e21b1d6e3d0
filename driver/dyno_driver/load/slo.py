"""What an endpoint must do under a load, such as `ttft_p95=2s`: its grammar, and whether answers show it. Pure."""

import math
from collections.abc import Sequence
from functools import partial
from statistics import fmean, variance
from typing import Final, NamedTuple

from .course import Result
from .distributions import share_bounds, t_quantile

_TIMES: Final = ("ttft", "tpot", "latency", "itl")
_QUANTILES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
KNOWN: Final = (*(f"{name}_{of}" for name in _TIMES for of in (*_QUANTILES, "mean")), "error_rate", "success")
_UNITS_S: Final = {"ms": 1e-3, "s": 1.0}

_BATCHES: Final = (20, 10, 5)  # of a series, whose means tell how far answers resemble their neighbours
_FEWEST: Final = 10  # answers in a series that is cut into batches


class Slo(NamedTuple):
    """`figure` must be at most `limit_s`, save for a share of `misses` of the requests; None for `misses`: on the mean.

    A request that failed is a miss. `figure` 'failed': only that counts.
    """

    name: str  # as the user wrote it
    figure: str
    limit_s: float
    misses: float | None

    @property
    def target(self) -> float:
        """What may not be exceeded: a share of misses, or a mean in s."""
        return self.limit_s if self.misses is None else self.misses


class Standing(NamedTuple):
    """What the answers say of an Slo: the share of misses (or the mean), between bounds that hold nearly surely."""

    value: float
    low: float
    high: float
    weight: float  # so many independent answers are these worth


def read_slos(text: str) -> tuple[Slo, ...]:
    """Several are separated by commas. ValueError, with a message for the user, for anything else."""
    return tuple(_read(part.strip()) for part in text.split(","))


def _read(text: str) -> Slo:
    name, equals, bound = text.partition("=")
    if name not in KNOWN:
        raise ValueError(f"unknown figure '{name}'; there are {', '.join(KNOWN)}")
    number_text = bound.rstrip("ms%")
    unit = bound[len(number_text) :]
    units = ("%",) if name in ("error_rate", "success") else tuple(_UNITS_S)
    try:
        number = float(number_text) if equals and unit in units else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number <= 0 or (unit == "%" and number >= 100):
        example = "1%" if name == "error_rate" else "99%" if name == "success" else "2s or 50ms"
        raise ValueError(f"'{text}' must be {name}= and a number above 0 with its unit, such as {name}={example}")
    if unit == "%":
        return Slo(text, "failed", 0.0, number / 100 if name == "error_rate" else 1 - number / 100)
    figure, _, of = name.partition("_")
    return Slo(text, figure, number * _UNITS_S[unit], None if of == "mean" else 1 - _QUANTILES[of])


def needs_streams(slos: Sequence[Slo]) -> bool:
    """Whether a figure is asked for that only streamed answers have."""
    return any(slo.figure in ("ttft", "tpot", "itl") for slo in slos)


def standing(slo: Slo, results: Sequence[Result], error: float) -> Standing | None:
    """Where the answers stand, in the order in which they ended; each bound errs with probability `error`.

    None if no answer says anything.
    """
    if slo.misses is None:
        return _of_mean([value for each in results if each.ok and (value := _value(slo, each)) is not None], error)
    known = [(miss, _value(slo, each)) for each in results if (miss := _missed(slo, each)) is not None]
    if not known:
        return None
    missed = [miss for miss, _ in known]
    # Answers that came together resemble each other: so many independent ones are they worth. Where hardly any missed,
    # only the times tell how much.
    own = _inflation(missed)
    worth = len(missed) / own
    times_s = [value for _, value in known if value is not None]
    careful = worth if _far_within(slo, times_s) else len(missed) / max(own, _inflation(times_s))
    share = fmean(missed)
    return Standing(
        share, share_bounds(share * worth, worth, error)[0], share_bounds(share * careful, careful, error)[1], worth
    )


def answers_needed(slo: Slo, error: float) -> int:
    """So many answers without a miss show that it is met."""
    return 60 if slo.misses is None else math.ceil(math.log(error) / math.log1p(-slo.misses))


def _value(slo: Slo, result: Result) -> float | None:
    return {"ttft": result.ttft_s, "tpot": result.tpot_s, "latency": result.latency_s, "itl": result.itl_s}.get(
        slo.figure
    )


def _missed(slo: Slo, result: Result) -> float | None:
    if not result.ok:
        return 1.0
    if slo.figure == "failed":
        return 0.0
    value = _value(slo, result)
    return None if value is None else float(value > slo.limit_s)


def _far_within(slo: Slo, times_s: Sequence[float]) -> bool:
    """Whether the limit lies so far above the times that their order can't matter: by Cantelli's inequality no
    distribution with their mean and spread exceeds it in more than the share that may; half as far again, to be sure.
    """
    if len(times_s) < _FEWEST or slo.misses is None:
        return False
    far = 1.5 * math.sqrt((1 / slo.misses - 1) * variance(times_s))
    return fmean(times_s) + far < slo.limit_s


def _inflation(values: Sequence[float]) -> float:
    """By how much the variance of the values' mean is larger than it would be of independent values, at least 1.

    By means of 20, 10 and 5 batches; the largest counts, since a batch has to be longer than a queue's memory.
    """
    if len(values) < _FEWEST or (spread := variance(values)) == 0:
        return 1.0
    return max(1.0, *(size * variance(means) / spread for means, size in map(partial(_batch_means, values), _BATCHES)))


def _batch_means(values: Sequence[float], batches: int) -> tuple[list[float], int]:
    size = max(len(values) // batches, 1)
    return [fmean(values[begin : begin + size]) for begin in range(0, len(values) - size + 1, size)], size


def _of_mean(values: Sequence[float], error: float) -> Standing | None:
    if not values:
        return None
    if len(values) < _FEWEST:
        return Standing(fmean(values), -math.inf, math.inf, len(values))
    means, _ = _batch_means(values, _BATCHES[1])
    off = t_quantile(1 - error, len(means) - 1) * math.sqrt(variance(means) / len(means))
    return Standing(fmean(values), fmean(values) - off, fmean(values) + off, len(values))
