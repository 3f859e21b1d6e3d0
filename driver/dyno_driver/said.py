"""What a run is said to be at its end: its result, and the lines that a person should read before the tables."""

from dataclasses import dataclass
from pathlib import Path

from .client import Answer
from .run_json import counted


@dataclass(frozen=True, slots=True)
class RunResult:
    """What was measured.

    `stopped_by` says what ended the run early, `limited_by` which limit of the user's did; None if nothing did.
    `planned` and `answers` are of this process; `earlier` is how many answers a resumed run had before. `not_kept`: why
    not all could be written. `held`: lines about what held requests back. `course`: what the run decided from what
    came.
    `invalid_for_rate`: why the driver couldn't keep a load's rate.
    """

    run_id: str
    folder: Path
    endpoints: tuple[str, ...]
    planned: int
    answers: tuple[Answer, ...]
    simulated: dict[str, bool | None]
    stopped_by: str | None
    limited_by: str | None = None
    earlier: int = 0
    given_up: int = 0
    not_sent: int = 0
    not_kept: str | None = None
    held: tuple[str, ...] = ()
    course: tuple[str, ...] = ()
    invalid_for_rate: tuple[str, ...] = ()

    @property
    def measured(self) -> list[Answer]:
        """The answers that count, which those of warm-up requests don't."""
        return [answer for answer in self.answers if not answer.turn.warmup]

    @property
    def exit_code(self) -> int:
        failed = any(answer.error is not None for answer in self.measured)
        return 1 if failed or self.stopped_by is not None or self.not_kept is not None or self.not_sent else 0


def summary(result: RunResult) -> list[str]:
    """The lines that a person should read before the tables."""
    lines = [*troubles(result)]
    asked = f"{counted(len(result.measured), 'request')} to {', '.join(result.endpoints)}"
    if result.earlier:
        asked += f", after {result.earlier} before it was resumed"
    ended_early = result.stopped_by is not None or result.limited_by is not None
    lines.insert(ended_early, f"Run {result.run_id}: {asked}, in {result.folder}")
    lines += result.course
    simulated = [name for name, said in result.simulated.items() if said]
    if simulated:
        lines.append(f"Simulated, as they say themselves: {', '.join(simulated)}. These figures are a simulator's.")
    return lines


def troubles(result: RunResult) -> list[str]:
    """What ended the run, what held it back, and each endpoint's first failure: what no table says."""
    lines = []
    sent = sum(not answer.turn.filler for answer in result.answers)
    asked = f"{sent} of {result.planned} requests"
    if result.stopped_by is not None:
        given_up = f"; {counted(result.given_up, 'request')} given up" if result.given_up else ""
        lines.append(
            f"Stopped by {result.stopped_by}, after {asked}{given_up}; what was measured is kept. The rest: --resume "
            f"{result.run_id}"
        )
    elif result.limited_by is not None:
        lines.append(f"Ended by {result.limited_by}, after {asked}. The rest: --resume {result.run_id}")
    if result.not_kept is not None:
        lines.append(f"Not everything is written: {result.not_kept}")
    for name in result.endpoints:
        own = [answer for answer in result.measured if answer.turn.endpoint == name]
        errors = [answer.error for answer in own if answer.error is not None]
        if errors:
            lines.append(f"{name}: {len(errors)} of {len(own)} requests failed; the first: {errors[0]}")
    lines += result.held
    if result.invalid_for_rate:
        why = "; ".join(result.invalid_for_rate)
        lines.append(f"Invalid for rate, since the driver was the bottleneck: {why}.")
    lags_s = sorted(answer.due.lag_s for answer in result.measured if answer.due is not None)
    if lags_s:
        lines.append(
            f"Requests left {lags_s[len(lags_s) // 2] * 1e3:.1f} ms after they were due (median), the latest "
            f"{lags_s[-1] * 1e3:.0f} ms."
        )
    return lines
