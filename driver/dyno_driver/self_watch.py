"""The driver watches itself while it sends: its event loop's lag, its CPU time, how late its requests leave."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Final

from .client import Answer
from .load.punctuality import Measured, percentile, why_invalid
from .load.schedule import Load
from .run_json import DriverJson

_EVERY_S: Final = 0.1


class SelfWatch:
    """What was seen, load by load. A load that has several phases is one."""

    def __init__(self) -> None:
        self._seen: dict[Load, Measured] = {}

    @contextlib.contextmanager
    def under(self, load: Load) -> Iterator[None]:
        """Watch while the block sends under this load."""
        lags_s: list[float] = []
        begun_s, begun_cpu_s = time.monotonic(), time.process_time()
        task = asyncio.ensure_future(_loop_lags(lags_s))
        try:
            yield
        finally:
            task.cancel()
            earlier = self._seen.get(load, Measured(load, (), (), 0.0, 0.0))
            self._seen[load] = earlier._replace(
                loop_lags_s=(*earlier.loop_lags_s, *lags_s),
                cpu_s=earlier.cpu_s + time.process_time() - begun_cpu_s,
                wall_s=earlier.wall_s + time.monotonic() - begun_s,
            )

    def found(self, answers: Sequence[Answer]) -> DriverJson:
        """The record of it, with the lags that the answers' requests had."""
        measured = [
            each._replace(
                send_lags_s=[
                    answer.due.lag_s
                    for answer in answers
                    if answer.due is not None and answer.turn.load == load and not answer.turn.warmup
                ]
            )
            for load, each in self._seen.items()
        ]
        send_lags_s = [lag_s for each in measured for lag_s in each.send_lags_s]
        shares = [each.cpu_s / each.wall_s for each in measured if each.wall_s > 0]
        return {
            "cpu_share": round(max(shares), 4) if shares else None,
            "loop_lag_p99_s": _rounded(percentile([lag_s for each in measured for lag_s in each.loop_lags_s], 0.99)),
            "send_lag_p50_s": _rounded(percentile(send_lags_s, 0.5)),
            "send_lag_p99_s": _rounded(percentile(send_lags_s, 0.99)),
            "invalid_for_rate": [why for each in measured if (why := why_invalid(each)) is not None],
        }


async def _loop_lags(lags_s: list[float]) -> None:
    while True:
        due_s = time.monotonic() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        lags_s.append(max(0.0, time.monotonic() - due_s))


def _rounded(value_s: float | None) -> float | None:
    return None if value_s is None else round(value_s, 6)
