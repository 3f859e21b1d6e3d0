"""Whether the driver itself was what limited a load. Pure: it takes what was measured of the driver.

A load at a rate is *invalid for rate* where more than 1 % of its requests (and at least two) left later than
`largest_lag_s`, where the event loop was held up as often for longer than LOOP_LAG_S, or where the process took
more than CPU_SHARE of a core. Then the figures say what the driver could do, not what an endpoint can.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from .schedule import Load

SEND_LAG_S: Final = 0.010
LAG_OF_INTERVAL: Final = 0.01  # of the mean time between two requests
LOOP_LAG_S: Final = 0.050
CPU_SHARE: Final = 0.90
LATE_SHARE: Final = 0.01
_SHORT_S: Final = 1.0  # in less time a busy core means nothing


class Measured(NamedTuple):
    """What was seen of the driver under one load."""

    load: Load
    send_lags_s: Sequence[float]  # of the requests that count; empty in a closed loop
    loop_lags_s: Sequence[float]  # how much later than asked the event loop came back, some ten times a second
    cpu_s: float  # of the process
    wall_s: float


def largest_lag_s(rate_per_s: float) -> float:
    """The lag that a request may have: 10 ms, or 1 % of the mean time between two where that is more."""
    return max(SEND_LAG_S, LAG_OF_INTERVAL / rate_per_s)


def why_invalid(measured: Measured) -> str | None:
    """Why the load is invalid for rate, as a sentence's part. None: it is valid, or it has no rate."""
    rate_per_s = measured.load.rate_per_s
    if rate_per_s is None:
        return None
    reasons = []
    bound_s = largest_lag_s(rate_per_s)
    if late := _late(measured.send_lags_s, bound_s):
        share = 100 * late / len(measured.send_lags_s)
        reasons.append(f"{share:.3g} % of the requests left over {bound_s * 1e3:g} ms late")
    if late := _late(measured.loop_lags_s, LOOP_LAG_S):
        share = 100 * late / len(measured.loop_lags_s)
        reasons.append(
            f"the driver's event loop was held up for over {LOOP_LAG_S * 1e3:g} ms {share:.3g} % of the time"
        )
    if measured.wall_s >= _SHORT_S and measured.cpu_s > CPU_SHARE * measured.wall_s:
        reasons.append(f"the driver took {100 * measured.cpu_s / measured.wall_s:.0f} % of a core")
    return f"{measured.load.in_words()}: {', '.join(reasons)}" if reasons else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank; None without values."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)] if values else None


def _late(values: Sequence[float], bound: float) -> int:
    """How many are above the bound, if these are too many."""
    late = sum(value > bound for value in values)
    return late if late >= 2 and late > LATE_SHARE * len(values) else 0
